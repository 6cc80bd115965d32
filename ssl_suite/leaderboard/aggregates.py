"""Scores over the columns of a benchmark: what an ``aggregates`` entry of its YAML may name as its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.metrics import Undefined

Scores = Mapping[str, Mapping[str, float]]
"""By column, by metric the value."""


def superb_s(scores: Scores, fbank: Scores, sota: Scores) -> float:
    """ML-SUPERB's score: 1000 times the mean over tasks of the mean over metrics of (s - FBANK) / (SOTA - FBANK).

    Args:
        scores, fbank, sota: task -> metric -> value, with the same tasks and metrics.

    Raises:
        SuiteError: they do not have the same tasks and metrics.
        Undefined: no task, or the state of the art is no different from FBANK on a metric.
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
    """GLUE's score as a share of that of people on the same tasks.

    Raises:
        SuiteError: ``human`` lacks a task.
    """
    if absent := [task for task in scores if task not in human]:
        raise SuiteError(f"human_relative: human has no {', '.join(absent)}.")
    return glue(scores) / glue({task: human[task] for task in scores})


AGGREGATES: dict[str, Callable[..., float]] = {
    "mean": mean,
    "glue": glue,
    "human_relative": human_relative,
    "superb_s": superb_s,
}
"""Of the scores, and of the settings that a benchmark's YAML gives."""
UNIT = {"mean": 100, "glue": 100}  # what a page multiplies by
