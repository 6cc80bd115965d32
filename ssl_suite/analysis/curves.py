"""Loss over steps of encoders on one task, with bands over seeds: does a pre-trained one learn faster?

The lecture's figure of pre-training against starting from scratch (after Hao et al. 2019, arXiv:1908.05620), drawn
from the curves that leaderboard rows carry. Shapes: S seeds, P points.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
        seeds: in the order of the losses.
        step_tokens: positions that an optimiser step reads; 1 where the row does not say.
    """

    arm: str
    run_id: str
    steps_P: np.ndarray
    losses_SP: np.ndarray
    seeds: tuple[str, ...] = ()
    step_tokens: float = 1.0

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


def of_rows(
    rows: Sequence[Mapping[str, Any]],
    task: str,
    arms: Sequence[str] | None = None,
    budget: str | None = None,
    first: str | None = None,
) -> list[Curve]:
    """The curves of a task's rows of one budget; of each arm its newest row counts.

    Args:
        task: a task's name, or its base.
        arms: only these.
        budget: its name; None takes ``first`` where it has two arms, else that with most arms, of equals the newest.

    Raises:
        SuiteError: no row of the task has curves.
    """
    by_budget: dict[str, dict[str, Curve]] = {}
    for row in sorted(rows, key=lambda row: row["created"]):
        name = row["task"]["name"]
        if task not in (name, name.partition("@")[0]) or not row.get("curves"):
            continue
        if (arms is not None and row["arm"] not in arms) or budget not in (None, row["budget"]["name"]):
            continue
        parts, spent = list(row["curves"].values()), row["budget"]
        if any(part["step"] != parts[0]["step"] for part in parts):
            continue  # seeds of different lengths cannot be one band
        losses_SP = np.array([part["loss"] for part in parts])
        found = by_budget.pop(
            row["budget"]["name"], {}
        )  # and back in at the end: budgets are in order of their newest row
        per_step = spent["tokens"] / spent["steps"] if spent.get("tokens") and spent.get("steps") else 1.0
        curve = Curve(row["arm"], row["run_id"], np.array(parts[0]["step"]), losses_SP, tuple(row["curves"]), per_step)
        found[row["arm"]] = blocks(curve)
        by_budget[row["budget"]["name"]] = found
    if not by_budget:
        known = sorted({row["task"]["name"] for row in rows if row.get("curves")})
        raise SuiteError(
            f"task={task}: no row{f' of budget {budget}' * bool(budget)} with loss curves. Measure some: "
            f"ssl_suite bench NAME task={task}. "
            f"There are curves of {', '.join(known) or 'no task'}."
        )
    if len(by_budget.get(first or "", ())) > 1:
        return list(by_budget[str(first)].values())
    return list(max(reversed(by_budget.values()), key=len).values())


def blocks(curve: Curve, most: int = MOST) -> Curve:
    """The curve in at most ``most`` points: means over blocks of equal size (the last may be short), at their ends."""
    size = -(-len(curve.steps_P) // most)
    if size == 1:
        return curve
    firsts = np.arange(0, len(curve.steps_P), size)
    counts = np.diff(np.append(firsts, len(curve.steps_P)))
    means_SP = np.add.reduceat(curve.losses_SP, firsts, axis=1) / counts
    return replace(curve, steps_P=curve.steps_P[firsts + counts - 1], losses_SP=means_SP)


@dataclass(frozen=True)
class Area:
    """How far the loss of ``b`` lies above that of ``a``, on average over the tokens that both have read.

    Attributes:
        value: the mean over the seeds that both have, positive where ``a`` is lower.
        low, high, p: 95 % interval and two-sided p of Student's paired test over those seeds; None of fewer than two.
    """

    a: str
    b: str
    value: float
    seeds: int
    tokens: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def area(a: Curve, b: Curve) -> Area | None:
    """The area between two curves over equal tokens, divided by their number; None where they share no seed."""
    from scipy.stats import ttest_rel

    shared = [seed for seed in a.seeds if seed in b.seeds]
    first, last = (pick(each.steps_P[at] * each.step_tokens for each in (a, b)) for pick, at in ((max, 0), (min, -1)))
    if not shared or last <= first:
        return None
    means = []
    for curve in (a, b):
        tokens_P = curve.steps_P * curve.step_tokens
        inner_P = tokens_P[(tokens_P > first) & (tokens_P < last)]
        at_P = np.concatenate([[first], inner_P, [last]])
        losses_S = [curve.losses_SP[curve.seeds.index(seed)] for seed in shared]
        means.append([np.trapezoid(np.interp(at_P, tokens_P, x_P), at_P) / (last - first) for x_P in losses_S])
    value = float(np.mean(means[1]) - np.mean(means[0]))
    if len(shared) < 2:
        return Area(a.arm, b.arm, value, len(shared), last)
    test = ttest_rel(means[1], means[0])
    low, high = test.confidence_interval()
    return Area(a.arm, b.arm, value, len(shared), last, float(low), float(high), float(test.pvalue))


def areas(curves: Sequence[Curve], pairs: Sequence[tuple[str, str]]) -> list[Area]:
    """Between the arms of each pair that was measured."""
    of = {curve.arm: curve for curve in curves}
    found = [area(of[a], of[b]) for a, b in pairs if a in of and b in of]
    return [each for each in found if each is not None]


def summary(curves: Sequence[Curve], against: str = "rand") -> list[dict[str, Any]]:
    """Where each curve ends, and after how many steps and tokens it has come as far as the arm ``against`` ends."""
    mark = next((curve.end for curve in curves if curve.arm == against), None)
    found = []
    for curve in curves:
        steps = None if mark is None else curve.reaches(mark)
        tokens = None if steps is None or curve.step_tokens == 1 else round(steps * curve.step_tokens)
        found.append(
            {
                "arm": curve.arm,
                "run_id": curve.run_id,
                "seeds": len(curve.losses_SP),
                "steps": int(curve.steps_P[-1]),
                "end": curve.end,
                "reaches": steps,
                "reaches_tokens": tokens,
            }
        )
    return found


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


def write_numbers(curves: Sequence[Curve], path: Path, between: Sequence[Area] = (), against: str = "rand") -> None:
    """The numbers of the figure, as JSON."""
    content = [
        {"arm": curve.arm, "run_id": curve.run_id, "step": curve.steps_P.tolist(), "loss": curve.losses_SP.tolist()}
        for curve in curves
    ]
    facts = {"curves": content, "summary": summary(curves, against), "areas": [asdict(each) for each in between]}
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
