"""Span corruption with sentinels (Raffel et al. 2020, T5, arXiv:1910.10683).

15 % of the ids are dropped in spans of 3 on average. In the source one sentinel stands for each span; the target names
each sentinel, then what it stands for, and ends in one more: "Thank you <0> me to your party <1> week" and
"<0> for inviting <1> last <2>". Sentinel i is id ``len(vocabulary) + i``, a row of the embedding table of its own.

As in T5's ``random_spans_noise_mask`` the numbers of dropped ids and of spans follow from the length, and both the
spans and what is kept between them are random segmentations. There a sequence always begins with a kept id and ends
with a dropped one; here either may stand at either end, or a sequence with one span would only ever lose its last ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ssl_suite.core.records import Vocabulary
from ssl_suite.data.arrange import Arranged, Contents
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import EncoderSpec
from ssl_suite.objectives.seq2seq import DecoderLayers, LabelSmoothing, Seq2Seq, framed, parts, replace_spans

SENTINELS = 100  # T5's; the last span's end takes one, so a sequence has 99 spans at most


class T5(Seq2Seq):
    """Span corruption. Every span of overlapping k-mers gets k - 1 ids more, which its neighbours would spell out."""

    extra_tokens = SENTINELS

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        noise: Annotated[float, Field(gt=0, lt=1, description="Share of the ids that are dropped.")] = 0.15,
        mean_length: Annotated[float, Field(ge=1, description="Ids of a span on average.")] = 3.0,
        decoder_layers: DecoderLayers = None,
        label_smoothing: LabelSmoothing = 0.0,
    ) -> None:
        super().__init__(modality, spec, decoder_layers, label_smoothing)
        self.arranger = SpanCorruption(self.vocabulary, noise, mean_length)


@dataclass(frozen=True)
class SpanCorruption:
    """The arranger of T5; its settings are ``T5``'s."""

    vocabulary: Vocabulary
    noise: float = 0.15
    mean_length: float = 3.0

    def __call__(self, contents: Contents, item: int, draw: np.random.Generator) -> Arranged:
        source, target = self.corrupt(contents.ids(item), draw)
        return Arranged(framed(source, self.vocabulary), framed(target, self.vocabulary))

    def corrupt(self, ids: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Source and target without [CLS] and [SEP]."""
        dropped, spans = self.counts(len(ids))
        sentinels = np.arange(len(self.vocabulary), len(self.vocabulary) + spans + 1)
        if spans == 0:
            return ids, sentinels
        lengths = parts(dropped, spans, draw, least=min(self.vocabulary.reach, dropped // spans))
        gaps = parts(len(ids) - dropped + 2, spans + 1, draw)
        gaps[[0, -1]] -= 1  # between two spans an id stays at least, before the first and after the last none need
        source, hidden = replace_spans(ids, gaps, lengths, sentinels[:-1])
        target = np.insert(ids[hidden], np.cumsum(lengths) - lengths, sentinels[:-1])
        return source, np.append(target, sentinels[-1])

    def counts(self, n: int) -> tuple[int, int]:
        """How many of n ids are dropped, in how many spans; one id alone is kept."""
        if n < 2:
            return 0, 0
        reach = self.vocabulary.reach
        dropped = min(max(round(n * self.noise), reach), n - 1)
        spans = round(dropped / (self.mean_length + self.vocabulary.widened(0)))
        most = min(dropped // reach, n - dropped + 1, SENTINELS - 1)
        return dropped, max(1, min(spans, most))

    def target_length(self, length: int) -> int:
        """[CLS], a sentinel and the ids of each span, the last sentinel, [SEP]."""
        dropped, spans = self.counts(length)
        return dropped + spans + 3
