"""Scores over the columns of a benchmark: what an ``aggregates`` entry of its YAML may name as its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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


AGGREGATES: dict[str, Callable[..., Any]] = {"mean": mean, "superb_s": superb_s}
