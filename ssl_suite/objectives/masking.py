"""Which positions a masked objective hides: spans at a rate of the tokens present, without a loop or a host sync.

Every sequence is cut into spans, each with a random priority, and a row hides the spans of best priority until the rate
is met. So each position is equally likely, spans keep their lengths, and words and overlapping k-mers stay whole.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import KeyedRng, Rng
from ssl_suite.core.schema import Count, Share

_NEVER = (1 << 63) - 1
_OFFSET_BITS = 16  # of a priority: a position's place in its span, so that spans sort as a whole
GEOMETRIC_P, LONGEST_SPAN = 0.2, 10  # SpanBERT: Geometric(0.2) truncated to 1..10, mean 3.80 (Joshi et al. 2020)
# Tokens of a word and of a span of words at most; longer ones are cut. On the text sample no span of words was longer
# with a vocabulary of 8,192, 0.2 % of them with 1,024; every token more is a position more in K.
WORD_TOKENS, SPAN_TOKENS = 16, 20

MaskRate = Annotated[
    float,
    Field(gt=0, lt=1, description="Share of the tokens present (no special ones, no padding) that are predicted."),
]
MaskShare = Annotated[Share, Field(description="Of the predicted positions, the share that shows [MASK].")]
RandomShare = Annotated[
    Share, Field(description="Of the predicted positions, the share that shows a random symbol; the rest shows itself.")
]
Span = Annotated[
    Count | Literal["geometric", "blocks"],
    Field(
        description="Tokens (sub-words: words) hidden in a row; `geometric` = random lengths (SpanBERT), "
        "`blocks` = rectangles of a picture (BEiT)."
    ),
]
LineSpan = Annotated[
    Count | Literal["geometric"],
    Field(description="Tokens (sub-words: words) hidden in a row; `geometric` = random, 3.8 on average (SpanBERT)."),
]
WholeWord = Annotated[
    bool,
    Field(description="Hide all tokens of a word together, where the tokeniser cuts words."),
]
Static = Annotated[bool, Field(description="Mask a sequence once: the same positions and symbols in every epoch.")]


def check_shares(mask_share: float, random_share: float) -> None:
    """Raise ``SuiteError`` for shares that sum to more than 1."""
    if mask_share + random_share > 1:
        raise SuiteError(
            f"objective.mask_share={mask_share} and objective.random_share={random_share} must not sum to more than 1; "
            "what remains is shown unchanged (BERT: 0.8 and 0.1)."
        )


def maskable_N(values_N: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(N,) bool: not a special token, nor a symbol that says nothing (DNA's N)."""
    low, high = vocabulary.targets
    return (values_N >= low) & (values_N < high)


def span_lengths(rng: Rng, n: int, span: int | str) -> Tensor:
    """(R * n,) int64 lengths: all ``span``, or SpanBERT's truncated and renormalised geometric ones."""
    if span != "geometric":
        return torch.full_like(rng.bits(n), int(span))
    share = 1 - (1 - GEOMETRIC_P) ** LONGEST_SPAN  # of the geometric distribution up to the longest
    # Inverse transform: the length is ceil(log(1 - u * share) / log(1 - p)).
    log_rest = torch.log1p(-rng.uniform(n) * share) / math.log1p(-GEOMETRIC_P)
    return log_rest.ceil().clamp(1, LONGEST_SPAN).long()


class Masker(nn.Module):
    """Args:
    vocabulary: what may be hidden, how far tokens overlap, and which go on with a word.
    rate: share of the tokens present (no special ones, no padding) that are hidden.
    span: tokens hidden in a row, or ``geometric`` for SpanBERT's lengths. Words are counted instead of tokens where
        the tokeniser cuts words; overlapping tokens are widened to hide as many symbols.
    whole_word: count words with ``span=1`` too.
    static: a sequence's draws depend on the sequence alone, the same in every epoch.
    """

    def __init__(
        self, vocabulary: Vocabulary, rate: float, span: int | str = 1, whole_word: bool = False, static: bool = False
    ) -> None:
        super().__init__()
        self.vocabulary, self.rate, self.span, self.static = vocabulary, rate, span, static
        self.words = bool(vocabulary.continues) and (whole_word or span != 1)
        most = LONGEST_SPAN if span == "geometric" else int(span)
        self.longest = max(most, min(SPAN_TOKENS, WORD_TOKENS * most)) if self.words else vocabulary.widened(most)
        self.continues_V: Tensor
        continues_V = torch.zeros(len(vocabulary), dtype=torch.bool)
        continues_V[sorted(vocabulary.continues)] = True
        self.register_buffer("continues_V", continues_V, persistent=False)

    def room(self, n: int) -> int:
        """How many positions of a row of n can be hidden at most, a constant: the last span may go beyond the rate.
        Static draws vary as a binomial does, so they get six standard deviations more."""
        varies = 6 * (n * self.rate * (1 - self.rate) * self.longest) ** 0.5 if self.static else 0.0
        return min(n, max(1, math.ceil(round(n * self.rate + varies, 6))) + self.longest - 1)

    def draws(self, batch: Batch, rng: Rng) -> Rng:
        """``rng``, or with static masks draws that depend on each sequence's key; n must be the positions of a row."""
        if not self.static or isinstance(rng, KeyedRng):
            return rng
        return KeyedRng(rng.seed, batch.index_B[batch.sequence_ids_N()], batch.positions_N())

    def forward(self, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor]:
        """Draw the masks.

        Returns:
            picks_K: (K,) int64 distinct indices into N, ``room`` of each row.
            valid_K: (K,) bool, whether the position is hidden: ``rate`` of a row's tokens are, on average over draws.
        """
        rng, n = self.draws(batch, rng), len(batch.values) // batch.rows
        allowed_N = maskable_N(batch.values, self.vocabulary)
        head_N, size_N = self.spans(batch, allowed_N, rng)
        places_N = torch.arange(len(head_N), device=head_N.device)
        bits_N = rng.bits(n)[head_N]
        priority_N = (bits_N >> _OFFSET_BITS << _OFFSET_BITS) + (places_N - head_N)
        k_row = self.room(n)
        picks_RK = smallest(priority_N.masked_fill(~allowed_N, _NEVER), batch.rows, k_row).view(batch.rows, -1)
        size_RK, rank_K = size_N[picks_RK], torch.arange(k_row, device=picks_RK.device)
        before_RK = rank_K - (picks_RK - head_N[picks_RK])  # positions in spans of better priority
        fits_RK = allowed_N[picks_RK] & (before_RK + size_RK <= k_row)
        if self.static:
            return picks_RK.flatten(), (fits_RK & (bits_N[picks_RK] < int(self.rate * (1 << 63)))).flatten()
        # The span that crosses the budget is hidden as a whole or not at all, so that the mean is the budget.
        budget_R1 = self.rate * allowed_N.view(batch.rows, n).sum(1, keepdim=True)
        within_RK = before_RK + rng.uniform(1)[:, None] * size_RK < budget_R1
        return picks_RK.flatten(), (fits_RK & within_RK).flatten()

    def spans(self, batch: Batch, allowed_N: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """(N,) the first position and (N,) the size of the span that each allowed position belongs to.

        Spans follow one another from a sequence's start; symbols that may not be hidden cut them.
        """
        places_N = torch.arange(len(allowed_N), device=allowed_N.device)
        if self.longest == 1:
            return places_N, torch.ones_like(places_N)
        sequence_N = batch.sequence_ids_N()
        same_N = torch.zeros_like(allowed_N)  # this position and the one before it may share a span
        same_N[1:] = allowed_N[1:] & allowed_N[:-1] & (sequence_N[1:] == sequence_N[:-1])
        goes_on_N = same_N & self.continues_V[batch.values] if self.words else torch.zeros_like(same_N)
        unit_N = self._within((allowed_N & ~goes_on_N).long(), batch, sequence_N) - 1  # of the tokens or words
        ends_N = self._within(self._lengths(batch, rng), batch, sequence_N)  # of a sequence's i-th span, at place i
        far = len(allowed_N) * self.longest + 1  # sequences apart, so that one search serves all
        span_N = torch.searchsorted(ends_N + sequence_N * far, unit_N.clamp(min=0) + sequence_N * far, right=True)
        same_N[1:] &= span_N[1:] == span_N[:-1]
        head_N = places_N.masked_fill(same_N, 0).cummax(0).values
        if self.words:
            head_N = head_N + (places_N - head_N) // self.longest * self.longest
        beyond_N = places_N.masked_fill(head_N != places_N, len(places_N))
        beyond_N = torch.cat((beyond_N[1:], beyond_N.new_full((1,), len(places_N)))).flip(0).cummin(0).values.flip(0)
        return head_N, beyond_N - head_N

    def _lengths(self, batch: Batch, rng: Rng) -> Tensor:
        """(N,) int64: the lengths of a sequence's spans, one after the other. Fixed ones begin with a part of one, or
        their edges would stand at the same places in all epochs."""
        n = len(batch.values) // batch.rows
        lengths_N = span_lengths(rng, n, self.span) + (0 if self.words else self.vocabulary.widened(0))
        if self.span == "geometric":
            return lengths_N
        return torch.where(batch.positions_N() == 0, 1 + rng.bits(n) % lengths_N, lengths_N)

    @staticmethod
    def _within(counts_N: Tensor, batch: Batch, sequence_N: Tensor) -> Tensor:
        """(N,) sums of ``counts_N`` from the start of each sequence up to each position."""
        sums_N = counts_N.cumsum(0)
        first_N = batch.offsets_B1[sequence_N].long()
        return sums_N - sums_N[first_N] + counts_N[first_N]


def boundaries(picks_K: Tensor, valid_K: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The nearest positions before and after each pick that are not hidden: the edges of the longest run around it.

    A run cannot leave its sequence, for [CLS] and [SEP] are never hidden.

    Args:
        picks_K: (K,) distinct indices into N.
        valid_K: (K,) bool, whether the pick is hidden; one that is not is its own edge.
        n: N.

    Returns:
        Two (K,) int64 tensors of indices into N.
    """
    hidden_N = torch.zeros(n, dtype=torch.bool, device=picks_K.device).index_copy(0, picks_K, valid_K)
    places_N = torch.arange(n, device=picks_K.device)
    left_N = places_N.masked_fill(hidden_N, 0).cummax(0).values
    right_N = places_N.masked_fill(hidden_N, n - 1).flip(0).cummin(0).values.flip(0)
    return left_N[picks_K], right_N[picks_K]


def elsewhere_N(batch: Batch, rng: Rng) -> Tensor:
    """(N,) a random place of each position's own sequence, [CLS] and [SEP] left out."""
    sequence_N = batch.sequence_ids_N()
    inside_N = (batch.offsets_B1.diff().long() - 2).clamp(min=1)[sequence_N]
    drawn_N = rng.bits(len(sequence_N) // batch.rows) % inside_N
    return (batch.offsets_B1[sequence_N] + 1 + drawn_N).clamp(max=len(sequence_N) - 1)


def smallest(priority_N: Tensor, rows: int, k_row: int) -> Tensor:
    """Indices into N of the ``k_row`` smallest priorities of each row, in their order."""
    priority_RN = priority_N.view(rows, -1)
    picks_RK = priority_RN.topk(k_row, dim=1, largest=False, sorted=True).indices
    starts_R1 = torch.arange(rows, device=priority_N.device)[:, None] * priority_RN.shape[1]
    return (picks_RK + starts_R1).flatten()
