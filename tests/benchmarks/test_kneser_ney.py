"""Interpolated Kneser-Ney against the definition written with dictionaries, and by hand."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from kneser_ney import KneserNey


class Slow:
    """The formula of Chen and Goodman (1999), one gram at a time. The mark of a beginning is -1."""

    def __init__(self, sequences: list[list[int]], size: int, order: int) -> None:
        self.size, self.order = size, order
        raw: dict[int, Counter] = defaultdict(Counter)
        before: dict[int, dict] = defaultdict(lambda: defaultdict(set))
        for sequence in sequences:
            line = (-1, *sequence)
            for end in range(2, len(line) + 1):
                for k in range(1, order + 1):
                    if end >= k:
                        raw[k][line[end - k : end]] += 1
                    if end > k:
                        before[k][line[end - k : end]].add(line[end - k - 1])
        self.counts: dict[int, dict] = {order: dict(raw[order])}
        for k in range(1, order):
            self.counts[k] = {g: raw[k][g] if g[0] == -1 else len(before[k][g]) for g in raw[k]}
        self.discounts = {}
        for k, counts in self.counts.items():
            once, twice = (sum(c == times for c in counts.values()) for times in (1, 2))
            self.discounts[k] = once / (once + 2 * twice) if once else 0.5

    def p(self, symbol: int, context: tuple[int, ...], k: int | None = None) -> float:
        k = min(self.order, len(context) + 1) if k is None else k
        if k == 0:
            return 1 / self.size
        context = context[len(context) - k + 1 :]
        lower = self.p(symbol, context[1:] if k > 1 else (), k - 1)
        after = {g[-1]: c for g, c in self.counts[k].items() if g[:-1] == context}
        if not after:
            return lower
        total, d = sum(after.values()), self.discounts[k]
        return max(after.get(symbol, 0) - d, 0) / total + d * len(after) / total * lower


def made(seed: int, sequences: int, size: int) -> list[list[int]]:
    """Symbols that depend on the two before them."""
    draw = np.random.default_rng(seed)
    table = draw.dirichlet(np.full(size, 0.3), size=(size, size))
    found = []
    for _ in range(sequences):
        line = [0, 0]
        for _ in range(draw.integers(1, 12)):
            line.append(int(draw.choice(size, p=table[line[-2], line[-1]])))
        found.append(line[2:])
    return found


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_definition(order):
    sequences, others = made(0, 30, 5), made(1, 10, 6)
    fast, slow = KneserNey.fit([np.array(s) for s in sequences], 6, order), Slow(sequences, 6, order)
    for k, one in enumerate(fast.orders, start=1):
        assert one.discount == pytest.approx(slow.discounts[k])
    found = fast.log_probs([np.array(s) for s in others])
    for sequence, ours in zip(others, found, strict=True):
        expected = [np.log(slow.p(x, (-1, *sequence[:i]))) for i, x in enumerate(sequence)]
        assert ours.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("beginning", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_every_context_gives_a_distribution(order, beginning):
    model = KneserNey.fit([np.array(s) for s in made(0, 30, 5)], 6, order)
    for context in ([], [1], [4, 2], [5], [0, 0, 0], [5, 5], [3, 1, 4, 1]):
        found = model.distribution(context, beginning)
        assert found.shape == (6,) and found.min() > 0 and found.sum() == pytest.approx(1, abs=1e-12)


def test_scores_are_the_distributions_entries():
    sequences = [np.array(s) for s in made(2, 20, 6)]
    model = KneserNey.fit(sequences[:15], 6, 3)
    for sequence, scores in zip(sequences[15:], model.log_probs(sequences[15:]), strict=True):
        for i, x in enumerate(sequence.tolist()):
            assert np.exp(scores[i]) == pytest.approx(model.distribution(sequence[:i])[x], abs=1e-12)


def test_by_hand():
    """Two sequences, a b a and c a, as bigrams. Begin is ^.

    Bigrams ^a 1, ab 1, ba 1, ^c 1, ca 1: all seen once, so D_2 = 5 / 5 = 1 and everything goes to the lower order.
    What stands before: of a {^, b, c} 3, of b {a} 1, of c {^} 1, so D_1 = 2 / (2 + 0) = 1, and with 4 symbols
    p(a) = 2/5 + 1 * 3/5 * 1/4 = 0.55, p(b) = p(c) = p(d) = 0.15.
    """
    model = KneserNey.fit([np.array([0, 1, 0]), np.array([2, 0])], 4, 2)
    assert model.distribution([]).tolist() == pytest.approx([0.55, 0.15, 0.15, 0.15])
    assert model.distribution([0]).tolist() == pytest.approx([0.55, 0.15, 0.15, 0.15])
    # One more "a b" makes it the only bigram seen twice: D_2 = 4 / (4 + 2) = 2/3.
    # p(b|a) = (2 - 2/3) / 2 + (2/3) / 2 * p(b), and p(b) is unchanged: before b stands a only.
    more = KneserNey.fit([np.array([0, 1, 0, 1]), np.array([2, 0])], 4, 2)
    assert more.orders[1].discount == pytest.approx(4 / 6)
    assert more.distribution([0])[1] == pytest.approx(2 / 3 + 1 / 3 * 0.15)


def test_it_beats_shorter_contexts_on_what_depends_on_two():
    sequences = [np.array(s) for s in made(3, 3000, 6)]
    losses = []
    for order in (1, 2, 3):
        model = KneserNey.fit(sequences[:2500], 6, order)
        losses.append(-np.concatenate(model.log_probs(sequences[2500:])).mean())
    assert losses[0] > losses[1] > losses[2] and losses[0] < np.log(6)


@pytest.mark.parametrize(
    ("sequences", "order", "message"),
    [
        ([np.array([0, 6])], 3, "symbols should be 0 to 5, not 0 to 6"),
        ([np.array([-1])], 3, "symbols should be"),
        ([np.zeros(0, int)], 3, "no symbol"),
        ([np.array([1])], 0, "order 0"),
    ],
)
def test_what_cannot_be_counted(sequences, order, message):
    with pytest.raises(ValueError, match=message):
        KneserNey.fit(sequences, 6, order)
