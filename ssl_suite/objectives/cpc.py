"""Contrastive predictive coding (van den Oord et al. 2018, arXiv:1807.03748): tell the true future from others.

A causal encoder sums up the past of a position. For each of some steps ahead a linear map of that sum has to be nearer
to the code of what stands there than to the codes of other positions of the row (InfoNCE). A code is a layer-normed
linear map of a position's own content: of a frame's features, or of a token's embedding, both with a gradient. It holds
no place, of a picture's patch for instance: the encoder knows which place comes next, and would have nothing to learn.

The first step is the least at which positions share nothing they are made of, see ``objectives.apc``.

The negatives are drawn once a row and shared by all its positions and steps: one matrix product instead of a gather.
What is no other thing than the positive is left out for that pair: the same position, or the same token, whose code is
the same and could not be told from it.

Shapes: N positions, n of a row, R rows, S steps, J negatives of a row, Z width of a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import forward_flops
from ssl_suite.objectives import masking
from ssl_suite.objectives.apc import apart, content_N, later, pairs_N
from ssl_suite.objectives.base import Metrics, Objective


class ContrastivePredictive(Objective):
    """InfoNCE over S steps ahead, with J negatives a row and codes of Z numbers.

    Raises:
        SuiteError: steps so far ahead that no sequence has a pair.
    """

    causal: ClassVar[bool] = True
    predicts_ids: ClassVar[bool] = False

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        steps: Annotated[
            Count,
            Field(description="Positions ahead that are predicted, from the first that shares nothing (speech: 2)."),
        ] = 6,
        negatives: Annotated[
            Count, Field(description="Other positions of the row that the true one is told from.")
        ] = 64,
        code_width: Annotated[Count, Field(description="Numbers in which they are compared.")] = 128,
    ) -> None:
        super().__init__()
        first = apart(modality)
        most = modality.max_length - 2 - first  # a later one would have no pair in any sequence
        if steps > most:
            raise SuiteError(f"objective.steps={steps} should be between 1 and {most}.")
        self.vocabulary, self.signal = modality.vocabulary, modality.frame is not None
        self.steps, self.negatives, self.code_width = range(first, first + steps), negatives, code_width
        features = modality.frame.features if modality.frame is not None else spec.width
        self.code = nn.Linear(features, code_width, bias=False)
        self.ahead = nn.Linear(spec.width, steps * code_width, bias=False)
        for layer in (self.code, self.ahead):
            nn.init.trunc_normal_(layer.weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """InfoNCE in nats summed over all pairs of a position and a step ahead of it, and their count.

        Metrics: ``accuracy``, how often the positive ranks first, and ``chance`` of that: 1 of 1 + ``negatives``, or a
        little more, for a pair's negatives may hold the same token several times, or lack one that is no other thing.
        """
        inside_N = content_N(batch, self.vocabulary)
        shown, code_NZ = self.codes(encoder, batch)
        foreseen_NSZ = self.ahead(encoder(shown)).float().unflatten(1, (len(self.steps), self.code_width))
        valid_NS = torch.stack([pairs_N(batch, inside_N, step) for step in self.steps], 1)
        right_NS, wrong_NSJ, distinct_NS = self.scores(batch, inside_N, foreseen_NSZ, code_NZ, rng)
        total_NS = torch.logaddexp(right_NS, wrong_NSJ.logsumexp(2))
        loss, count = ((total_NS - right_NS) * valid_NS).sum(), valid_NS.sum()
        first_NS = (right_NS > wrong_NSJ.amax(2)) & valid_NS
        chance_NS = valid_NS / (1.0 + distinct_NS)
        return loss, count, {"accuracy": (first_NS.sum(), count), "chance": (chance_NS.sum(), count)}

    def codes(self, encoder: Encoder, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch as the encoder takes it, with the features that were computed on the way, and (N, Z) codes."""
        if self.signal:
            features_NG = encoder.embeddings.features(batch)
            batch, own_NG = replace(batch, features_NG=features_NG), features_NG
        else:
            own_NG = encoder.embeddings(batch)
        return batch, F.layer_norm(self.code(own_NG).float(), (self.code_width,))

    def scores(
        self, batch: Batch, inside_N: Tensor, foreseen_NSZ: Tensor, code_NZ: Tensor, rng: Rng
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled products with the true code (N, S) and the negatives' (N, S, J), and (N, S) how many of these differ.

        Negatives that are no other thing than the positive, or no content, score the lowest float: always far below.
        """
        rows, n = batch.rows, len(batch.values) // batch.rows
        picks_RJ = self.draw(inside_N, rows, rng)
        thing_N = torch.arange(len(inside_N), device=inside_N.device) if self.signal else batch.values
        thing_RJ = thing_N[picks_RJ]
        later_NS = torch.stack([later(thing_N, step) for step in self.steps], 1)
        other_NSJ = (later_NS.view(rows, -1, 1) != thing_RJ[:, None]) & inside_N[picks_RJ][:, None]
        other_NSJ = other_NSJ.view(rows * n, len(self.steps), -1)
        again_RJJ = (thing_RJ[:, :, None] == thing_RJ[:, None]).tril(-1)
        fresh_RJ = ~again_RJJ.any(2)
        distinct_NS = (other_NSJ.view(rows, n, -1, picks_RJ.shape[1]) & fresh_RJ[:, None, None]).sum(3)
        with torch.autocast(code_NZ.device.type, enabled=False):
            foreseen_NSZ = foreseen_NSZ * self.code_width**-0.5
            true_NSZ = torch.stack([later(code_NZ, step) for step in self.steps], 1)
            right_NS = (foreseen_NSZ * true_NSZ).sum(2)
            negative_RJZ = code_NZ.index_select(0, picks_RJ.flatten()).view(rows, -1, self.code_width)
            wrong_NSJ = foreseen_NSZ.reshape(rows, -1, self.code_width) @ negative_RJZ.mT
        wrong_NSJ = wrong_NSJ.view(other_NSJ.shape).masked_fill(~other_NSJ, torch.finfo(torch.float32).min)
        return right_NS, wrong_NSJ, distinct_NS.view(right_NS.shape)

    def draw(self, inside_N: Tensor, rows: int, rng: Rng) -> Tensor:
        """(R, J) positions of content, all different, where a row has as many; the rest is not content."""
        n = len(inside_N) // rows
        order_N = rng.bits(n).masked_fill(~inside_N, (1 << 63) - 1)
        return masking.smallest(order_N, rows, min(self.negatives, n)).view(rows, -1)

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder, each position of which looks at half of its sequence, the two maps and the products."""
        encoder = forward_flops(
            model, lengths_squared_sum=batch.squares / 2, positions=batch.tokens, predicted=0, vocabulary=0
        )
        maps = self.code.weight.numel() + self.ahead.weight.numel()
        products = len(self.steps) * self.negatives * self.code_width
        return 3 * (encoder + 2 * batch.tokens * (maps + products))
