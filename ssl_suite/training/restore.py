"""Opening the encoder of a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ssl_suite import config as configuration
from ssl_suite import registry
from ssl_suite.errors import SuiteError
from ssl_suite.modalities.base import Modality
from ssl_suite.models import build
from ssl_suite.models.encoder import Encoder
from ssl_suite.models.learner import Learner
from ssl_suite.training import checkpoint

MODALITY = "modality"  # the folder of a run with what the tokeniser learned and the encoder's shapes


@dataclass(frozen=True)
class Loaded:
    """An opened run: its parts in evaluation mode on one device, and its frozen configuration."""

    learner: Learner
    modality: Modality
    config: dict[str, Any]
    step: int

    @property
    def encoder(self) -> Encoder:
        return self.learner.encoder

    @property
    def objective(self) -> Any:
        return self.learner.objective


def load_run(reference: str, which: str = "best", device: torch.device | str = "cpu") -> Loaded:
    """Open a run folder.

    Args:
        reference: a run folder.
        which: ``best`` (lowest validation loss), ``last``, or a step number.

    Raises:
        SuiteError: no such folder, no checkpoint in it, or a damaged one.
    """
    folder = Path(reference)
    if not (folder / "config.yaml").is_file():
        raise SuiteError(f"encoder={reference} is not a run folder (no config.yaml in it); give the out= of a run.")
    cfg = configuration.read(folder / "config.yaml")
    chosen = _choose(folder / "checkpoints", which)
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    modality.load(folder / MODALITY)
    # The weights come from the checkpoint, so the starting point need not exist any more; its shapes are in the run.
    shapes = json.loads((folder / MODALITY / "encoder_spec.json").read_text("utf-8"))
    learner = build.restored(shapes, cfg["objective"], modality).to(device)
    learner.load_state_dict(load_file(chosen / checkpoint.WEIGHTS, device=str(device)))
    learner.eval()
    return Loaded(learner, modality, cfg, checkpoint.manifest(chosen)["step"])


def _choose(root: Path, which: str) -> Path:
    folders = checkpoint.names(root)
    by_name = {"best": checkpoint.best(root), "last": folders[-1] if folders else None}
    found = by_name[which] if which in by_name else root / f"step_{int(which) if which.isdigit() else -1:08d}"
    if found is None or found not in folders:
        steps = ", ".join(str(int(f.name[5:])) for f in folders) or "none"
        raise SuiteError(f"{root}: no checkpoint '{which}'; there are steps: {steps}. Choose best, last or a step.")
    fault = checkpoint.damage(found)
    if fault:
        raise SuiteError(f"{found}: {fault}; choose another with checkpoint=STEP, or resume the run to write it anew.")
    return found


def save_modality(learner: Learner, modality: Modality, out: Path) -> None:
    """What ``load`` needs beside a checkpoint: the tokeniser and the encoder's shapes. Written when a run starts."""
    modality.save(out / MODALITY)
    shapes = json.dumps(build.shapes(learner.encoder), indent=1)
    (out / MODALITY / "encoder_spec.json").write_text(shapes, encoding="utf-8")
