"""Which positions a masked objective hides: a constant number K per row, chosen without a loop or a host sync."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_suite.data.batch import Batch
from ssl_suite.data.rng import Rng, keyed_bits
from ssl_suite.modalities.base import Vocabulary

_NEVER = (1 << 63) - 1
GEOMETRIC_P, LONGEST_SPAN = 0.2, 10  # SpanBERT: lengths from Geometric(0.2), at most 10 (Joshi et al. 2020, 1907.10529)


def maskable_N(values_N: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(N,) bool: not a special token, nor a symbol that says nothing (DNA's N)."""
    low, high = vocabulary.targets
    return (values_N >= low) & (values_N < high)


def span_lengths(rng: Rng, n: int, span: int | str) -> Tensor:
    """(R * n,) int64, the length of a span that would begin at each position."""
    if span == "geometric":
        survival = torch.log1p(-rng.uniform(n))  # inverse transform: ceil(log u / log(1 - p))
        log_rest = torch.log1p(torch.tensor(-GEOMETRIC_P)).item()
        return (survival / log_rest).ceil().clamp(1, LONGEST_SPAN).long()
    return rng.integers(n, int(span), int(span) + 1)


def choose(
    batch: Batch, rng: Rng, k_row: int, span: int | str, allowed_N: Tensor, continues_N: Tensor | None = None
) -> Tensor:
    """The K = rows * k_row positions to hide, as indices into N.

    Every position gets a random priority; with spans, a position takes the best priority among the spans that cover
    it, so whole spans win together and only the last of a row is cut short, to keep K constant. Priorities are 63-bit
    integers: ties happen within a span only.

    Args:
        span: 1, a number of positions, or ``geometric``.
        continues_N: (N,) bool, True where a token goes on with the word before it: words are hidden as a whole.
        allowed_N: positions that may be chosen. When a row has fewer than ``k_row`` of them the rest of its picks
            are not allowed either; the caller drops those by looking ``allowed_N`` up.
    """
    n = batch.values.shape[0] // batch.rows
    priority_N = rng.bits(n)
    if span != 1:
        priority_N = _spread(priority_N, span_lengths(rng, n, span), batch.sequence_ids_N(), span)
    if continues_N is not None:
        places_N = torch.arange(len(priority_N), device=priority_N.device)
        head_N = places_N.masked_fill(continues_N & allowed_N, 0).cummax(0).values  # the word's first token
        priority_N = priority_N[head_N]
    return smallest(priority_N.masked_fill(~allowed_N, _NEVER), batch.rows, k_row)


def choose_static(batch: Batch, seed: int, rate: float, k_row: int, allowed_N: Tensor) -> tuple[Tensor, Tensor]:
    """Positions that depend on the sequence alone, the same in every epoch (BERT's original preprocessing).

    Returns:
        (K,) indices, and (K,) bool: whether the position's own draw is below ``rate``. The number below varies from
        row to row, so K must leave room (see ``static_room``).
    """
    bits_N = keyed_bits(seed, batch.keys_B[batch.sequence_ids_N()], batch.positions_N())
    picks_K = smallest(bits_N.masked_fill(~allowed_N, _NEVER), batch.rows, k_row)
    return picks_K, bits_N[picks_K] < int(rate * (1 << 63))


def static_room(n: int, rate: float) -> int:
    """K for static masks: the mean of a binomial plus six standard deviations, never above n."""
    return min(n, int(n * rate + 6 * (n * rate * (1 - rate)) ** 0.5) + 1)


def smallest(priority_N: Tensor, rows: int, k_row: int) -> Tensor:
    """Indices into N of the ``k_row`` smallest priorities of each row."""
    priority_RN = priority_N.view(rows, -1)
    picks_RK = priority_RN.topk(k_row, dim=1, largest=False, sorted=False).indices
    starts_R1 = torch.arange(rows, device=priority_N.device)[:, None] * priority_RN.shape[1]
    return (picks_RK + starts_R1).flatten()


def _spread(priority_N: Tensor, lengths_N: Tensor, sequence_N: Tensor, span: int | str) -> Tensor:
    """The best priority among the spans that cover each position; spans end with their sequence."""
    best_N = priority_N
    for back in range(1, LONGEST_SPAN if span == "geometric" else int(span)):
        covers = (lengths_N[:-back] > back) & (sequence_N[:-back] == sequence_N[back:])
        shifted = torch.where(covers, priority_N[:-back], _NEVER)
        best_N = torch.cat((best_N[:back], torch.minimum(best_N[back:], shifted)))
    return best_N
