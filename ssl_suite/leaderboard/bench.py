"""A benchmark: arms by tasks, each measured and written as a row."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_suite import __version__, config
from ssl_suite.errors import SuiteError, nearest
from ssl_suite.evaluation import measure, references, tasks, trial
from ssl_suite.evaluation.metrics import Undefined
from ssl_suite.leaderboard import rows, verify

Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """A line of the table.

    Attributes:
        name: as the table calls it.
        encoder, protocol: what is measured; ``{text}`` and ``{ssl}`` are filled in by ``encoder_of``.
    """

    name: str
    encoder: str
    protocol: str


@dataclass(frozen=True)
class Settings:
    """What a benchmark is run with.

    Attributes:
        budget: as ``conf/budget/NAME.yaml`` has it.
        place: ``root`` and ``cache`` of the data.
        out: folder of the trials.
        root: the leaderboards folder that rows are added to.
        text: the text encoder of arms that name ``{text}``.
        ssl: by modality the run folder of arms that name ``{ssl}``.
        keep_special: see ``encoders.open_encoder``.
        threads: of a CPU; None is all.
    """

    budget: Mapping[str, Any]
    place: Mapping[str, Any]
    out: Path
    root: Path
    text: str
    ssl: Mapping[str, str]
    keep_special: bool = True
    threads: int | None = None


def arms_of(benchmark: Mapping[str, Any], names: Sequence[str] | None = None) -> list[Arm]:
    """The arms of a benchmark's configuration, or those named.

    Raises:
        SuiteError: no such arm.
    """
    known = [Arm(name, **facts) for name, facts in benchmark["arms"].items()]
    for name in names or ():
        if name not in benchmark["arms"]:
            raise SuiteError(f"arms={name} does not exist.{nearest(name, benchmark['arms'])}")
    return [arm for arm in known if names is None or arm.name in names]


def arm_of(encoder: str, protocol: str, benchmark: Mapping[str, Any]) -> Arm:
    """The arm that an encoder named by the user stands for in the table; a line of its own where there is none."""
    reference = references.parse(encoder)
    for name, facts in benchmark["arms"].items():
        template = facts["encoder"].replace("{text}", "hf:x").replace("{ssl}", "ssl")
        if facts["protocol"] == protocol and reference.kind == _kind(template):
            other = references.parse(template) if reference.kind != "run" else reference
            if (other.map, other.reembed) == (reference.map, reference.reembed):
                return Arm(name, encoder, protocol)
    return Arm(f"{reference.short} {protocol}", encoder, protocol)


def _kind(template: str) -> str:
    return "run" if template == "ssl" else references.parse(template).kind


def encoder_of(arm: Arm, task: tasks.Task, settings: Settings) -> str | None:
    """The arm's encoder for a task; None where ``ssl.MODALITY`` was not given."""
    run = settings.ssl.get(task.modality["name"])
    if "{ssl}" in arm.encoder and run is None:
        return None
    return arm.encoder.replace("{text}", settings.text).replace("{ssl}", run or "")


def run(
    arms: Sequence[Arm], chosen: Sequence[tasks.Task], settings: Settings, say: Say, named: Arm | None = None
) -> list[Path]:
    """Measure every arm on every task and write the rows.

    A cell whose row is there already is left as it is; one whose data, encoder or score cannot be had is named with
    the reason, and the others go on.

    Args:
        named: of ``arms``, the one whose encoder the user named: measured first, and nothing else without it.

    Returns:
        The files of the rows, those that were there included.

    Raises:
        SuiteError: not one cell (of ``named``, where there is one) could be measured; the reason of the first.
    """
    found: list[Path] = []
    faults: list[SuiteError] = []
    for task, arm in sorted(itertools.product(chosen, arms), key=lambda cell: cell[1] is not named):
        if named is not None and arm is not named and not found:
            break
        encoder = encoder_of(arm, task, settings)
        cell = f"{task.name}, {arm.name}"
        if encoder is None:
            say(f"{cell}: left out, give ssl.{task.modality['name']}=RUN.")
            continue
        say(f"{cell}: {references.parse(encoder).short}, {arm.protocol}")
        try:
            found.append(cell_row(task, arm, encoder, settings, say))
        except SuiteError as error:
            faults.append(error)
            say(f"  not measured: {error}")
    if not found:
        raise faults[0] if faults else SuiteError("No arm was left to measure: give ssl.MODALITY=RUN, or other arms=.")
    return found


def cell_row(task: tasks.Task, arm: Arm, encoder: str, settings: Settings, say: Say) -> Path:
    """Measure one cell and write its row, unless it is there."""
    plan = trial.Plan(
        str(task.path),
        encoder,
        arm.protocol,
        settings.budget,
        settings.budget["seeds"][0],
        0.0,
        settings.place,
        settings.keep_special,
    )
    sha256 = config_sha256(plan, arm)
    run_id = rows.make_run_id(task.name, arm.name, arm.protocol, settings.budget["name"], sha256)
    path = settings.root / "rows" / task.benchmark / f"{run_id}.json"
    if path.is_file():
        say(f"  measured before: {path.name}")
        return path
    found = measure.measure(plan, settings.out / "trials", say, settings.threads)
    row, stored = row_of(found, arm, encoder, settings, run_id, sha256)
    main = row["metrics"][0]
    say(f"  {main['name']} {main['value']:.4f} [{main['ci95'][0]:.4f}, {main['ci95'][1]:.4f}], {found.seconds:.0f} s")
    return rows.write(settings.root, row, stored)


def config_sha256(plan: trial.Plan, arm: Arm) -> str:
    """Of everything that was chosen, and of nothing that says where things lie."""
    facts = {
        "task": Path(plan.task).read_text("utf-8"),
        "encoder": references.parse(plan.encoder).short,
        "protocol": plan.protocol,
        "budget": dict(plan.budget),
        "keep_special": plan.keep_special,
        "arm": arm.name,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def row_of(
    found: measure.Measurement, arm: Arm, encoder: str, settings: Settings, run_id: str, sha256: str
) -> tuple[dict[str, Any], rows.Predictions]:
    """The row of a measurement, and the predictions that it is computed from.

    Raises:
        Undefined: its main metric has no value on these predictions.
    """
    from ssl_suite.training.finish import git_state

    task, data, budget = found.task, found.data, settings.budget
    test = data.parts["test"]
    stored = rows.stored(test.labels_I, found.predictions, test.rows_I, data.classes)
    scored = []
    for name in task.metrics:
        try:
            scored.append(verify.score(name, stored))
        except Undefined:
            if name == task.metrics[0]:
                raise
    commit, dirty = git_state()
    counts: dict[str, int] = {}
    for split, part in data.parts.items():
        counts |= {f"n_{split}": len(part), f"n_{split}_full": part.full}
    facts = {"weights_sha256": None, "params": None, "pretrain_step": None, "note": ""} | found.encoder
    row = {
        "run_id": run_id,
        "benchmark": task.benchmark,
        "arm": arm.name,
        "config_sha256": sha256,
        "git_commit": commit,
        "git_dirty": dirty,
        "task": {
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
            "n_truncated": sum(part.truncated for part in data.parts.values()),
            "n_skipped": sum(part.skipped for part in data.parts.values()),
            "leakage": data.leakage,
        },
        "encoder": {"ref": references.parse(encoder).short, **facts},
        "protocol": found.protocol,
        "seeds": list(stored.by_seed),
        "budget": {
            "name": budget["name"],
            "trials": found.trials,
            "steps": found.steps,
            "tokens": found.tokens,
            "seconds": round(found.seconds, 1),
            "device": device_name(settings.threads),
            "precision": precision(),
        },
        "metrics": scored,
        "selection": found.selection,
        "curves": {str(seed): curve for seed, curve in found.curves.items()},
        "env": environment(),
    }
    return row, stored


def device_name(threads: int | None) -> str:
    """The device that was measured on, in words."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {threads or os.cpu_count()} threads"


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


def configuration(name: str) -> dict[str, Any]:
    """``conf/bench/NAME.yaml``.

    Raises:
        SuiteError: no such benchmark.
    """
    return config.option("bench", name)
