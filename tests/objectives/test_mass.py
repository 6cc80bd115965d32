from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ssl_suite.models.encoder import EncoderSpec
from ssl_suite.objectives.mass import MaskedStretch
from tests.objectives.made_contents import Made, inside, vocabulary

MASK, SPEC = 4, EncoderSpec(1, 32, 2, 48, 30, windows=(None,), thetas=(100.0,))


def drawn(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(6, 30, n)


@pytest.mark.parametrize("span", [0.1, 0.5, 1.0])
def test_source_and_target_give_the_original_back(span):
    """With [MASK] alone the stretch shows itself in the source: put the target there."""
    arranger = MaskedStretch(vocabulary(), span, 1.0, 0.0)
    draw = np.random.default_rng(0)
    for seed in range(2000):
        ids = drawn(1 + seed % 60, seed)
        made = arranger(Made([ids]), 0, draw)
        source, target = inside(made.source).copy(), inside(made.target)
        places = np.flatnonzero(source == MASK)
        assert len(places) == len(target) and places[-1] - places[0] == len(target) - 1
        source[places] = target
        assert np.array_equal(source, ids)


def test_with_kept_and_random_ids_the_stretch_holds_every_change():
    arranger, draw = MaskedStretch(vocabulary()), np.random.default_rng(0)
    for seed in range(2000):
        ids = drawn(1 + seed % 60, seed)
        shown, stretch = arranger.corrupt(ids, draw)
        assert np.array_equal(np.delete(shown, stretch), np.delete(ids, stretch))
        state = np.random.default_rng(seed)
        again = arranger(Made([ids]), 0, np.random.default_rng(seed))
        shown, stretch = arranger.corrupt(ids, state)
        assert np.array_equal(inside(again.source), shown) and np.array_equal(inside(again.target), ids[stretch])
        assert len(again.source) == len(ids) + 2 and len(again.target) <= arranger.target_length(len(ids))


def test_shares_are_as_asked():
    """Of 10^5 ids in sequences of 37: the hidden ones, and of those [MASK], random and kept, within 5 deviations."""
    arranger, draw, sequences = MaskedStretch(vocabulary(), 0.3), np.random.default_rng(0), 2800
    hidden = masked = other = 0
    for seed in range(sequences):
        ids = drawn(37, seed)
        shown, stretch = arranger.corrupt(ids, draw)
        hidden += stretch.stop - stretch.start
        masked += (shown == MASK).sum()
        other += ((shown != MASK) & (shown != ids)).sum()
    assert 37 * sequences > 100_000
    assert abs(hidden - 11.1 * sequences) < 5 * (sequences * 0.1 * 0.9) ** 0.5  # 11 or 12 ids of each sequence
    for seen, share in ((masked, 0.8), (other, 0.1 * 23 / 24)):  # one random symbol of 24 is the original itself
        assert abs(seen / hidden - share) < 5 * (share * (1 - share) / hidden) ** 0.5


def test_the_stretch_may_begin_anywhere():
    arranger, draw = MaskedStretch(vocabulary()), np.random.default_rng(0)
    starts = [arranger.corrupt(drawn(20, 0), draw)[1].start for _ in range(11_000)]
    assert stats.chisquare(np.bincount(starts, minlength=11)).pvalue > 1e-4


def test_symbols_that_say_nothing_show_themselves():
    arranger, draw = MaskedStretch(vocabulary(), 1.0, 0.5, 0.5), np.random.default_rng(0)
    ids = np.where(np.arange(400) % 3 == 0, 5, drawn(400, 0))
    shown, _ = arranger.corrupt(ids, draw)
    assert np.array_equal(shown == 5, ids == 5)
    assert (shown[ids != 5] >= 4).all()


@pytest.mark.parametrize("span", [0.01, 0.1, 0.3, 0.5, 0.999, 1.0])
def test_target_length_is_the_longest_there_is(span):
    arranger, draw = MaskedStretch(vocabulary(), span), np.random.default_rng(0)
    lengths = [arranger.target_length(n) for n in range(1, 80)]
    assert lengths == sorted(lengths)
    for n in range(1, 80):
        seen = {len(arranger(Made([drawn(n, n)]), 0, draw).target) for _ in range(40)}
        assert max(seen) <= lengths[n - 1] <= max(seen) + 1
