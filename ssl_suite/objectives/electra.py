"""ELECTRA (Clark et al. 2020, arXiv:2003.10555): find the tokens that a small generator has replaced.

The generator is a masked language model: it fills the hidden positions with samples of its own, and the encoder, the
discriminator, says of every position whether it still holds the original. So each position teaches something, not the
hidden 15 % alone. A sample that happens to be the original counts as original. The generator is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count, Positive
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.base import Metrics, Objective
from ssl_suite.objectives.masking import MaskRate
from ssl_suite.objectives.mlm import MaskedLM, weighted_auxiliary_loss

UNIT = 8  # widths of heads are multiples of it: what flash kernels take, and even, as rotary positions need it


class Electra(MaskedLM):
    """A generator, which sees [MASK] at all hidden positions, and the encoder as the discriminator.

    Raises:
        SuiteError: a generator deeper than the encoder, or overlapping k-mers.
    """

    wraps = False
    command = ""  # the encoder that is kept fills nothing
    selects = False  # the better the generator, the harder the choice: the lowest sum is not the best encoder

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        mask_rate: MaskRate = 0.15,
        generator_width: Annotated[
            float,
            Field(gt=0, le=1, description="Width, heads and inner width of the generator as shares of the encoder's."),
        ] = 0.25,
        generator_layers: Annotated[
            Count | None, Field(description="The generator's transformer blocks; null = as many as the encoder's.")
        ] = None,
        discriminator_weight: Annotated[
            Positive, Field(description="Of the loss of replaced or not, beside the generator's.")
        ] = 50.0,
    ) -> None:
        super().__init__(modality, spec, mask_rate, mask_share=1.0, random_share=0.0)
        if self.vocabulary.reach > 1:
            raise SuiteError(
                "objective=electra with overlapping k-mers: a replaced one disagrees with the letters of its "
                f"neighbours, which gives it away. Set modality.stride={self.vocabulary.reach}, or use objective=mlm."
            )
        self.weight = discriminator_weight
        small = generator_spec(spec, generator_width, generator_layers)
        self.generator = Encoder(small, _Projected(small, spec.width))
        self.guess = self.head
        self.guess.dense = nn.Linear(small.width, spec.width, bias=False)  # from the generator's states to the table's
        del self.head  # the encoder's own, which predicts no tokens
        self.dense, self.replaced = nn.Linear(spec.width, spec.width), nn.Linear(spec.width, 1)
        for layer in (self.guess.dense, self.dense, self.replaced):
            nn.init.trunc_normal_(layer.weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)
        for layer in (self.dense, self.replaced):
            nn.init.zeros_(layer.bias)

    @classmethod
    def refuses(cls, modality: type[Modality]) -> str:
        """Signals: a sampled unit has no frame that could stand in the input."""
        if issubclass(modality, SignalModality):
            return (
                f"it replaces tokens, and a unit of {modality.name} has no frame to put in; try objective=mlm or span"
            )
        return ""

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The discriminator's binary cross-entropy in nats summed over all tokens, times ``discriminator_weight``, and
        their count. To the sum of each row the generator's mean cross-entropy is added, times the row's count: a row
        that is mostly padding, where nearly every token is hidden, weighs as little as it holds.

        Metrics: ``masked_loss`` and ``masked_accuracy`` of the generator, which count models can be held against, the
        latter as ``generator_accuracy`` too; ``discriminator_loss`` and ``discriminator_accuracy`` over all tokens,
        ``recall`` over the replaced ones, and ``replaced``, their share of all tokens.
        """
        picks_K, labels_K, shown_N = self.corrupt(batch, rng)
        logits_KV = self.fill(encoder, batch.with_values(shown_N), picks_K)
        loss_K, metrics = self.score(logits_KV, labels_K, shown_N[picks_K])
        metrics["generator_accuracy"] = metrics.pop("accuracy")
        filled_N = self.sample(logits_KV.detach(), batch, picks_K, labels_K, rng)

        other_N = filled_N != batch.values
        logits_N = self.discriminate(encoder(batch.with_values(filled_N)))
        found_N = F.binary_cross_entropy_with_logits(logits_N, other_N.float(), reduction="none")
        token_N = self.tokens_N(batch.values)
        said_N, tokens = (logits_N > 0) & token_N, token_N.sum()
        metrics["discriminator_loss"] = (found_N.detach() * token_N).sum(), tokens
        metrics["discriminator_accuracy"] = ((said_N == other_N) & token_N).sum(), tokens
        metrics["recall"] = (said_N & other_N).sum(), other_N.sum()
        metrics["replaced"] = other_N.sum(), tokens
        loss = self.weight * (found_N * token_N).sum() + weighted_auxiliary_loss(
            loss_K, labels_K != -100, token_N, batch.rows
        )
        return loss, tokens, metrics

    def fill(self, encoder: Encoder, shown: Batch, picks_K: Tensor) -> Tensor:
        """(K, V) float32 logits of the generator at the hidden positions; it shares the encoder's embedding table."""
        table_VD = encoder.embeddings.table_VD
        looked_up_ND = F.embedding(shown.values, table_VD, padding_idx=self.vocabulary.pad)
        states_NG = self.generator(replace(shown, features_NG=looked_up_ND))
        return self.guess(states_NG[picks_K], table_VD).float()

    def sample(self, logits_KV: Tensor, batch: Batch, picks_K: Tensor, labels_K: Tensor, rng: Rng) -> Tensor:
        """(N,) ids with a draw from the generator's distribution at each hidden position, by inversion.

        One uniform number a position: the Gumbel trick would take V of them. Special tokens are never drawn.
        """
        low, high = self.vocabulary.targets
        heaped_KA = logits_KV[:, low:high].softmax(-1).cumsum(-1)
        level_K1 = rng.uniform(len(picks_K) // batch.rows)[:, None] * heaped_KA[:, -1:]
        drawn_K = low + torch.searchsorted(heaped_KA, level_K1, right=True).squeeze(1).clamp(max=high - low - 1)
        return batch.values.index_copy(0, picks_K, torch.where(labels_K != -100, drawn_K, batch.values[picks_K]))

    def discriminate(self, states_ND: Tensor) -> Tensor:
        """(N,) float32 logits, above 0 where a position seems to have been replaced."""
        return self.replaced(F.gelu(self.dense(states_ND))).squeeze(-1).float()

    def tokens_N(self, values: Tensor) -> Tensor:
        """(N,) bool: not [CLS], [SEP] or [PAD]."""
        v = self.vocabulary
        return (values != v.cls) & (values != v.sep) & (values != v.pad)

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder and the generator on every token, and of their heads."""
        width, small = model["width"], self.generator.spec
        hidden = self.masker.rate * batch.tokens
        generator = encoder_flops(vars(small), batch) + 2 * batch.tokens * width * small.width
        generator += 2 * hidden * width * (small.width + len(self.vocabulary))
        discriminator = encoder_flops(model, batch) + 2 * batch.tokens * (width**2 + width)
        return 3 * (generator + discriminator)

    def hub_weights(self) -> tuple[str, dict[str, Tensor]]:
        """The encoder alone: its head predicts no tokens."""
        return Objective.hub_weights(self)


class _Projected(nn.Module):
    """The generator's embedder: rows of the encoder's table, looked up by its caller, to its own width."""

    def __init__(self, spec: EncoderSpec, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, spec.width, bias=False)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        return self.norm(self.map(batch.features_NG))


def generator_spec(spec: EncoderSpec, share: float, layers: int | None) -> EncoderSpec:
    """The shapes of a generator of about ``share`` of the encoder's width, as deep or less deep.

    Raises:
        SuiteError: see ``Electra``.
    """
    depth = spec.layers if layers is None else layers
    if depth > spec.layers:
        raise SuiteError(
            f"objective.generator_layers={layers} must be between 1 and the model's {spec.layers}; null takes them all."
        )
    heads = max(1, round(share * spec.heads))
    width = heads * max(UNIT, UNIT * round(share * spec.width / heads / UNIT))
    return replace(
        spec,
        layers=depth,
        width=width,
        heads=heads,
        mlp_width=max(UNIT, UNIT * round(share * spec.mlp_width / UNIT)),
        windows=spec.windows[:depth],
        thetas=spec.thetas[:depth],
        init_std=spec.init_std * (spec.width / width) ** 0.5,  # the same size of activations, as in ``from_section``
    )
