"""Contrastive learning of two views (Chen et al. 2020, SimCLR, arXiv:2002.05709; on text Gao et al. 2021, SimCSE).

Two random views of every sequence; each view's projection should be nearer to its partner's than to that of any other
view in the step, on whatever process it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count, Positive
from ssl_suite.modalities.base import Modality
from ssl_suite.models.flops import encoder_flops
from ssl_suite.models.sync_norm import convert
from ssl_suite.objectives import gather
from ssl_suite.objectives.base import Metrics
from ssl_suite.objectives.two_views import (
    DropoutShare,
    Pooling,
    TwoViews,
    Views,
    embedding_std,
    head_flops,
    project,
    sequences,
)


class SimCLR(TwoViews):
    """The contrastive loss of two views, through a projection head of E outputs."""

    def __init__(
        self,
        modality: Modality,
        encoder: Any,
        temperature: Annotated[
            Positive,
            Field(description="Similarities are divided by it (0.1 for ImageNet, 0.5 for CIFAR, 0.05 for SimCSE)."),
        ] = 0.1,
        hidden: Annotated[
            Count | None,
            Field(description="Inner width of the projection head; null = the encoder's width, as in the paper."),
        ] = None,
        projection: Annotated[Count, Field(description="Width of the vectors that are compared.")] = 128,
        views: Views = "augment",
        dropout: DropoutShare = 0.1,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__(modality, encoder, views, dropout, pooling)
        self.temperature, self.width = temperature, projection
        self.projector = convert(SimCLRProjectionHead(encoder.width, hidden or encoder.width, projection))

    def forward(self, encoder: Any, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The cross-entropy of finding each view's partner, in nats, summed over the views of this process.

        Metrics: ``accuracy``, the share of views whose partner is the nearest; ``alignment``, the mean squared distance
        of partners, and ``uniformity``, the logarithm of the mean Gaussian potential of views that are no partners
        (Wang and Isola 2020, arXiv:2005.10242; both are better when lower); ``projection_std``, see ``embedding_std``.
        """
        vectors_AD = self.pool(encoder, self.both(batch, rng))
        real_A = batch.real_B.repeat(2)
        projected_AE = project(self.projector, vectors_AD, real_A)
        with torch.autocast(projected_AE.device.type, enabled=False):
            z_AE = F.normalize(projected_AE.float(), dim=1)
            loss, metrics = nt_xent(z_AE, real_A, self.temperature)
        return loss, real_A.sum(), metrics | {"projection_std": embedding_std(z_AE, real_A)}

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of both views as if they were as long as their sequence, their projections, and their similarities."""
        both = 2 * sequences(batch)
        projector = both * head_flops(self.projector)
        similarities = 2 * both * both * gather.world() * self.width
        return 3 * (2 * encoder_flops(model, batch) + projector + similarities)


def nt_xent(z_AE: Tensor, real_A: Tensor, temperature: float) -> tuple[Tensor, Metrics]:
    """The normalised temperature-scaled cross-entropy, summed over this process's real views.

    Views of all processes are what a view is told apart from, and gradients reach them wherever they are. Shapes are
    constant: views that are not real are struck out, not left out. ``lightly.loss.NTXentLoss`` has no such mask.

    Args:
        z_AE: unit vectors, the first views of all sequences, then the second ones in the same order.
        real_A: whether each carries data.
        temperature: divides the similarities.

    Returns:
        The loss, and the metrics that its similarities give. M is the number of views of all processes.
    """
    a = z_AE.shape[0]
    all_ME = gather.gathered(torch.cat((z_AE, real_A[:, None].to(z_AE)), dim=1))
    real_M = all_ME[:, -1] > 0
    column_M = torch.arange(all_ME.shape[0], device=z_AE.device)
    own_A = gather.rank() * a + torch.arange(a, device=z_AE.device)
    partner_A = gather.rank() * a + torch.arange(a, device=z_AE.device).roll(a // 2)

    cosine_AM = z_AE @ all_ME[:, :-1].T
    struck_AM = ~real_M | (column_M == own_A[:, None])
    # Rows that are not real keep all columns: their loss counts nothing, but must be a number for its gradient to be 0.
    logits_AM = (cosine_AM / temperature).masked_fill(struck_AM & real_A[:, None], float("-inf"))
    loss = (F.cross_entropy(logits_AM, partner_A, reduction="none") * real_A).sum()

    with torch.no_grad():
        count = real_A.sum()
        right = ((logits_AM.argmax(1) == partner_A) & real_A).sum()
        distance = ((2 - 2 * cosine_AM.gather(1, partner_A[:, None])[:, 0]) * real_A).sum()
        apart_AM = ~struck_AM & real_A[:, None] & (column_M != partner_A[:, None])
        # exp(-2 |x - y|^2) of unit vectors; its mean over all pairs, of which this process has its rows
        potential, pairs = gather.total(
            torch.stack(((torch.exp(4 * cosine_AM - 4) * apart_AM).sum(), apart_AM.sum().to(z_AE)))
        ).unbind()
        some = (pairs > 0).to(z_AE)
        uniformity = torch.log(potential / pairs.clamp(min=1) + (1 - some))
    return loss, {"accuracy": (right, count), "alignment": (distance, count), "uniformity": (uniformity, some)}
