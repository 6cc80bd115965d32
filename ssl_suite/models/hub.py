"""To and from the Hugging Face format.

Every checkpoint is a ``transformers.ModernBert`` folder in waiting: parameters carry its names, behind ``model.``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from ssl_suite.core import codebook
from ssl_suite.core.codebook import Codebook
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.core.records import Vocabulary
from ssl_suite.modalities import text_pretrained
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models import carry, decoder_hub, foreign, foreign_speech, weights
from ssl_suite.models.embedders import embedder
from ssl_suite.models.encoder import Encoder, EncoderSpec

LIBRARY, LARGER = "transformers", "mini"
PREFIX = "model."
SHARED = ("embeddings.tok_embeddings.weight", "embeddings.norm.weight")  # what ModernBERT's embedder has, too
HUB_SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "vocabulary": "vocab_size",
}
BIAS = "decoder.bias"  # of a head, one number a token
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


def write(learner: Any, modality: Modality, folder: Path, max_length: int | None = None) -> None:
    """Put ``config.json``, ``model.safetensors`` and, of signals, ``frames.safetensors`` into a folder."""
    spec, (architecture, head) = learner.encoder.spec, learner.objective.hub_weights()
    body = dict(learner.encoder.state_dict())
    own = {name: body.pop(name) for name in list(body) if name.startswith("embeddings.") and name not in SHARED}
    whole = {PREFIX + name: x for name, x in body.items()} | dict(head)
    config, names = LAYOUTS[spec.causal]
    for file, tensors in (("model.safetensors", names(whole)), (FRAMES, own)):
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

AUTO = {"ModernBertForMaskedLM": "AutoModelForMaskedLM", decoder_hub.CAUSAL_LM: "AutoModelForCausalLM"}
TOKENS = """from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder", trust_remote_code=False)
model = {auto}.from_pretrained("this folder", trust_remote_code=False)"""
OF_FRAMES = """from transformers import AutoModel

# Positions are frames, not tokens: embed them with frames.safetensors (preprocessor_config.json says how they are made;
# ssl_suite.models.embedders.FrameEmbedder.before_norm does it) and give the sum: model(inputs_embeds=…).
model = AutoModel.from_pretrained("this folder", trust_remote_code=False)"""
OF_UNITS = """from transformers import {auto}

# Positions are units: the nearest entries of codebook.safetensors, as ids behind the special tokens.
model = {auto}.from_pretrained("this folder", trust_remote_code=False)"""


def opening(spec: EncoderSpec, modality: Modality, architecture: str) -> str:
    """The lines that open an exported folder without this package, by the class that its weights fill."""
    lines = TOKENS if modality.frame is None else OF_FRAMES if spec.features else OF_UNITS
    return lines.format(auto=AUTO.get(architecture, "AutoModel"))


@dataclass(frozen=True)
class Start:
    """What beside the encoder comes out of a folder.

    Attributes:
        head: the head's weights under ``transformers``' names.
        rows_V: the folder's id of each token, see ``models.carry``.
        words: what could be kept, for a user.
    """

    head: Mapping[str, Tensor]
    rows_V: Tensor
    words: str


def start(model: Mapping[str, Any], modality: Modality, objective: Any) -> tuple[Any, Start | None]:
    """The encoder of a ``model`` section: at random, or from the folder in its ``init``."""
    habits = _habits(model)
    if model.get("init"):
        encoder, found = read(model["init"], model, modality, objective)
        if isinstance(encoder, Encoder):
            encoder.spec = replace(encoder.spec, **habits)
        return encoder, found
    v, frame = modality.vocabulary, modality.frame if objective.reads == "frames" else None
    model = model if objective.layers is None else {**model, "layers": objective.layers}
    size = len(v) + objective.extra_tokens
    spec = EncoderSpec.from_section(model, size, modality.max_length, v.pad, frame, objective.causal)
    return Encoder(replace(spec, **habits), embedder(spec, modality)), None


def of_shapes(facts: Mapping[str, Any], modality: Modality) -> Encoder:
    """The encoder of saved shapes, with random weights."""
    spec = EncoderSpec(**facts)
    return Encoder(spec, embedder(spec, modality))


def check(model: Mapping[str, Any], modality: type[Modality], objective: type[Any]) -> None:
    """Nothing is refused: it takes every modality and objective."""


def _habits(model: Mapping[str, Any]) -> dict[str, Any]:
    """How an encoder is trained, which no weights decide; older runs' configurations have neither."""
    return {"dropout": model.get("dropout", 0.0), "checkpointing": model.get("checkpointing", False)}


def read(reference: str, model: Mapping[str, Any], modality: Modality, objective: Any) -> tuple[Any, Start]:
    """A starting point: the encoder of a folder of ``transformers`` (``hf:NAME_OR_PATH``, or an exported one).

    ModernBERT's layout is converted, any other kind is wrapped (``models.foreign``).

    Args:
        model: the ``model`` section.

    Raises:
        SuiteError: no such folder, weights that do not fill the encoder, or an objective that cannot train it.
    """
    folder = _folder(reference)
    text_pretrained.refuse_code(folder, f"model.init={reference}")
    try:
        facts = read_json(folder / "config.json", "copy it again, or choose another start")
        if facts.get("model_type") in ("modernbert", decoder_hub.MODEL_TYPE):
            return _filled(folder, modality, objective)
        if modality.frame is not None:
            sound = foreign_speech.start(folder, model, modality, objective)
            return sound, Start({}, torch.empty(0), foreign_speech.described(sound))
        wrapped = foreign.start(folder, model, modality, objective)
        return wrapped, Start({}, torch.empty(0), foreign.described(wrapped, modality.vocabulary))
    except SuiteError as error:
        raise SuiteError(f"model.init={reference}: {error}") from None


def hub_sizes(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``config.json`` says of sizes, by the names of an ``EncoderSpec``."""
    return {own: cfg[name] for own, name in HUB_SIZES.items() if name in cfg}


def _filled(folder: Path, modality: Modality, objective: Any) -> tuple[Encoder, Start]:
    """The encoder of a folder of ModernBERT's layout.

    What embeds a signal's frames comes along from the same modality and starts at random otherwise. Embeddings are
    carried over by the strings of the folder's tokenizer; without one they start at random.

    Raises:
        SuiteError: weights that do not fill it.
    """
    remedy = "copy it again, or choose another start"
    cfg = read_json(folder / "config.json", remedy)
    kind = cfg.get("model_type")
    check_sides(kind == decoder_hub.MODEL_TYPE, objective)
    stored = weights.read(folder / "model.safetensors", remedy)
    if wrong := weights.implausible(hub_sizes(cfg), stored):
        raise SuiteError(f"weights do not fit {folder / 'config.json'}: {wrong}; {remedy}.")
    try:
        spec = adapted(_spec(cfg), modality, objective)
        with torch.device("meta"):
            shell = Encoder(spec, embedder(spec, modality)).state_dict()
        stored = decoder_hub.from_decoder(stored)
    except Exception as error:  # of many kinds: values of other types, layers that do not add up, a matrix missing
        reason = " ".join(str(error).split())[:160]
        raise SuiteError(f"{folder / 'config.json'} describes no {kind} model ({reason}); {remedy}.") from None
    body = {n.removeprefix(PREFIX): x for n, x in stored.items() if not n.startswith(HEADS)}
    head = {n: x for n, x in stored.items() if n.startswith(HEADS)}
    own = {name for name in shell if name.startswith("embeddings.") and name not in SHARED}
    if own and (folder / FRAMES).is_file():
        frames = weights.read(folder / FRAMES, remedy)
        body |= {n: x for n, x in frames.items() if n in own and x.shape == shell[n].shape}
    table = SHARED[0]
    trained = body.pop(table, torch.empty(0))
    if trained.shape != (cfg.get("vocab_size"), spec.width):
        raise SuiteError(f"{folder}: weights do not fit its config.json: {table} has shape {tuple(trained.shape)}.")
    if wrong := weights.fault(body, shell, absent={*own, table}) or weights.unfit({table: trained, **head}):
        raise SuiteError(f"{folder}: weights do not fit the ModernBERT layout: {wrong}.")
    encoder = Encoder(spec, embedder(spec, modality))
    encoder.load_state_dict(body, strict=False)
    rows_V = _rows(folder, modality, len(trained))
    carry.over(encoder.get_parameter(table), trained, rows_V)
    return encoder, Start(head, rows_V, carry.described(rows_V))


def check_sides(causal: bool, objective: Any) -> None:
    """Raise ``SuiteError`` where an encoder sees from other sides than the objective needs."""
    if causal != objective.causal:
        seen = "from the left only" if causal else "from both sides"
        raise SuiteError(f"sees {seen}; the objective needs the other kind of encoder.")


def moved(spec: EncoderSpec, model: Mapping[str, Any], modality: Modality, objective: Any) -> EncoderSpec:
    """The shapes of another run's encoder for this run."""
    return replace(adapted(spec, modality, objective), **_habits(model))


def adapted(spec: EncoderSpec, modality: Modality, objective: Any) -> EncoderSpec:
    """The shapes of another encoder for this modality and objective."""
    check_sides(spec.causal, objective)
    v, frame = modality.vocabulary, modality.frame if objective.reads == "frames" else None
    return replace(
        spec,
        vocabulary=len(v) + objective.extra_tokens,
        pad=v.pad,
        features=frame.features if frame is not None else 0,
        grid=frame.grid if frame is not None else None,
    )


def _rows(folder: Path, modality: Modality, size: int) -> Tensor:
    """The folder's id of each of the modality's tokens, see ``models.carry``; ``size`` is that of its table."""
    old: Vocabulary | None = None
    same = True
    if isinstance(modality, SignalModality):
        path = folder / "codebook.safetensors"
        book = Codebook.load(path) if path.is_file() else None
        old, same = modality.vocabulary, codebook.same(book, modality.codebook)
    else:
        with contextlib.suppress(SuiteError):  # no tokenizer: nothing is known of what an id stands for
            old = text_pretrained.vocabulary(*text_pretrained.fetch(f"hf:{folder}"))
    rows_V = carry.rows(old, modality.vocabulary, same)
    return rows_V.masked_fill(rows_V >= size, -1)  # a token that was added behind the vocabulary has no embedding yet


def _folder(reference: str) -> Path:
    name = reference.removeprefix("hf:")
    for candidate in (Path(name) / "encoder", Path(name)):
        if (candidate / "config.json").is_file() and (candidate / "model.safetensors").is_file():
            return candidate
    if not reference.startswith("hf:") or Path(name).is_dir():
        raise SuiteError(f"model.init={reference}: no config.json and model.safetensors there (nor in its encoder/).")
    from huggingface_hub import snapshot_download

    with contextlib.suppress(Exception):  # offline, unknown and unreachable all end in the same remedy
        return Path(
            snapshot_download(
                name, allow_patterns=["config.json", "model.safetensors", *foreign.FILES, foreign_speech.EXTRACTOR]
            )
        )
    raise SuiteError(
        f"model.init={reference} is neither a local folder nor to be had from the hub (offline, or no such name); "
        "download its config.json and model.safetensors and give the folder: model.init=hf:FOLDER."
    )


def _spec(cfg: Mapping[str, Any]) -> EncoderSpec:
    """Shapes from a ModernBERT ``config.json``, old keys (global_attn_every_n_layers, …) and new ones alike."""
    from transformers import ModernBertConfig

    known = ModernBertConfig(**cfg)
    reach = known.local_attention // 2 - (cfg["model_type"] == decoder_hub.MODEL_TYPE)  # which counts itself
    kinds, rope = known.layer_types or [], cast(dict[str, Any], known.rope_parameters)
    return EncoderSpec(
        layers=known.num_hidden_layers,
        width=known.hidden_size,
        heads=known.num_attention_heads,
        mlp_width=known.intermediate_size,
        vocabulary=known.vocab_size,
        windows=tuple(None if kind == "full_attention" else reach for kind in kinds),
        thetas=tuple(float(rope[kind]["rope_theta"]) for kind in kinds),
        eps=known.norm_eps,
        init_std=known.initializer_range,
        causal=cfg["model_type"] == decoder_hub.MODEL_TYPE,
    )
