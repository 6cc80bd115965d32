"""Metrics of class numbers: ratios of counts, exact in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.metrics.base import Metric, Values


class Counts(NamedTuple):
    """Items by class: ``right`` where label and prediction agree. All of shape (K,); classes of neither count 0."""

    classes_K: np.ndarray
    right_K: np.ndarray
    labelled_K: np.ndarray
    predicted_K: np.ndarray


def _counted(formula: Callable[[Counts], float]) -> Callable[[np.ndarray, np.ndarray], Values]:
    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        classes_K, codes = np.unique(np.concatenate([labels_I, predictions_SI.ravel()]), return_inverse=True)
        size, items = len(classes_K), len(labels_I)
        labels_I, predictions_SI = codes[:items], codes[items:].reshape(-1, items)
        hits = [np.flatnonzero(predictions_I == labels_I) for predictions_I in predictions_SI]

        def values(weights_I: np.ndarray) -> np.ndarray:
            labelled_K = np.bincount(labels_I, weights_I, size)
            rights = [np.bincount(labels_I[hit], weights_I[hit], size) for hit in hits]
            predicted = [np.bincount(predictions_I, weights_I, size) for predictions_I in predictions_SI]
            pairs = zip(rights, predicted, strict=True)
            return np.array([formula(Counts(classes_K, right_K, labelled_K, of_K)) for right_K, of_K in pairs])

        return values

    return weighted


def _accuracy(counts: Counts) -> float:
    return float(counts.right_K.sum() / counts.labelled_K.sum())


def _mcc(counts: Counts) -> float:
    """R_K (Gorodkin 2004), Matthews' coefficient for K = 2."""
    n = counts.labelled_K.sum()
    covariance = counts.right_K.sum() * n - counts.labelled_K @ counts.predicted_K
    labelled, predicted = n * n - counts.labelled_K @ counts.labelled_K, n * n - counts.predicted_K @ counts.predicted_K
    # One class only: scikit-learn says 0 here, which a table would show as a measured absence of correlation.
    return float(covariance / math.sqrt(labelled * predicted)) if labelled and predicted else math.nan


def _f1(counts: Counts) -> float:
    """Of class 1 among 0 and 1."""
    if counts.classes_K[0] < 0 or counts.classes_K[-1] > 1:
        raise SuiteError(f"f1 is for classes 0 and 1, not {counts.classes_K[-1]}; use macro_f1.")
    if counts.classes_K[-1] != 1:
        return math.nan
    total = counts.labelled_K[-1] + counts.predicted_K[-1]
    return float(2 * counts.right_K[-1] / total) if total else math.nan


def _macro_f1(counts: Counts) -> float:
    """Over the classes that are labelled or predicted, as scikit-learn has it: a class only predicted counts 0."""
    total_K = counts.labelled_K + counts.predicted_K
    seen = total_K > 0
    several = (counts.labelled_K > 0).sum() > 1
    return float((2 * counts.right_K[seen] / total_K[seen]).mean()) if several else math.nan


def _uar(counts: Counts) -> float:
    """Unweighted average recall over the classes that are labelled. One class alone: a constant would score 1."""
    seen = counts.labelled_K > 0
    return float((counts.right_K[seen] / counts.labelled_K[seen]).mean()) if seen.sum() > 1 else math.nan


METRICS = (
    Metric("accuracy", True, "classes", _counted(_accuracy)),
    Metric("mcc", True, "classes", _counted(_mcc)),
    Metric("f1", True, "classes", _counted(_f1)),
    Metric("macro_f1", True, "classes", _counted(_macro_f1)),
    Metric("uar", True, "classes", _counted(_uar)),
)
