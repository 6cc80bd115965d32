"""Cells of a benchmark's table: each an arm on a task, measured and written as a row."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_suite import __version__
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.machine import cpu_threads
from ssl_suite.core.wording import count
from ssl_suite.evaluation import (
    inference,
    predictions,
    protocols,
    references,
    rows,
    significance,
    submission,
    tasks,
    trial,
)
from ssl_suite.evaluation.budget import Budget
from ssl_suite.evaluation.metrics import Undefined
from ssl_suite.evaluation.protocols import Measurement

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What a benchmark is run with.

    Attributes:
        benchmark: its name, under which rows are filed.
        budget: of every trial.
        place: ``root`` and ``cache`` of the data.
        out: folder of the trials.
        root: the leaderboards folder that rows are added to.
        keep_special: see ``encoders.open_encoder``.
        threads: of a CPU; None is all.
        keep: whether the weights of tested trials are kept.
    """

    benchmark: str
    budget: Budget
    place: Mapping[str, Any]
    out: Path
    root: Path
    keep_special: bool = True
    threads: int | None = None
    keep: bool = False


@dataclass(frozen=True)
class Cell:
    """One arm on one task.

    Attributes:
        task: the column.
        arm: the line's name.
        encoder: a reference.
        protocol: a key of ``protocols.PROTOCOLS``.
    """

    task: tasks.Task
    arm: str
    encoder: str
    protocol: str

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from the other cells of a table."""
        return self.task.benchmark, self.task.name, self.arm, self.encoder, self.protocol

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.task.name}, {self.arm}"

    def plan(self, settings: Settings) -> trial.Plan:
        """The plan of its first trial."""
        budget = settings.budget.of_cell(self.task.base, self.arm)
        return trial.Plan(
            self.task,
            self.encoder,
            self.protocol,
            budget,
            budget.seeds[0],
            0.0,
            settings.place,
            settings.keep_special,
            settings.keep,
        )


def config_of(cell: Cell, settings: Settings) -> dict[str, Any]:
    """Everything that was chosen, and nothing that says where things lie."""
    plan = cell.plan(settings)
    facts = plan.facts()
    facts["encoder"] = references.parse(cell.encoder).short  # whose weights have a digest of their own in the row
    return facts | {"budget": plan.budget.facts(), "arm": cell.arm, "benchmark": settings.benchmark}


def row_path(cell: Cell, settings: Settings) -> Path:
    """Where the cell's row is, or will be."""
    digest = rows.config_digest(config_of(cell, settings))
    run_id = rows.make_run_id(cell.task.name, cell.arm, cell.protocol, settings.budget.name, digest)
    return settings.root / "rows" / settings.benchmark / f"{run_id}.json"


def measure_cell(cell: Cell, settings: Settings, say: Say) -> Path:
    """Measure one cell and write its row, unless it is there."""
    path, blind = row_path(cell, settings), settings.place.get("blind")
    if path.is_file():
        if blind:
            submission.check(cell.task, submission.folder(settings.out, cell.arm), path)
        say(f"{cell.label}: measured before: {path.name}")
        return path
    say(f"{cell.label}: {references.parse(cell.encoder).short}, {cell.protocol}")
    found = protocols.measure(cell.plan(settings), settings.out / "trials", say, settings.threads)
    row, stored = row_of(found, cell, settings)
    if blind:
        submission.write(cell.task, found, submission.folder(settings.out, cell.arm))
    main = row["metrics"][0]
    say(f"  {main['name']} {main['value']:.4f} [{main['ci95'][0]:.4f}, {main['ci95'][1]:.4f}], {found.seconds:.0f} s")
    return rows.write(settings.root, row, stored)


def row_of(
    found: Measurement, cell: Cell, settings: Settings
) -> tuple[dict[str, Any], dict[str, predictions.Predictions]]:
    """The row of a measurement, and by part the predictions that it is computed from. Raises Undefined: its main metric
    has no value on these predictions."""
    from ssl_suite.training.finish import git_state

    task, data, budget = cell.task, found.data, settings.budget
    config = config_of(cell, settings)
    digest = rows.config_digest(config)
    stored = {name: inference.stored(task, data, name, found.predictions[name]) for name in task.parts[2:]}
    commit, dirty = git_state()
    facts = {"weights_sha256": None, "params": None, "pretrain_step": None, "note": ""} | found.encoder
    further = [
        {"part": name, "n": len(made.items_I), "metrics": scored(task, made)}
        for name, made in stored.items()
        if name != "test"
    ]
    row = {
        "run_id": rows.make_run_id(task.name, cell.arm, cell.protocol, budget.name, digest),
        "benchmark": settings.benchmark,
        "arm": cell.arm,
        "config_sha256": digest,
        "config": config,
        "git_commit": commit,
        "git_dirty": dirty,
        "task": task_block(task, found),
        "encoder": {"ref": references.parse(cell.encoder).short, **facts},
        "protocol": found.protocol,
        "seeds": list(stored["test"].by_seed),
        "budget": {
            "name": budget.name,
            "trials": found.trials,
            "steps": found.steps,
            "tokens": found.tokens,
            "seconds": round(found.seconds, 1),
            "device": device_name(settings.threads),
            "precision": precision(),
            **({"overrides": budget.overrides} if budget.overrides else {}),
        },
        "metrics": scored(task, stored["test"]),
        "selection": found.selection,
        "curves": {str(seed): curve for seed, curve in found.curves.items()},
        "env": environment(),
        **({"further": further} if further else {}),
    }
    return row, stored


def task_block(task: tasks.Task, found: Measurement) -> dict[str, Any]:
    """What a row says of its task and data."""
    data = found.data
    counts: dict[str, int] = {}
    parts = {split: data.parts[split] for split in task.parts}
    for split, part in parts.items():
        counts |= {f"n_{split}": len(part), f"n_{split}_full": part.full}
    return {
        "name": task.name,
        "title": task.title,
        "version": task.version,
        "modality": task.modality["name"],
        "data": task.data,
        "reference": task.reference,
        "caveat": task.caveat,
        "data_sha256": data.data_sha256,
        "split_sha256": data.split_sha256,
        **counts,
        "n_classes": len(data.classes),
        "max_length": found.modality.max_length,
        "n_truncated": sum(part.truncated for part in parts.values()),
        "n_skipped": sum(part.skipped for part in parts.values()),
        "leakage": data.leakage,
    }


def scored(task: tasks.Task, stored: predictions.Predictions) -> list[dict[str, Any]]:
    """The task's metrics, those that are undefined left out. Raises Undefined: the main one is."""
    entries = []
    for name in task.metrics:
        try:
            entries.append(significance.score(name, stored))
        except Undefined:
            if name == task.metrics[0]:
                raise
    return entries


def device_name(threads: int | None) -> str:
    """The device that was measured on, in words."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {count(cpu_threads(threads), 'thread')}"


def precision() -> str:
    """bf16 autocast where the trainer uses it, else fp32."""
    import torch

    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def environment() -> dict[str, str]:
    """The versions that a number may depend on."""
    import torch
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ssl_suite": __version__,
        "platform": f"{platform.system()} {platform.machine()}",
    }


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: the file of its row, or the fault in a line; and what was said meanwhile."""

    cell: Cell
    path: Path | None = None
    fault: str = ""
    lines: tuple[str, ...] = ()


def attempt(cell: Cell, settings: Settings, say: Say) -> Outcome:
    """Measure a cell; whatever goes wrong with it is a line, and the others of its table go on."""
    try:
        return Outcome(cell, measure_cell(cell, settings, say))
    except SuiteError as error:
        fault = str(error)
    except Exception as error:
        fault = f"{type(error).__name__}: {error} (no fault of the input is known that does this)"
    return Outcome(cell, fault=" ".join(fault.split()))


def run(phases: list[list[Cell]], settings: Settings, say: Say) -> list[Outcome]:
    """Measure cells one after the other; a phase begins where at least one cell of those before it was measured."""
    outcomes: list[Outcome] = []
    for cells in phases:
        for cell in cells:
            outcomes.append(attempt(cell, settings, say))
            if outcomes[-1].fault:
                say(f"  not measured: {outcomes[-1].fault}")
        if not paths(outcomes):
            break
    return outcomes


def paths(outcomes: list[Outcome]) -> list[Path]:
    """The files of the rows that are there."""
    return [each.path for each in outcomes if each.path is not None]
