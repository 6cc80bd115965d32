"""Metrics of scores: labels are 0 or 1, predictions a real number that is larger where 1 is likelier."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.metrics.base import Metric, Values

P_TARGET = 0.01  # of minDCF, with both costs 1: NIST SRE 2008 and VoxCeleb


def _of_both(
    name: str, formula: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
) -> Callable[[np.ndarray, np.ndarray], Values]:
    """``weighted`` of a formula of (labels, scores, weights), undefined where a resample has one label alone."""

    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        if not set(np.unique(labels_I)) <= {0, 1}:
            raise SuiteError(f"{name}: the labels are not all 0 or 1.")

        def values(weights_I: np.ndarray) -> np.ndarray:
            kept = weights_I > 0
            if len(np.unique(labels_I[kept])) < 2:
                return np.full(len(predictions_SI), math.nan)
            return np.array([formula(labels_I[kept], x_I[kept], weights_I[kept]) for x_I in predictions_SI])

        return values

    return weighted


def error_rates(labels_I: np.ndarray, scores_I: np.ndarray, weights_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) shares of targets missed and of others accepted, from accepting none to accepting all, a step a score."""
    order = np.argsort(-scores_I, kind="stable")
    target_I, other_I = (labels_I * weights_I)[order], ((1 - labels_I) * weights_I)[order]
    last_I = np.append(np.diff(scores_I[order]) != 0, True)  # equal scores are accepted together
    accepted_T = np.append(0.0, target_I.cumsum()[last_I]) / target_I.sum()
    alarms_T = np.append(0.0, other_I.cumsum()[last_I]) / other_I.sum()
    return 1 - accepted_T, alarms_T


def _eer(labels_I: np.ndarray, scores_I: np.ndarray, weights_I: np.ndarray) -> float:
    """Where the two error rates cross, on the line between the two steps around it."""
    missed_T, alarms_T = error_rates(labels_I, scores_I, weights_I)
    after = int(np.argmax(missed_T <= alarms_T))
    gap_a, gap_b = missed_T[after - 1] - alarms_T[after - 1], missed_T[after] - alarms_T[after]
    share = gap_a / (gap_a - gap_b)
    return float(alarms_T[after - 1] + share * (alarms_T[after] - alarms_T[after - 1]))


def _min_dcf(labels_I: np.ndarray, scores_I: np.ndarray, weights_I: np.ndarray) -> float:
    """The least detection cost over all thresholds, divided by that of accepting none."""
    missed_T, alarms_T = error_rates(labels_I, scores_I, weights_I)
    return float((P_TARGET * missed_T + (1 - P_TARGET) * alarms_T).min() / min(P_TARGET, 1 - P_TARGET))


def _auc(labels_I: np.ndarray, scores_I: np.ndarray, weights_I: np.ndarray) -> float:
    missed_T, alarms_T = error_rates(labels_I, scores_I, weights_I)
    return float(np.trapezoid(1 - missed_T, alarms_T))


METRICS = (
    Metric("auc", True, "scores", _of_both("auc", _auc)),
    Metric("eer", False, "scores", _of_both("eer", _eer)),
    Metric("min_dcf", False, "scores", _of_both("min_dcf", _min_dcf)),
)
