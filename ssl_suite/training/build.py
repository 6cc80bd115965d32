"""From a configuration, or from the shapes a run was saved with, to an encoder under its objective."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_suite.core import atomic, registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.base import Modality
from ssl_suite.models import carry, foreign, foreign_speech, hub, weights
from ssl_suite.models.embedders import embedder
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.wrapped import Wrapped, WrappedSpec
from ssl_suite.models.wrapped_speech import SpeechSpec, WrappedSpeech
from ssl_suite.objectives.base import Objective
from ssl_suite.training.learner import Learner


def learner(
    cfg: Mapping[str, Any], modality: Modality, seed: int = 0, report: Callable[[str], None] = print
) -> Learner:
    """The learner of a configuration, with weights that depend on ``seed`` alone, or on a folder in ``model.init``.

    Args:
        report: takes a line on what of that folder could be kept.
    """
    torch.manual_seed(seed)
    kind = KINDS[cfg["model"].get("kind", "transformer")]
    encoder, found = kind.start(cfg["model"], modality, objective_class(cfg["objective"]))
    objective = build_objective(cfg["objective"], modality, encoder)
    if found is not None:
        copy_head(objective, found.head, found.rows_V)
        report(f"model.init={cfg['model']['init']}: {found.words}")
    return Learner(encoder, objective)


@torch.no_grad()
def copy_head(objective: Objective, trained: Mapping[str, Tensor], rows_V: Tensor) -> None:
    """Take what fits of a head under ``transformers``' names; of the bias of each id what ``rows_V`` carries over."""
    for name, weight in objective.hub_weights()[1].items():
        if name == hub.BIAS and name in trained:
            carry.over(weight, trained[name], rows_V)
        elif name in trained and weight.shape == trained[name].shape:
            weight.copy_(trained[name])


def continued(source: Any, cfg: Mapping[str, Any], modality: Modality) -> Any:
    """An encoder of the shapes of another run's, with random weights, for this run's modality and objective."""
    kind = KINDS[source.spec.kind]
    try:
        spec = kind.moved(source.spec, cfg["model"], modality, objective_class(cfg["objective"]))
    except SuiteError as error:
        raise SuiteError(f"model.init={cfg['model']['init']}: {error}") from None
    return kind.of_shapes(vars(spec), modality)


def restored(
    saved: Mapping[str, Any], section: Mapping[str, Any], modality: Modality, found: Mapping[str, Tensor] | None = None
) -> Learner:
    """The learner of a run, with random weights.

    Args:
        saved: what ``shapes`` gave when the run started.
        section: its ``objective`` section.
        found: the weights that it is to get: the encoder's shapes are held against theirs before memory is asked for.

    Raises:
        SuiteError: ``saved`` describes no encoder, or another than that of ``found``.
    """
    facts = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
    try:
        of_shapes = KINDS[str(facts.pop("kind", "transformer"))].of_shapes
        if found is not None:
            reason = weights.implausible(facts, found)
            if not reason:
                with torch.device("meta"):
                    shell = of_shapes(facts, modality).state_dict()
                own = {name.removeprefix("encoder."): x for name, x in found.items() if name.startswith("encoder.")}
                reason = weights.fault(own, shell)
            if reason:
                raise ValueError(f"the weights are not of these shapes: {reason}")
        encoder = of_shapes(facts, modality)
    except Exception as error:  # of many kinds: a key that is missing, a width of text, heads that do not divide it
        raise SuiteError(f"describes no encoder of this run ({' '.join(str(error).split())[:160]}).") from None
    tokens = len(modality.vocabulary)
    if getattr(encoder.spec, "vocabulary", tokens) < tokens:
        raise SuiteError(f"the encoder has {encoder.spec.vocabulary:,} embeddings, the tokeniser {tokens:,} tokens.")
    return Learner(encoder, build_objective(section, modality, encoder))


def shapes(encoder: Any) -> dict[str, Any]:
    """What ``restored`` needs to know of an encoder, as JSON values."""
    return {"kind": encoder.spec.kind, **vars(encoder.spec)}


def objective_class(section: Mapping[str, Any]) -> type[Objective]:
    """The class that an ``objective`` section names.

    Raises:
        SuiteError: an unknown name.
    """
    return registry.load(registry.OBJECTIVES, "objective", section["name"])


def build_objective(section: Mapping[str, Any], modality: Modality, encoder: Any) -> Objective:
    """The objective of a section, given what its constructor names of modality, spec and encoder."""
    given = {"modality": modality, "spec": encoder.spec, "encoder": encoder}
    named = inspect.signature(objective_class(section)).parameters
    wanted = {key: value for key, value in given.items() if key in named}
    return registry.build(registry.OBJECTIVES, "objective", section, **wanted)


def export(learner: Learner, modality: Modality, folder: Path, card: str, max_length: int | None = None) -> None:
    """Write a folder that ``transformers`` (or torchvision, for a convnet) opens without this package.

    An earlier export there is replaced as a whole.

    Raises:
        SuiteError: the folder holds what this suite has not written.
    """
    with atomic.replacing_folder(folder, "output") as unfinished:
        modality.save(unfinished)
        KINDS[learner.encoder.spec.kind].write(learner, modality, unfinished, max_length)
        learner.objective.write_beside(learner.encoder, modality, unfinished)
        (unfinished / "README.md").write_text(card, encoding="utf-8")


def opening(learner: Learner, modality: Modality, folder: str = "this folder") -> str:
    """The lines of Python that open an exported folder."""
    spec, architecture = learner.encoder.spec, learner.objective.hub_weights()[0]
    lines = KINDS[spec.kind].opening(spec, modality, architecture)
    return lines.replace('"this folder', json.dumps(folder, ensure_ascii=False)[:-1])


def check_pair(cfg: Mapping[str, Any]) -> None:
    """Refuse an objective that makes no sense for the modality, or cannot train the model, before any work is done.

    Raises:
        SuiteError: the reason and a suggestion.
    """
    modality = registry.load(registry.MODALITIES, "modality", cfg["modality"]["name"])
    objective, name = objective_class(cfg["objective"]), cfg["objective"]["name"]
    reason = objective.refuses(modality)
    if reason:
        raise SuiteError(f"objective={name} with modality={modality.name}: {reason}")
    KINDS[cfg["model"].get("kind", "transformer")].check(cfg["model"], modality, objective)


def _habits(model: Mapping[str, Any]) -> dict[str, Any]:
    """How an encoder is trained, which no weights decide; older runs' configurations have neither."""
    return {"dropout": model.get("dropout", 0.0), "checkpointing": model.get("checkpointing", False)}


class _Transformer:
    """The suite's own encoder."""

    library, larger = "transformers", "mini"

    write = staticmethod(hub.write)
    opening = staticmethod(hub.opening)

    @staticmethod
    def start(model: Mapping[str, Any], modality: Modality, objective: type[Objective]) -> tuple[Any, hub.Start | None]:
        habits = _habits(model)
        if model.get("init"):
            encoder, found = hub.read(model["init"], model, modality, objective)
            if isinstance(encoder, Encoder):
                encoder.spec = replace(encoder.spec, **habits)
            return encoder, found
        v, frame = modality.vocabulary, modality.frame if objective.reads == "frames" else None
        size = len(v) + objective.extra_tokens
        model = model if objective.layers is None else {**model, "layers": objective.layers}
        spec = EncoderSpec.from_section(model, size, modality.max_length, v.pad, frame, objective.causal)
        return Encoder(replace(spec, **habits), embedder(spec, modality)), None

    @staticmethod
    def moved(
        spec: EncoderSpec, model: Mapping[str, Any], modality: Modality, objective: type[Objective]
    ) -> EncoderSpec:
        return replace(hub.moved(spec, modality, objective), **_habits(model))

    @staticmethod
    def of_shapes(facts: Mapping[str, Any], modality: Modality) -> Encoder:
        spec = EncoderSpec(**facts)
        return Encoder(spec, embedder(spec, modality))

    @staticmethod
    def check(model: Mapping[str, Any], modality: type[Modality], objective: type[Objective]) -> None:
        pass


class _Convnet:
    """torchvision's."""

    library, larger = "torchvision", "resnet50"

    @staticmethod
    def write(learner: Learner, modality: Modality, folder: Path, max_length: int | None = None) -> None:
        from ssl_suite.models import convnet

        convnet.write(learner, modality, folder)

    @staticmethod
    def opening(spec: Any, modality: Modality, architecture: str) -> str:
        from ssl_suite.models import convnet

        return convnet.opening(spec, modality)

    @staticmethod
    def start(model: Mapping[str, Any], modality: Modality, objective: type[Objective]) -> tuple[nn.Module, None]:
        from ssl_suite.models.convnet import Convnet, ConvnetSpec

        return Convnet(ConvnetSpec.from_section(model, modality), modality), None

    @staticmethod
    def of_shapes(facts: Mapping[str, Any], modality: Modality) -> nn.Module:
        from ssl_suite.models.convnet import Convnet, ConvnetSpec

        return Convnet(ConvnetSpec(**facts), modality)

    @staticmethod
    def check(model: Mapping[str, Any], modality: type[Modality], objective: type[Objective]) -> None:
        from ssl_suite.models.convnet import check_model

        check_model(model, modality, objective)


class _Wrapped:
    """``transformers``' of other layouts; it starts as ``model.init`` of the suite's own kind."""

    library, larger = "transformers", "mini"

    write = staticmethod(foreign.write)
    moved = staticmethod(foreign.moved)

    @staticmethod
    def opening(spec: Any, modality: Modality, architecture: str) -> str:
        return foreign.OPENING

    @staticmethod
    def of_shapes(facts: Mapping[str, Any], modality: Modality) -> Wrapped:
        return foreign.empty(WrappedSpec(**facts))


class _WrappedSpeech:
    """``transformers``' speech encoders; they start as ``model.init`` of the suite's own kind."""

    library, larger = "transformers", "mini"

    write = staticmethod(foreign_speech.write)
    moved = staticmethod(foreign_speech.moved)

    @staticmethod
    def opening(spec: Any, modality: Modality, architecture: str) -> str:
        return foreign_speech.OPENING

    @staticmethod
    def of_shapes(facts: Mapping[str, Any], modality: Modality) -> WrappedSpeech:
        return foreign_speech.empty(SpeechSpec(**facts), modality)


def keeps_tokens(encoder: Any) -> bool:
    """Whether its tokens cannot be exchanged for others."""
    return isinstance(encoder, Wrapped)


KINDS: dict[str, Any] = {
    "transformer": _Transformer,
    "convnet": _Convnet,
    "wrapped": _Wrapped,
    "wrapped_speech": _WrappedSpeech,
}
"""How each ``model.kind`` starts, comes back from saved shapes, is written, and what it can be trained with; the
library that opens its exported folder, and a larger model of the kind."""
