"""The controls against naive loops, lightly's kNN and scikit-learn's closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightly.utils.benchmarking import knn_predict

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import baselines
from ssl_suite.evaluation.baselines import kmer, knn, linear_probe, majority
from ssl_suite.evaluation.metrics import METRICS, Undefined


def naive_knn(bank: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int, t: float, regression: bool) -> float:
    """One query, one neighbour at a time."""
    cosines = [float(np.dot(x, query) / (np.linalg.norm(x) * np.linalg.norm(query))) for x in bank]
    order = sorted(range(len(bank)), key=lambda i: (-round(cosines[i], 12), i))[:k]
    if regression:
        return sum(math.exp(cosines[i] / t) * labels[i] for i in order) / sum(math.exp(cosines[i] / t) for i in order)
    votes: dict[int, float] = {}
    for i in order:
        votes[labels[i]] = votes.get(labels[i], 0.0) + math.exp(cosines[i] / t)
    return min(votes, key=lambda label: (-round(votes[label], 9), label))


def clouds(items: int, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels_I = rng.integers(classes, size=items) * 3 + 5  # 5, 8, 11, …: class numbers, not places
    return np.eye(16)[labels_I] * 0.8 + rng.normal(size=(items, 16)), labels_I


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("regression", [False, True])
def test_knn_is_a_naive_loop(k: int, regression: bool) -> None:
    train_XD, labels_I = clouds(60, 0)
    train_XD[20:40] = train_XD[:20]  # copies with labels of their own: ties at the border
    test_XD = np.concatenate([clouds(30, 1)[0], train_XD[:10] * 3])
    found = knn(train_XD, labels_I, test_XD, k=k, regression=regression)
    expected = [naive_knn(train_XD, labels_I, query, k, 0.1, regression) for query in test_XD]
    np.testing.assert_allclose(found.predictions, expected, rtol=1e-9 if regression else 0)
    assert found.k == k
    assert len(set(expected)) > 2


def test_knn_as_lightly_has_it() -> None:
    (train_XD, labels_I), (test_XD, _) = clouds(500, 2), clouds(200, 3)
    unit = [torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (train_XD, test_XD)]
    expected = knn_predict(unit[1], unit[0].T, torch.from_numpy(labels_I), 16, knn_k=200, knn_t=0.1)[:, 0]
    found = knn(train_XD, labels_I, test_XD)
    np.testing.assert_array_equal(found.predictions, expected.numpy())
    assert found.k == 200 and METRICS["accuracy"].compute(clouds(200, 3)[1], found.predictions) > 0.4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 5])
def test_knn_does_not_depend_on_the_block(dtype: type, k: int) -> None:
    """Of a training item and its copy, a product's last bit may prefer either, by the block's size; labels differ."""
    rng = np.random.default_rng(6)
    train_XD, test_XD = rng.normal(size=(17, 200)).astype(dtype), rng.normal(size=(40, 200)).astype(dtype)
    train_XD, labels_I = np.concatenate([train_XD, train_XD]), np.repeat([3, 4], 17)
    whole = knn(train_XD, labels_I, test_XD, k=k).predictions
    assert k > 1 or set(whole) == {3}  # the first of equals
    for block in (1, 7 * 34, 11 * 34):
        np.testing.assert_array_equal(knn(train_XD, labels_I, test_XD, k=k, block=block).predictions, whole)


def test_knn_keeps_the_classes_of_training_and_survives_small_temperatures() -> None:
    train_XD, labels_I = np.eye(3), np.array([4, 9, 9])
    assert knn(train_XD, labels_I, np.eye(3)[:1], k=3).predictions.tolist() == [4]  # alone in test
    assert knn(train_XD, labels_I, np.eye(3), k=3, temperature=1e-4).predictions.tolist() == [4, 9, 9]
    assert knn(train_XD, labels_I, np.zeros((1, 3)), k=3).predictions.tolist() == [9]  # at cosine 0 from all
    for k, expected in ((1, 2.0), (3, 2.0)):  # far ones weigh nothing at this temperature
        found = knn(train_XD, labels_I / 2, np.eye(3)[:1], k=k, temperature=1e-4, regression=True)
        assert found.predictions.tolist() == [expected]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_XD": np.zeros((2, 3))}, r"test features of shape \(2, 3\)"),
        ({"test_XD": np.zeros((0, 16))}, "at least one item"),
        ({"train_XD": np.full((12, 16), np.nan)}, "item 0 are NaN or infinite"),
    ],
)
def test_knn_refuses(change: dict, message: str) -> None:
    train_XD, labels_I = clouds(12, 4)
    with pytest.raises(SuiteError, match=message):
        knn(**{"train_XD": train_XD, "labels_I": labels_I, "test_XD": train_XD, **change})


def test_majority() -> None:
    assert majority(np.array([7, 3, 3, 7, 5]), 3, regression=False).tolist() == [3, 3, 3]  # of equals, the smallest
    predictions = majority(np.array([0.1, 0.2, 0.6], dtype=np.float32), 2, regression=True)
    assert predictions == pytest.approx([0.3, 0.3])
    for name, labels in (("spearman", np.array([1.0, 2.0])), ("mcc", np.array([0, 1]))):
        with pytest.raises(Undefined, match="all predictions"):
            METRICS[name].compute(labels, majority(labels, 2, name == "spearman"))
    with pytest.raises(SuiteError, match="empty"):
        majority(np.array([]), 2, regression=False)


def planted(items: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Sequences of 40 with a motif of the class at a random place."""
    rng = np.random.default_rng(seed)
    labels_I = rng.integers(3, size=items)
    texts = []
    for label in labels_I:
        symbols = rng.choice(list("ACGT"), 40)
        place = rng.integers(35)
        symbols[place : place + 5] = list(("GATTA", "CCGCC", "TATGA")[label])
        texts.append("".join(symbols))
    return texts, labels_I


def test_kmer_finds_a_motif() -> None:
    train, dev, test = planted(400, 0), planted(80, 1), planted(200, 2)
    found = kmer(*train, *dev, test[0], regression=False)
    assert METRICS["accuracy"].compute(test[1], found.test_predictions) > 0.8
    by_value = found.chosen["per_value"]
    assert list(by_value) == ["0.1", "1", "10", "100"]
    assert by_value[f"{found.chosen['value']:g}"] == max(by_value.values())
    again = kmer(*train, *dev, test[0], regression=False)
    np.testing.assert_array_equal(found.test_predictions, again.test_predictions)


def test_the_test_set_changes_nothing_that_is_fitted() -> None:
    train, dev, test = planted(100, 0), planted(40, 1), planted(30, 2)
    alone = kmer(*train, *dev, test[0][:1], regression=False)
    beside = kmer(*train, *dev, [test[0][0], "NNNNNNNN", *test[0]], regression=False)
    assert alone.chosen == beside.chosen and alone.test_predictions[0] == beside.test_predictions[0]
    (train_XD, labels_I), (dev_XD, dev_I), (test_XD, _) = clouds(80, 0), clouds(40, 1), clouds(30, 2)
    probe = linear_probe(train_XD, labels_I * 1.0, dev_XD, dev_I * 1.0, test_XD[:1], regression=True)
    probe_beside = linear_probe(
        train_XD, labels_I * 1.0, dev_XD, dev_I * 1.0, test_XD * np.arange(1, 31)[:, None], True
    )
    assert probe.test_predictions[0] == pytest.approx(probe_beside.test_predictions[0], abs=1e-12)
    shifted = kmer(*train, dev[0], (dev[1] + 1) % 3, test[0], regression=False)
    assert shifted.chosen["per_value"] != beside.chosen["per_value"]  # dev's labels do choose


def test_positions_recover_additive_effects() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(12, 4))

    def mutants(items: int) -> tuple[list[str], np.ndarray]:
        symbols = rng.integers(4, size=(items, 12))
        return ["".join("ACDE"[i] for i in row) for row in symbols], effects[np.arange(12), symbols].sum(1)

    train, dev, test = mutants(300), mutants(60), mutants(100)
    found = kmer(*train, *dev, test[0], regression=True)
    assert METRICS["spearman"].compute(test[1], found.test_predictions) > 0.99
    assert found.chosen["name"] == "alpha"
    # The closed form with an intercept, at the strength that was chosen.
    one_hot = [
        np.array([[symbol == letter for symbol in text for letter in "ACDE"] for text in part[0]], dtype=float)
        for part in (train, test)
    ]
    centred, mean = one_hot[0] - one_hot[0].mean(0), train[1].mean()
    inverse = np.linalg.inv(centred.T @ centred + found.chosen["value"] * np.eye(48))
    expected = (one_hot[1] - one_hot[0].mean(0)) @ inverse @ centred.T @ (train[1] - mean) + mean
    np.testing.assert_allclose(found.test_predictions, expected, atol=1e-4)
    longer = kmer(*train, *dev, [text + "AAA" for text in test[0]], regression=True)  # positions unseen in training
    np.testing.assert_array_equal(longer.test_predictions, found.test_predictions)
    classes = [(part[0], (part[1] > 0).astype(int)) for part in (train, dev, test)]
    by_place = kmer(*classes[0], *classes[1], test[0], regression=False, features="positions")
    by_ngram = kmer(*classes[0], *classes[1], test[0], regression=False)
    accuracies = [METRICS["accuracy"].compute(classes[2][1], each.test_predictions) for each in (by_place, by_ngram)]
    assert accuracies[0] > 0.9 > accuracies[1]


def test_linear_probe_standardises_and_chooses_on_dev() -> None:
    (train_XD, labels_I), (dev_XD, dev_I), (test_XD, test_I) = clouds(300, 0), clouds(100, 1), clouds(200, 2)
    found = linear_probe(train_XD, labels_I, dev_XD, dev_I, test_XD, regression=False)
    assert METRICS["accuracy"].compute(test_I, found.test_predictions) > 0.45
    assert set(found.test_predictions) <= set(labels_I)
    scale, offset = np.logspace(-3, 3, 16), np.linspace(-5, 5, 16)  # units do not matter
    other = linear_probe(
        *(train_XD * scale + offset, labels_I, dev_XD * scale + offset, dev_I, test_XD * scale + offset), False
    )
    np.testing.assert_array_equal(found.test_predictions, other.test_predictions)
    padded = [np.pad(x_XD, ((0, 0), (0, 2)), constant_values=3.0) for x_XD in (train_XD, dev_XD, test_XD)]
    constant = linear_probe(padded[0], labels_I, padded[1], dev_I, padded[2], regression=False)
    np.testing.assert_array_equal(found.test_predictions, constant.test_predictions)


def test_ties_on_dev_go_to_the_strongest_penalty() -> None:
    x_XD = np.array([[-1.0], [1.0]] * 10)
    labels_I = np.array([0, 1] * 10)
    assert linear_probe(x_XD, labels_I, x_XD, labels_I, x_XD, regression=False).chosen["value"] == 1e-4
    ridge = linear_probe(x_XD, labels_I * 1.0, x_XD, labels_I * 1.0, x_XD, regression=True)
    assert ridge.chosen["value"] == 1e5


def test_linear_models_refuse() -> None:
    texts, labels_I = planted(20, 0)
    with pytest.raises(SuiteError, match="all of one class"):
        kmer(texts, np.zeros(20, dtype=int), texts, labels_I, texts, regression=False)
    with pytest.raises(SuiteError, match="at least one text"):
        kmer(texts, labels_I, texts, labels_I, [], regression=False)
    with pytest.raises(SuiteError, match="no training text has 3 symbols"):
        kmer(["AC"] * 20, labels_I, texts, labels_I, texts, regression=False)
    with pytest.raises(SuiteError, match="all training texts are empty"):
        kmer(["", ""], np.arange(2.0), texts, labels_I, texts, regression=True)
    with pytest.raises(Undefined, match="undefined on dev for every strength"):
        kmer(texts, labels_I * 1.0, texts, np.ones(20), texts, regression=True)
    with pytest.raises(SuiteError, match=r"dev features of shape \(20, 3\)"):
        linear_probe(np.ones((20, 2)), labels_I, np.ones((20, 3)), labels_I, np.ones((20, 2)), regression=False)


def test_a_pair_is_read_as_two_bags_their_distance_and_their_product() -> None:
    """Whether both texts hold the same letters; and the features themselves, counted by hand."""
    rng = np.random.default_rng(0)

    def pairs(items: int) -> tuple[list[str], np.ndarray]:
        same = rng.integers(2, size=items)
        made = []
        for kind in same:
            a, b = rng.permutation(26)[:6], rng.permutation(26)[:6]
            made.append("|".join("".join(chr(97 + i) for i in x) for x in (a, rng.permutation(a) if kind else b)))
        return made, same

    train, dev, test = pairs(400), pairs(80), pairs(200)
    found = kmer(*train, *dev, test[0], regression=False, sizes=(1, 1), sep="|")
    assert METRICS["accuracy"].compute(test[1], found.test_predictions) > 0.95
    (features,) = (x.toarray() for x in baselines._ngrams([["ab|bb", "b|a"]], (1, 1), "|"))
    idf = np.log(5 / (1 + np.array([2, 3]))) + 1  # four texts, of which two hold a and three b
    counts = np.array([[[1, 1], [0, 2]], [[0, 1], [1, 0]]]) * idf  # pair, side, letter
    a, b = (counts / np.linalg.norm(counts, axis=-1, keepdims=True)).transpose(1, 0, 2)
    np.testing.assert_allclose(features, np.hstack([a, b, abs(a - b), a * b]), atol=1e-12)
