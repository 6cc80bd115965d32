"""To and from the Hugging Face format.

Every checkpoint is a ``transformers.ModernBert`` folder in waiting: parameters carry its names, behind ``model.``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file, save_file
from torch import Tensor

from ssl_suite.errors import SuiteError
from ssl_suite.modalities.base import Modality, Vocabulary
from ssl_suite.modalities.text_pretrained import refuse_code
from ssl_suite.models import decoder_hub
from ssl_suite.models.embedders import embedder
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.learner import Learner
from ssl_suite.objectives.base import Objective

PREFIX = "model."
SHARED = ("embeddings.tok_embeddings.weight", "embeddings.norm.weight")  # what ModernBERT's embedder has, too
HEADS = ("head.", "lm_head.", "decoder.")
FRAMES = "frames.safetensors"  # what embeds a signal's frames; their sum is ``inputs_embeds`` of the model


def modernbert_config(spec: EncoderSpec, vocabulary: Vocabulary, max_length: int, architecture: str) -> dict[str, Any]:
    """``config.json`` for these shapes."""
    from transformers import ModernBertConfig

    local = [window for window in spec.windows if window is not None]
    config = ModernBertConfig(
        **decoder_hub.shapes(spec, vocabulary, max_length),
        local_attention=2 * local[0] if local else 128,
        classifier_pooling="mean",
    )
    config.architectures = [architecture]
    return config.to_dict() | {"architectures": [architecture], "dtype": "float32"}


def write(learner: Learner, modality: Modality, folder: Path, max_length: int | None = None) -> None:
    """Put ``config.json``, ``model.safetensors`` and, of signals, ``frames.safetensors`` into a folder."""
    spec, (architecture, head) = learner.encoder.spec, learner.objective.hub_weights()
    body = dict(learner.encoder.state_dict())
    own = {name: body.pop(name) for name in list(body) if name.startswith("embeddings.") and name not in SHARED}
    weights = {PREFIX + name: x for name, x in body.items()} | dict(head)
    config, names = LAYOUTS[spec.causal]
    for file, tensors in (("model.safetensors", names(weights)), (FRAMES, own)):
        plain = {name: x.detach().float().cpu().contiguous() for name, x in tensors.items()}
        if plain:
            save_file(plain, folder / file, metadata={"format": "pt"})
    cfg = config(spec, modality.vocabulary, max_length or modality.max_length, architecture)
    (folder / "config.json").write_text(json.dumps(cfg, indent=2), encoding="utf-8")
    if spec.causal:
        decoder_hub.open_prompts(folder, modality.vocabulary)


LAYOUTS: dict[bool, tuple[Callable[..., dict[str, Any]], Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
    False: (modernbert_config, dict),
    True: (decoder_hub.decoder_config, decoder_hub.to_decoder),
}
"""For encoders that are not causal and those that are: the configuration and the names of the weights."""

TOKENS = """from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder")
model = AutoModel.from_pretrained("this folder")"""
OF_FRAMES = """from transformers import AutoModel

# Positions are frames, not tokens: embed them with frames.safetensors (preprocessor_config.json says how they are made;
# ssl_suite.models.embedders.FrameEmbedder.before_norm does it) and give the sum as inputs_embeds.
model = AutoModel.from_pretrained("this folder")
states = model(inputs_embeds=embedded).last_hidden_state"""
OF_UNITS = """from transformers import AutoModel

# Positions are units: the nearest entries of codebook.safetensors, as ids behind the special tokens.
model = AutoModel.from_pretrained("this folder")"""


def opening(spec: EncoderSpec, modality: Modality) -> str:
    """The lines that open an exported folder without this package."""
    if modality.frame is None:
        return TOKENS
    return OF_FRAMES if spec.features else OF_UNITS


def replace_folder(beside: Path, folder: Path) -> None:
    """Put ``beside`` in the place of ``folder``."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def read_modernbert(
    reference: str, modality: Modality, objective: type[Objective] = Objective
) -> tuple[Encoder, dict[str, Tensor]]:
    """A starting point: the encoder of a ModernBERT folder (``hf:NAME_OR_PATH``) or of a run (its ``encoder/``).

    What embeds a signal's frames comes along from a run of the same modality and starts at random otherwise.
    Where the folder's vocabulary has another size, its embedding table and output bias are left at their random start:
    the symbols are not the same ones.

    Returns:
        The encoder, and the head's weights under ``transformers``' names (those whose shapes can serve).

    Raises:
        SuiteError: no such folder, another architecture, or weights that do not fill the encoder.
    """
    folder = _folder(reference)
    refuse_code(folder, f"model.init={reference}")
    cfg = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = cfg.get("model_type")
    if kind not in ("modernbert", decoder_hub.MODEL_TYPE):
        raise SuiteError(f"model.init={reference} is a {kind} model; only modernbert can be a start.")
    if (kind == decoder_hub.MODEL_TYPE) != objective.causal:
        seen = "from the left only" if kind == decoder_hub.MODEL_TYPE else "from both sides"
        raise SuiteError(f"model.init={reference} sees {seen}; the objective needs the other kind of encoder.")
    spec = _spec(cfg, modality, objective)
    weights = decoder_hub.from_decoder(load_file(folder / "model.safetensors"))
    body = {n.removeprefix(PREFIX): x for n, x in weights.items() if not n.startswith(HEADS)}
    head = {n: x for n, x in weights.items() if n.startswith(HEADS)}
    encoder = Encoder(spec, embedder(spec, modality))
    own = {name for name in encoder.state_dict() if name.startswith("embeddings.") and name not in SHARED}
    frames = load_file(folder / FRAMES) if own and (folder / FRAMES).is_file() else {}
    fitting = {name: x for name, x in encoder.state_dict().items() if name in own and name in frames}
    body |= {name: frames[name] for name, x in fitting.items() if frames[name].shape == x.shape}
    table = SHARED[0]
    if body[table].shape[0] != spec.vocabulary:
        del body[table]
        head.pop("decoder.bias", None)
    missing, unexpected = encoder.load_state_dict(body, strict=False)
    if unexpected or set(missing) - {table} - own:
        wrong = sorted({*unexpected, *(set(missing) - {table} - own)})[:3]
        raise SuiteError(f"model.init={reference}: weights do not fit the ModernBERT layout, for example {wrong}.")
    return encoder, head


def _folder(reference: str) -> Path:
    name = reference.removeprefix("hf:")
    for candidate in (Path(name) / "encoder", Path(name)):
        if (candidate / "config.json").is_file() and (candidate / "model.safetensors").is_file():
            return candidate
    if not reference.startswith("hf:"):
        raise SuiteError(f"model.init={reference}: no config.json and model.safetensors there (nor in its encoder/).")
    from huggingface_hub import snapshot_download

    with contextlib.suppress(Exception):  # offline, unknown and unreachable all end in the same remedy
        return Path(snapshot_download(name, allow_patterns=["config.json", "model.safetensors"]))
    raise SuiteError(
        f"model.init={reference} is neither a local folder nor to be had from the hub (offline, or no such name); "
        "download its config.json and model.safetensors and give the folder: model.init=hf:FOLDER."
    )


def _spec(cfg: Mapping[str, Any], modality: Modality, objective: type[Objective]) -> EncoderSpec:
    """Shapes from a ModernBERT ``config.json``, old keys (global_attn_every_n_layers, …) and new ones alike."""
    from transformers import ModernBertConfig

    known = ModernBertConfig(**cfg)
    reach = known.local_attention // 2 - (cfg["model_type"] == decoder_hub.MODEL_TYPE)  # which counts itself
    kinds, rope = known.layer_types or [], cast(dict[str, Any], known.rope_parameters)
    vocabulary, frame = modality.vocabulary, modality.frame if objective.reads == "frames" else None
    return EncoderSpec(
        layers=known.num_hidden_layers,
        width=known.hidden_size,
        heads=known.num_attention_heads,
        mlp_width=known.intermediate_size,
        vocabulary=len(vocabulary) + objective.extra_tokens,
        pad=vocabulary.pad,
        windows=tuple(None if kind == "full_attention" else reach for kind in kinds),
        thetas=tuple(float(rope[kind]["rope_theta"]) for kind in kinds),
        eps=known.norm_eps,
        init_std=known.initializer_range,
        features=frame.features if frame is not None else 0,
        grid=frame.grid if frame is not None else None,
        causal=objective.causal,
    )
