"""Two segments in one sequence, and what [CLS] knows of them, beside masked language modelling.

``NextSentence``: does the second follow the first, or does it come from another record (Devlin et al. 2019, BERT,
arXiv:1810.04805)? ``SentenceOrder``: do the two stand in their order, or have they changed places (Lan et al. 2020,
ALBERT, arXiv:1909.11942)? A window is parted where a sentence begins, or at a drawn place where none does ("next
window" of DNA or proteins). Nothing but the content may tell the two classes apart, so both are cut alike: see the
two arrangers. ModernBERT has no segment embeddings: the [SEP] in between marks the segments; a wrapped BERT has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.data.arrange import Arranged, Contents
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.base import Metrics
from ssl_suite.objectives.masking import LineSpan, MaskRate, MaskShare, RandomShare, WholeWord
from ssl_suite.objectives.mlm import MaskedLM, weighted_auxiliary_loss

TRUE, FALSE, NONE = 0, 1, -100  # labels, numbered as transformers numbers them for BERT and ALBERT
SHORTEST = 3  # ids that can be parted: the second [SEP] takes the place of one
TRIES = 4  # other records looked at for a sentence that leaves room for a segment of the wanted length


class PairArranger:
    """[CLS] first [SEP] second [SEP], one id shorter than the window so that it fits into its slot.

    Args:
        vocabulary: gives [CLS] and [SEP], and the reach: of overlapping k-mers k - 1 are left out at the cut, or the
            letters on both sides of it would tell the label.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.cls, self.sep, self.gap = vocabulary.cls, vocabulary.sep, vocabulary.widened(0)

    def __call__(self, contents: Contents, item: int, draw: np.random.Generator) -> Arranged:
        """The pair made of a window; the window as a single segment, without a label, where that cannot be done."""
        made = self.pair(contents, item, draw)
        if made is None:
            source = np.concatenate(([self.cls], contents.ids(item), [self.sep]))
            return Arranged(source, segments=np.zeros(len(source), np.int64))
        first, second, label = made
        source = np.concatenate(([self.cls], first, [self.sep], second, [self.sep]))
        segments = (np.arange(len(source)) >= len(first) + 2).astype(np.int64)
        return Arranged(source, segments=segments, label=label)

    def parted(
        self, ids: np.ndarray, bounds: np.ndarray, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The ids before and after a cut, which share no symbol; None where there are too few."""
        if len(ids) < SHORTEST + self.gap:
            return None
        place = split_point(len(ids) - self.gap, bounds, draw)
        return ids[:place], ids[place + self.gap :]

    def target_length(self, length: int) -> int:
        """There is no decoder."""
        return 0

    def pair(
        self, contents: Contents, item: int, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int] | None:
        """(first, second, label), together at least one id shorter than the window; None where there is none."""
        raise NotImplementedError


class NextArranger(PairArranger):
    """A window's second part, or as many ids of another record's window.

    Both classes are cut alike. The other window is looked for whatever the label, and where it is too short the true
    second part is shortened as well, so the length says nothing. Where the true one begins with a sentence, so does the
    other. The id in excess is dropped from the end of the second part: the other text stops anywhere, so the full
    stop that ends a document would give the true one away.
    """

    def pair(
        self, contents: Contents, item: int, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int] | None:
        ids, bounds = contents.ids(item), contents.bounds(item)
        bounds = bounds[(bounds > 0) & (bounds < len(ids))]
        both = self.parted(ids, bounds, draw)
        if both is None:
            return None
        first, second = (both[0], both[1][:-1]) if len(both[1]) > 1 else (both[0][:-1], both[1])
        other = stretch(contents, item, len(second), len(bounds) > 0, draw)
        if not len(other):
            return None
        label = int(draw.integers(2))
        return first, other if label == FALSE else second[: len(other)], label


class OrderArranger(PairArranger):
    """The two parts of a window, in their order or swapped.

    Windows begin and end anywhere, while the split stands at a sentence: half a sentence at the start would tell the
    true order at a glance. So the parts are whole sentences: what precedes the first bound and follows the last is
    left out, and a window without two whole sentences has no pair (one that begins or ends with a sentence says so by
    a bound at 0 or at its length). Where no sentence begins all edges are alike, and the window is taken as it is. The
    id in excess is dropped from the longer part, from either where they are equal.
    """

    def pair(
        self, contents: Contents, item: int, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int] | None:
        ids, bounds = contents.ids(item), contents.bounds(item)
        if len(bounds):
            ids, bounds = ids[bounds[0] : bounds[-1]], bounds[1:-1] - bounds[0]
            if not len(bounds):
                return None
        both = self.parted(ids, bounds, draw)
        if both is None:
            return None
        first, second = both
        longer = len(first) - len(second)
        shortened = longer > 0 or (longer == 0 and draw.random() < 0.5)
        first, second = (first[:-1], second) if shortened else (first, second[:-1])
        label = int(draw.integers(2))
        return (second, first, label) if label == FALSE else (first, second, label)


def split_point(length: int, bounds: np.ndarray, draw: np.random.Generator) -> int:
    """Where the second part begins: at one of the bounds in the middle half, else at the one nearest to the middle; at
    any place of the middle half where there are no bounds."""
    low, high = -(-length // 4), length - -(-length // 4)
    if not len(bounds):
        return int(draw.integers(low, high + 1))
    middle = bounds[(bounds >= low) & (bounds <= high)]
    if not len(middle):
        return int(bounds[np.abs(2 * bounds - length).argmin()])
    return int(middle[draw.integers(len(middle))])


def stretch(contents: Contents, item: int, length: int, sentence: bool, draw: np.random.Generator) -> np.ndarray:
    """``length`` ids of another record, or as many as a few of them have; empty where there is no other window.

    Args:
        sentence: begin where a sentence does, where there is one.
    """
    best = np.zeros(0, np.int64)
    for _ in range(TRIES):
        other = contents.random_other_record(item, draw)
        if other == item:
            break
        ids = contents.ids(other)
        latest = len(ids) - length
        starts = contents.bounds(other) if sentence else np.arange(max(0, latest) + 1)
        fitting = starts[starts <= latest]
        if len(fitting):
            start = int(fitting[draw.integers(len(fitting))])
            return ids[start : start + length]
        rest = ids[int(starts[0]) if len(starts) else 0 :][:length]
        best = max(best, rest, key=len)
    return best


class PairTask(MaskedLM):
    """Masked language modelling of a pair, in which [SEP] is never hidden, and a classifier on [CLS]."""

    arrange: type[PairArranger]
    compares = ""  # count models read windows as they are stored, not the pairs made of them

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        mask_rate: MaskRate = 0.15,
        mask_share: MaskShare = 0.8,
        random_share: RandomShare = 0.1,
        span: LineSpan = 1,
        whole_word: WholeWord = False,
    ) -> None:
        super().__init__(modality, spec, mask_rate, mask_share, random_share, span, whole_word)
        self.arranger = self.arrange(self.vocabulary)
        self.pooler, self.classes = nn.Linear(spec.width, spec.width), nn.Linear(spec.width, 2)
        for layer in (self.pooler, self.classes):
            nn.init.trunc_normal_(layer.weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)
            nn.init.zeros_(layer.bias)

    @classmethod
    def refuses(cls, modality: type[Modality]) -> str:
        """Pictures and recordings: a part of one is no segment of its own."""
        if issubclass(modality, SignalModality):
            return f"{modality.name} has no segments that follow one another; try objective=mlm or simclr"
        return ""

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """Cross-entropy in nats summed over the predicted positions, and their count. To the sum of each row the mean
        loss of its pairs is added, times its count.

        Metrics: those of ``MaskedLM``, and ``pair_loss`` and ``pair_accuracy`` over the sequences with a label.
        """
        assert batch.labels_B is not None
        picks_K, labels_K, shown_N = self.corrupt(batch, rng)
        hidden_ND = self.states(encoder, batch, picks_K, shown_N, rng)
        logits_KV = self.logits(encoder, hidden_ND[picks_K]).float()
        loss_K, metrics = self.score(logits_KV, labels_K, shown_N[picks_K])
        logits_B2 = self.pair_logits(hidden_ND, batch)
        pair_B = F.cross_entropy(logits_B2, batch.labels_B, reduction="none", ignore_index=NONE)
        paired_B = batch.labels_B != NONE
        pairs = paired_B.sum()
        metrics["pair_loss"] = pair_B.detach().sum(), pairs
        metrics["pair_accuracy"] = (logits_B2.argmax(-1) == batch.labels_B).sum(), pairs
        valid_K = labels_K != NONE
        return loss_K.sum() + weighted_auxiliary_loss(pair_B, paired_B, valid_K, batch.rows), valid_K.sum(), metrics

    def pair_logits(self, hidden_ND: Tensor, batch: Batch) -> Tensor:
        """(B, 2) from each sequence's [CLS]; of empty sequences, from any position."""
        cls_B = batch.offsets_B1[:-1].long().clamp(max=len(hidden_ND) - 1)
        return self.classes(torch.tanh(self.pooler(hidden_ND[cls_B]))).float()

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of masked language modelling, and of pooler and classes on the sequences with tokens."""
        width, sequences = model["width"], sum(1 for length in batch.lengths if length)
        return super().flops(model, batch) + 3 * 2 * sequences * (width**2 + 2 * width)


class NextSentence(PairTask):
    """Does the second segment follow the first?"""

    arrange = NextArranger


class SentenceOrder(PairTask):
    """Do the two segments stand in their order?"""

    arrange = OrderArranger
