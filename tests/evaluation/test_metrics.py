"""Metrics against scikit-learn, SciPy, jiwer and numbers worked by hand."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.metrics import METRICS, Undefined, find
from ssl_suite.leaderboard.aggregates import superb_s

Y, P = np.array([1, 1, 1, 0, 0, 0, 1, 0]), np.array([1, 0, 1, 0, 1, 0, 1, 0])
A, B = np.array([0, 1, 2, 2, 3, 5]), np.array([0.1, 0.9, 2.5, 2, 2, 4])
# macro_f1 without labels=: scikit-learn also averages over the classes that occur in either.
CLASSES: dict[str, Callable] = {
    "accuracy": sk.accuracy_score,
    "mcc": sk.matthews_corrcoef,
    "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro"),
    "uar": lambda y, p: sk.recall_score(y, p, labels=np.unique(y), average="macro"),
}
WITHOUT_CLUSTERS = [name for name, metric in METRICS.items() if not metric.within]
NUMBERS = [name for name in WITHOUT_CLUSTERS if METRICS[name].takes in ("classes", "values", "scores")]
VALUES: dict[str, Callable] = {
    "pearson": lambda y, p: scipy.stats.pearsonr(y, p).statistic,
    "spearman": lambda y, p: scipy.stats.spearmanr(y, p).statistic,
    "pearson_spearman": lambda y, p: (scipy.stats.pearsonr(y, p)[0] + scipy.stats.spearmanr(y, p)[0]) / 2,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
}


def score(name: str, labels: object, predictions: object) -> float:
    return METRICS[name].compute(np.asarray(labels), np.asarray(predictions))


def test_golden_superb() -> None:
    fbank = {"ks": {"accuracy": 8.63}, "asr": {"wer": 23.18, "cer": 7.0}}
    sota = {"ks": {"accuracy": 97.0}, "asr": {"wer": 3.0, "cer": 1.0}}
    assert superb_s(fbank, fbank, sota) == 0
    assert superb_s(sota, fbank, sota) == 1000
    # Half way on one metric of two, and all the way on the other task: (1 + (.5 + 0) / 2) / 2.
    half = {"ks": sota["ks"], "asr": {"wer": (23.18 + 3.0) / 2, "cer": 7.0}}
    assert superb_s(half, fbank, sota) == pytest.approx(625)
    with pytest.raises(Undefined, match="ks accuracy"):
        superb_s(fbank, fbank, {**sota, "ks": fbank["ks"]})
    with pytest.raises(SuiteError, match="same tasks"):
        superb_s({"ks": fbank["ks"]}, fbank, sota)
    with pytest.raises(Undefined):
        superb_s({}, {}, {})


def test_classes_as_scikit_learn_has_them() -> None:
    rng = np.random.default_rng(0)
    for trial in range(30):
        kinds, n = int(rng.integers(2, 6)), int(rng.integers(4, 40))
        y, p = rng.integers(kinds, size=n), rng.integers(kinds, size=n).astype(np.uint8)
        if len(set(y)) < 2 or len(set(p)) < 2:
            continue
        for name, reference in CLASSES.items():
            assert score(name, y, p) == pytest.approx(reference(y, p), abs=1e-12), (name, trial)
        if kinds == 2:
            assert score("f1", y, p) == pytest.approx(sk.f1_score(y, p), abs=1e-12)
            assert score("f1_accuracy", y, p) == pytest.approx((sk.f1_score(y, p) + (y == p).mean()) / 2, abs=1e-12)


def test_values_as_scipy_has_them() -> None:
    rng = np.random.default_rng(1)
    for trial in range(40):
        n = int(rng.integers(3, 60))
        y = rng.normal(size=n) if trial % 2 else rng.integers(4, size=n).astype(float)  # ties in every other
        p = np.round(y + rng.normal(size=n), trial % 3).astype(np.float32)
        if np.ptp(y) == 0 or np.ptp(p) == 0:
            continue
        for name, reference in VALUES.items():
            assert score(name, y, p) == pytest.approx(reference(y, p.astype(float)), abs=1e-12), (name, trial)


@pytest.mark.parametrize("name", ["pearson", "spearman", "pearson_spearman"])
def test_correlations_at_the_ends_of_the_numbers(name: str) -> None:
    y = np.random.default_rng(2).normal(size=50)
    for x in (y, 1e200 * y, 1e-200 * y, y + 1e6):  # neither overflow, nor vanishing squares, nor a large mean
        assert score(name, y, x) == pytest.approx(1, abs=1e-9)
        assert -1 <= score(name, y, -x) <= -1 + 1e-9
    assert score(name, [0, 1], [2, 3]) == 1


@pytest.mark.parametrize("name", ["pearson", "spearman", "pearson_spearman"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e9, 1 / 3])
def test_a_constant_has_no_correlation(name: str, constant: float) -> None:
    y = np.arange(7.0)
    with pytest.raises(Undefined, match=rf"{name} is undefined \(predictions 1 of 1\): all predictions are {constant}"):
        score(name, y, np.full(7, constant))
    with pytest.raises(Undefined, match="all labels are"):
        score(name, np.full(7, constant), y)
    with pytest.raises(Undefined, match="one item"):
        score(name, [1.0], [2.0])


def test_a_resample_of_equal_items_has_no_correlation() -> None:
    """Also where the mean of equal numbers is, by rounding, not that number."""
    rng = np.random.default_rng(6)
    for _ in range(100):
        y, p = rng.normal(size=(2, 8))
        y[:5] = y[0]
        weights_I = np.array([*rng.integers(1, 9, size=5), 0, 0, 0], dtype=float)
        for x, z in ((y, p), (p, y)):
            for name in ("pearson", "spearman"):
                assert np.isnan(METRICS[name].weighted(x, z[None])(weights_I)).all()
                assert np.isfinite(METRICS[name].weighted(x, z[None])(weights_I + 1)).all()


@pytest.mark.parametrize(("y", "p"), [([0, 1, 1], [1, 1, 1]), ([1, 1, 1], [0, 1, 1]), ([2, 2], [2, 2])])
def test_one_class_has_no_mcc(y: list[int], p: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sk.matthews_corrcoef(y, p) == 0  # which would stand in a table as measured
    with pytest.raises(Undefined, match="mcc is undefined"):
        score("mcc", y, p)


def test_f1_of_no_positives_and_of_other_classes() -> None:
    with pytest.raises(Undefined, match="f1 is undefined"):
        score("f1", [0, 0], [0, 0])
    assert score("f1", [0, 1], [0, 0]) == sk.f1_score([0, 1], [0, 0]) == 0  # missed all: measured, not undefined
    assert score("f1", [0, 0], [1, 0]) == 0
    with pytest.raises(SuiteError, match="macro_f1"):
        score("f1", [0, 1, 2], [0, 1, 2])


def test_a_class_that_the_test_set_lacks_is_an_error_not_a_gap() -> None:
    y, p = [0, 0, 1, 1], [0, 7, 1, 1]  # 7 occurs in training only
    assert score("accuracy", y, p) == 0.75
    assert score("uar", y, p) == 0.75  # recall of 0 and 1; 7 has none
    assert score("macro_f1", y, p) == pytest.approx((2 / 3 + 1 + 0) / 3)
    for name in ("uar", "macro_f1"):
        with pytest.raises(Undefined, match="all labels are 0"):
            score(name, [0, 0], [0, 0])


@pytest.mark.parametrize("name", NUMBERS)
def test_nothing_and_not_a_number_are_undefined(name: str) -> None:
    with pytest.raises(Undefined, match="nothing to score"):
        score(name, [], [])
    for bad in (np.nan, np.inf):
        with pytest.raises(Undefined, match="1 of the 4 predictions are NaN or infinite"):
            score(name, [0, 1, 0, 1], [0.0, 1.0, bad, 1.0])
        with pytest.raises(Undefined, match="1 of the 4 labels are NaN or infinite"):
            score(name, [0.0, 1.0, bad, 1.0], [0, 1, 0, 1])


def test_an_overflow_is_undefined() -> None:
    with pytest.raises(Undefined, match="mse"):
        score("mse", [0.0, 1.0], [1e300, 1.0])


@pytest.mark.parametrize("name", WITHOUT_CLUSTERS)
def test_the_last_batch_is_not_the_set(name: str) -> None:
    labels = np.array(["a b"] * 10) if METRICS[name].takes == "texts" else np.arange(10) % 2
    with pytest.raises(SuiteError, match="score the whole set"):
        score(name, labels, labels[-2:])
    with pytest.raises(SuiteError, match="score the whole set"):
        METRICS[name].per_seed(labels, labels)  # seeds forgotten


def test_classes_must_be_classes() -> None:
    with pytest.raises(SuiteError, match="most probable class"):
        score("accuracy", [0, 1], [0.2, 0.9])
    with pytest.raises(SuiteError, match="not numbers"):
        score("accuracy", ["a", "b"], ["a", "b"])
    assert score("accuracy", np.array([0, 255]), np.array([0, 255], dtype=np.uint8)) == 1
    assert score("accuracy", np.array([0, -1]), np.array([0, 255], dtype=np.uint8)) == 0.5  # no wrapping


def test_error_rates_as_jiwer_has_them() -> None:
    import jiwer

    rng = np.random.default_rng(5)
    words = np.array(["a", "bb", "ccc", "dd d"])
    texts = [[" ".join(rng.choice(words, rng.integers(1, 8))) for _ in range(30)] for _ in range(2)]
    assert score("wer", *texts) == pytest.approx(jiwer.wer(*texts), abs=1e-15)
    assert score("cer", *texts) == pytest.approx(jiwer.cer(*texts), abs=1e-15)
    assert score("wer", ["a  b\tc\n"], [" a b c"]) == score("cer", ["a  b\tc\n"], [" a b c"]) == 0
    assert score("wer", ["", "a b"], ["x", "a b"]) == 0.5  # an insertion where nothing is said
    for name in ("wer", "cer", "per"):
        with pytest.raises(Undefined, match=name):
            score(name, ["", " "], ["x", ""])
    with pytest.raises(SuiteError, match="not all texts"):
        score("wer", np.array(["a", None], dtype=object), ["a", "b"])


def test_find_offers_the_nearest_name() -> None:
    assert find("mcc") is METRICS["mcc"]
    with pytest.raises(SuiteError, match="Did you mean 'spearman'"):
        find("spearmann")
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {
        *("mse", "rmse", "mae", "wer", "cer", "per", "eer", "min_dcf", "der", "slot_value_cer")
    }


def edits(a: str, b: str) -> int:
    """Levenshtein's distance by recursion over prefixes."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        before, row = row, [i + 1]
        for j, y in enumerate(b):
            row.append(min(before[j] + (x != y), before[j + 1] + 1, row[j] + 1))
    return row[-1]


def slots_by_hand(text: str) -> list[tuple[str, str]]:
    found = []
    for mark, value in re.findall(r"([A-Z\ue000])([^A-Z\ue000]*)", text):
        found.append((mark, value.strip()))
    return found


def test_scores_of_slots_are_those_of_superb() -> None:
    """As s3prl defines them: F1 of the sets of types, a mean over utterances; each true value against the nearest one
    given for its type, all of its letters lost where there is none, errors over letters."""
    rng = np.random.default_rng(4)

    def utterance() -> str:
        slots = [f"{rng.choice([*'ABC', chr(0xE000)])}{''.join(rng.choice(list('xyz '), 4))}" for _ in range(3)]
        return "".join(slots[: rng.integers(0, 4)]).strip() or "x"

    labels, answers = ([utterance() for _ in range(200)] for _ in range(2))
    f1, wrong, letters = [], 0, 0
    for label, answer in zip(labels, answers, strict=True):
        true, given = slots_by_hand(label), slots_by_hand(answer)
        types, said = {mark for mark, _ in true}, {mark for mark, _ in given}
        if types and said:
            precision, recall = len(types & said) / len(said), len(types & said) / len(types)
            f1.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        else:
            f1.append(float(types == said))
        for mark, value in true:
            value = " ".join(value.split())
            others = [" ".join(other.split()) for its, other in given if its == mark] or [""]
            wrong += min(edits(value, other) for other in others) if value else 0
            letters += len(value)
    assert score("slot_type_f1", labels, answers) == pytest.approx(np.mean(f1), abs=1e-12)
    assert score("slot_value_cer", labels, answers) == pytest.approx(wrong / letters, abs=1e-12)
    assert score("slot_type_f1", ["Amedium Bred"], ["uh Bred Cno"]) == 0.5
    assert score("slot_value_cer", ["Amedium Bred"], ["uh Bed Cno"]) == (6 + 1) / 9
    with pytest.raises(Undefined):
        score("slot_value_cer", ["none at all"], ["Ared"])
