"""To and from the Hugging Face format.

Every checkpoint is a ``transformers.ModernBert`` folder in waiting: parameters carry its names, behind ``model.``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ssl_suite import registry
from ssl_suite.errors import SuiteError
from ssl_suite.modalities.base import Modality, Vocabulary
from ssl_suite.models.embedders import embedder
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.learner import Learner

PREFIX = "model."
SHARED = ("embeddings.tok_embeddings.weight", "embeddings.norm.weight")  # what ModernBERT's embedder has, too
FRAMES = "frames.safetensors"  # what embeds a signal's frames; their sum is ``inputs_embeds`` of the model


def build(cfg: Mapping[str, Any], modality: Modality, seed: int = 0) -> Learner:
    """The learner of a configuration, with weights that depend on ``seed`` alone, or on ``model.init``."""
    vocabulary = modality.vocabulary
    torch.manual_seed(seed)
    init = cfg["model"].get("init")
    if init:
        encoder, head = read_modernbert(init, modality)
    else:
        size = len(vocabulary)
        spec = EncoderSpec.from_config(cfg["model"], size, modality.max_length, vocabulary.pad, modality.frame)
        encoder, head = Encoder(spec, embedder(spec, modality)), {}
    given = {"modality": modality, "spec": encoder.spec}
    objective = registry.build(registry.OBJECTIVES, "objective", cfg["objective"], **given)
    own = dict(objective.hub_weights()[1])
    with torch.no_grad():
        for name in own.keys() & head.keys():
            if own[name].shape == head[name].shape:
                own[name].copy_(head[name])
    return Learner(encoder, objective)


def modernbert_config(spec: EncoderSpec, vocabulary: Vocabulary, max_length: int, architecture: str) -> dict[str, Any]:
    """``config.json`` for these shapes."""
    from transformers import ModernBertConfig

    local = [window for window in spec.windows if window is not None]
    kinds = ["full_attention" if window is None else "sliding_attention" for window in spec.windows]
    thetas = dict(zip(kinds, spec.thetas, strict=True))
    config = ModernBertConfig(
        vocab_size=spec.vocabulary,
        hidden_size=spec.width,
        intermediate_size=spec.mlp_width,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        norm_eps=spec.eps,
        max_position_embeddings=max_length,
        layer_types=kinds,
        local_attention=2 * local[0] if local else 128,
        rope_parameters={
            kind: {"rope_type": "default", "rope_theta": thetas.get(kind, 10_000.0)}
            for kind in ("full_attention", "sliding_attention")
        },
        pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.cls,
        cls_token_id=vocabulary.cls,
        eos_token_id=vocabulary.sep,
        sep_token_id=vocabulary.sep,
        classifier_pooling="mean",
    )
    config.architectures = [architecture]
    return config.to_dict() | {"architectures": [architecture], "dtype": "float32"}


def export(learner: Learner, modality: Modality, folder: Path, card: str, max_length: int | None = None) -> None:
    """Write a folder that ``AutoModelForMaskedLM`` and ``AutoTokenizer`` open without this package.

    Written beside and renamed: an existing folder is replaced as a whole.
    """
    architecture, head = learner.objective.hub_weights()
    body = dict(learner.encoder.state_dict())
    own = {name: body.pop(name) for name in list(body) if name.startswith("embeddings.") and name not in SHARED}
    weights = {PREFIX + name: x for name, x in body.items()} | dict(head)
    cfg = modernbert_config(learner.encoder.spec, modality.vocabulary, max_length or modality.max_length, architecture)
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    modality.save(beside)
    for file, tensors in (("model.safetensors", weights), (FRAMES, own)):
        plain = {name: x.detach().float().cpu().contiguous() for name, x in tensors.items()}
        if plain:
            save_file(plain, beside / file, metadata={"format": "pt"})
    (beside / "config.json").write_text(json.dumps(cfg, indent=2), encoding="utf-8")
    (beside / "README.md").write_text(card, encoding="utf-8")
    replace_folder(beside, folder)


def replace_folder(beside: Path, folder: Path) -> None:
    """Put ``beside`` in the place of ``folder``."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def read_modernbert(reference: str, modality: Modality) -> tuple[Encoder, dict[str, Tensor]]:
    """A starting point: the encoder of a ModernBERT folder (``hf:NAME_OR_PATH``) or of a run (its ``encoder/``).

    What embeds a signal's frames comes along from a run of the same modality and starts at random otherwise.
    Where the folder's vocabulary has another size, its embedding table and output bias are left at their random start:
    the symbols are not the same ones.

    Returns:
        The encoder, and the head's weights under ``transformers``' names (those whose shapes can serve).

    Raises:
        SuiteError: no such folder, another architecture, or weights that do not fill the encoder.
    """
    folder, vocabulary = _folder(reference), modality.vocabulary
    cfg = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if cfg.get("model_type") != "modernbert":
        raise SuiteError(f"model.init={reference} is a {cfg.get('model_type')} model; only modernbert can be a start.")
    spec = _spec(cfg, modality)
    weights = load_file(folder / "model.safetensors")
    body = {n.removeprefix(PREFIX): x for n, x in weights.items() if not n.startswith(("head.", "decoder."))}
    head = {n: x for n, x in weights.items() if n.startswith(("head.", "decoder."))}
    encoder = Encoder(spec, embedder(spec, modality))
    own = {name for name in encoder.state_dict() if name.startswith("embeddings.") and name not in SHARED}
    frames = load_file(folder / FRAMES) if own and (folder / FRAMES).is_file() else {}
    fitting = {name: x for name, x in encoder.state_dict().items() if name in own and name in frames}
    body |= {name: frames[name] for name, x in fitting.items() if frames[name].shape == x.shape}
    table = SHARED[0]
    if body[table].shape[0] != len(vocabulary):
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


def _spec(cfg: Mapping[str, Any], modality: Modality) -> EncoderSpec:
    """Shapes from a ModernBERT ``config.json``, old keys (global_attn_every_n_layers, …) and new ones alike."""
    from transformers import ModernBertConfig

    known = ModernBertConfig(**cfg)
    kinds, rope = known.layer_types or [], cast(dict[str, Any], known.rope_parameters)
    vocabulary, frame = modality.vocabulary, modality.frame
    return EncoderSpec(
        layers=known.num_hidden_layers,
        width=known.hidden_size,
        heads=known.num_attention_heads,
        mlp_width=known.intermediate_size,
        vocabulary=len(vocabulary),
        pad=vocabulary.pad,
        windows=tuple(None if kind == "full_attention" else known.local_attention // 2 for kind in kinds),
        thetas=tuple(float(rope[kind]["rope_theta"]) for kind in kinds),
        eps=known.norm_eps,
        init_std=known.initializer_range,
        features=frame.features if frame is not None else 0,
        grid=frame.grid if frame is not None else None,
    )
