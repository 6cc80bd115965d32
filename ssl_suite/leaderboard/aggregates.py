"""Scores over the columns of a benchmark: what an ``aggregates`` entry of its YAML may name as its kind."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.evaluation.metrics import Undefined

Scores = Mapping[str, Mapping[str, float]]
"""By column, by metric the value."""


def superb_s(scores: Scores, fbank: Scores, sota: Scores) -> float:
    """ML-SUPERB's score: 1000 times the mean over tasks of the mean over metrics of (s - FBANK) / (SOTA - FBANK).

    Args:
        scores, fbank, sota: task -> metric -> value, with the same tasks and metrics.

    Raises SuiteError: they do not have the same tasks and metrics. Raises Undefined: no task, or the state of the art
    is no different from FBANK on a metric.
    """
    shape = {task: sorted(metrics) for task, metrics in scores.items()}
    for other in (fbank, sota):
        if {task: sorted(metrics) for task, metrics in other.items()} != shape:
            raise SuiteError("superb_s: the scores and both references must have the same tasks and metrics.")
    if not shape or not all(shape.values()):
        raise Undefined("superb_s is undefined: there is a task without a metric, or none at all.")
    if same := [f"{t} {m}" for t, metrics in shape.items() for m in metrics if sota[t][m] == fbank[t][m]]:
        raise Undefined(f"superb_s is undefined: on {', '.join(same)} the state of the art equals FBANK.")
    gains = [
        np.mean([(scores[t][m] - fbank[t][m]) / (sota[t][m] - fbank[t][m]) for m in metrics])
        for t, metrics in shape.items()
    ]
    return float(1000 * np.mean(gains))


def superb_s_official(scores: Scores, file: str, fbank: str = "FBANK", sota: str = "WavLM Large") -> float:
    """``superb_s`` with the published numbers of two models; metrics that the file lacks do not enter.

    Args:
        file: of ``leaderboards/references``: ``model``, ``task``, ``metric``, ``value`` (a share) and where it is from.

    Raises SuiteError: no such file or model; or as ``superb_s``.
    """
    path = resources.folder("leaderboards") / "references" / file
    if not path.is_file():
        raise SuiteError(f"superb_s_official: there is no {path}.")
    published: dict[str, dict[str, dict[str, float]]] = {}
    with path.open(newline="", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            of_model = published.setdefault(line["model"], {})
            of_model.setdefault(line["task"], {})[line["metric"]] = float(line["value"])
    for model in (fbank, sota):
        if model not in published:
            raise SuiteError(f"superb_s_official: {path} has no model '{model}'.{nearest(model, published)}")
    both = {t: [m for m in metrics if m in published[sota].get(t, {})] for t, metrics in published[fbank].items()}

    def chosen(of: Scores) -> Scores:
        return {
            task: {metric: of[task][metric] for metric in both.get(task, ()) if metric in of[task]} for task in scores
        }

    return superb_s(chosen(scores), chosen(published[fbank]), chosen(published[sota]))


class Gain(NamedTuple):
    """By how much one of two arms is better on a task, in its main metric's unit, and the error of that."""

    gain: float
    error: float


def told_apart(gains: Mapping[str, Gain]) -> list[str]:
    """The tasks on which the first arm is better by more than two standard errors."""
    return [task for task, (gain, error) in gains.items() if gain > 2 * error]


def superb_s_local(gains: Mapping[str, float], whole: Mapping[str, Gain]) -> float:
    """``superb_s`` between two arms of the table: 1000 times the mean over tasks of an arm's gain over the zero as a
    share of the other's; of the tasks on which those two are told apart. A gain in an error is how much lower it is.

    Args:
        gains: by task, of the arm over the zero.
        whole: of the arm that stands for 1000.

    Raises Undefined: they are told apart nowhere.
    """
    if not (tasks := told_apart(whole)):
        raise Undefined("superb_s is undefined: its two arms are told apart on no task.")
    return float(1000 * np.mean([gains[task] / whole[task].gain for task in tasks]))


def mean(scores: Scores) -> float:
    """The mean over columns of the first metric."""
    if not scores:
        raise Undefined("A mean over no columns is undefined.")
    return float(np.mean([next(iter(metrics.values())) for metrics in scores.values()]))


def glue(scores: Scores) -> float:
    """GLUE's score (arXiv:1804.07461): the mean over tasks of the mean over a task's metrics and further parts."""
    if not scores or not all(scores.values()):
        raise Undefined("A mean over no columns is undefined.")
    return float(np.mean([np.mean(list(metrics.values())) for metrics in scores.values()]))


def human_relative(scores: Scores, human: Scores) -> float:
    """GLUE's score as a share of that of people on the same tasks. Raises SuiteError: ``human`` lacks a task."""
    if absent := [task for task in scores if task not in human]:
        raise SuiteError(f"human_relative: human has no {', '.join(absent)}.")
    return glue(scores) / glue({task: human[task] for task in scores})


def shares_of_human(scores: Scores, human: Scores) -> dict[str, float]:
    """Of each task its score as a share of that of people. Raises as ``human_relative``."""
    return {task: human_relative({task: scores[task]}, human) for task in scores}


AGGREGATES: dict[str, Callable[..., float]] = {
    "mean": mean,
    "glue": glue,
    "human_relative": human_relative,
    "superb_s_official": superb_s_official,
}
"""Of the scores, and of the settings that a benchmark's YAML gives."""
LOCAL = "superb_s_local"
"""The kind whose ends are arms of the table: its settings ``zero`` and ``whole`` name them."""
PER_TASK: dict[str, Callable[..., dict[str, float]]] = {"human_relative": shares_of_human}
"""What a kind says of each task, which a page draws."""
UNIT = {"mean": 100, "glue": 100}  # what a page multiplies by
