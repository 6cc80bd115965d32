from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from ssl_suite.core.errors import SuiteError
from ssl_suite.models.encoder import EncoderSpec
from ssl_suite.objectives.bart import Bart, Denoising
from tests.objectives.made_contents import Made, inside, modality, vocabulary

MASK = 4
SPEC = EncoderSpec(1, 32, 2, 48, 30, windows=(None,), thetas=(100.0,))
NONE = np.zeros(0, np.int64)
RECIPE = {"infill": 0.3, "permute": 1.0}
EVERYTHING = {"infill": 0.3, "permute": 0.7, "mask_rate": 0.1, "delete": 0.1, "rotate": 0.5}


def denoising(size: int = 30, reach: int = 1, **settings) -> Denoising:
    return Denoising(vocabulary(size, reach), **settings)


def distinct(n: int) -> np.ndarray:
    """Ids that name their places, in a vocabulary of ``n + 6``."""
    return np.arange(6, 6 + n)


def is_subsequence(short: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in short)


@pytest.mark.parametrize(
    "settings", [RECIPE, EVERYTHING, {"infill": 1.0}, {"delete": 1.0}, {"infill": 0.05, "mean_length": 0.1}]
)
def test_the_target_is_the_original_and_the_source_invents_nothing(settings):
    draw = np.random.default_rng(0)
    for n in range(1, 1500):
        n = 1 + n % 120
        ids, arranger = distinct(n), denoising(n + 6, **settings)
        made = arranger(Made([ids], [5, 11] if n > 12 else []), 0, draw)
        source = inside(made.source)
        assert np.array_equal(inside(made.target), ids) and len(made.target) == arranger.target_length(n)
        assert len(source) <= n
        survivors = source[source != MASK]
        assert len(set(survivors.tolist())) == len(survivors) and np.isin(survivors, ids).all()


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_infilling_keeps_the_order_and_hides_exactly_its_share(rate):
    """Survivors in order; between two masks stands a stretch of the original without a hole."""
    draw = np.random.default_rng(0)
    for seed in range(1000):
        n = 1 + seed % 120
        source = denoising(n + 6, infill=rate).infilled(distinct(n), draw)
        kept = source[source != MASK]
        assert (np.diff(kept) > 0).all()
        assert n - len(kept) in (int(n * rate), int(n * rate) + 1)
        assert (source == MASK).sum() <= n - len(kept)
        for one, following in itertools.pairwise(source.tolist()):
            assert MASK in (one, following) or following == one + 1


@pytest.mark.parametrize(("name", "share"), [("infill", 0.3), ("mask_rate", 0.15), ("delete", 0.2)])
def test_shares_are_as_asked(name, share):
    """Of 10^5 ids in sequences of 37, whose count is rounded at random: within 5 deviations."""
    arranger, draw, sequences, kept = denoising(50, **{name: share}), np.random.default_rng(0), 2800, 0
    for _ in range(sequences):
        kept += (arranger.corrupt(distinct(37), NONE, draw) != MASK).sum()
    part = 37 * share % 1
    assert abs(37 * sequences - kept - 37 * share * sequences) <= 5 * (sequences * part * (1 - part)) ** 0.5


def test_lengths_of_spans_are_poisson():
    arranger, draw = denoising(infill=0.3), np.random.default_rng(0)
    lengths = np.concatenate([arranger.span_lengths(3000, draw) for _ in range(20)])  # 20 of them cut short
    expected = stats.poisson.pmf(np.arange(12), 3.0) * len(lengths)
    expected[-1] += len(lengths) - expected.sum()
    assert stats.chisquare(np.bincount(lengths.clip(max=11), minlength=12), expected).pvalue > 1e-4


def test_short_sequences_get_no_more_masks_than_they_lose_ids():
    arranger, draw = denoising(infill=0.3), np.random.default_rng(0)
    for hidden in (1, 2, 3, 10):
        for _ in range(1000):
            lengths = arranger.span_lengths(hidden, draw)
            assert lengths.sum() == hidden and len(lengths) <= hidden and lengths.min() >= 0


def test_spans_stand_anywhere():
    """Those who are near an end are hidden less, for no span overhangs it; both ends and both halves are alike."""
    arranger, draw, seen, draws = denoising(46, infill=0.3), np.random.default_rng(0), np.zeros(40), 4000
    for _ in range(draws):
        seen += ~np.isin(distinct(40), arranger.infilled(distinct(40), draw))
    share = seen / draws
    assert abs(share.mean() - 0.3) < 1e-12
    assert (abs(share - share[::-1]) < 5 * (2 * 0.3 * 0.7 / draws) ** 0.5).all()
    assert (abs(share[6:-6] - share[6:-6].mean()) < 5 * (0.3 * 0.7 / draws) ** 0.5).all()
    assert share.min() > 0.1


def test_single_ids_are_masked_or_deleted_in_place():
    arranger, draw = denoising(mask_rate=0.3), np.random.default_rng(0)
    source = arranger.corrupt(distinct(24), NONE, draw)
    assert len(source) == 24 and np.array_equal(source[source != MASK], distinct(24)[source != MASK])
    source = denoising(delete=0.3).corrupt(distinct(24), NONE, draw)
    assert MASK not in source and is_subsequence(source.tolist(), distinct(24).tolist())


def test_symbols_that_say_nothing_are_neither_masked_nor_deleted():
    ids, draw = np.where(np.arange(90) % 3 == 0, 5, 8), np.random.default_rng(0)
    assert (denoising(mask_rate=1.0).corrupt(ids, NONE, draw) == 5).sum() == 30
    assert denoising(delete=1.0).corrupt(ids, NONE, draw).tolist() == [5] * 30


def sentences(bounds: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(range(6 + a, 6 + b)) for a, b in itertools.pairwise([0, *bounds, n])]


def test_sentences_change_places_as_a_whole_in_every_order():
    arranger, draw, bounds = denoising(permute=1.0), np.random.default_rng(0), [4, 5, 11]
    whole, orders = sentences(bounds, 20), {}
    for _ in range(6000):
        rest, order = arranger.permuted(distinct(20), np.array(bounds), draw).tolist(), []
        while rest:
            number = next(i for i, sentence in enumerate(whole) if sentence == tuple(rest[: len(sentence)]))
            order.append(number)
            rest = rest[len(whole[number]) :]
        orders[tuple(order)] = orders.get(tuple(order), 0) + 1
    assert set(orders) == set(itertools.permutations(range(4)))
    assert stats.chisquare(list(orders.values())).pvalue > 1e-4


def test_a_share_of_the_sentences_leaves_the_others_in_place():
    arranger, draw, bounds = denoising(106, permute=0.4), np.random.default_rng(0), list(range(10, 100, 10))
    for _ in range(300):
        moved = arranger.permuted(distinct(100), np.array(bounds), draw) != distinct(100)
        assert moved.reshape(10, 10).all(1).sum() == moved.reshape(10, 10).any(1).sum() <= 4


def test_without_sentences_pieces_are_drawn_or_the_order_stays():
    draw = np.random.default_rng(0)
    pieces = []
    for _ in range(300):
        moved = denoising(206, permute=1.0, piece=20).permuted(distinct(200), NONE, draw)
        assert np.array_equal(np.sort(moved), distinct(200))
        pieces.append(1 + (np.diff(moved) != 1).sum())
    assert max(pieces) <= 10 and np.mean(pieces) > 8  # pieces that come to stand in their order look like one
    assert np.array_equal(denoising(206, permute=1.0, piece=0).permuted(distinct(200), NONE, draw), distinct(200))
    assert np.array_equal(denoising(permute=1.0).permuted(distinct(20), NONE, draw), distinct(20))  # too short for two


def test_rotation_begins_anywhere_in_its_share_of_the_sequences():
    arranger, draw = denoising(rotate=0.5), np.random.default_rng(0)
    starts = np.zeros(20)
    for _ in range(20_000):
        source = arranger.corrupt(distinct(20), NONE, draw)
        assert np.array_equal(np.sort(source), distinct(20)) and set(np.diff(source)) <= {1, -19}
        starts[source[0] - 6] += 1
    expected = np.full(20, 20_000 * 0.5 / 20)
    expected[0] += 10_000
    assert stats.chisquare(starts, expected).pvalue > 1e-4


def test_overlapping_k_mers_are_hidden_k_in_a_row():
    draw = np.random.default_rng(0)
    source = denoising(306, reach=6, mask_rate=0.2).corrupt(distinct(300), NONE, draw)
    runs = [sum(1 for _ in run) for masked, run in itertools.groupby(source == MASK) if masked]
    assert all(run % 6 == 0 for run in runs[1:-1]) and abs((source == MASK).mean() - 0.2) < 0.03
    lengths = denoising(reach=6, infill=0.3).span_lengths(1000, draw)
    assert np.isin(lengths, range(1, 6)).sum() <= 1 and (lengths == 0).any()  # but for the one that is cut short


def test_the_generator_decides_alone():
    arranger, made = denoising(96, **EVERYTHING), Made([distinct(90)], [30, 60])
    first, again, other = (arranger(made, 0, np.random.default_rng(seed)).source for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_at_least_one_corruption_is_needed():
    with pytest.raises(SuiteError, match="corrupts nothing"):
        Bart(modality(), SPEC, infill=0.0, permute=0.0)
