"""Scores of predictions against labels, over a whole set at once.

Each metric is one formula over items that carry a weight: how often a resample of the set holds the item. The score is
the case in which every item counts once, so the score and its bootstrap cannot differ in definition, and a resample of
27,000 items needs no sorting (``significance`` draws the weights). Tests hold them to scikit-learn, SciPy and jiwer.

A metric that is not defined on its input raises ``Undefined``; it is never 0. Shapes: I items, S seeds, K classes, V
distinct values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ssl_suite.core.errors import SuiteError

Takes = Literal["classes", "values", "scores", "texts", "tags", "slots", "answers", "activity", "rankings"]
Values = Callable[[np.ndarray], np.ndarray]  # weights_I of whole numbers -> values_S, NaN where undefined


class Undefined(SuiteError):
    """The metric has no value on this input. Report it as undefined; do not count it as a score."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: its key in ``METRICS``.
        higher_is_better: False for errors.
        takes: what the two arrays hold, a key of ``predictions.KINDS``. ``classes``: class numbers. ``values``: finite
            numbers. ``scores``: labels 0 or 1 and a real-valued score for class 1. ``texts``: strings. ``tags``,
            ``slots``: an array of class numbers an item. ``answers``: the accepted texts, and the one given.
            ``activity``: an array of bits (who speaks) a recording. ``rankings``: of each candidate 0 or 1, its score.
        weighted: (labels_I, predictions_SI) -> (weights_I -> values_S); the arrays are those that ``checked`` returns.
        within: it is the mean over clusters of items, and undefined until ``of`` says which.
    """

    name: str
    higher_is_better: bool
    takes: Takes
    weighted: Callable[[np.ndarray, np.ndarray], Values]
    within: bool = False

    def of(self, clusters_I: np.ndarray | None) -> Metric:
        """The metric for items of these clusters; most do not depend on them."""
        if not self.within or clusters_I is None:
            return self
        return replace(self, weighted=mean_over_clusters(self.weighted, clusters_I), within=False)

    def compute(self, labels_I: np.ndarray, predictions_I: np.ndarray) -> float:
        """The score of one seed. Raises as ``per_seed``."""
        return float(self.per_seed(labels_I, np.asarray(predictions_I)[None])[0])

    def per_seed(self, labels_I: np.ndarray, predictions_SI: np.ndarray) -> np.ndarray:
        """(S,) float64: the score of each seed's predictions. Raises Undefined: no items, a NaN or infinite number, or
        an input on which the formula has no value. Raises SuiteError: the two do not have the same items, or do not
        hold what the metric takes."""
        if self.within:
            raise Undefined(f"{self.name} is undefined: the items have no clusters.")
        labels_I, predictions_SI = self.checked(labels_I, predictions_SI)
        values_S = self.weighted(labels_I, predictions_SI)(np.ones(len(labels_I)))
        if len(undefined := np.flatnonzero(~np.isfinite(values_S))):
            which = f"predictions {undefined[0] + 1} of {len(values_S)}"
            raise Undefined(f"{self.name} is undefined ({which}): {_why(labels_I, predictions_SI[undefined[0]])}.")
        return values_S

    def checked(self, labels_I: np.ndarray, predictions_SI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both arrays in the types that ``weighted`` takes. Raises as ``per_seed``, but for the formula itself."""
        labels_I, predictions_SI = np.asarray(labels_I), np.asarray(predictions_SI)
        if labels_I.ndim != 1 or predictions_SI.ndim != 2 or predictions_SI.shape[1] != len(labels_I):
            raise SuiteError(
                f"{self.name}: labels of shape {labels_I.shape} and predictions of shape {predictions_SI.shape} are not"
                " (items,) and (seeds, items): score the whole set, each item once."
            )
        if not predictions_SI.size:
            raise Undefined(f"{self.name} is undefined: there is nothing to score.")
        of_labels, of_predictions = CHECKS[self.takes]
        return of_labels(self.name, "labels", labels_I), of_predictions(self.name, "predictions", predictions_SI)


def _numbers(metric: str, what: str, x: np.ndarray) -> np.ndarray:
    if x.dtype.kind not in "biuf":
        raise SuiteError(f"{metric}: the {what} are of type {x.dtype}, not numbers.")
    x = x.astype(np.float64)
    if bad := int((~np.isfinite(x)).sum()):
        raise Undefined(f"{metric} is undefined: {bad} of the {x.size} {what} are NaN or infinite.")
    return x


def _classes(metric: str, what: str, x: np.ndarray) -> np.ndarray:
    x = _numbers(metric, what, x) if x.dtype.kind not in "biu" else x
    if x.dtype.kind == "f" and (x != np.rint(x)).any():
        raise SuiteError(f"{metric}: the {what} are not class numbers; take the most probable class first.")
    return x.astype(np.int64)


def _texts(metric: str, what: str, x: np.ndarray) -> np.ndarray:
    if not all(isinstance(text, str) for text in x.flat):
        raise SuiteError(f"{metric}: the {what} are not all texts.")
    return x


def _lists(metric: str, what: str, x: np.ndarray) -> np.ndarray:
    if x.dtype != object or any(isinstance(each, str) or not hasattr(each, "__len__") for each in x.flat):
        raise SuiteError(f"{metric}: the {what} are not a list an item.")
    return x


CHECKS = {  # of the labels, and of the predictions
    "classes": (_classes, _classes),
    "values": (_numbers, _numbers),
    "scores": (_classes, _numbers),
    "texts": (_texts, _texts),
    "answers": (_lists, _texts),
    **dict.fromkeys(("tags", "slots", "activity", "rankings"), (_lists, _lists)),
}


def shares(
    statistic: Callable[[Any, Any], tuple[float, float]],
) -> Callable[[np.ndarray, np.ndarray], Values]:
    """``weighted`` of a metric that is a ratio of two sums over items.

    Args:
        statistic: (label, prediction) of an item -> (what counts, of how much): its sufficient statistics, so that a
            bootstrap resamples items and never the tokens in them.
    """

    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        found_SI2 = np.array([[statistic(*pair) for pair in zip(labels_I, x_I, strict=True)] for x_I in predictions_SI])

        def values(weights_I: np.ndarray) -> np.ndarray:
            counts_S, totals_S = (found_SI2 * weights_I[:, None]).sum(1).T
            return np.divide(counts_S, totals_S, out=np.full(len(counts_S), np.nan), where=totals_S > 0)

        return values

    return weighted


def mean_over_clusters(
    weighted: Callable[[np.ndarray, np.ndarray], Values], clusters_I: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], Values]:
    """``weighted`` of the mean over clusters, each counting alike, of a metric that is defined for one cluster's items.

    Clusters of one item or one label, of which the metric has no value, are left out. Weights are of whole clusters, as
    ``significance.draw`` makes them, so that a cluster's own value does not depend on them.
    """
    _, first_C, cluster_I = np.unique(clusters_I, return_index=True, return_inverse=True)

    def of_items(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        members = [np.flatnonzero(cluster_I == c) for c in range(len(first_C))]
        kept_K = [c for c, some in enumerate(members) if len(np.unique(labels_I[some])) > 1]
        values_KS = np.array(
            [weighted(labels_I[members[c]], predictions_SI[:, members[c]])(np.ones(len(members[c]))) for c in kept_K]
        ).reshape(len(kept_K), len(predictions_SI))

        def values(weights_I: np.ndarray) -> np.ndarray:
            weights_K = weights_I[first_C[kept_K]]
            total = weights_K.sum()
            return weights_K @ values_KS / total if total > 0 else np.full(len(predictions_SI), np.nan)

        return values

    return of_items


def _why(labels_I: np.ndarray, predictions_I: np.ndarray) -> str:
    if len(labels_I) == 1:
        return "one item is too few"
    if labels_I.dtype == object:
        return "there is nothing in it to count"
    if (labels_I == labels_I[0]).all():
        return f"all labels are {labels_I[0]}"
    if (predictions_I == predictions_I[0]).all():
        return f"all predictions are {predictions_I[0]}"
    return "its denominator is 0"
