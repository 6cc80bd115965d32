"""Where a run starts: at random, at weights of ``transformers``, or at a checkpoint of another run.

A run that starts from another goes on with that one's tokeniser and codebook, unless the settings that decide tokens
differ or ``model.init_tokens=new``. Then embeddings are carried over token by token (``models.carry``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_suite.core import codebook, registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models import carry
from ssl_suite.settings import config, runs
from ssl_suite.settings.run_reference import CONFIG, is_run, split
from ssl_suite.training import build, checkpoint, restore
from ssl_suite.training.learner import Learner

READING = ("documents", "language")  # of a fingerprint: they decide records, not tokens
TABLE = "embeddings.tok_embeddings.weight"


def modality_of(cfg: Mapping[str, Any], out: Path | None = None) -> tuple[Modality, Path | None]:
    """The modality of a run, with the tokeniser of the run it starts from where that is to be kept.

    Args:
        out: the run's folder; one that goes on has its tokens there, and needs the other run no more.

    Returns:
        The modality, and the ``modality/`` folder whose codebook is to be used; None where one is fitted.
    """
    section, init = cfg["modality"], cfg["model"].get("init")
    fresh = registry.build(registry.MODALITIES, "modality", section)
    if not init:
        return fresh, out and out / restore.MODALITY
    if out is not None and runs.has_started(out):
        folder, saved = out / restore.MODALITY, section
    elif is_run(init) and cfg["model"].get("init_tokens", "source") == "source":
        run = split(init)[0]
        folder, saved = run / restore.MODALITY, config.read(run / CONFIG)["modality"]
    else:
        return fresh, None
    known = _with_tokens(section, saved, folder)
    return (fresh, None) if known is None else (known, folder)


def _with_tokens(section: Mapping[str, Any], saved: Mapping[str, Any], folder: Path) -> Modality | None:
    """The modality with the tokeniser of a folder; None where its settings ask for other tokens than ``saved`` did."""
    if any(section.get(key) != saved.get(key) for key in ("name", "tokenizer", "codes", "units")):
        return None
    wanted, theirs = (registry.build(registry.MODALITIES, "modality", part) for part in (section, saved))
    theirs.load(folder)
    try:
        wanted.load(folder)
    except SuiteError:
        return None
    prints = ({k: x for k, x in one.fingerprint().items() if k not in READING} for one in (wanted, theirs))
    if isinstance(wanted, SignalModality):
        wanted.codebook = None  # ``units.ensure_units`` takes it from the folder; a prepared store must not hold it
    return wanted if next(prints) == next(prints) else None


def learner(
    cfg: Mapping[str, Any], modality: Modality, out: Path | None = None, report: Callable[[str], None] = print
) -> Learner:
    """The learner of a run before its first step.

    Args:
        modality: whose vocabulary (and codebook) is known.
        out: the run's folder. Where it holds a sound checkpoint, the start need not exist any more: the weights will
            come from there, so the shapes are enough.
        report: takes a line on what of the start could be kept.

    Raises:
        SuiteError: the start is damaged, or of another kind than the objective needs.
    """
    init = cfg["model"].get("init")
    try:
        if init and is_run(init):
            return _from_run(cfg, init, modality, report)
        return build.learner(cfg, modality, cfg["seed"], report)
    except SuiteError:
        if not init or out is None or checkpoint.sound(out / "checkpoints", lambda line: None) is None:
            raise
        return build.restored(restore.saved_shapes(out), cfg["objective"], modality)


def _from_run(cfg: Mapping[str, Any], init: str, modality: Modality, report: Callable[[str], None]) -> Learner:
    source = restore.load_run(init)
    torch.manual_seed(cfg["seed"])
    encoder = build.continued(source.encoder, cfg, modality)
    found = Learner(encoder, build.build_objective(cfg["objective"], modality, encoder))
    if build.keeps_tokens(encoder) and source.modality.vocabulary.tokens != modality.vocabulary.tokens:
        raise SuiteError(
            f"model.init={init} is a wrapped model, which keeps its tokens: leave modality.tokenizer and "
            "model.init_tokens out."
        )
    rows_V = carry.rows(source.modality.vocabulary, modality.vocabulary, _same_meaning(source.modality, modality))
    _copy(source, found, rows_V, modality)
    report(f"model.init={init}: {carry.described(rows_V)}")
    return found


def _same_meaning(old: Modality, new: Modality) -> bool:
    """Whether equal strings are equal things: within one modality, and of signals under one codebook."""
    if old.name != new.name:
        return False
    if not isinstance(old, SignalModality) or not isinstance(new, SignalModality):
        return True
    return codebook.same(old.codebook, new.codebook)


def _copy(source: restore.Loaded, found: Learner, rows_V: torch.Tensor, modality: Modality) -> None:
    """Everything that fits by name and shape; what belongs to ids by ``rows_V``."""
    same = source.modality.vocabulary.tokens == modality.vocabulary.tokens and bool((rows_V >= 0).all())
    one_kind = type(source.objective) is type(found.objective)
    body, own = source.encoder.state_dict(), found.encoder.state_dict()
    table = body.pop(TABLE, None)
    fitting = {name: x for name, x in body.items() if name in own and x.shape == own[name].shape}
    found.encoder.load_state_dict(fitting, strict=False)
    if table is not None:
        carry.over(own[TABLE], table, rows_V)
        if same and one_kind:  # rows of the objective's own symbols are the same ones, too
            own[TABLE].copy_(table) if own[TABLE].shape == table.shape else None
    if same and one_kind:
        given, mine = source.objective.state_dict(), found.objective.state_dict()
        found.objective.load_state_dict({n: x for n, x in given.items() if mine[n].shape == x.shape}, strict=False)
    else:
        build.copy_head(found.objective, dict(source.objective.hub_weights()[1]), rows_V)
