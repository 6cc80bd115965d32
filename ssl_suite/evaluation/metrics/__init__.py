"""Scores of predictions against labels, over a whole set at once: the registry.

A metric of a new kind is a formula in a file of this folder and its line in that file's ``METRICS``. Tests hold all to
scikit-learn, SciPy, seqeval, jiwer or a naive loop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.evaluation.metrics import classes, scores, structured, texts, values
from ssl_suite.evaluation.metrics.base import Metric, Undefined, Values

__all__ = ["METRICS", "Metric", "Undefined", "find"]


def both(a: Metric, b: Metric) -> Callable[[np.ndarray, np.ndarray], Values]:
    """``weighted`` of the mean of two metrics."""

    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        of_a, of_b = a.weighted(labels_I, predictions_SI), b.weighted(labels_I, predictions_SI)
        return lambda weights_I: (of_a(weights_I) + of_b(weights_I)) / 2

    return weighted


_BASE = (*classes.METRICS, *values.METRICS, *scores.METRICS, *texts.METRICS, *structured.METRICS)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _BASE}
for _name, _a, _b in (("f1_accuracy", "f1", "accuracy"), ("pearson_spearman", "pearson", "spearman")):  # GLUE's means
    METRICS[_name] = Metric(_name, True, METRICS[_a].takes, both(METRICS[_a], METRICS[_b]))


def find(name: str) -> Metric:
    """The metric of this name. Raises SuiteError: there is none; the nearest name is offered."""
    if name not in METRICS:
        raise SuiteError(f"There is no metric '{name}'.{nearest(name, METRICS)}")
    return METRICS[name]
