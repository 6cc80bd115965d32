"""Speech encoders of ``transformers`` as starts of runs: opened, wrapped, and written back as what they were."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.modalities.base import Modality
from ssl_suite.models import weights
from ssl_suite.models.wrapped import dropouts, quiet
from ssl_suite.models.wrapped_speech import CONVOLUTIONAL, POSITION, RATE, WHISPER, SpeechSpec, WrappedSpeech

EXTRACTOR = "preprocessor_config.json"
OPENING = """from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained("this folder")
model = AutoModel.from_pretrained("this folder")"""


def start(folder: Path, model: Mapping[str, Any], modality: Modality, objective: Any) -> WrappedSpeech:
    """The encoder of a folder, wrapped, with its weights; what embeds units starts at random.

    Raises:
        SuiteError: the objective cannot train it, it is none of the kinds that are known, its frames are not of 20 ms,
            or its weights are damaged.
    """
    from transformers import AutoConfig, AutoModel

    remedy = "copy the folder again, or choose another start"
    facts = read_json(folder / "config.json", remedy)
    check(facts, model, modality, objective)
    extractor = read_json(folder / EXTRACTOR, remedy) if (folder / EXTRACTOR).is_file() else {}
    if extractor.get("sampling_rate", RATE) != RATE:
        raise SuiteError(f"hears {extractor['sampling_rate']} samples a second, the speech modality has {RATE}.")
    stored = weights.read(folder / "model.safetensors", remedy)
    if wrong := weights.unfit(stored):
        raise SuiteError(f"{folder}: of its weights {wrong}; {remedy}.")
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        whole = json.loads(json.dumps(settings.to_dict()))
        spec = _spec(whole, extractor, modality)
        given: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": torch.float32}
        given["config"] = _quiet(settings)
        with quiet():
            found, report = AutoModel.from_pretrained(folder, trust_remote_code=False, **given)
    except Exception as error:  # of many kinds
        raise SuiteError(
            f"transformers opens no model there ({' '.join(str(error).split())[:160]}); {remedy}."
        ) from None
    lacking = sorted(str(key) for key in report["missing_keys"] if not str(key).endswith("masked_spec_embed"))
    lacking += sorted(str(key[0]) for key in report["mismatched_keys"])
    if lacking:
        raise SuiteError(
            f"{folder}: {len(lacking)} of its weights are missing or of other shapes, such as {lacking[0]}."
        )
    return WrappedSpeech(found, spec, modality.vocabulary.mask)


def check(facts: Mapping[str, Any], model: Mapping[str, Any], modality: Modality, objective: Any) -> None:
    """Raise ``SuiteError`` where such a model cannot be trained so."""
    kind = str(facts.get("model_type"))
    if modality.name != "speech" or kind not in (*CONVOLUTIONAL, WHISPER):
        raise SuiteError(
            f"is a {kind} model, which cannot be trained on modality={modality.name}; "
            f"for speech there are {', '.join(CONVOLUTIONAL)} and {WHISPER}."
        )
    if not objective.wraps:
        raise SuiteError(f"is a {kind} model, which is wrapped as it is; that trains with objective=mlm.")
    for key in ("dropout", "checkpointing"):
        if model.get(key):
            raise SuiteError(f"is a {kind} model, which is wrapped and knows no model.{key}; leave it out.")
    if kind != WHISPER and (facts.get("add_adapter") or math.prod(facts.get("conv_stride", [POSITION])) != POSITION):
        raise SuiteError("has frames of another length than the 20 ms of the speech modality's positions.")
    longest = facts.get("max_source_positions", math.inf) if kind == WHISPER else math.inf
    if modality.max_length - 2 > longest:
        raise SuiteError(f"has {longest} positions: set modality.max_length={longest + 2} or less.")


def _spec(facts: dict[str, Any], extractor: dict[str, Any], modality: Modality) -> SpeechSpec:
    names = ("encoder_layers", "d_model") if facts["model_type"] == WHISPER else ("num_hidden_layers", "hidden_size")
    v = modality.vocabulary
    return SpeechSpec(facts[names[0]], facts[names[1]], 1, len(v), v.pad, 1, settings=facts, extractor=extractor)


def _quiet(settings: Any) -> Any:
    """The configuration with which a model is trained: nothing is dropped, so that a run resumes to the bit."""
    for key in [*dropouts(settings), *(key for key in vars(settings) if "layerdrop" in key)]:
        setattr(settings, key, 0.0)
    return settings


def empty(spec: SpeechSpec, modality: Modality) -> WrappedSpeech:
    """The wrapped encoder of these shapes, with random weights."""
    from transformers import AutoConfig, AutoModel

    settings = _quiet(AutoConfig.for_model(**spec.settings))
    model = AutoModel.from_config(settings, trust_remote_code=False, dtype=torch.float32)
    return WrappedSpeech(model, spec, modality.vocabulary.mask)


def moved(spec: SpeechSpec, model: Mapping[str, Any], modality: Modality, objective: Any) -> SpeechSpec:
    """The shapes of another run's wrapped encoder for this run."""
    check(spec.settings, model, modality, objective)
    return replace(spec, vocabulary=len(modality.vocabulary), pad=modality.vocabulary.pad)


def write(learner: Any, modality: Modality, folder: Path, max_length: int | None = None) -> None:
    """Put the model's own ``config.json``, ``preprocessor_config.json`` and weights into a folder."""
    encoder: Any = learner.encoder
    cfg = encoder.spec.settings | {"architectures": [encoder.architecture], "dtype": "float32"}
    for name, content in (("config.json", cfg), (EXTRACTOR, encoder.spec.extractor)):
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    state = {name: x.detach().cpu().clone() for name, x in encoder.model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def described(encoder: WrappedSpeech) -> str:
    """What was taken of a folder, in a line."""
    return f"{encoder.architecture}, wrapped; frames of 20 ms, of which units are predicted by a new head."
