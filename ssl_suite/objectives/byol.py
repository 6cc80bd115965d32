"""Bootstrap your own latent (Grill et al. 2020, BYOL, arXiv:2006.07733).

From one view of a sequence, predict what a slowly moving average of the network makes of another. There are no
negatives; that not everything becomes one vector is the work of the predictor and the moving average.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count, Share
from ssl_suite.modalities.base import Modality
from ssl_suite.models.flops import encoder_flops
from ssl_suite.models.sync_norm import convert
from ssl_suite.objectives import ema
from ssl_suite.objectives.base import Metrics
from ssl_suite.objectives.ema import HalfLife
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


class Byol(TwoViews):
    """Two networks of which the slow one is predicted, through a projection and a prediction head of E outputs."""

    selects: ClassVar[bool] = False  # the loss is lowest where everything is one vector

    def __init__(
        self,
        modality: Modality,
        encoder: Any,
        tau: Annotated[
            Share, Field(description="What the moving average keeps at the first step; rises to 1 by a cosine.")
        ] = 0.996,
        half_life: HalfLife = None,
        hidden: Annotated[
            Count | None,
            Field(description="Inner width of the heads; null = twice the encoder's width, as in the paper."),
        ] = None,
        projection: Annotated[Count, Field(description="Width of the vectors that are predicted.")] = 256,
        views: Views = "augment",
        dropout: DropoutShare = 0.1,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__(modality, encoder, views, dropout, pooling)
        self.tau, self.half_life, width = tau, half_life, encoder.width
        inner = hidden or 2 * width
        self.projector = convert(BYOLProjectionHead(width, inner, projection))
        self.predictor = convert(BYOLPredictionHead(projection, inner, projection))
        self.target = nn.ModuleDict(
            {"encoder": ema.make_teacher(encoder, modality), "projector": ema.make_teacher(self.projector)}
        )

    def forward(self, encoder: Any, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """2 - 2 cos(prediction, target), both ways, summed over the sequences, and their count.

        Metrics: ``similarity``, the mean cosine of prediction and target; ``target_std``, see ``embedding_std``.
        """
        real_B, drawn = batch.real_B, self.views(batch, rng)
        predicted = [self._predict(encoder, view, real_B) for view in drawn]
        with torch.no_grad():
            targets = [self._target(view, real_B) for view in drawn]
        with torch.autocast(real_B.device.type, enabled=False):
            first_B = F.cosine_similarity(predicted[0].float(), targets[1].float())
            second_B = F.cosine_similarity(predicted[1].float(), targets[0].float())
        count, cosines_B = real_B.sum(), (first_B + second_B) * real_B
        unit_AE = F.normalize(torch.cat(targets).float(), dim=1)
        metrics: Metrics = {
            "similarity": (cosines_B.detach().sum(), 2 * count),
            "target_std": embedding_std(unit_AE, real_B.repeat(2)),
        }
        return (4 * real_B - 2 * cosines_B).sum(), count, metrics

    def _predict(self, encoder: Any, view: Any, real_B: Tensor) -> Tensor:
        """(B, E). A view at a time: the paper's batch norms see one view."""
        projected_BE = project(self.projector, self.pool(encoder, view), real_B)
        return project(self.predictor, projected_BE, real_B)

    def _target(self, view: Any, real_B: Tensor) -> Tensor:
        return project(self.target["projector"], self.pool(self.target["encoder"], view), real_B)

    def after_step(self, encoder: Any, done: int, steps: int) -> None:
        """The target follows the encoder and its projector."""
        start = self.tau if self.half_life is None else ema.lasting_tau(self.half_life, steps)
        tau = ema.cosine_tau(start, done, steps)
        ema.update_ema(self.target["encoder"], encoder, tau)
        ema.update_ema(self.target["projector"], self.projector, tau)

    def health(self, encoder: Any) -> dict[str, Tensor]:
        """``target_gap``: how far the target is from the encoder, relative to its weights."""
        return {"target_gap": ema.ema_distance(self.target["encoder"], encoder)}

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of both views, as if they were as long as their sequence: through the network and back, and the target."""
        both, encoding = 2 * sequences(batch), 2 * encoder_flops(model, batch)
        online = encoding + both * head_flops(self.projector, self.predictor)
        return 3 * online + encoding + both * head_flops(self.projector)
