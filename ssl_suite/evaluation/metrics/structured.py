"""Metrics of items that are lists: tags of words, slots of an utterance, speakers of frames, ranked candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ssl_suite.evaluation.metrics import scores
from ssl_suite.evaluation.metrics.base import Metric, Values, shares

BETA = (1 / 0.0008 - 1) / 100
"""Of the term-weighted value: a miss costs 100 false alarms, and 0.08 % of the candidates are right."""


def _right(label: Any, given: Any) -> tuple[float, float]:
    """Of all tags: items are sentences, and a longer one counts for more; what is below 0 is not annotated."""
    label, given = np.asarray(label), np.asarray(given)
    return float(((label == given) & (label >= 0)).sum()), float((label >= 0).sum())


def _all_right(label: Any, given: Any) -> tuple[float, float]:
    """An item is right where every slot is (SUPERB's intent classification)."""
    return float(np.array_equal(label, given)), 1.0


def diarisation_errors(label_T: Any, given_T: Any) -> tuple[float, float]:
    """Wrong speaker-frames under the best assignment of given speakers to true ones, and the true speaker-frames.

    Missed speech, false alarms and confusions, as NIST defines the diarisation error rate, without a collar.

    Args:
        label_T, given_T: of each frame its speakers as bits of a number.
    """
    from scipy.optimize import linear_sum_assignment

    label_T, given_T = np.asarray(label_T, np.int64), np.asarray(given_T, np.int64)
    speakers = max(int(max(label_T.max(initial=0), given_T.max(initial=0))).bit_length(), 1)
    label_TK = label_T[:, None] >> np.arange(speakers) & 1
    given_TK = given_T[:, None] >> np.arange(speakers) & 1
    true_T, said_T = label_TK.sum(1), given_TK.sum(1)
    both_KK = label_TK.T @ given_TK
    most = both_KK[linear_sum_assignment(both_KK, maximize=True)].sum()
    return float(np.maximum(true_T, said_T).sum() - most), float(true_T.sum())


def _average_precision(label: Any, given: Any) -> tuple[float, float]:
    """Of one query's ranked candidates; a query without a right one counts for nothing. Ties are broken against us."""
    label, given = np.asarray(label), np.asarray(given, np.float64)
    if not label.any():
        return 0.0, 0.0
    order = np.lexsort((label, -given))  # of equal scores the wrong candidate first
    hits = label[order].cumsum()
    return float((hits / np.arange(1, len(label) + 1))[label[order] == 1].mean()), 1.0


def _reciprocal_rank(label: Any, given: Any) -> tuple[float, float]:
    """1 / the first right candidate's rank, equal scores sharing the middle of their ranks."""
    label, given = np.asarray(label), np.asarray(given, np.float64)
    if not label.any():
        return 0.0, 0.0
    best = given[label == 1].max()
    return 1.0 / ((given > best).sum() + ((given == best).sum() + 1) / 2), 1.0


def _first(label: Any, given: Any) -> tuple[float, float]:
    """Whether the best candidate is a right one; of equal ones the share that is."""
    label, given = np.asarray(label), np.asarray(given, np.float64)
    return (float(label[given == given.max()].mean()), 1.0) if label.any() else (0.0, 0.0)


def _of_pairs(metric: Metric) -> Callable[[np.ndarray, np.ndarray], Values]:
    """``weighted`` of a metric of scores over the pairs of all queries with their candidates."""

    def weighted(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
        sizes_I = [len(label) for label in labels_I]
        labels_P = np.concatenate([np.asarray(label, np.int64) for label in labels_I])
        scores_SP = np.stack([np.concatenate([np.asarray(x, np.float64) for x in x_I]) for x_I in predictions_SI])
        values = metric.weighted(labels_P, scores_SP)
        return lambda weights_I: values(np.repeat(weights_I, sizes_I))

    return weighted


def _mtwv(labels_I: np.ndarray, predictions_SI: np.ndarray) -> Values:
    """``weighted`` of the term-weighted value at its best threshold over all queries: 1 - the mean over queries of the
    share of right candidates missed and ``BETA`` times the share of others accepted (NIST STD 2006, QUESST 2014).

    A query's scores are standardised over its candidates, as in SUPERB; one without a right or without a wrong
    candidate has no such shares and counts for nothing.
    """
    counted = [i for i, label in enumerate(labels_I) if 0 < np.sum(label) < len(label)]
    labels = [np.asarray(labels_I[i], np.int64) for i in counted]
    nothing = np.zeros(0, np.int64)
    items_P = np.repeat(np.array(counted, np.int64), [len(label) for label in labels])
    labels_P = np.concatenate([nothing, *labels])
    shares_P = np.concatenate([nothing, *(1 / np.bincount(label)[label] for label in labels)])
    scores_SP = [np.concatenate([nothing, *(_standard(x_I[i]) for i in counted)]) for x_I in predictions_SI]

    def values(weights_I: np.ndarray) -> np.ndarray:
        weights_P = weights_I[items_P] * shares_P
        if not weights_P.any():
            return np.full(len(scores_SP), np.nan)
        rates = (scores.error_rates(labels_P, scores_P, weights_P) for scores_P in scores_SP)
        return np.array([(1 - missed_T - BETA * alarms_T).max() for missed_T, alarms_T in rates])

    return values


def _standard(scores_C: Any) -> np.ndarray:
    scores_C = np.asarray(scores_C, np.float64)
    return (scores_C - scores_C.mean()) / max(float(scores_C.std()), 1e-9)


METRICS = (
    Metric("tag_accuracy", True, "tags", shares(_right)),
    Metric("all_slots", True, "slots", shares(_all_right)),
    Metric("slot_accuracy", True, "slots", shares(_right)),
    Metric("der", False, "activity", shares(diarisation_errors)),
    Metric("map", True, "rankings", shares(_average_precision)),
    Metric("mrr", True, "rankings", shares(_reciprocal_rank)),
    Metric("mtwv", True, "rankings", _mtwv),
    Metric("top1", True, "rankings", shares(_first)),
    Metric("pair_auc", True, "rankings", _of_pairs(next(metric for metric in scores.METRICS if metric.name == "auc"))),
)
