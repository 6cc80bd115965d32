"""Count baselines against naive loops, scipy and brute-force enumeration."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import entropy

from ssl_suite.models import markov


def random_ids(seed: int, shape: tuple[int, ...] | int, alphabet: int, unknown: float = 0.0) -> np.ndarray:
    """Symbols from a chain that repeats itself, so that contexts carry information."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, alphabet, shape).astype(np.int32)
    copied = rng.random(shape) < 0.5
    ids[..., 2:][copied[..., 2:]] = ids[..., :-2][copied[..., 2:]]
    ids[rng.random(shape) < unknown] = -1
    return ids


def probability(chain: markov.Chain, word: list[int]) -> float:
    """p(word) under the chain, the first symbols through its lower orders: a naive loop."""
    result = 1.0
    for i, symbol in enumerate(word):
        state = 0
        context = word[max(0, i - chain.order) : i]
        for earlier in context:
            state = state * chain.alphabet + earlier
        result *= chain.tables[len(context)][state, symbol]
    return result


def test_unigram_is_scipys_cross_entropy() -> None:
    train, valid = random_ids(0, 5000, 4), random_ids(1, (3, 70), 4)
    chain = markov.fit([train], 4, 0)
    total, count = markov.sequential(chain, valid)
    shares = np.bincount(valid.ravel(), minlength=4) / valid.size
    expected = entropy(shares) + entropy(shares, chain.tables[0][0])
    assert count == valid.size
    assert total / count == pytest.approx(expected, rel=1e-12)
    assert chain.tables[0][0] == pytest.approx(np.bincount(train, minlength=4) / 5000, abs=0.03)


@pytest.mark.parametrize(("alphabet", "order"), [(2, 3), (4, 2), (5, 1)])
def test_tables_against_a_naive_count(alphabet: int, order: int) -> None:
    sequences = [random_ids(2, 400, alphabet, unknown=0.05), random_ids(3, 1, alphabet), random_ids(4, 90, alphabet)]
    chain = markov.fit(sequences, alphabet, order)
    for j in range(order + 1):
        counts = np.zeros((alphabet**j, alphabet))
        for sequence in sequences:
            for i in range(j, len(sequence)):
                gram = [int(symbol) for symbol in sequence[i - j : i + 1]]
                if min(gram) >= 0:
                    counts[sum(s * alphabet ** (j - 1 - place) for place, s in enumerate(gram[:-1])), gram[-1]] += 1
        for state, symbol in itertools.product(range(alphabet**j), range(alphabet)):
            below = chain.tables[j - 1][state % alphabet ** (j - 1), symbol] if j else 1 / alphabet
            strength = chain.strengths[j]
            expected = (counts[state, symbol] + strength * below) / (counts[state].sum() + strength)
            assert chain.tables[j][state, symbol] == pytest.approx(expected, rel=1e-12)
        assert chain.tables[j].sum(1) == pytest.approx(np.ones(alphabet**j))


def test_counting_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, ids = random_ids(5, 1000, 4, unknown=0.01), random_ids(6, (9, 30), 4)
    whole = markov.fit([train], 4, 3)
    total, count = markov.sequential(whole, ids)
    monkeypatch.setattr(markov, "_PIECE", 37)
    pieces = markov.fit([train], 4, 3)
    assert all(np.array_equal(a, b) for a, b in zip(whole.tables, pieces.tables, strict=True))
    assert markov.sequential(pieces, ids) == (pytest.approx(total, rel=1e-12), count) and count == ids.size


def test_the_strength_chosen_is_the_best_when_each_symbol_is_left_out() -> None:
    train = random_ids(7, 150, 3)
    chain = markov.fit([train], 3, 1)
    pairs = list(zip(train[:-1].tolist(), train[1:].tolist(), strict=True))

    def left_out(strength: float) -> float:
        total = 0.0
        for place, (state, symbol) in enumerate(pairs):
            others = pairs[:place] + pairs[place + 1 :]
            same = sum(pair == (state, symbol) for pair in others)
            context = sum(pair[0] == state for pair in others)
            total += math.log((same + strength * chain.tables[0][0, symbol]) / (context + strength))
        return total

    assert chain.strengths[1] == max(markov.STRENGTHS, key=left_out)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_sequential_against_a_naive_loop(order: int) -> None:
    chain = markov.fit([random_ids(8, 3000, 4)], 4, order)
    ids = random_ids(9, (5, 40), 4, unknown=0.1)
    expected, count = 0.0, 0
    for row in ids.tolist():
        known: list[int] = []
        for symbol in row:
            if symbol < 0:
                known = []
                continue
            context = known[-order:] if order else []
            state = sum(s * 4 ** (len(context) - 1 - place) for place, s in enumerate(context))
            expected -= math.log(chain.tables[len(context)][state, symbol])
            count += 1
            known.append(symbol)
    total, scored = markov.sequential(chain, ids)
    assert scored == count
    assert total == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("alphabet", "order", "length"), [(2, 1, 7), (2, 2, 7), (3, 2, 6), (4, 1, 5), (4, 2, 6)])
@pytest.mark.parametrize("unknown", [0.0, 0.2])
def test_masked_is_exact(alphabet: int, order: int, length: int, unknown: float) -> None:
    chain = markov.fit([random_ids(10, 2000, alphabet)], alphabet, order)
    ids = random_ids(11, (12, length), alphabet, unknown=unknown)
    mask = np.random.default_rng(12).random(ids.shape) < 0.5
    expected, count = 0.0, 0
    words = [list(word) for word in itertools.product(range(alphabet), repeat=length)]
    weights = [probability(chain, word) for word in words]
    assert sum(weights) == pytest.approx(1.0)
    for row, hidden in zip(ids.tolist(), mask.tolist(), strict=True):
        fitting = [
            (word, weight)
            for word, weight in zip(words, weights, strict=True)
            if all(m or s < 0 or s == w for s, w, m in zip(row, word, hidden, strict=True))
        ]
        evidence = sum(weight for _, weight in fitting)
        for i in range(length):
            if hidden[i] and row[i] >= 0:
                expected -= math.log(sum(weight for word, weight in fitting if word[i] == row[i]) / evidence)
                count += 1
    total, scored = markov.masked(chain, ids, mask)
    assert scored == count > 0
    assert total == pytest.approx(expected, rel=1e-10)


def test_masked_does_not_depend_on_the_chunks_or_on_what_fills_up_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = markov.fit([random_ids(13, 4000, 4)], 4, 3)
    ids = random_ids(14, (20, 50), 4, unknown=0.02)
    mask = np.random.default_rng(15).random(ids.shape) < 0.15
    total, count = markov.masked(chain, ids, mask)
    monkeypatch.setattr(markov, "_MEMORY", 1)
    assert markov.masked(chain, ids, mask) == (pytest.approx(total, rel=1e-12), count)
    longer = np.pad(ids, ((0, 0), (0, 9)), constant_values=-1)
    assert markov.masked(chain, longer, np.pad(mask, ((0, 0), (0, 9)))) == (pytest.approx(total, rel=1e-12), count)


def test_nothing_masked_scores_nothing() -> None:
    chain = markov.fit([random_ids(19, 100, 4)], 4, 2)
    ids = random_ids(20, (2, 10), 4)
    assert markov.masked(chain, ids, np.zeros(ids.shape, bool)) == (0.0, 0)
    assert markov.masked(chain, ids[:0], np.zeros((0, 10), bool)) == (0.0, 0)


def windows(*rows: tuple[int, int, int]) -> SimpleNamespace:
    starts, lengths, records = (np.array(column) for column in zip(*rows, strict=True))
    return SimpleNamespace(starts_S=starts, lengths_S=lengths.astype(np.int32), records_S=records.astype(np.int32))


def test_training_windows_join_within_a_record_only() -> None:
    train = windows((20, 10, 0), (0, 12, 0), (10, 10, 0), (30, 5, 1), (50, 5, 1), (55, 5, 1))
    store = SimpleNamespace(ids=np.arange(60), split=lambda name: {"train": train}[name])
    found = markov.training_sequences(store, (2, 58))
    expected = [np.arange(0, 30), np.arange(30, 35), np.arange(50, 60)]
    for got, ids in zip(found, expected, strict=True):
        assert np.array_equal(got, np.where((ids < 2) | (ids >= 58), -1, ids - 2))
