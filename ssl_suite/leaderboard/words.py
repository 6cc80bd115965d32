"""What a page says in words: the answer, each contrast, and a row's command. No numbers are made here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ssl_suite.core.wording import count
from ssl_suite.evaluation.benchmark import Benchmark
from ssl_suite.leaderboard.aggregates import UNIT
from ssl_suite.leaderboard.matrix import Heat
from ssl_suite.leaderboard.table import CORRELATIONS, Column, Contrast, Line, Total

MINUS = "\N{MINUS SIGN}"
METRICS = {
    "accuracy": "accuracy",
    "spearman": "Spearman",
    "spearman_within": "Spearman within clusters",
    "pearson": "Pearson",
    "mcc": "MCC",
    "f1_accuracy": "mean of F1 and accuracy",
    "pearson_spearman": "mean of Pearson and Spearman",
    "f1": "F1",
    "macro_f1": "macro F1",
}
LEAKS = {
    "test_in_train": "test items that are also training items",
    "dev_in_train": "dev items that are also training items",
    "test_in_dev": "test items that are also dev items",
}
NAMED = 6  # cells of a heat map that a sentence names
OUTCOMES = {"better": "better", "worse": "worse", "open": "not told apart"}


def unit(name: str) -> str:
    """The metric with the scale that its numbers are shown on; of a further part ``PART.METRIC``."""
    part, _, metric = name.rpartition(".")
    shown = METRICS.get(metric, metric) + (f" on {part}" if part else "")
    return f"{shown}, %" if metric == "accuracy" else f"{shown} × 100"


def points(value: float, sign: bool = False) -> str:
    """A score of 0..1 as points with one decimal; ``sign`` writes + before a gain."""
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    if text.strip("+-0.") == "":
        text = "0.0"
    return text.replace("-", MINUS)


def span(low: float, high: float, sign: bool = False) -> str:
    """Two bounds: ``81.9 to 84.3``."""
    return f"{points(low, sign)} to {points(high, sign)}"


def probability(p: float) -> str:
    """``p = .031``; below a thousandth ``p < .001``."""
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {text.removeprefix('0')}"


def tested(each: Contrast) -> str:
    """``p = .011, corrected .088``: of the paired test alone, then, if it is another, Holm's over the columns."""
    corrected = probability(each.holm).removeprefix("p ").removeprefix("= ")
    sided = " (one-sided)" if each.verdict not in ("", "not as planned") else ""
    return probability(each.p) + (f", corrected {corrected}" if each.holm != each.p else "") + sided


def gain(each: Contrast) -> str:
    """``+7.4 (+5.1 to +9.8)``; of a small test set the interval alone."""
    interval = span(each.low, each.high, sign=True)
    return interval if each.column.small else f"{points(each.gain, sign=True)} ({interval})"


def answer(found: Sequence[Contrast], columns: int) -> str:
    """The main contrast over all columns of a section, in two sentences."""
    if not found:
        return "The two have not been measured on the same task yet. So there is no answer."
    first, second = found[0].first.label, found[0].second.arm
    if found[0].verdict:
        return _planned(found, columns)
    by = {key: [each.column.task["title"] for each in found if each.outcome == key] for key in OUTCOMES}
    parts = [f"{first} is better than {second} on {len(by['better'])} of {count(len(found), 'task')}"]
    if 0 < len(by["better"]) < len(found):
        parts[0] += f" ({', '.join(by['better'])})"
    for key, told in (("open", "cannot be told apart from it"), ("worse", "is worse")):
        if by[key]:
            names = f" ({', '.join(by[key])})" if len(by[key]) < len(found) else ""
            parts.append(f"{told} on {len(by[key])}{names}")
    ahead = sum(each.gain > 0 for each in found)
    text = f"{_joined(parts)}. Told apart or not, its score is the higher one on {ahead} of {len(found)}"
    said = [each for each in found if each.published is not None]
    if said:
        above = sum(each.published > 0 for each in said)  # type: ignore[operator]
        text += f"; published, on other data for the most part, it was on {above} of {len(said)}"
    if len(found) < columns:
        text += f"; {count(columns - len(found), 'further task')} not measured with both"
    return f"{text}."


def _planned(found: Sequence[Contrast], columns: int) -> str:
    """The verdicts of a plan in two sentences."""
    by: dict[str, list[str]] = {}
    for each in found:
        by.setdefault(each.verdict.partition(" (")[0], []).append(each.column.task["title"])
    first, second = found[0].first.label, found[0].second.arm
    parts = [f"{verdict} on {len(titles)} ({', '.join(titles)})" for verdict, titles in sorted(by.items())]
    text = f"By the test that was fixed beforehand, that {first} is better than {second} is {_joined(parts)}."
    left = columns - len({each.column.task["title"] for each in found})
    ahead = sum(each.gain > 0 for each in found)
    text += f" Its score is the higher one on {ahead} of {len(found)}"
    return text + (f"; not measured yet: {count(left, 'task')} of the plan." if left else ".")


def matrix_answer(heat: Heat) -> str:
    """A heat map in two sentences."""
    off = heat.off_diagonal()
    by = {key: [f"{x.first.arm} on {x.column.task['title']}" for x in off if x.outcome == key] for key in OUTCOMES}
    text = (
        f"Pre-training on another domain is better than {off[0].second.arm} in {len(by['better'])} of {len(off)} cells"
    )
    if 0 < len(by["better"]) <= NAMED:
        text += f" ({', '.join(by['better'])})"
    text += f", worse in {len(by['worse'])}, and not told apart from it in {len(by['open'])}. "
    gains = [(heat.mean(arm, own=False), arm) for arm in heat.arms]
    best, arm = max((gain, arm) for gain, arm in gains if gain is not None)
    text += (
        f"The mean gain off the diagonal is {points(heat.mean(own=False) or 0.0, True)} points, of the best source, "
    )
    text += f"{arm}, {points(best, True)}"
    own = [fmean(x.gain for x in found) for (a, m), found in heat.cells.items() if a == m]
    return text + (f"; on the diagonal it is {points(fmean(own), True)}." if own else ".")


def outcome(each: Contrast) -> str:
    """What is said of a contrast."""
    return each.verdict or OUTCOMES[each.outcome]


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def truncated(task: Mapping[str, Any]) -> str:
    """How many items are not read whole, and the symbols read of them: ``1,867 (to 126)``, [CLS] and [SEP] apart."""
    window = task.get("max_length")
    return f"{task['n_truncated']:,}" + (f" (to {window - 2})" if task["n_truncated"] and window else "")


def counted(used: int, full: int) -> str:
    """``500 of 21,446`` or, when all are used, ``21,446``."""
    return f"{used:,}" if used == full else f"{used:,} of {full:,}"


def leakage(task: Mapping[str, Any]) -> str:
    """Counts in words; which are zero is said too."""
    if not task["leakage"]:
        return "not counted"
    named = ((count, LEAKS.get(key, key.replace("_", " "))) for key, count in sorted(task["leakage"].items()))
    return "; ".join(f"{count} {name}" for count, name in named if count) or "none found (exact copies)"


def command(row: Mapping[str, Any], found: Benchmark) -> str:
    """What measures a row again, but for the folder that a weights' name stands for."""
    words = [f"task={row['task']['name']}"]
    arm, ref = found.arms.get(row["arm"]), row["encoder"].get("ref") or "none"
    if arm is None:
        words += [f"encoder={ref}", f"protocol={row['protocol']['name']}"]
    else:
        words.append(f"arms={row['arm']}")
        if "{text}" in arm.encoder:
            words.append(f"text={ref.partition('+')[0]}")
        elif named := re.search(r"{ssl(?:\.(\w+))?}", arm.encoder):
            words.append(f"ssl.{named[1] or row['task']['modality']}={ref.partition('+')[0]}")
    words.append(f"budget={row['budget']['name']}")
    for key, value in (row["budget"].get("overrides") or {}).items():
        words.append(f"budget.{key}={value}")
    return shlex.join(["ssl_suite", "bench", row["benchmark"], *words])


def total(found: Total, line: Line) -> str:
    """A line's score over columns: a share with three decimals, another in the points of its kind."""
    value = found.by_line[line]
    return f"{value:.3f}" if found.shares else f"{value * UNIT.get(found.kind, 1):.1f}"


def missing(line: Line, column: Column) -> str:
    """What an empty cell says."""
    return "undefined" if line.arm == "majority" and column.metric in CORRELATIONS else "not measured"
