"""Scores of predictions against labels, over a whole set at once.

Each metric is one formula over items that carry a weight: how often a resample of the set holds the item. The score is
the case in which every item counts once, so the score and its bootstrap cannot differ in definition, and a resample of
27,000 items needs no sorting (``significance`` draws the weights). Tests hold them to scikit-learn, SciPy and jiwer.

A metric that is not defined on its input raises ``Undefined``; it is never 0. Shapes: I items, S seeds, K classes, V
distinct values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ssl_suite.errors import SuiteError, nearest

Takes = Literal["classes", "values", "scores", "texts"]
Values = Callable[[np.ndarray], np.ndarray]  # weights_I of whole numbers -> values_S, NaN where undefined
ROUNDING = 1e-20  # a variance below it, of numbers of order 1, may be rounding: equality is then checked exactly


class Undefined(SuiteError):
    """The metric has no value on this input. Report it as undefined; do not count it as a score."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: its key in ``METRICS``.
        higher_is_better: False for errors.
        takes: what the two arrays hold. ``classes``: class numbers. ``values``: finite numbers. ``scores``: labels 0
            or 1 and a real-valued score for class 1. ``texts``: strings, the reference first.
        weighted: (labels_I, predictions_SI) -> (weights_I -> values_S); the arrays are those that ``checked`` returns.
    """

    name: str
    higher_is_better: bool
    takes: Takes
    weighted: Callable[[np.ndarray, np.ndarray], Values]

    def compute(self, labels_I: np.ndarray, predictions_I: np.ndarray) -> float:
        """The score of one seed. Raises as ``per_seed``."""
        return float(self.per_seed(labels_I, np.asarray(predictions_I)[None])[0])

    def per_seed(self, labels_I: np.ndarray, predictions_SI: np.ndarray) -> np.ndarray:
        """(S,) float64: the score of each seed's predictions.

        Raises:
            Undefined: no items, a NaN or infinite number, or an input on which the formula has no value.
            SuiteError: the two do not have the same items, or do not hold what the metric takes.
        """
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
        read = {"classes": _classes, "values": _numbers, "scores": _numbers, "texts": _texts}[self.takes]
        of_labels = _classes if self.takes == "scores" else read
        return of_labels(self.name, "labels", labels_I), read(self.name, "predictions", predictions_SI)


def find(name: str) -> Metric:
    """The metric of this name.

    Raises:
        SuiteError: there is none; the nearest name is offered.
    """
    if name not in METRICS:
        raise SuiteError(f"There is no metric '{name}'.{nearest(name, METRICS)}")
    return METRICS[name]


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


def _why(labels_I: np.ndarray, predictions_I: np.ndarray) -> str:
    if len(labels_I) == 1:
        return "one item is too few"
    if (labels_I == labels_I[0]).all():
        return f"all labels are {labels_I[0]}"
    if (predictions_I == predictions_I[0]).all():
        return f"all predictions are {predictions_I[0]}"
    return "its denominator is 0"


# Classes: everything is a ratio of counts, exact in float64.


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


# Values


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


def _both(a: Metric, b: Metric) -> Callable[[np.ndarray, np.ndarray], Values]:
    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        of_a, of_b = a.weighted(labels_I, predictions_SI), b.weighted(labels_I, predictions_SI)
        return lambda weights_I: (of_a(weights_I) + of_b(weights_I)) / 2

    return weighted


# Scores and texts


def _average_precision(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
    from sklearn.metrics import average_precision_score

    if not set(np.unique(labels_I)) <= {0, 1}:
        raise SuiteError("average_precision: the labels are not all 0 or 1.")
    for s, scores_I in enumerate(predictions_SI):
        # Hard labels leave one threshold: the number is then not the area it is taken for.
        if set(np.unique(scores_I)) <= {0.0, 1.0}:
            raise SuiteError(
                f"average_precision: predictions {s + 1} are labels, not scores; give probabilities or logits."
            )

    def values(weights_I: np.ndarray) -> np.ndarray:
        kept = weights_I > 0
        if len(np.unique(labels_I[kept])) < 2:
            return np.full(len(predictions_SI), math.nan)
        y, w = labels_I[kept], weights_I[kept]
        return np.array([average_precision_score(y, x_I[kept], sample_weight=w) for x_I in predictions_SI])

    return values


def _error_rate(characters: bool) -> Callable[[np.ndarray, np.ndarray], Values]:
    """Substitutions, deletions and insertions over the reference's length: of the whole set, not a mean over sentences.

    White space of any kind and length is one space (jiwer alone splits at spaces only). Case and punctuation count.
    """

    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        import jiwer

        def errors(reference: str, hypothesis: str) -> tuple[int, int]:
            pair = " ".join(reference.split()), " ".join(hypothesis.split())
            found = jiwer.process_characters(*pair) if characters else jiwer.process_words(*pair)
            wrong = found.substitutions + found.deletions
            return wrong + found.insertions, wrong + found.hits

        counts_SI2 = np.array([[errors(*pair) for pair in zip(labels_I, x_I, strict=True)] for x_I in predictions_SI])

        def values(weights_I: np.ndarray) -> np.ndarray:
            length = counts_SI2[0, :, 1] @ weights_I
            return counts_SI2[:, :, 0] @ weights_I / length if length else np.full(len(counts_SI2), math.nan)

        return values

    return weighted


_BASE = (
    Metric("accuracy", True, "classes", _counted(_accuracy)),
    Metric("mcc", True, "classes", _counted(_mcc)),
    Metric("f1", True, "classes", _counted(_f1)),
    Metric("macro_f1", True, "classes", _counted(_macro_f1)),
    Metric("uar", True, "classes", _counted(_uar)),
    Metric("pearson", True, "values", _pearson),
    Metric("spearman", True, "values", _spearman),
    Metric("mse", False, "values", _mean_of(np.square)),
    Metric("rmse", False, "values", _mean_of(np.square, root=True)),
    Metric("mae", False, "values", _mean_of(np.abs)),
    Metric("average_precision", True, "scores", _average_precision),
    Metric("wer", False, "texts", _error_rate(characters=False)),
    Metric("cer", False, "texts", _error_rate(characters=True)),
    Metric("per", False, "texts", _error_rate(characters=False)),  # phones, separated by spaces
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _BASE}
for _name, _a, _b in (("f1_accuracy", "f1", "accuracy"), ("pearson_spearman", "pearson", "spearman")):
    METRICS[_name] = Metric(_name, True, METRICS[_a].takes, _both(METRICS[_a], METRICS[_b]))  # GLUE's means


def superb_s(scores: Mapping, fbank: Mapping, sota: Mapping) -> float:
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
