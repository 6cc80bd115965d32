"""Masked language modelling (Devlin et al. 2019, BERT, arXiv:1810.04805), on any modality with ids.

Hide a share of the positions, predict what stood there. Of the hidden ones a share shows [MASK], a share shows a
random symbol, the rest shows itself: ``mask_share=1 random_share=0`` is the special symbol alone,
``mask_share=0 random_share=1`` the random symbol alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import training_flops
from ssl_suite.objectives import blocks, masking
from ssl_suite.objectives.base import Metrics, Objective
from ssl_suite.objectives.heads import prediction_head
from ssl_suite.objectives.masking import MaskRate, MaskShare, RandomShare, Span, Static, WholeWord


class MaskedLM(Objective):
    """The masked language model.

    Overlapping k-mers draw what is shown once for a whole run of hidden positions: one that is shown would spell out
    its neighbours.

    Raises:
        SuiteError: shares that sum to more than 1, whole words with spans or where a token is a word.
    """

    compares: ClassVar[Literal["masked", "next", ""]] = "masked"
    command: ClassVar[Literal["fill", "generate", ""]] = "fill"
    wraps: ClassVar[bool] = True
    by_run: ClassVar[bool] = False  # the three cases are drawn once for each run of hidden positions

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        mask_rate: MaskRate = 0.15,
        mask_share: MaskShare = 0.8,
        random_share: RandomShare = 0.1,
        span: Span = 1,
        whole_word: WholeWord = False,
        static: Static = False,
    ) -> None:
        super().__init__()
        masking.check_shares(mask_share, random_share)
        if whole_word and span != 1:
            raise SuiteError("objective.whole_word=true works with objective.span=1; longer spans count words anyway.")
        self.vocabulary = modality.vocabulary
        if whole_word and not self.vocabulary.continues:
            raise SuiteError(
                f"objective.whole_word=true: no token of modality={modality.name} goes on with a word; leave it out."
            )
        self.mask_share, self.random_share = mask_share, random_share
        self.masker = blocks.masker(modality, mask_rate, span, whole_word, static)
        self.head: Any = prediction_head(spec)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """Cross-entropy in nats summed over the predicted positions, and their count.

        Metrics: ``accuracy``, and ``masked_loss`` and ``masked_accuracy``, where [MASK] is shown. The latter are what
        count models can be held against: a shown symbol is right more often than not, which lowers ``loss`` for free.
        """
        rng = self.masker.draws(batch, rng)
        picks_K, labels_K, shown_N = self.corrupt(batch, rng)
        hidden_ND = self.states(encoder, batch, picks_K, shown_N, rng)
        logits_KV = self.logits(encoder, hidden_ND[picks_K]).float()
        loss_K, metrics = self.score(logits_KV, labels_K, shown_N[picks_K])
        return loss_K.sum(), (labels_K != -100).sum(), metrics

    def logits(self, encoder: Any, states_KD: Tensor) -> Tensor:
        """(K, V), by the objective's head or the encoder's own, which may add a column (``Wrapped.predict``)."""
        if self.head is None:
            return encoder.predict(states_KD)
        return self.head(states_KD, encoder.embeddings.table_VD)

    def states(self, encoder: Encoder, batch: Batch, picks_K: Tensor, shown_N: Tensor, rng: Rng) -> Tensor:
        """(N, D): what the encoder makes of the batch as ``corrupt`` shows it."""
        return encoder(batch.with_values(shown_N, self.shown_frames(batch, picks_K, shown_N, rng)))

    def score(self, logits_KV: Tensor, labels_K: Tensor, shown_K: Tensor) -> tuple[Tensor, Metrics]:
        """(K,) cross-entropies in nats, 0 where the label is -100, and the metrics of ``forward``."""
        loss_K = F.cross_entropy(logits_KV, labels_K, reduction="none", ignore_index=-100)
        valid_K = labels_K != -100
        hidden_K = (shown_K == self.vocabulary.mask) & valid_K
        right_K = logits_KV.argmax(-1) == labels_K
        return loss_K, {
            "accuracy": (right_K.sum(), valid_K.sum()),
            "masked_accuracy": ((right_K & hidden_K).sum(), hidden_K.sum()),
            "masked_loss": ((loss_K.detach() * hidden_K).sum(), hidden_K.sum()),
        }

    def corrupt(self, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the masks.

        Returns:
            picks_K: (K,) int64 indices into N.
            labels_K: (K,) int64 original ids; -100 where nothing is hidden, K being an upper bound.
            shown_N: (N,) int64 ids that the encoder sees.
        """
        rng, n = self.masker.draws(batch, rng), len(batch.values) // batch.rows
        picks_K, valid_K = self.masker(batch, rng)
        original_K, case_K = batch.values[picks_K], self.cases(batch, picks_K, valid_K, rng)
        random_K = rng.integers(n, *self.vocabulary.targets)[picks_K]
        changed_K = torch.where(case_K < self.mask_share + self.random_share, random_K, original_K)
        changed_K = changed_K.masked_fill(case_K < self.mask_share, self.vocabulary.mask)
        shown_K = torch.where(valid_K, changed_K, original_K)
        return picks_K, original_K.masked_fill(~valid_K, -100), batch.values.index_copy(0, picks_K, shown_K)

    def shown_frames(self, batch: Batch, picks_K: Tensor, shown_N: Tensor, rng: Rng) -> Tensor | None:
        """The frames that go with ``shown_N``: where a symbol was drawn at random, another frame of the sequence
        (Mockingjay, Liu et al. 2020, arXiv:1910.12638). None for tokens."""
        if batch.frames_NF is None:
            return None
        shown_K = shown_N[picks_K]
        random_K = (shown_K != self.vocabulary.mask) & (shown_K != batch.values[picks_K])
        others_K = masking.elsewhere_N(batch, rng)[picks_K]
        return batch.frames_NF.index_copy(0, picks_K, batch.frames_NF[torch.where(random_K, others_K, picks_K)])

    def cases(self, batch: Batch, picks_K: Tensor, valid_K: Tensor, rng: Rng) -> Tensor:
        """(K,) in [0, 1): below ``mask_share`` a position shows [MASK], below both shares a random symbol. One draw a
        position, or a run of hidden positions (that of the position before it)."""
        case_N = rng.uniform(len(batch.values) // batch.rows)
        by_run = self.by_run or self.vocabulary.reach > 1
        return case_N[masking.boundaries(picks_K, valid_K, len(case_N))[0] if by_run else picks_K]

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder on every token and the head on the predicted ones."""
        return training_flops(
            model,
            lengths_squared_sum=batch.squares,
            positions=batch.tokens,
            predicted=self.masker.rate * batch.tokens,
            vocabulary=len(self.vocabulary),
        )

    def hub_weights(self) -> tuple[str, dict[str, Tensor]]:
        """The head under the names of ``ModernBertForMaskedLM``; the decoder's weight is tied to the embeddings."""
        if self.head is None:
            return "", {}
        return "ModernBertForMaskedLM", {
            "head.dense.weight": self.head.dense.weight,
            "head.norm.weight": self.head.norm.weight,
            "decoder.bias": self.head.bias,
        }


def weighted_auxiliary_loss(loss_M: Tensor, counted_M: Tensor, main_K: Tensor, rows: int) -> Tensor:
    """The sum to add to a main loss, for a second loss that is counted over other items.

    Each row's mean of the second loss takes the weight of the row's count of the main one. So the total is a plain sum
    over rows, the same whichever process holds which row, and its mean is about the sum of the two means.

    Args:
        loss_M: (M,) the second loss of each item, M / rows items a row.
        counted_M: (M,) bool, the items that count. A row without any adds nothing.
        main_K: (K,) bool, what the main loss counts, K / rows items a row.
    """
    sums_R = (loss_M * counted_M).view(rows, -1).sum(1)
    means_R = sums_R / counted_M.view(rows, -1).sum(1).clamp(min=1)
    return (means_R * main_K.view(rows, -1).sum(1)).sum()


class WholeWordLM(MaskedLM):
    """Whole-word masking: all tokens of a word are hidden together (BERT's release of May 2019)."""

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        mask_rate: MaskRate = 0.15,
        mask_share: MaskShare = 0.8,
        random_share: RandomShare = 0.1,
    ) -> None:
        super().__init__(modality, spec, mask_rate, mask_share, random_share, whole_word=True)

    @classmethod
    def refuses(cls, modality: type[Modality]) -> str:
        if modality.cuts_words:
            return ""
        return "none of its tokens goes on with a word; use objective=mlm, or objective=span for spans."
