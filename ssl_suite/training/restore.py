"""Opening the encoder of a run folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.modalities.base import Modality
from ssl_suite.models import foreign, weights
from ssl_suite.models.encoder import Encoder
from ssl_suite.models.wrapped import Wrapped
from ssl_suite.settings import config as configuration
from ssl_suite.settings.run_reference import CONFIG, split
from ssl_suite.training import build, checkpoint
from ssl_suite.training.learner import Learner

REMEDY = "copy it from the run's backup, or train again"
SPEC = "encoder_spec.json"
MODALITY = "modality"  # the folder of a run with what the tokeniser learned and the encoder's shapes


@dataclass(frozen=True)
class Loaded:
    """An opened run: its parts in evaluation mode on one device, and its frozen configuration, its folder."""

    learner: Learner
    modality: Modality
    config: dict[str, Any]
    step: int
    folder: Path

    @property
    def encoder(self) -> Encoder:
        return self.learner.encoder

    @property
    def objective(self) -> Any:
        return self.learner.objective


def load_run(
    reference: str,
    which: str = "best",
    device: torch.device | str = "cpu",
    report: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> Loaded:
    """Open a run folder.

    Args:
        reference: ``RUN``, or ``RUN@STEP``, which stands above ``which=best``.
        which: ``best`` (lowest validation loss), ``last``, or a step number.
        report: takes a line about each damaged checkpoint that was not chosen for its damage.

    Raises:
        SuiteError: no such folder, no checkpoint in it, a damaged file, or two checkpoints named.
    """
    folder, place = chosen(reference, which, report)
    cfg = configuration.read_run(folder / CONFIG)
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    modality.load(folder / MODALITY)
    # The weights come from the checkpoint, so the starting point need not exist any more; its shapes are in the run.
    shapes = saved_shapes(folder)
    written = checkpoint.manifest(place).get("encoder", {})  # by then versions may have added keys, not changed them
    if any(shapes.get(key, value) != value for key, value in written.items()):
        raise SuiteError(f"{folder / MODALITY / SPEC} is not what {place.name} was written with; {REMEDY}.")
    found = weights.read(place / checkpoint.WEIGHTS, REMEDY)
    try:
        learner = build.restored(shapes, cfg["objective"], modality, found)
    except SuiteError as error:
        raise SuiteError(f"{folder / MODALITY / SPEC}: {error} Is it of another run? Else {REMEDY}.") from None
    fault = weights.fault(found, learner.state_dict())
    if fault:
        raise SuiteError(f"{place / checkpoint.WEIGHTS}: {fault}. Is it of another run? Else {REMEDY}.")
    learner.load_state_dict(found)
    if isinstance(learner.encoder, Wrapped):
        learner.encoder.files = folder / MODALITY / foreign.KEPT
    return Loaded(learner.to(device).eval(), modality, cfg, checkpoint.manifest(place)["step"], folder)


def saved_shapes(out: Path) -> dict[str, Any]:
    """The encoder's shapes of a run, as ``save_modality`` wrote them."""
    return read_json(out / MODALITY / SPEC, REMEDY)


def chosen(reference: str, which: str = "best", report: Callable[[str], None] = lambda line: None) -> tuple[Path, Path]:
    """The run folder, and the checkpoint in it; the arguments and errors are ``load_run``'s."""
    folder, named = split(reference)
    if not (folder / CONFIG).is_file():
        raise SuiteError(f"encoder={reference} is not a run folder (no {CONFIG} in it); give the out= of a run.")
    if named is not None and which not in ("best", named):
        raise SuiteError(f"encoder={reference} and checkpoint={which} name two checkpoints: leave one out.")
    return folder, _choose(folder / "checkpoints", named or which, report)


def _choose(root: Path, which: str, report: Callable[[str], None]) -> Path:
    named = root / f"step_{int(which) if which.isdecimal() else -1:08d}"
    if named in checkpoint.names(root):
        fault = checkpoint.damage(named)
        if fault:
            raise SuiteError(f"{named}: {fault}; choose another checkpoint, or resume the run to write it anew.")
        return named
    folders = checkpoint.whole(root, report)
    by_name = {"best": checkpoint.best(root), "last": folders[-1] if folders else None}
    found = by_name.get(which)
    if found is None:
        steps = ", ".join(str(int(f.name[5:])) for f in folders) or "none that is whole"
        raise SuiteError(f"{root}: no checkpoint '{which}'; there are steps: {steps}. Choose best, last or a step.")
    return found


def refuse_other_data(out: Path, key: str) -> None:
    """Hold the key of the prepared data against the one in the newest checkpoint that has one.

    Raises:
        SuiteError: the run was trained on other data.
    """
    keys = (checkpoint.manifest(folder).get("data_key") for folder in reversed(checkpoint.names(out / "checkpoints")))
    was = next(filter(None, keys), key)
    if was != key:
        raise SuiteError(
            f"{out} was trained on other data: its checkpoints are of store {was[:24]}, the input now makes store "
            f"{key[:24]}. Put the input back as it was, or start a run of its own on the new one: "
            f"out=ANOTHER, with model.init={out} to begin with these weights."
        )


def save_modality(learner: Learner, modality: Modality, out: Path) -> None:
    """What ``load`` needs beside a checkpoint: the tokeniser and the encoder's shapes. Written when a run starts."""
    modality.save(out / MODALITY)
    if isinstance(learner.encoder, Wrapped):
        foreign.keep(learner.encoder, out / MODALITY / foreign.KEPT)
    shapes = json.dumps(build.shapes(learner.encoder), indent=1)
    (out / MODALITY / SPEC).write_text(shapes, encoding="utf-8")
