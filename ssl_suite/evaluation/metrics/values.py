"""Metrics of values: correlations and errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ssl_suite.evaluation.metrics.base import Metric, Values

ROUNDING = 1e-20  # a variance below it, of numbers of order 1, may be rounding: equality is then checked exactly


def _pearson(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
    label_I, predictions = _scaled(labels_I), [_scaled(x_I) for x_I in predictions_SI]

    def centred(x_I: np.ndarray, weights_I: np.ndarray, n: float) -> tuple[np.ndarray, float]:
        x_I = x_I - weights_I @ x_I / n
        variance = float(weights_I @ (x_I * x_I))
        if variance < ROUNDING * n and np.ptp(x_I[weights_I > 0]) == 0:
            variance = 0.0
        return x_I, variance

    def values(weights_I: np.ndarray) -> np.ndarray:
        n = float(weights_I.sum())
        x_I, of_x = centred(label_I, weights_I, n)
        xw_I = x_I * weights_I
        pairs = (centred(y_I, weights_I, n) for y_I in predictions)
        return np.array([_ratio(float(xw_I @ y_I), of_x, of_y) for y_I, of_y in pairs])

    return values


def _scaled(x_I: np.ndarray) -> np.ndarray:
    """Of order 1, so that squares neither overflow nor vanish."""
    return x_I / (np.abs(x_I).max() or 1.0)


def _ratio(covariance: float, of_x: float, of_y: float) -> float:
    """The correlation, within [-1, 1] where rounding left it."""
    return min(1.0, max(-1.0, covariance / math.sqrt(of_x * of_y))) if of_x > 0 and of_y > 0 else math.nan


def _spearman(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
    """Pearson's coefficient of mid-ranks.

    The mid-rank in a resample of an item with the v-th smallest value follows from how many resampled items are at or
    below v: no sorting. 2 * rank - (n + 1) is a whole number and has mean 0, so that all sums are exact in float64
    up to 2e5 items and do not depend on the order of the items.
    """
    places = [np.unique(x_I, return_inverse=True)[1] for x_I in (labels_I, *predictions_SI)]

    def ranks(places_I: np.ndarray, weights_I: np.ndarray) -> tuple[np.ndarray, float]:
        counts_V = np.bincount(places_I, weights_I)
        up_to_V = counts_V.cumsum()
        ranks_V = 2 * up_to_V - counts_V - up_to_V[-1]
        return ranks_V[places_I], float(counts_V @ (ranks_V * ranks_V))

    def values(weights_I: np.ndarray) -> np.ndarray:
        x_I, of_x = ranks(places[0], weights_I)
        xw_I = x_I * weights_I
        pairs = (ranks(places_I, weights_I) for places_I in places[1:])
        return np.array([_ratio(float(xw_I @ y_I), of_x, of_y) for y_I, of_y in pairs])

    return values


def _mean_of(
    error: Callable[[np.ndarray], np.ndarray], root: bool = False
) -> Callable[[np.ndarray, np.ndarray], Values]:
    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        with np.errstate(over="ignore"):  # an overflow is infinite, which per_seed refuses
            errors_SI = error(predictions_SI - labels_I)
        return lambda weights_I: (np.sqrt if root else np.asarray)(errors_SI @ weights_I / weights_I.sum())

    return weighted


METRICS = (
    Metric("pearson", True, "values", _pearson),
    Metric("spearman", True, "values", _spearman),
    Metric("spearman_within", True, "values", _spearman, within=True),
    Metric("mse", False, "values", _mean_of(np.square)),
    Metric("rmse", False, "values", _mean_of(np.square, root=True)),
    Metric("mae", False, "values", _mean_of(np.abs)),
)
