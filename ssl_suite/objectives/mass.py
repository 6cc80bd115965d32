"""MASS: a stretch of a sequence is hidden from the encoder, the decoder writes it (Song et al. 2019, arXiv:1905.02450).

``span`` = 0.5 hides half of each sequence; a single token would be BERT's task, all of it GPT's. Of the hidden ids 80 %
show [MASK], 10 % a random symbol and 10 % themselves, each for itself.

The decoder's sequence is [CLS], the hidden ids, [SEP]. In the paper it starts from the place of the stretch; here that
would change nothing, for rotary self-attention sees distances only, and the stretch has no gaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ssl_suite.core.records import Vocabulary
from ssl_suite.data.arrange import Arranged, Contents
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import EncoderSpec
from ssl_suite.objectives.masking import MaskShare, RandomShare, check_shares
from ssl_suite.objectives.seq2seq import DecoderLayers, LabelSmoothing, Seq2Seq, framed, runs, share_of


class Mass(Seq2Seq):
    """Masked sequence to sequence.

    Raises:
        SuiteError: shares that sum to more than 1.
    """

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        span: Annotated[
            float,
            Field(gt=0, le=1, description="Share of a sequence that is hidden, in one stretch anywhere."),
        ] = 0.5,
        mask_share: MaskShare = 0.8,
        random_share: RandomShare = 0.1,
        decoder_layers: DecoderLayers = None,
        label_smoothing: LabelSmoothing = 0.0,
    ) -> None:
        super().__init__(modality, spec, decoder_layers, label_smoothing)
        check_shares(mask_share, random_share)
        self.arranger = MaskedStretch(self.vocabulary, span, mask_share, random_share)


@dataclass(frozen=True)
class MaskedStretch:
    """The arranger of MASS; its settings are ``Mass``'s."""

    vocabulary: Vocabulary
    span: float = 0.5
    mask_share: float = 0.8
    random_share: float = 0.1

    def __call__(self, contents: Contents, item: int, draw: np.random.Generator) -> Arranged:
        ids = contents.ids(item)
        shown, stretch = self.corrupt(ids, draw)
        return Arranged(framed(shown, self.vocabulary), framed(ids[stretch], self.vocabulary))

    def corrupt(self, ids: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, slice]:
        """(n,) the ids that the encoder sees, and the stretch that the decoder writes.

        Symbols that say nothing (outside ``vocabulary.targets``) stand in the stretch and show themselves.
        """
        reach = self.vocabulary.reach
        length = min(len(ids), max(reach, share_of(len(ids), self.span, draw)))
        start = int(draw.integers(len(ids) - length + 1))
        stretch = slice(start, start + length)
        low, high = self.vocabulary.targets
        # Overlapping k-mers draw once for k of them: one that is shown would spell out its neighbours.
        case, noise = draw.random(length)[runs(length, reach)], draw.integers(low, high, length)
        hidden = ids[stretch]
        may_change = (hidden >= low) & (hidden < high)
        shown = np.where(may_change & (case < self.mask_share + self.random_share), noise, hidden)
        shown[may_change & (case < self.mask_share)] = self.vocabulary.mask
        return np.concatenate((ids[:start], shown, ids[start + length :])), stretch

    def target_length(self, length: int) -> int:
        """[CLS], the longest stretch that rounding gives, [SEP]."""
        return max(math.ceil(length * self.span), min(length, self.vocabulary.reach)) + 2
