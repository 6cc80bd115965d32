"""Intervals and tests against SciPy, and bit for bit against loops that copy the resampled items."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.metrics import METRICS, Undefined
from ssl_suite.evaluation.predictions import objects
from ssl_suite.evaluation.significance import (
    Draws,
    bootstrap,
    draw,
    holm,
    interval,
    mcnemar,
    paired,
    paired_bootstrap,
    wilson,
)

EXACT = ("accuracy", "mcc", "macro_f1", "uar", "f1", "f1_accuracy", "spearman")  # ratios of whole numbers


def example(name: str, items: int = 60, seeds: int = 3, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions that agree by half."""
    rng = np.random.default_rng(items)
    takes = METRICS[name].takes
    if takes == "texts":
        signs = list("ABab") if name.startswith("slot_") else list("ab")  # capital letters are marks of slots
        texts_SI = np.array([[" ".join(rng.choice(signs, 3)) for _ in range(items)] for _ in range(seeds + 1)])
        return texts_SI[0], texts_SI[1:]
    if takes == "values":
        labels_I = np.round(rng.normal(size=items), 1)
        return labels_I, np.round(labels_I + noise * rng.normal(size=(seeds, items)), 1).astype(np.float32)
    if takes in ("tags", "slots", "activity", "rankings"):  # lists of 1 to 4 numbers an item
        sizes = rng.integers(1, 5, size=items) if takes != "slots" else np.full(items, 3)
        high = 2 if takes == "rankings" else 4
        labels = objects([np.append(1, rng.integers(high, size=size)) for size in sizes])
        draws = [objects([rng.integers(high, size=len(label)) for label in labels]) for _ in range(seeds)]
        if takes == "rankings":
            draws = [objects([rng.normal(size=len(label)) for label in labels]) for _ in range(seeds)]
        return labels, np.stack(draws)
    if takes == "answers":
        words = [" ".join(rng.choice(list("abc"), 2)) for _ in range(items * (seeds + 1))]
        given = np.stack([objects(words[items * (s + 1) : items * (s + 2)]) for s in range(seeds)])
        return objects([[word, "a b"] for word in words[:items]]), given
    kinds = 2 if takes == "scores" or name.startswith("f1") else 3
    labels_I = rng.integers(kinds, size=items)
    if takes == "scores":
        return labels_I, labels_I + rng.normal(size=(seeds, items))
    return labels_I, np.where(rng.random((seeds, items)) < 0.5, labels_I, rng.integers(kinds, size=(seeds, items)))


def naive(name: str, labels_I: np.ndarray, predictions_SI: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, int]:
    """(draws, S) scores of copied items, and how many resamples had to be drawn again."""
    rng, rows, again = np.random.default_rng(seed), [], 0
    while len(rows) < draws:
        drawn_I = rng.integers(len(labels_I), size=len(labels_I))
        try:
            rows.append([METRICS[name].compute(labels_I[drawn_I], x_I[drawn_I]) for x_I in predictions_SI])
        except Undefined:
            again += 1
    return np.array(rows), again


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if not metric.within])
def test_draws_are_those_of_a_naive_loop(name: str) -> None:
    labels_I, predictions_SI = example(name)
    expected_DS, again = naive(name, labels_I, predictions_SI, 40, seed=5)
    found_DS = draw(name, labels_I, predictions_SI, 40, seed=5).values_DS
    assert not again
    if name in EXACT:
        np.testing.assert_array_equal(found_DS, expected_DS)
    else:
        np.testing.assert_allclose(found_DS, expected_DS, rtol=0, atol=1e-13)
    low, high = bootstrap(name, labels_I, predictions_SI, draws=40, seed=5)
    expected = np.percentile(expected_DS.mean(1), [2.5, 97.5])
    np.testing.assert_allclose([low, high], expected, rtol=0, atol=0 if name in EXACT else 1e-13)


@pytest.mark.parametrize("name", ["mcc", "spearman", "pearson", "uar", "auc"])
def test_an_undefined_draw_is_drawn_again_and_never_zero(name: str) -> None:
    labels_I, predictions_SI = example(name, items=60, seeds=2)
    alike, other = (np.flatnonzero((labels_I > labels_I.mean()) == above) for above in (True, False))
    items_I = np.array([*alike[:6], *other[:2]])  # six items alike and two others: one draw in ten misses those
    labels_I, predictions_SI = labels_I[items_I], predictions_SI[:, items_I]
    if METRICS[name].takes == "values":
        labels_I = np.repeat([3.0, 2.0], [6, 2])
    low, high = bootstrap(name, labels_I, predictions_SI, draws=50, seed=1)
    expected_DS, again = naive(name, labels_I, predictions_SI, 50, seed=1)
    np.testing.assert_allclose([low, high], np.percentile(expected_DS.mean(1), [2.5, 97.5]), atol=1e-13)
    assert again > 3


def test_mostly_undefined_is_undefined() -> None:
    with pytest.raises(Undefined, match="too few"):
        bootstrap("mcc", np.array([0, 1]), np.array([[0, 1]]), seed=0, draws=400)
    with pytest.raises(Undefined, match=r"predictions 2 of 2\): all predictions are 3.0"):
        bootstrap("spearman", np.arange(4.0), np.array([np.arange(4.0), np.full(4, 3.0)]))


@pytest.mark.parametrize("name", ["spearman", "mcc", "rmse"])
def test_interval_as_scipy_has_it(name: str) -> None:
    labels_I, predictions_SI = example(name, items=150, seeds=2)

    def statistic(places_I: np.ndarray) -> float:
        drawn_I = places_I.astype(int)
        return float(METRICS[name].per_seed(labels_I[drawn_I], predictions_SI[:, drawn_I]).mean())

    draws = 2000
    reference = scipy.stats.bootstrap(
        (np.arange(150),), statistic, n_resamples=draws, vectorized=False, method="percentile", rng=1
    )
    found = bootstrap(name, labels_I, predictions_SI, draws=draws)
    # A 2.5 % quantile of D normal draws has deviation sqrt(.025 * .975 / D) / .0584 = 2.67 / sqrt(D) of theirs; the
    # two are independent, hence sqrt(2), and four times that will not be passed by chance.
    tolerance = 4 * np.sqrt(2) * 2.67 / np.sqrt(draws) * reference.standard_error
    np.testing.assert_allclose(found, reference.confidence_interval, rtol=0, atol=tolerance)
    assert tolerance < 0.35 * reference.standard_error


def test_interval_of_a_row() -> None:
    labels_I, predictions_SI = example("accuracy")
    right = (predictions_SI == labels_I).sum() / 3
    assert interval("accuracy", labels_I, predictions_SI) == pytest.approx(wilson(right, 60), abs=1e-12)
    assert interval("mcc", labels_I, predictions_SI) == bootstrap("mcc", labels_I, predictions_SI, draws=1000, seed=0)
    assert interval("mcc", labels_I, predictions_SI) == interval("mcc", labels_I, predictions_SI.astype(np.uint8))
    one = interval("mcc", labels_I, predictions_SI[:1])
    assert one != interval("mcc", labels_I, predictions_SI)


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 160), (156, 160), (160, 160), (1197, 1497), (7, 12)])
def test_wilson_as_scipy_has_it(correct: int, n: int) -> None:
    expected = scipy.stats.binomtest(correct, n).proportion_ci(method="wilson")
    low, high = wilson(correct, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= correct / n <= high <= 1


def test_wilson_between_whole_numbers_and_out_of_range() -> None:
    below, between, above = wilson(12, 20), wilson(12 + 1 / 3, 20), wilson(13, 20)
    assert below.low < between.low < above.low and below.high < between.high < above.high
    with pytest.raises(Undefined):
        wilson(0, 0)
    with pytest.raises(SuiteError, match="cannot be right"):
        wilson(21, 20)


def discordant(b: int, c: int, right: int = 3, wrong: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a_I = np.repeat([1, 0, 1, 0], [b, c, right, wrong])
    b_I = np.repeat([0, 1, 1, 0], [b, c, right, wrong])
    return np.ones(len(a_I), dtype=int), a_I, b_I


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 1), (8, 2), (0, 12), (30, 11)])
def test_mcnemar_is_a_sum_of_binomials(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    found = mcnemar(*discordant(b, c))
    assert found[:2] == (b, c) and found.p == pytest.approx(min(1, 2 * tail / 2 ** (b + c)), rel=1e-12)


def test_mcnemar_at_its_ends() -> None:
    assert mcnemar(*discordant(0, 0)).p == 1  # the two agree everywhere: no evidence
    assert 0 < mcnemar(*discordant(2000, 0)).p < 1e-300
    with pytest.raises(Undefined):
        mcnemar(np.array([]), np.array([]), np.array([]))


@pytest.mark.parametrize(("name", "seeds"), [("mcc", (3, 3)), ("spearman", (3, 2)), ("accuracy", (1, 4))])
def test_paired_bootstrap_is_a_naive_loop(name: str, seeds: tuple[int, int]) -> None:
    labels_I, all_SI = example(name, seeds=sum(seeds))
    a_SI, b_SI = all_SI[: seeds[0]], all_SI[seeds[0] :]
    draws = 60
    values_DS, again = naive(name, labels_I, all_SI, draws, seed=7)
    rng = np.random.default_rng([7, 1])
    chosen_a = rng.integers(seeds[0], size=(draws, seeds[0]))
    chosen_b = rng.integers(seeds[1], size=(draws, seeds[1]))
    differences = []
    for values_S, of_a, of_b in zip(values_DS, chosen_a, chosen_b, strict=True):
        differences.append(values_S[: seeds[0]][of_a].mean() - values_S[seeds[0] :][of_b].mean())
    found = paired_bootstrap(name, labels_I, a_SI, b_SI, draws=draws, seed=7)
    assert not again
    assert (found.low, found.high) == tuple(np.percentile(differences, [2.5, 97.5]))
    rarer = min(sum(d <= 1e-12 for d in differences), sum(d >= -1e-12 for d in differences))
    assert found.p == min(1, 2 * (rarer + 1) / (draws + 1))
    mean = np.mean([METRICS[name].compute(labels_I, x) for x in a_SI])
    assert found.difference == pytest.approx(mean - np.mean([METRICS[name].compute(labels_I, x) for x in b_SI]))
    # The same from draws that are kept for many pairs.
    kept = [draw(name, labels_I, x_SI, draws, seed=7) for x_SI in (a_SI, b_SI)]
    assert paired(*kept, seed=7) == found


def test_paired_bootstrap_at_its_ends() -> None:
    labels_I = np.arange(40.0)
    good_SI = labels_I + np.random.default_rng(0).normal(size=(3, 40))
    apart = paired_bootstrap("spearman", labels_I, good_SI, -good_SI, draws=99)
    assert apart.p == 2 / 100 and apart.low > 1.5
    back = paired_bootstrap("spearman", labels_I, -good_SI, good_SI, draws=99)
    assert back.p == 2 / 100 and back.high < -1.5 and back.difference == -apart.difference
    a, b = np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.1, 0.2])  # equal means, added in another order
    draws = [Draws("mse", x_S, np.tile(x_S, (400, 1))) for x_S in (a, b)]
    rng = np.random.default_rng([0, 1])
    chosen = [np.round(10 * x_S[rng.integers(3, size=(400, 3))]).astype(int).sum(1) for x_S in (a, b)]
    rarer = min((chosen[0] <= chosen[1]).sum(), (chosen[0] >= chosen[1]).sum())
    assert paired(*draws, draws=400).p == min(1, 2 * (rarer + 1) / 401)
    same = paired_bootstrap("spearman", labels_I, good_SI[:1], good_SI[:1], draws=99)
    assert same == (0, 0, 0, 1)
    with pytest.raises(SuiteError, match="no pair"):
        paired(draw("mse", labels_I, good_SI, 5), draw("mae", labels_I, good_SI, 5))


def test_seeds_count_in_a_paired_comparison() -> None:
    """Ten thousand items fix each seed's score; with seeds that overlap, the models still do not differ."""
    rng = np.random.default_rng(0)
    labels_I = np.ones(10_000, dtype=int)
    a_SI = np.stack([rng.random(10_000) < share for share in (0.70, 0.80, 0.90)]).astype(int)
    b_SI = np.stack([rng.random(10_000) < share for share in (0.65, 0.79, 0.88)]).astype(int)
    found = paired_bootstrap("accuracy", labels_I, a_SI, b_SI, draws=300)
    assert found.p > 0.3 and found.low < -0.05 < 0.05 < found.high
    alone = paired_bootstrap("accuracy", labels_I, a_SI[:1], b_SI[:1], draws=300)  # one seed: items are all there is
    assert alone.p == 2 / 301


def test_p_is_uniform_where_nothing_differs() -> None:
    """Of two models that are equally good, one pair in twenty is below .05: 120 pairs, a binomial bound of 1e-4."""
    rng, small = np.random.default_rng(3), 0
    for _ in range(120):
        labels_I = rng.normal(size=80)
        a_SI, b_SI = (labels_I + rng.normal(size=(1, 80)) for _ in range(2))
        small += paired_bootstrap("spearman", labels_I, a_SI, b_SI, draws=150).p < 0.05
    assert 1 <= small <= scipy.stats.binom.ppf(0.9999, 120, 0.06)


def test_holm_is_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 8, 30):
        p_values = np.round(rng.random(size) ** 3, 2).tolist()
        adjusted, running = [0.0] * size, 0.0
        for rank, place in enumerate(sorted(range(size), key=lambda i: p_values[i])):
            running = max(running, min(1.0, (size - rank) * p_values[place]))
            adjusted[place] = running
        assert holm(p_values) == adjusted
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * .01, 1 * .04 lifted to 2 * .03
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(SuiteError, match="between 0 and 1"):
            holm([0.5, bad])


def test_spearman_within_clusters_is_the_mean_of_theirs() -> None:
    rng = np.random.default_rng(3)
    clusters_I = np.repeat([7, 3, 5, 9], [30, 20, 25, 1])  # a cluster of one item has no correlation
    labels_I = rng.normal(size=76) + clusters_I
    predictions_SI = labels_I + rng.normal(size=(2, 76)) * np.array([[0.5], [4.0]])
    own_SC = np.array(
        [
            [
                scipy.stats.spearmanr(labels_I[some], x_I[some]).statistic
                for some in (clusters_I == c for c in (3, 5, 7))
            ]
            for x_I in predictions_SI
        ]
    )
    metric = METRICS["spearman_within"]
    np.testing.assert_allclose(metric.of(clusters_I).per_seed(labels_I, predictions_SI), own_SC.mean(1))
    found = draw("spearman_within", labels_I, predictions_SI, 50, clusters_I=clusters_I)
    drawn = np.random.default_rng(0)
    for values_S in found.values_DS:
        chosen = [c for c in drawn.integers(4, size=4) if c < 3]  # clusters by number: 3, 5, 7, 9
        np.testing.assert_allclose(values_S, own_SC[:, chosen].mean(1))
    with pytest.raises(Undefined, match="the items have no clusters"):
        metric.compute(labels_I, predictions_SI[0])


def test_trials_are_resampled_by_the_speakers_of_both_sides() -> None:
    """Against a loop that lists the trials of the drawn speakers, copy by copy; and wider than by one side alone."""
    draw_of, speakers = np.random.default_rng(3), 5
    pairs = np.array([(a, b) for a in range(speakers) for b in range(speakers) for _ in range(4)])
    labels_I = (pairs[:, 0] == pairs[:, 1]).astype(int)
    scores_SI = (labels_I + draw_of.normal(size=speakers)[pairs].sum(1) + draw_of.normal(size=len(pairs)))[None]
    found_DS = draw("eer", labels_I, scores_SI, 30, seed=5, clusters_I=10 * pairs).values_DS
    rng = np.random.default_rng(5)
    for value in found_DS[:, 0]:
        drawn = rng.integers(speakers, size=speakers)
        rows = [i for a in drawn for i in np.flatnonzero((pairs == a).all(1))]
        rows += [
            i for a in drawn for b in drawn if a != b for i in np.flatnonzero((pairs[:, 0] == a) & (pairs[:, 1] == b))
        ]
        if len(set(drawn)) == 1:
            assert math.isnan(value)
            continue
        assert value == pytest.approx(METRICS["eer"].compute(labels_I[rows], scores_SI[0][rows]), abs=1e-9)
    both = bootstrap("eer", labels_I, scores_SI, clusters_I=pairs)
    alone = bootstrap("eer", labels_I, scores_SI)
    assert both.high - both.low > alone.high - alone.low
    same_I2 = np.stack([np.arange(60)] * 2, 1)  # of items that are their own cluster nothing changes
    labels_I, scores_SI = example("auc")
    assert bootstrap("auc", labels_I, scores_SI, 50, clusters_I=same_I2) == bootstrap("auc", labels_I, scores_SI, 50)
