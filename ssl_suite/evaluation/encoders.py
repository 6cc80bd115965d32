"""From a reference to an encoder of a task's symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import controls, text_encoders
from ssl_suite.evaluation.heads.base import Head
from ssl_suite.evaluation.references import HF, Reference
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.text_pretrained import refuse_code
from ssl_suite.models.weights import digest
from ssl_suite.settings import config
from ssl_suite.settings.run_reference import CONFIG, split


@dataclass(frozen=True)
class Opened:
    """An encoder for a task's symbols.

    Attributes:
        encoder: in evaluation mode, on the CPU.
        weights_sha256: of its weights, before symbols were mapped or re-embedded; None where they are random.
        params: parameters of it.
        pretrain_step: of the checkpoint; None where there is none.
        note: what a reader of its number must know.
    """

    encoder: Any
    weights_sha256: str | None
    params: int
    pretrain_step: int | None
    note: str = ""

    def facts(self) -> dict[str, Any]:
        """What a row says of it."""
        return {key: value for key, value in vars(self).items() if key != "encoder"}


def modality_for(reference: Reference, section: Mapping[str, Any], task: str) -> Modality:
    """What encodes the task's records for this encoder: of a run its own modality, else that of the task.

    Args:
        section: the task's ``modality`` section, complete.
        task: its name, for messages.

    Raises SuiteError: the run is of another modality.
    """
    if reference.kind == "hf" and section["name"] == "text":
        section = {**section, "tokenizer": HF + reference.name}
    if reference.kind != "run" or reference.reembed:
        return registry.build(registry.MODALITIES, "modality", section)
    from ssl_suite.training import restore

    folder, _ = split(reference.name)
    cfg = config.read_run(folder / CONFIG)
    if cfg["modality"]["name"] != section["name"]:
        raise SuiteError(
            f"encoder={reference.name} is of modality={cfg['modality']['name']}, task {task} of {section['name']}: "
            f"write {reference.name}+reembed for its blocks under fresh embeddings, or choose another task."
        )
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"] | {"max_length": section["max_length"]})
    modality.load(folder / restore.MODALITY)
    return modality


def open_encoder(
    reference: Reference,
    modality: Modality,
    seed: int,
    scratch: bool = False,
    dropout: float | None = 0.0,
    keep_special: bool = True,
) -> Opened:
    """The encoder.

    Args:
        modality: whose vocabulary is known (fitted or loaded).
        seed: of random weights, fresh embeddings and a map that follows it.
        scratch: keep the shapes alone.
        dropout: of the encoder while it is trained; None is its own.
        keep_special: [CLS], [SEP], … keep the text encoder's own embeddings under ``+map``; False maps them onto
            random words as well, as the original experiment did.

    Raises SuiteError: it cannot be opened, or does not fit the modality.
    """
    torch.manual_seed(seed)
    opened = OPENERS[reference.kind](reference, modality, seed, scratch, dropout, keep_special)
    opened.encoder.eval()
    return opened


def open_causal(reference: Reference, modality: Modality) -> Opened:
    """A causal language model with its head, a ``causal.Causal`` in the place of an encoder. Raises SuiteError: it
    cannot be opened, or has no such head."""
    from ssl_suite.evaluation import causal

    if reference.kind not in causal.OPENERS or reference.reembed or reference.map:
        raise SuiteError(
            f"encoder={reference.short} gives no likelihoods: name a run of objective=clm, or hf: with a causal model."
        )
    model, step, note = causal.OPENERS[reference.kind](reference, modality)
    return _opened(model, digest(model.model), step, note)


def _run(
    reference: Reference, modality: Modality, seed: int, scratch: bool, dropout: float | None, *others: Any
) -> Opened:
    from ssl_suite.training import build, restore

    loaded = restore.load_run(reference.name)
    note = f"pre-trained here with objective={loaded.config['objective']['name']}"
    if reference.reembed:
        torch.manual_seed(seed)
        fresh = reembedded(loaded.encoder, modality)
        _set_dropout(fresh, dropout)
        if scratch:
            fresh.reset_parameters()
            return _opened(fresh)
        note += f" on {loaded.config['modality']['name']}, fresh embeddings"
        if reference.control:
            controls.CONTROLS[reference.control](fresh, seed)
            note += f", blocks {reference.control}"
        return _opened(fresh, digest(loaded.encoder), loaded.step, note)
    if not scratch:
        _set_dropout(loaded.encoder, dropout)
        return _opened(loaded.encoder, digest(loaded.encoder), loaded.step, note)
    torch.manual_seed(seed)
    fresh = build.restored(build.shapes(loaded.encoder), loaded.config["objective"], modality)
    _set_dropout(fresh.encoder, dropout)
    return _opened(fresh.encoder)


def reembedded(encoder: Any, modality: Modality) -> Any:
    """The blocks of an encoder under a fresh embedder for another modality. Raises SuiteError: it is not this suite's
    transformer."""
    from ssl_suite.models.embedders import embedder
    from ssl_suite.models.encoder import Encoder

    if not isinstance(encoder, Encoder):
        raise SuiteError("+reembed keeps the blocks of this suite's transformer; this run has another kind of model.")
    v, frame = modality.vocabulary, modality.frame
    spec = replace(
        encoder.spec,
        vocabulary=len(v),
        pad=v.pad,
        features=frame.features if frame is not None else 0,
        grid=frame.grid if frame is not None else None,
    )
    fresh = Encoder(spec, embedder(spec, modality))
    fresh.layers.load_state_dict(encoder.layers.state_dict())
    fresh.final_norm.load_state_dict(encoder.final_norm.state_dict())
    return fresh


def _set_dropout(encoder: Any, dropout: float | None) -> None:
    """Of the suite's transformers; its convolutional networks have none."""
    if dropout is not None and hasattr(encoder.spec, "dropout"):
        encoder.spec = replace(encoder.spec, dropout=dropout)


def _random(
    reference: Reference, modality: Modality, seed: int, scratch: bool, dropout: float | None, *others: Any
) -> Opened:
    from ssl_suite.training import build

    section = config.option("model", reference.name)
    kind = build.kind_of(section)
    kind.check(section, type(modality), Head)
    encoder, _ = kind.start(section, modality, Head)
    _set_dropout(encoder, dropout)
    return _opened(encoder)


def _cnn(reference: Reference, modality: Modality, *others: Any) -> Opened:
    from ssl_suite.models.sequence_cnn import SequenceCNN, SequenceCNNSpec

    _needs_tokens(reference, modality)
    v = modality.vocabulary
    return _opened(SequenceCNN(SequenceCNNSpec(len(v), v.pad)))


def _fbank(reference: Reference, modality: Modality, *others: Any) -> Opened:
    from ssl_suite.models.filterbank import Filterbank

    if modality.name != "speech":
        raise SuiteError(f"encoder=fbank is for speech, not modality={modality.name}: name a run, or random:PRESET.")
    return _opened(Filterbank(modality))


def _hf(reference: Reference, modality: Modality, seed: int, scratch: bool, *others: Any) -> Opened:
    if modality.name in ("speech", "image"):
        return _hf_signal(reference, modality, seed, scratch)
    _needs_tokens(reference, modality)
    found = text_encoders.wrapped(reference, modality, seed, scratch, *others)
    return _opened(found) if scratch else _opened(found, found.origin, None, text_encoders.note(reference.name))


def _hf_signal(reference: Reference, modality: Modality, seed: int, scratch: bool) -> Opened:
    """Of speech wav2vec 2.0, HuBERT, WavLM, data2vec or Whisper's encoder; of pictures any. Nothing is dropped."""
    from ssl_suite.models import foreign_speech, wrapped_image

    folder = Path(text_encoders.place_of(reference.name))
    refuse_code(folder, f"encoder={reference.short}")
    if reference.map or reference.reembed or not folder.is_dir():
        fault = "is no folder here" if not folder.is_dir() else "reads signals: it has no words to map or to embed"
        raise SuiteError(f"encoder={reference.short} {fault}; write hf:FOLDER of an encoder of {modality.name}.")
    try:
        if modality.name == "image":
            found: Any = wrapped_image.open_folder(folder, modality, scratch)
        else:
            found = foreign_speech.start(folder, {}, modality, Head)
            if scratch:
                torch.manual_seed(seed)
                found = foreign_speech.of_shapes(vars(found.spec), modality)
            found.embeddings.requires_grad_(False)  # of units, which no head of a task predicts
    except SuiteError as error:
        raise SuiteError(f"encoder={reference.short}: {error}") from None
    return _opened(found) if scratch else _opened(found, digest(found.model))


OPENERS = {"run": _run, "hf": _hf, "random": _random, "cnn": _cnn, "fbank": _fbank}


def identity(reference: Reference) -> str:
    """What tells an encoder from another one whose folder is called the same: a digest of its files. Raises SuiteError:
    a run without a checkpoint."""
    from ssl_suite.data.cache import content_hash
    from ssl_suite.training import checkpoint, restore

    folder = Path(reference.name).expanduser()
    if reference.kind == "run":
        return str(checkpoint.manifest(restore.chosen(reference.name)[1])["sha256"][checkpoint.WEIGHTS])
    if reference.kind == "hf" and folder.is_dir():
        files = sorted(path for ends in ("safetensors", "bin", "json", "txt") for path in folder.glob(f"*.{ends}"))
        return " ".join(f"{path.name} {content_hash(path)}" for path in files)
    if reference.kind == "fbank":
        from ssl_suite.models.filterbank import Filterbank

        return str(Filterbank.version)
    return reference.name


def _opened(encoder: Any, sha256: str | None = None, step: int | None = None, note: str = "") -> Opened:
    return Opened(encoder, sha256, sum(p.numel() for p in encoder.parameters() if p.requires_grad), step, note)


def _needs_tokens(reference: Reference, modality: Modality) -> None:
    if modality.frame is not None:
        raise SuiteError(f"encoder={reference.short} reads tokens, modality={modality.name} gives frames: name a run.")
