"""Denoising: the decoder writes the whole original of a corrupted sequence (Lewis et al. 2020, BART, arXiv:1910.13461).

Five corruptions, each with its share: sentences change places (``permute``), spans become one [MASK] each (``infill``),
ids become [MASK] (``mask_rate``), ids vanish (``delete``), the sequence begins elsewhere (``rotate``). They follow one
another in this order. BART's own recipe is the first two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.schema import Positive, Share
from ssl_suite.data.arrange import Arranged, Contents
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import EncoderSpec
from ssl_suite.objectives.seq2seq import DecoderLayers, LabelSmoothing, Seq2Seq, framed, parts, replace_spans, share_of


class Bart(Seq2Seq):
    """Denoising with any mixture of the five corruptions.

    Raises:
        SuiteError: no corruption at all.
    """

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        infill: Annotated[Share, Field(description="Share of the ids inside spans that become one [MASK] each.")] = 0.3,
        mean_length: Annotated[
            Positive, Field(description="Of those spans (Poisson); those of 0 insert a [MASK].")
        ] = 3.0,
        permute: Annotated[Share, Field(description="Share of the sentences that change places.")] = 1.0,
        piece: Annotated[
            int,
            Field(
                ge=0,
                description="Mean ids of the pieces that stand for sentences where there are none; 0 = no pieces.",
            ),
        ] = 32,
        mask_rate: Annotated[Share, Field(description="Share of the ids that become [MASK], one for one.")] = 0.0,
        delete: Annotated[Share, Field(description="Share of the ids that vanish.")] = 0.0,
        rotate: Annotated[Share, Field(description="Share of the sequences that begin at a random id.")] = 0.0,
        decoder_layers: DecoderLayers = None,
        label_smoothing: LabelSmoothing = 0.0,
    ) -> None:
        super().__init__(modality, spec, decoder_layers, label_smoothing)
        shares = {"infill": infill, "permute": permute, "mask_rate": mask_rate, "delete": delete, "rotate": rotate}
        if not any(shares.values()):
            raise SuiteError(f"objective=bart corrupts nothing: set one of {', '.join(shares)} above 0.")
        self.arranger = Denoising(self.vocabulary, mean_length=mean_length, piece=piece, **shares)


@dataclass(frozen=True)
class Denoising:
    """The arranger of BART; its settings are ``Bart``'s.

    Where neighbouring tokens share symbols (``vocabulary.reach`` = k for overlapping k-mers) single ids are taken k in
    a row and spans are k - 1 longer, or the answer would be spelled out next door. Symbols that say nothing (outside
    ``vocabulary.targets``) are masked or deleted only as a part of a span.
    """

    vocabulary: Vocabulary
    infill: float = 0.0
    mean_length: float = 3.0
    permute: float = 0.0
    piece: int = 32
    mask_rate: float = 0.0
    delete: float = 0.0
    rotate: float = 0.0

    def __call__(self, contents: Contents, item: int, draw: np.random.Generator) -> Arranged:
        ids = contents.ids(item)
        source = self.corrupt(ids, contents.bounds(item) if self.permute else np.zeros(0, np.int64), draw)
        return Arranged(framed(source, self.vocabulary), framed(ids, self.vocabulary))

    def corrupt(self, ids: np.ndarray, bounds: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """(at most n,) ids.

        Args:
            ids: (n,).
            bounds: places where sentences begin, above 0; empty where there are none.
        """
        if self.permute:
            ids = self.permuted(ids, bounds, draw)
        if self.infill:
            ids = self.infilled(ids, draw)
        if self.mask_rate:
            ids = np.where(self.chosen(ids, self.mask_rate, draw), self.vocabulary.mask, ids)
        if self.delete:
            ids = ids[~self.chosen(ids, self.delete, draw)]
        if len(ids) and draw.random() < self.rotate:
            ids = np.roll(ids, -int(draw.integers(len(ids))))[: max(1, len(ids) - self.vocabulary.widened(0))]
        return ids

    def permuted(self, ids: np.ndarray, bounds: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """A share of the sentences, or of pieces at random cuts, in each other's places."""
        if not len(bounds) and self.piece:
            pieces = max(1, round(len(ids) / self.piece))
            bounds = np.cumsum(parts(len(ids), pieces, draw))[:-1]
        count = len(bounds) + 1
        moved = draw.permutation(count)[: share_of(count, self.permute, draw)]
        order = np.arange(count)
        order[moved] = moved[draw.permutation(len(moved))]
        edges = np.concatenate(([0], bounds, [len(ids)]))
        sizes = np.diff(edges)
        sizes[:-1] = np.maximum(0, sizes[:-1] - self.vocabulary.widened(0))  # shared letters would tell the order
        starts, sizes = edges[order], sizes[order]
        # Place j of the result reads from its sentence's start, plus how far j is from where that sentence now begins.
        begins = np.cumsum(sizes) - sizes
        return ids[np.arange(sizes.sum()) + np.repeat(starts - begins, sizes)]

    def infilled(self, ids: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Spans anywhere, side by side or apart, every arrangement equally likely; one [MASK] for each."""
        hidden = share_of(len(ids), self.infill, draw)
        if hidden == 0:
            return ids
        hidden = min(len(ids), max(hidden, self.vocabulary.reach))
        lengths = self.span_lengths(hidden, draw)
        gaps = parts(len(ids) - hidden, len(lengths) + 1, draw, least=0)
        return replace_spans(ids, gaps, lengths, np.full(len(lengths), self.vocabulary.mask))[0]

    def span_lengths(self, hidden: int, draw: np.random.Generator) -> np.ndarray:
        """Poisson lengths that sum to ``hidden``: one is cut short. At most ``hidden`` of them, of which surplus
        spans of length 0 are left out: the source never outgrows the original."""
        lengths = np.zeros(0, np.int64)
        while lengths.sum() < hidden:  # one round, but for means far below 1
            more = draw.poisson(self.mean_length, 8 + int(2 * hidden / self.mean_length))
            lengths = np.concatenate((lengths, more + self.vocabulary.widened(0) * (more > 0)))
        ends = np.cumsum(lengths)
        last = int(np.searchsorted(ends, hidden))
        lengths = lengths[: last + 1]
        lengths[-1] -= ends[last] - hidden
        if last and 0 < lengths[-1] < self.vocabulary.reach:  # too short to hide a letter: goes to the longest
            lengths[lengths[:-1].argmax()] += lengths[-1]
            lengths = lengths[:-1]
        if len(lengths) > hidden:
            lengths = np.delete(lengths, np.flatnonzero(lengths == 0)[: len(lengths) - hidden])
        return draw.permutation(lengths)  # the one that was cut short is not always the last

    def chosen(self, ids: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
        """(n,) bool: a share of the ids, in runs of ``vocabulary.reach`` on a grid with a random start."""
        low, high = self.vocabulary.targets
        reach = self.vocabulary.reach
        run = (np.arange(len(ids)) + draw.integers(reach)) // reach
        runs = int(run[-1]) + 1 if len(ids) else 0
        taken = np.zeros(runs, bool)
        taken[draw.permutation(runs)[: share_of(runs, share, draw)]] = True
        return taken[run] & (ids >= low) & (ids < high)

    def target_length(self, length: int) -> int:
        """The whole original."""
        return length + 2
