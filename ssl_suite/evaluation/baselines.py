"""Controls that train no encoder: the majority, n-grams with a linear model, a linear model and neighbours on features.

They take and give plain arrays; class labels are whole numbers, others real. Whatever is chosen is chosen on dev, and
of the test set they see the inputs only. Shapes: I items, D features, N training items, K neighbours, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.metrics import Undefined, find

INVERSE_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of the logistic regression on n-grams
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # alpha of the ridge regression on positions
PROBE_INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # standardised features need more restraint than tf-idf
PROBE_STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
SIZES = (3, 5)  # the shortest and the longest n-gram
NGRAMS = 100_000  # the most frequent ones are kept: pitch sequences have millions
ITERATIONS = 2000
BLOCK = 2**21  # similarities that are held at once


class Control(NamedTuple):
    """Test predictions by the model that did best on dev.

    ``chosen``: ``name`` ("C" or "alpha"), ``value``, ``per_value`` (value -> dev score, None where undefined).
    ``model`` is scikit-learn's.
    """

    test_predictions: np.ndarray
    chosen: dict[str, Any]
    model: Any = None


class Neighbours(NamedTuple):
    """``k`` is what was used: the number asked for or, if that is smaller, the number of training items."""

    predictions: np.ndarray
    k: int


def majority(train_labels_I: np.ndarray, n: int, regression: bool) -> np.ndarray:
    """(n,) the most frequent class of the training set (of equals, the smallest number), or the mean.

    Correlations with a constant are undefined, and so is Matthews' coefficient: ``metrics`` says so.

    Raises SuiteError: no training labels.
    """
    labels_I = np.asarray(train_labels_I)
    if not len(labels_I):
        raise SuiteError("The training set is empty: there is no majority.")
    if regression:
        return np.full(n, labels_I.mean(dtype=np.float64))
    classes_C, counts_C = np.unique(labels_I, return_counts=True)
    return np.full(n, classes_C[counts_C.argmax()], dtype=np.int64)


def kmer(
    train_texts: Sequence[str],
    train_labels: np.ndarray,
    dev_texts: Sequence[str],
    dev_labels: np.ndarray,
    test_texts: Sequence[str],
    *,
    regression: bool,
    features: Literal["ngrams", "positions"] | None = None,
    select: str | None = None,
    sizes: tuple[int, int] = SIZES,
    sep: str | None = None,
) -> Control:
    """A linear model of the symbols, a letter each: logistic regression for classes, ridge regression for values.

    Args:
        features: tf-idf of ``ngrams`` of ``sizes``, the default for classes; or the symbol at each of ``positions``,
            from the left, the default for values. These are for what is aligned: variants of one protein, or windows
            around one site (splice, 160 test items: accuracy .72 from n-grams, .96 from positions).
        select: the metric that chooses on dev: accuracy, or spearman, unless named.
        sep: between the two texts of a pair, whose n-grams are then a, b, |a - b| and a * b.

    Raises SuiteError: one class only; an empty part; no text as long as the shortest n-gram; lengths that differ.
    """
    parts = [train_texts, dev_texts, test_texts]
    if not all(len(part) for part in parts):
        raise SuiteError("k-mers: training, dev and test each need at least one text.")
    by_place = (features or ("positions" if regression else "ngrams")) == "positions"
    read = _positions(parts) if by_place else _ngrams(parts, sizes, sep)
    strengths = STRENGTHS if regression else INVERSE_STRENGTHS
    return _chosen(read, train_labels, dev_labels, regression, strengths, select)


def linear_probe(
    train_XD: np.ndarray,
    labels: np.ndarray,
    dev_XD: np.ndarray,
    dev_labels: np.ndarray,
    test_XD: np.ndarray,
    regression: bool,
    select: str | None = None,
) -> Control:
    """Logistic or ridge regression on frozen features, standardised with the training set's mean and deviation.

    Args:
        select: as in ``kmer``.

    Raises SuiteError: one class only; an empty part; lengths or widths that differ; features that are not finite.
    """
    _, parts = _standardised("linear probe", train_XD, dev_XD, test_XD)
    strengths = PROBE_STRENGTHS if regression else PROBE_INVERSE_STRENGTHS
    return _chosen(parts, labels, dev_labels, regression, strengths, select)


def linear_map(
    train_XD: np.ndarray,
    labels: np.ndarray,
    dev_XD: np.ndarray,
    dev_labels: np.ndarray,
    outputs: int,
    select: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The model of ``linear_probe`` as a map of the features as they come: (C, D) weights and (C,) biases, float32.

    The softmax of what it gives are the model's shares of the classes; a class that no label names gets next to none.

    Args:
        labels, dev_labels: class numbers below ``outputs``; real numbers mean a regression.
        outputs: C.
        select: as in ``kmer``.

    Raises SuiteError: as ``linear_probe`` does.
    """
    regression = np.asarray(labels).dtype.kind == "f"
    scaler, (train, dev) = _standardised("linear map", train_XD, dev_XD)
    strengths = PROBE_STRENGTHS if regression else PROBE_INVERSE_STRENGTHS
    model = _chosen([train, dev, dev], labels, dev_labels, regression, strengths, select).model
    slopes_KD = np.atleast_2d(model.coef_) / scaler.scale_
    levels_K = np.atleast_1d(model.intercept_) - slopes_KD @ scaler.mean_
    if regression:
        return slopes_KD.astype(np.float32), levels_K.astype(np.float32)
    if len(model.classes_) == 2:  # one sigmoid is the softmax of two halves
        slopes_KD, levels_K = np.concatenate((-slopes_KD, slopes_KD)) / 2, np.concatenate((-levels_K, levels_K)) / 2
    weight_CD = np.tile(slopes_KD.mean(0), (outputs, 1))
    bias_C = np.full(outputs, levels_K.mean() - 2 * np.log(len(train)))
    weight_CD[model.classes_], bias_C[model.classes_] = slopes_KD, levels_K
    return weight_CD.astype(np.float32), bias_C.astype(np.float32)


def _standardised(what: str, *parts: np.ndarray) -> tuple[Any, list[np.ndarray]]:
    """Checked features of training, dev and test by training's mean and deviation; and scikit-learn's scaler."""
    from sklearn.preprocessing import StandardScaler

    width = np.asarray(parts[0]).shape[-1]
    checked = [
        _features(f"{what}: {name}", x_XD, width)
        for name, x_XD in zip(("training", "dev", "test"), parts, strict=False)
    ]
    scaler = StandardScaler().fit(checked[0])
    return scaler, [scaler.transform(x_XD) for x_XD in checked]


def knn(
    train_XD: np.ndarray,
    labels_I: np.ndarray,
    test_XD: np.ndarray,
    k: int = 200,
    temperature: float = 0.1,
    regression: bool = False,
    block: int = BLOCK,
) -> Neighbours:
    """Votes of the k training items of highest cosine similarity, weighted by exp(cos / T) (arXiv:1805.01978).

    Of items as near as the k-th, the first in the training set are taken; of classes with equal votes, the smallest
    number. Values: the weighted mean.

    Args:
        train_XD, test_XD: raw features; they are scaled to unit length here. A vector of zeros is at cosine 0 from all.
        block: similarities computed at once, 8 bytes each; memory grows with it, the result does not depend on it.

    Raises SuiteError: an empty part; widths that differ; features that are not finite.
    """
    width = np.asarray(train_XD).shape[-1]
    bank_ND = _unit(_features("kNN: training", train_XD, width))
    queries_ID = _unit(_features("kNN: test", test_XD, width))
    labels_N = np.asarray(labels_I)
    k, rows = min(k, len(bank_ND)), max(1, block // len(bank_ND))
    classes_C, codes_N = np.unique(labels_N, return_inverse=True)
    found = []
    for start in range(0, len(queries_ID), rows):
        # Rounded, because a product's last bits depend on the block's size and would order items that are equal.
        cosines_QN = np.round(queries_ID[start : start + rows] @ bank_ND.T, 12)
        nearest_QK = _nearest(cosines_QN, k)
        cosines_QK = np.take_along_axis(cosines_QN, nearest_QK, axis=1)
        # The largest is taken out first: a common factor, which at a small T would overflow.
        weights_QK = np.exp((cosines_QK - cosines_QK.max(1, keepdims=True)) / temperature)
        if regression:
            found.append((weights_QK * labels_N[nearest_QK]).sum(1) / weights_QK.sum(1))
            continue
        votes_QC = np.stack(
            [np.bincount(*row, len(classes_C)) for row in zip(codes_N[nearest_QK], weights_QK, strict=True)]
        )
        found.append(classes_C[votes_QC.argmax(1)])
    return Neighbours(np.concatenate(found), k)


def _nearest(cosines_QN: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) the places of each row's k largest, ascending; equals at the border in order of place."""
    size = cosines_QN.shape[1]
    border_Q1 = np.partition(cosines_QN, size - k, axis=1)[:, size - k, None]
    above_QN, tied_QN = cosines_QN > border_Q1, cosines_QN == border_Q1
    chosen_QN = above_QN | (tied_QN & (tied_QN.cumsum(1) <= k - above_QN.sum(1, keepdims=True)))
    return np.nonzero(chosen_QN)[1].reshape(-1, k)


def _unit(x_XD: np.ndarray) -> np.ndarray:
    x_XD = x_XD.astype(np.float64)
    lengths_X1 = np.linalg.norm(x_XD, axis=1, keepdims=True)
    return x_XD / np.where(lengths_X1 > 0, lengths_X1, 1.0)


def _features(what: str, x_XD: np.ndarray, width: int) -> np.ndarray:
    x_XD = np.asarray(x_XD)
    if x_XD.ndim != 2 or not x_XD.size or x_XD.shape[1] != width:
        raise SuiteError(f"{what} features of shape {x_XD.shape} are not (items, {width}), with at least one item.")
    if len(bad := np.flatnonzero(~np.isfinite(x_XD).all(1))):
        raise SuiteError(f"{what} features of item {bad[0]} are NaN or infinite ({len(bad)} such items).")
    return x_XD


def _ngrams(parts: Sequence[Sequence[str]], sizes: tuple[int, int], sep: str | None) -> list[Any]:
    """Tf-idf as sparse matrices; frequencies and n-grams are those of training."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    counter = TfidfVectorizer(analyzer="char", ngram_range=sizes, lowercase=False, max_features=NGRAMS)
    try:
        if sep is None:
            return [counter.fit_transform(parts[0]), *(counter.transform(part) for part in parts[1:])]
        sides = [list(zip(*(text.partition(sep)[::2] for text in part), strict=True)) for part in parts]
        counter.fit([text for texts in sides[0] for text in texts])
    except ValueError as error:
        raise SuiteError(f"k-mers: no training text has {sizes[0]} symbols ({error}).") from None
    counted = [[counter.transform(texts) for texts in part] for part in sides]
    return [hstack([a, b, abs(a - b), a.multiply(b)], "csr") for a, b in counted]


def _positions(parts: Sequence[Sequence[str]]) -> list[Any]:
    """One-hot of the symbol at each position, as sparse matrices; pairs that training does not hold are left out."""
    from scipy.sparse import csr_matrix

    columns: dict[tuple[int, str], int] = {}
    for text in parts[0]:
        for pair in enumerate(text):
            columns.setdefault(pair, len(columns))
    if not columns:
        raise SuiteError("k-mers: all training texts are empty.")
    made = []
    for part in parts:
        rows = [[columns[pair] for pair in enumerate(text) if pair in columns] for text in part]
        ends = np.cumsum([0, *(len(row) for row in rows)])
        places = np.array([place for row in rows for place in row], dtype=np.int64)
        made.append(csr_matrix((np.ones(len(places)), places, ends), shape=(len(part), len(columns))))
    return made


def _model(regression: bool, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if regression:
        return Ridge(alpha=strength, tol=1e-6)
    return LogisticRegression(C=strength, max_iter=ITERATIONS, random_state=0)


def _chosen(
    parts: Sequence[Any],
    labels: np.ndarray,
    dev_labels: np.ndarray,
    regression: bool,
    strengths: Sequence[float],
    select: str | None,
) -> Control:
    """Fit once a strength on training, keep the best on dev (of equals, the strongest penalty), then predict test."""
    from sklearn.exceptions import ConvergenceWarning

    if not regression and len(np.unique(labels)) < 2:
        raise SuiteError("The training labels are all of one class: a linear model needs two.")
    metric = find(select or ("spearman" if regression else "accuracy"))
    sign = 1 if metric.higher_is_better else -1
    models: dict[float, Any] = {}
    scores: dict[float, float | None] = {}
    for strength in reversed(strengths) if regression else strengths:  # the strongest penalty first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            models[strength] = _model(regression, strength).fit(parts[0], labels)
        try:
            scores[strength] = metric.compute(dev_labels, models[strength].predict(parts[1]))
        except Undefined:
            scores[strength] = None
    defined = {strength: sign * score for strength, score in scores.items() if score is not None}
    if not defined:
        raise Undefined(
            f"{metric.name} is undefined on dev for every strength: the labels or all predictions are constant."
        )
    best = max(defined, key=defined.__getitem__)  # the first of equals
    chosen = {
        "name": "alpha" if regression else "C",
        "value": best,
        "per_value": {f"{strength:g}": score for strength, score in scores.items()},
    }
    return Control(models[best].predict(parts[2]), chosen, models[best])
