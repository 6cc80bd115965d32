"""Loss over steps of encoders on one task, with bands over seeds: does a pre-trained one learn faster?

The lecture's figure of pre-training against starting from scratch (after Hao et al. 2019, arXiv:1908.05620), drawn
from the curves that leaderboard rows carry. Shapes: S seeds, P points.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError

MOST = 60  # points of a curve: a longer one is averaged in blocks, or its noise hides it
END = 0.1  # the share of the steps whose mean loss counts as where a curve ends


@dataclass(frozen=True)
class Curve:
    """One arm's.

    Attributes:
        arm: its name.
        run_id: of its row.
        steps_P: optimiser steps at which the loss was noted.
        losses_SP: the training loss, the mean since the step before, of every seed.
    """

    arm: str
    run_id: str
    steps_P: np.ndarray
    losses_SP: np.ndarray

    @property
    def end(self) -> float:
        """The loss over the last tenth of the steps, mean over seeds."""
        return float(self.losses_SP[:, self.steps_P > (1 - END) * self.steps_P[-1]].mean())

    def reaches(self, loss: float) -> int | None:
        """The first noted step from which the loss, mean over seeds and a tenth of the steps, is at most ``loss``.

        None where it never is.
        """
        width = max(1, round(END * len(self.steps_P)))
        means_P = np.convolve(self.losses_SP.mean(0), np.full(width, 1 / width), mode="valid")
        there_P = np.flatnonzero(means_P <= loss + 1e-12)
        return int(self.steps_P[there_P[0]]) if len(there_P) else None


def of_rows(rows: Sequence[Mapping[str, Any]], task: str, arms: Sequence[str] | None = None) -> list[Curve]:
    """The curves of a task's rows of one budget: that with most arms, of equals the newest. An arm's newest row counts.

    Args:
        task: a task's name, or its base.
        arms: only these.

    Raises:
        SuiteError: no row of the task has curves.
    """
    by_budget: dict[str, dict[str, Curve]] = {}
    for row in sorted(rows, key=lambda row: row["created"]):
        name = row["task"]["name"]
        if task not in (name, name.partition("@")[0]) or not row.get("curves"):
            continue
        if arms is not None and row["arm"] not in arms:
            continue
        parts = list(row["curves"].values())
        if any(part["step"] != parts[0]["step"] for part in parts):
            continue  # seeds of different lengths cannot be one band
        losses_SP = np.array([part["loss"] for part in parts])
        found = by_budget.pop(
            row["budget"]["name"], {}
        )  # and back in at the end: budgets are in order of their newest row
        found[row["arm"]] = blocks(Curve(row["arm"], row["run_id"], np.array(parts[0]["step"]), losses_SP))
        by_budget[row["budget"]["name"]] = found
    if not by_budget:
        known = sorted({row["task"]["name"] for row in rows if row.get("curves")})
        raise SuiteError(
            f"task={task}: no row with loss curves. Measure some: ssl_suite bench cross_domain task={task}. "
            f"There are curves of {', '.join(known) or 'no task'}."
        )
    return list(max(reversed(by_budget.values()), key=len).values())


def blocks(curve: Curve, most: int = MOST) -> Curve:
    """The curve in at most ``most`` points: means over blocks of equal size (the last may be short), at their ends."""
    size = -(-len(curve.steps_P) // most)
    if size == 1:
        return curve
    firsts = np.arange(0, len(curve.steps_P), size)
    counts = np.diff(np.append(firsts, len(curve.steps_P)))
    means_SP = np.add.reduceat(curve.losses_SP, firsts, axis=1) / counts
    return Curve(curve.arm, curve.run_id, curve.steps_P[firsts + counts - 1], means_SP)


def summary(curves: Sequence[Curve], against: str = "rand") -> list[dict[str, Any]]:
    """Where each curve ends, and when it has come as far as the arm ``against`` ends."""
    mark = next((curve.end for curve in curves if curve.arm == against), None)
    return [
        {
            "arm": curve.arm,
            "run_id": curve.run_id,
            "seeds": len(curve.losses_SP),
            "steps": int(curve.steps_P[-1]),
            "end": curve.end,
            "reaches": None if mark is None else curve.reaches(mark),
        }
        for curve in curves
    ]


def draw(curves: Sequence[Curve], path: Path, title: str) -> None:
    """A line an arm, the mean over seeds, in a band from the lowest to the highest of them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for i, curve in enumerate(curves):
        color = f"C{i}"
        axes.plot(curve.steps_P, curve.losses_SP.mean(0), color=color, label=curve.arm)
        low_P, high_P = curve.losses_SP.min(0), curve.losses_SP.max(0)
        axes.fill_between(curve.steps_P, low_P, high_P, color=color, alpha=0.2, linewidth=0)
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel("training loss")
    axes.set_title(title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic.replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150, metadata={"Software": None})


def write_numbers(curves: Sequence[Curve], path: Path) -> None:
    """The numbers of the figure, as JSON."""
    content = [
        {"arm": curve.arm, "run_id": curve.run_id, "step": curve.steps_P.tolist(), "loss": curve.losses_SP.tolist()}
        for curve in curves
    ]
    path.write_text(json.dumps({"curves": content, "summary": summary(curves)}, indent=1) + "\n", encoding="utf-8")
