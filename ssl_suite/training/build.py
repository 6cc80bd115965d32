"""Building an encoder under its objective: from a configuration, or from the shapes a run was saved with."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_suite.core import atomic, registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.base import Modality
from ssl_suite.models import carry, hub, weights
from ssl_suite.models.wrapped import Wrapped
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
    kind = kind_of(cfg["model"])
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
    kind = kind_of({"kind": source.spec.kind})
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
        of_shapes = kind_of(facts).of_shapes
        facts.pop("kind", None)
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
        kind_of(shapes(learner.encoder)).write(learner, modality, unfinished, max_length)
        learner.objective.write_beside(learner.encoder, modality, unfinished)
        (unfinished / "README.md").write_text(card, encoding="utf-8")


def opening(learner: Learner, modality: Modality, folder: str = "this folder") -> str:
    """The lines of Python that open an exported folder."""
    spec, architecture = learner.encoder.spec, learner.objective.hub_weights()[0]
    lines = kind_of({"kind": spec.kind}).opening(spec, modality, architecture)
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
    kind_of(cfg["model"]).check(cfg["model"], modality, objective)


def keeps_tokens(encoder: Any) -> bool:
    """Whether its tokens cannot be exchanged for others."""
    return isinstance(encoder, Wrapped)


MODULES = {
    "transformer": "ssl_suite.models.hub",
    "convnet": "ssl_suite.models.convnet",
    "wrapped": "ssl_suite.models.foreign",
    "wrapped_speech": "ssl_suite.models.foreign_speech",
}
"""For each ``model.kind`` the module that says how it starts (``start``), comes back from saved shapes (``of_shapes``),
goes on from another run (``moved``), is written (``write``) and opened (``opening``), what it can be trained with
(``check``), the ``LIBRARY`` that opens its exported folder, and a ``LARGER`` model of the kind."""


def kind_of(model: Mapping[str, Any]) -> Any:
    """The module of a ``model`` section, or of a saved spec; torchvision is imported for a convnet alone."""
    return importlib.import_module(MODULES[str(model.get("kind", "transformer"))])
