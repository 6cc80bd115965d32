from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ssl_suite.models.encoder import EncoderSpec
from ssl_suite.objectives.t5 import SpanCorruption
from tests.objectives.made_contents import Made, inside, vocabulary

SIZE = 30
SPEC = EncoderSpec(1, 32, 2, 48, SIZE + 100, windows=(None,), thetas=(100.0,))


def drawn(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(5, SIZE, n)


def restored(source: np.ndarray, target: np.ndarray) -> list[int]:
    """The original, by a loop over both: a sentinel in the source stands for what follows it in the target."""
    spans: dict[int, list[int]] = {}
    for token in target.tolist():
        if token >= SIZE:
            assert token == SIZE + len(spans)  # they come in order, each once
            spans[token] = []
        else:
            spans[SIZE + len(spans) - 1].append(token)
    assert not spans[SIZE + len(spans) - 1]  # the last one ends the target
    whole: list[int] = []
    for token in source.tolist():
        whole += spans[token] if token >= SIZE else [token]
    return whole


def reference_counts(n: int, density: float, mean: float) -> tuple[int, int]:
    """The arithmetic of ``random_spans_noise_mask`` (google/seqio, t5 preprocessors), for at least two ids."""
    noise = min(max(int(np.round(np.float64(n) * density)), 1), n - 1)
    return noise, max(int(np.round(noise / mean)), 1)


@pytest.mark.parametrize(("noise", "mean", "reach"), [(0.15, 3.0, 1), (0.5, 1.0, 1), (0.15, 10.0, 1), (0.3, 3.0, 6)])
def test_source_and_target_give_the_original_back(noise, mean, reach):
    arranger, draw = SpanCorruption(vocabulary(SIZE, reach), noise, mean), np.random.default_rng(0)
    for seed in range(1000):
        ids = drawn(1 + seed % 150, seed)
        made = arranger(Made([ids]), 0, draw)
        source, target = inside(made.source), inside(made.target)
        assert restored(source, target) == ids.tolist()
        assert len(source) <= len(ids) and len(made.target) == arranger.target_length(len(ids))
        if len(ids) > 1:
            assert 0 < (target < SIZE).sum() < len(ids)


def test_counts_are_t5s():
    arranger = SpanCorruption(vocabulary())
    for n in range(2, 600):
        assert arranger.counts(n) == reference_counts(n, 0.15, 3.0)
    assert arranger.counts(512) == (77, 26)  # the paper's inputs


def test_share_dropped_is_as_asked():
    """Of 10^5 ids in windows of 510: 15 %, but for rounding to a whole id of each window."""
    arranger, draw = SpanCorruption(vocabulary()), np.random.default_rng(0)
    dropped = sum((arranger.corrupt(drawn(510, seed), draw)[1] < SIZE).sum() for seed in range(200))
    assert dropped == 200 * round(0.15 * 510)


def test_every_id_is_dropped_equally_often_but_for_the_ends():
    """No id is safe and none is doomed, as T5's first and last are."""
    arranger, draw, draws = SpanCorruption(vocabulary()), np.random.default_rng(0), 6000
    ids, seen = np.arange(5, 25), np.zeros(30)
    for _ in range(draws):
        target = arranger.corrupt(ids, draw)[1]
        seen[target[target < SIZE]] += 1
    share = seen[5:25] / draws
    deviation = (0.15 * 0.85 / draws) ** 0.5
    assert abs(share.mean() - 0.15) < 1e-12
    assert (abs(share[3:-3] - share[3:-3].mean()) < 5 * deviation).all()
    assert (share > 0.04).all() and (share < 0.2).all()


def test_spans_are_a_random_segmentation():
    """Each cut of 6 dropped ids into 2 spans equally often, as T5 shuffles where segments begin."""
    arranger, draw = SpanCorruption(vocabulary()), np.random.default_rng(0)
    assert arranger.counts(40) == (6, 2)
    first = np.zeros(6)
    for _ in range(3000):
        target = arranger.corrupt(drawn(40, 0), draw)[1]
        first[np.flatnonzero(target == SIZE + 1)[0] - 1] += 1
    assert first[0] == 0 and stats.chisquare(first[1:]).pvalue > 1e-4


def test_never_more_than_the_sentinels_allow():
    arranger = SpanCorruption(vocabulary(), 0.5, 1.0)
    source, target = arranger.corrupt(drawn(2000, 0), np.random.default_rng(0))
    assert arranger.counts(2000) == (1000, 99)
    assert target.max() == SIZE + 99 and source.max() == SIZE + 98
    assert restored(source, target) == drawn(2000, 0).tolist()


def test_overlapping_k_mers_lengthen_every_span():
    arranger, draw = SpanCorruption(vocabulary(SIZE, reach=6)), np.random.default_rng(0)
    for seed in range(200):
        target = arranger.corrupt(drawn(200, seed), draw)[1]
        lengths = np.diff(np.flatnonzero(target >= SIZE)) - 1
        assert lengths.min() >= 6 and lengths.sum() == 30
    assert arranger.counts(512) == (77, 10)  # 7.7 ids a span, of which 2.7 are not spelled out


@pytest.mark.parametrize(("noise", "mean"), [(0.15, 3.0), (0.9, 1.0), (0.01, 20.0)])
def test_target_length_never_falls(noise, mean):
    for reach in (1, 6):
        lengths = [SpanCorruption(vocabulary(SIZE, reach), noise, mean).target_length(n) for n in range(1, 1200)]
        assert lengths == sorted(lengths)


def test_the_generator_decides_alone():
    arranger, made = SpanCorruption(vocabulary()), Made([drawn(90, 0)])
    first, again, other = (arranger(made, 0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.source, again.source) and np.array_equal(first.target, again.target)
    assert not np.array_equal(first.target, other.target)
