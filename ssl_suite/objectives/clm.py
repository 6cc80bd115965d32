"""Causal language modelling (Radford et al. 2018, "Improving language understanding by generative pre-training").

At every position predict the id that follows, from what stands to its left. Every position is a target, so a step
learns from all of its data, and the model can write: see ``models.generate``. All modalities: pictures and speech are
read as the units of their codebook (Chen et al. 2020, "Generative pretraining from pixels"; Lakhotia et al. 2021,
arXiv:2102.01192).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.data.arrange import Arranged, Contents
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import training_flops
from ssl_suite.objectives.base import Metrics, Objective
from ssl_suite.objectives.heads import PredictionHead
from ssl_suite.objectives.next_token import next_labels


@dataclass(frozen=True)
class OpenEnd:
    """The arranger: [CLS] and the content, and [SEP] where the record ends with the window. Most windows of long
    records end anywhere, and a [SEP] there would teach the model to stop anywhere.
    """

    vocabulary: Vocabulary

    def __call__(self, contents: Contents, item: int, draw: np.random.Generator) -> Arranged:
        end = [self.vocabulary.sep] if contents.ends(item) else []
        return Arranged(np.concatenate(([self.vocabulary.cls], contents.ids(item), end)).astype(np.int64))

    def target_length(self, length: int) -> int:
        """There is no decoder."""
        return 0


class CausalLM(Objective):
    """The causal language model: a prediction head on a causal encoder."""

    causal: ClassVar[bool] = True
    reads: ClassVar[Literal["frames", "ids"]] = "ids"
    compares: ClassVar[Literal["masked", "next", ""]] = "next"
    command: ClassVar[Literal["fill", "generate", ""]] = "generate"

    def __init__(self, modality: Modality, spec: EncoderSpec) -> None:
        super().__init__()
        self.vocabulary = modality.vocabulary
        self.arranger = OpenEnd(self.vocabulary)
        self.head = PredictionHead(spec)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """Cross-entropy in nats summed over all ids that follow another, [SEP] where a record ends included, and their
        count.

        Metrics: ``accuracy``, and ``symbol_loss``, of the ids that are symbols: what count models can be held against.
        """
        labels_N = next_labels(batch, self.vocabulary)
        logits_NV = self.next_logits(encoder, encoder(batch)).float()
        loss_N = F.cross_entropy(logits_NV, labels_N, reduction="none", ignore_index=-100)
        count = (labels_N != -100).sum()
        low, high = self.vocabulary.targets
        symbol_N = (labels_N >= low) & (labels_N < high)
        metrics: Metrics = {
            "accuracy": ((logits_NV.argmax(-1) == labels_N).sum(), count),
            "symbol_loss": ((loss_N.detach() * symbol_N).sum(), symbol_N.sum()),
        }
        return loss_N.sum(), count, metrics

    def next_logits(self, encoder: Encoder, states_KD: Tensor) -> Tensor:
        """(K, V): of the id that follows each position, from the encoder's states there."""
        return self.head(states_KD, encoder.embeddings.table_VD)

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder and the head on every token; attention counts whole, as in PaLM, though half is masked."""
        return training_flops(
            model,
            lengths_squared_sum=batch.squares,
            positions=batch.tokens,
            predicted=batch.tokens,
            vocabulary=len(self.vocabulary),
        )

    def hub_weights(self) -> tuple[str, dict[str, Tensor]]:
        """The head under the names of ``ModernBertDecoderForCausalLM``; the decoder's weight is the embeddings'."""
        return "ModernBertDecoderForCausalLM", {
            "lm_head.dense.weight": self.head.dense.weight,
            "lm_head.norm.weight": self.head.norm.weight,
            "decoder.bias": self.head.bias,
        }
