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
from ssl_suite.models.foreign import REMEDY, check_use, refuse_missing, settings_of, with_weights, without_dropout
from ssl_suite.models.wrapped_speech import CONVOLUTIONAL, POSITION, RATE, WHISPER, SpeechSpec, WrappedSpeech

LIBRARY, LARGER = "transformers", "mini"
EXTRACTOR = "preprocessor_config.json"
OPENING = """from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained("this folder", trust_remote_code=False)
model = AutoModel.from_pretrained("this folder", trust_remote_code=False)"""


def start(folder: Path, model: Mapping[str, Any], modality: Modality, objective: Any) -> WrappedSpeech:
    """The encoder of a folder, wrapped, with its weights; what embeds units starts at random.

    Raises:
        SuiteError: the objective cannot train it, it is none of the kinds that are known, its frames are not of 20 ms,
            or its weights are damaged.
    """
    from transformers import AutoModel

    facts = read_json(folder / "config.json", REMEDY)
    _check(facts, model, modality, objective)
    extractor = read_json(folder / EXTRACTOR, REMEDY) if (folder / EXTRACTOR).is_file() else {}
    if extractor.get("sampling_rate", RATE) != RATE:
        raise SuiteError(f"hears {extractor['sampling_rate']} samples a second, the speech modality has {RATE}.")
    settings = json.loads(json.dumps(settings_of(folder, facts).to_dict()))
    found, missing = with_weights(AutoModel, folder, without_dropout(settings))
    refuse_missing(folder, [name for name in missing if not name.endswith("masked_spec_embed")])
    names = ("encoder_layers", "d_model") if facts["model_type"] == WHISPER else ("num_hidden_layers", "hidden_size")
    layers, width, v = settings[names[0]], settings[names[1]], modality.vocabulary
    spec = SpeechSpec(layers, width, 1, len(v), v.pad, 1, settings=settings, extractor=extractor)
    return WrappedSpeech(found, spec, v.mask)


def _check(facts: Mapping[str, Any], model: Mapping[str, Any], modality: Modality, objective: Any) -> None:
    """Raise ``SuiteError`` where such a model cannot be trained so."""
    kind = str(facts.get("model_type"))
    if modality.name != "speech" or kind not in (*CONVOLUTIONAL, WHISPER):
        raise SuiteError(
            f"is a {kind} model, which cannot be trained on modality={modality.name}; "
            f"for speech there are {', '.join(CONVOLUTIONAL)} and {WHISPER}."
        )
    check_use(model, objective, kind, "mlm")
    if kind != WHISPER and (facts.get("add_adapter") or math.prod(facts.get("conv_stride", [POSITION])) != POSITION):
        raise SuiteError("has frames of another length than the 20 ms of the speech modality's positions.")
    longest = facts.get("max_source_positions", math.inf) if kind == WHISPER else math.inf
    if modality.max_length - 2 > longest:
        raise SuiteError(f"has {longest} positions: set modality.max_length={longest + 2} or less.")


def of_shapes(facts: Mapping[str, Any], modality: Modality) -> WrappedSpeech:
    """The wrapped encoder of these shapes, with random weights."""
    from transformers import AutoModel

    spec = SpeechSpec(**facts)
    settings = without_dropout(spec.settings)
    model = AutoModel.from_config(settings, trust_remote_code=False, dtype=torch.float32)
    return WrappedSpeech(model, spec, modality.vocabulary.mask)


def moved(spec: SpeechSpec, model: Mapping[str, Any], modality: Modality, objective: Any) -> SpeechSpec:
    """The shapes of another run's wrapped encoder for this run."""
    _check(spec.settings, model, modality, objective)
    return replace(spec, vocabulary=len(modality.vocabulary), pad=modality.vocabulary.pad)


def write(learner: Any, modality: Modality, folder: Path, max_length: int | None = None) -> None:
    """Put the model's own ``config.json``, ``preprocessor_config.json`` and weights into a folder."""
    encoder: Any = learner.encoder
    cfg = encoder.spec.settings | {"architectures": [encoder.architecture], "dtype": "float32"}
    for name, content in (("config.json", cfg), (EXTRACTOR, encoder.spec.extractor)):
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    state = {name: x.detach().cpu().clone() for name, x in encoder.model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def opening(spec: Any, modality: Modality, architecture: str) -> str:
    """The lines of Python that open an exported folder."""
    return OPENING


def described(encoder: WrappedSpeech) -> str:
    """What was taken of a folder, in a line."""
    return f"{encoder.architecture}, wrapped; frames of 20 ms, of which units are predicted by a new head."
