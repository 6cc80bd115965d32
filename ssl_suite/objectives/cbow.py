"""Continuous bag of words (Mikolov et al. 2013, "Efficient estimation of word representations in vector space",
arXiv:1301.3781): predict a symbol from the mean of its neighbours' vectors.

No layers and no norms: a table of input vectors, which is the encoder's embedding table, and a table of output vectors.
What it learns is one vector a symbol, the static embeddings that contextual ones are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core import atomic
from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import Encoder
from ssl_suite.objectives import masking
from ssl_suite.objectives.base import Metrics, Objective

VECTORS = "vectors.txt"  # of an exported folder


class CBOW(Objective):
    """Two tables of vectors, of which the input one is the encoder's.

    Only that is trained: the branches of the encoder's layers are 0, so that its states are the normed embeddings.
    """

    reads: ClassVar[Literal["frames", "ids"]] = "ids"
    layers: ClassVar[int | None] = 1  # transformers opens no model without one; its branches add nothing

    def __init__(
        self,
        modality: Modality,
        encoder: Encoder,
        window: Annotated[
            Count,
            Field(description="Neighbours on each side; of overlapping k-mers, those that share no letter."),
        ] = 5,
        rate: Annotated[
            float,
            Field(gt=0, le=1, description="Share of the tokens present that are predicted; less than 1 saves memory."),
        ] = 1.0,
    ) -> None:
        super().__init__()
        self.vocabulary = modality.vocabulary
        self.rate, self.masker = rate, masking.Masker(self.vocabulary, rate)
        table_VD = encoder.embeddings.table_VD
        encoder.requires_grad_(False)
        for name, weight in encoder.named_parameters():
            if name.endswith("Wo.weight"):
                nn.init.zeros_(weight)
        table_VD.requires_grad_(True)
        self.output = nn.Linear(table_VD.shape[1], table_VD.shape[0], bias=False)
        nn.init.zeros_(self.output.weight)  # as word2vec starts: every symbol is equally likely
        self.steps_W: Tensor  # W = 2 * window
        ahead = [self.vocabulary.widened(step) for step in range(1, window + 1)]
        sides = [-step for step in reversed(ahead)] + ahead
        self.register_buffer("steps_W", torch.tensor(sides), persistent=False)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """Cross-entropy in nats over the whole vocabulary, summed over the predicted positions, and their count.

        Positions are predicted, and count as neighbours, where a symbol stands that says something: not [CLS], [SEP],
        [PAD], [UNK], nor DNA's N. One without a neighbour is left out.
        """
        known_N = masking.maskable_N(batch.values, self.vocabulary)
        picks_K, valid_K = self.choose(batch, rng, known_N)
        mean_KD, any_K = self.context(encoder.embeddings.table_VD, batch, picks_K, known_N)
        labels_K = batch.values[picks_K].masked_fill(~(valid_K & any_K), -100)
        logits_KV = self.output(mean_KD).float()
        loss = F.cross_entropy(logits_KV, labels_K, reduction="sum", ignore_index=-100)
        count = (labels_K != -100).sum()
        return loss, count, {"accuracy": ((logits_KV.argmax(-1) == labels_K).sum(), count)}

    def choose(self, batch: Batch, rng: Rng, known_N: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) positions as indices into N, and (K,) whether they are predicted; all of them draw nothing."""
        if self.rate == 1:
            return torch.arange(len(known_N), device=known_N.device), known_N
        return self.masker(batch, rng)

    def context(self, table_VD: Tensor, batch: Batch, picks_K: Tensor, known_N: Tensor) -> tuple[Tensor, Tensor]:
        """(K, D) the mean vector of each pick's neighbours within its sequence, and (K,) whether it has any."""
        sequence_N = batch.sequence_ids_N()
        places_KW = picks_K[:, None] + self.steps_W
        inside_KW = (places_KW >= 0) & (places_KW < len(sequence_N))
        places_KW = places_KW.clamp(0, len(sequence_N) - 1)
        counts_KW = inside_KW & known_N[places_KW] & (sequence_N[places_KW] == sequence_N[picks_K, None])
        number_K1 = counts_KW.sum(1, keepdim=True)
        weights_KW = counts_KW.to(table_VD.dtype) / number_K1.clamp(min=1)
        # A weighted sum of rows that never holds (K, W, D): 16 times the positions' states at window=8.
        mean_KD = F.embedding_bag(batch.values[places_KW], table_VD, mode="sum", per_sample_weights=weights_KW)
        return mean_KD, number_K1[:, 0] > 0

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the product with the output vectors, forward and backward; sums of vectors are no matrix product."""
        classes, width = self.output.weight.shape
        return 3.0 * 2 * self.rate * batch.tokens * width * classes

    def write_beside(self, encoder: nn.Module, modality: Modality, folder: Path) -> None:
        """The input vectors as ``vectors.txt`` in word2vec's format, special tokens left out."""
        table_VD = encoder.get_parameter("embeddings.tok_embeddings.weight").detach().float().cpu()
        vocabulary = modality.vocabulary
        special = {vocabulary.pad, vocabulary.unk, vocabulary.cls, vocabulary.sep, vocabulary.mask}
        ids = [i for i in range(len(vocabulary)) if i not in special]
        word2vec_text(folder / VECTORS, [vocabulary.tokens[i] for i in ids], table_VD[ids])


def word2vec_text(path: Path, tokens: Sequence[str], table_VD: Tensor) -> None:
    """Write vectors as word2vec's text: a line with V and D, then a line a token, as gensim's
    ``KeyedVectors.load_word2vec_format`` reads it.

    White space inside a token would end it there and is written as ``\\u`` and its number, as in JSON.
    """
    with atomic.replacing(path) as unfinished, open(unfinished, "w", encoding="utf-8", newline="\n") as file:
        file.write(f"{table_VD.shape[0]} {table_VD.shape[1]}\n")
        for token, vector in zip(tokens, table_VD.tolist(), strict=True):
            name = "".join(f"\\u{ord(letter):04x}" if letter.isspace() else letter for letter in token)
            file.write(f"{name} {' '.join(f'{x:.7g}' for x in vector)}\n")
