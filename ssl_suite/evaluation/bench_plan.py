"""What a table will take before anything runs: trials and tokens from the budget and the data, seconds from rows of the
same encoder, else from a few real steps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_metrics
from ssl_suite.evaluation import references, rows, trial
from ssl_suite.evaluation.bench import Cell, Settings, device_name, row_path
from ssl_suite.evaluation.heads import head_class

TRAINED, PASSED = ("finetune", "scratch", "probe"), ("linear", "knn", "zero_shot")
PROBE_SECONDS = 2.0
PROBE_ITEMS = 48  # of each part, whose states the probe of a head computes
POSITIONS = ("token", "frame")  # granularities of heads whose steps cost as much as an encoder's
FORWARD = 1 / 3  # of the time of a training pass
UNKNOWN = (SuiteError, ValueError, OSError)


@dataclass(frozen=True)
class Size:
    """The work of a cell.

    Attributes:
        trials: trainings.
        steps, batch: optimiser steps of each, positions of a step.
        passed: positions that a frozen encoder reads once.
        folders: of the trials that may come to be.
        fault: why it is not known.
    """

    trials: int = 0
    steps: int = 0
    batch: int = 0
    passed: int = 0
    folders: tuple[Path, ...] = ()
    fault: str = ""

    @property
    def tokens(self) -> int:
        """Positions that are trained on, or read once by an encoder that is not trained."""
        return self.trials * self.steps * self.batch + self.passed


@dataclass(frozen=True)
class Planned:
    """A cell with its size; seconds of one thread or device, None where there is no telling."""

    cell: Cell
    size: Size
    seconds: float | None
    measured: bool


def size(cell: Cell, settings: Settings) -> Size:
    """The work of a cell; its data are read."""
    kind, plan = references.parse(cell.encoder).kind, cell.plan(settings)
    if cell.protocol not in (*TRAINED, *PASSED) or kind in references.NETLESS:
        return Size()
    try:
        modality, data = trial.load_data(plan)
        train = trial.settings(plan, data, modality)
    except UNKNOWN as error:
        return Size(fault=" ".join(str(error).split()))
    seeds, rates = len(plan.budget.seeds), len(plan.budget.lr)
    passed = sum(int(data.sizes(part).sum()) for part in data.parts)
    passed *= seeds if references.parse(cell.encoder).varies else 1
    if cell.protocol in PASSED:
        return Size(passed=passed)
    trials = rates * min(seeds, plan.budget.rate_seeds) + max(0, seeds - plan.budget.rate_seeds)
    if cell.protocol == "probe":  # its steps are those of a head, on features that are computed once
        batch = train["tokens_per_batch"] if head_class(cell.task.head["name"]).granularity in POSITIONS else 0
        return Size(trials, train["steps"], batch, passed)
    each = [replace(plan, lr=lr, seed=seed) for lr in plan.budget.lr for seed in plan.budget.seeds]
    folders = tuple(trial.folder_of(one, settings.out / "trials") for one in each)
    return Size(trials, train["steps"], train["tokens_per_batch"], folders=folders)


def sizes(cells: Sequence[Cell], settings: Settings) -> dict[tuple[str, ...], Size]:
    """By the cells' keys; tasks in order, so that the data of one are read once for encoders that read them alike."""
    return {cell.key: size(cell, settings) for cell in sorted(cells, key=lambda cell: (cell.task.name, cell.encoder))}


def done_tokens(found: Size) -> int:
    """Positions that the trials of a cell have trained on, by their logs."""
    logs = [folder / "metrics.jsonl" for folder in found.folders]
    lines = [read_metrics(log)[0] for log in logs if log.is_file()]
    done = sorted(int(each[-1]["step"]) if each else 0 for each in lines)
    return sum(done[-found.trials :]) * found.batch if found.trials else 0


def plan(cells: Sequence[Cell], settings: Settings, say: Callable[[str], None]) -> list[Planned]:
    """What each cell takes, in their order; of those that are measured already nothing is computed."""
    rates = Rates(settings, say)
    found = []
    for cell in cells:
        if row_path(cell, settings).is_file():
            found.append(Planned(cell, Size(), 0.0, measured=True))
            continue
        of_cell = size(cell, settings)
        found.append(Planned(cell, of_cell, rates.seconds(cell, of_cell), measured=False))
    return found


class Rates:
    """Seconds a position of each distinct encoder, found once: the median of rows that were measured on this device,
    by encoder, modality and protocol, else of a few real steps."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings, self.say = settings, say
        self.known: dict[tuple[str, str], float | None] = {}
        self.rows: dict[tuple[str, str, str], list[float]] = {}
        device = device_name(settings.threads)
        for row in rows.read_all(settings.root) if settings.root.is_dir() else []:
            budget = row["budget"]
            if budget["device"] == device and budget.get("tokens") and budget["seconds"]:
                key = row["encoder"].get("ref") or "", row["task"]["modality"], row["protocol"]["name"]
                self.rows.setdefault(key, []).append(budget["seconds"] / budget["tokens"])

    def seconds(self, cell: Cell, found: Size) -> float | None:
        """Of a whole cell."""
        if found.fault:
            return None
        if not found.tokens:
            return 0.0
        trained = cell.protocol in ("finetune", "scratch")
        key = references.parse(cell.encoder).short, cell.task.modality["name"]
        if trained and (*key, cell.protocol) in self.rows:
            return found.tokens * float(np.median(self.rows[(*key, cell.protocol)]))
        rate = self._probed(cell, key)
        if rate is None or trained:
            return None if rate is None else found.tokens * rate
        of_head = self._probed(cell, (key[0], cell.task.name), of_head=True) if found.batch else 0.0
        return None if of_head is None else found.passed * rate * FORWARD + (found.tokens - found.passed) * of_head

    def _probed(self, cell: Cell, key: tuple[str, str], of_head: bool = False) -> float | None:
        """Seconds a position, of the encoder or of a head on its states; None where it cannot be measured."""
        if key not in self.known:
            try:
                self.known[key] = probe(cell, self.settings, of_head)
                what = f"the head of {cell.task.name} on {key[0]}" if of_head else f"{key[0]} on {cell.task.name}"
                self.say(f"probed {what}: {1 / self.known[key]:,.0f} tokens/s.")  # type: ignore[operator]
            except UNKNOWN as error:
                self.known[key] = None
                self.say(f"{cell.label}: not probed: {' '.join(str(error).split())}")
        return self.known[key]


def probe(cell: Cell, settings: Settings, of_head: bool = False) -> float:
    """Seconds a position of real training steps of the cell's encoder, or of a head on its states of some items."""
    from ssl_suite.training import estimate
    from ssl_suite.training.distributed import processes
    from ssl_suite.training.learner import Learner
    from ssl_suite.training.trainer import batches

    protocol = cell.protocol if of_head or cell.protocol in ("finetune", "scratch") else "finetune"
    plan = replace(replace(cell, protocol=protocol).plan(settings), lr=cell.plan(settings).budget.lr[0])
    if of_head:
        plan = replace(plan, budget=replace(plan.budget, limits=dict.fromkeys(cell.task.parts, PROBE_ITEMS)))
    setup: dict[str, Any] = {"threads": settings.threads, "precision": "auto"}
    with processes(setup) as group, tempfile.TemporaryDirectory() as folder:
        parts = trial.build(plan, group.device, Path(folder, "trial"))
        train = trial.settings(plan, parts.data, parts.modality, settings.threads)
        learner = Learner(parts.encoder, parts.head).to(group.device)
        job = trial.job(learner, parts, plan, train, group)
        first = next(batches(job.collator, job.rows, 0, 1))[0][1]
        found = estimate.measure({"train": train}, learner, job.collator, first, group, PROBE_SECONDS)
    return found.seconds_per_position + found.optimiser_seconds / train["tokens_per_batch"]
