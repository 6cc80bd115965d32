"""Bootstrap your own latent (Grill et al. 2020, BYOL, arXiv:2006.07733).

From one view of a sequence, predict what a slowly moving average of the network makes of another. There are no
negatives; that not everything becomes one vector is the work of the predictor and the moving average.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.base import Modality
from ssl_suite.models.flops import encoder_flops
from ssl_suite.models.sync_norm import convert
from ssl_suite.objectives import ema
from ssl_suite.objectives.base import Metrics
from ssl_suite.objectives.two_views import TwoViews, head_flops, project, sequences, spread


class Byol(TwoViews):
    """Args:
    modality, encoder, views, dropout, pooling: see ``TwoViews``.
    tau: of the moving average at the first step; it rises to 1 by a cosine.
    half_life: in its place, the share of the run's steps over which the target forgets half of what it was, at first.
        BYOL's 0.996 forgets half in 173 steps, 0.0006 of its 310,000.
    hidden: inner width of the heads; None is twice the encoder's width, as in the paper.
    projection: E, the width of what is predicted.

    Raises:
        SuiteError: a tau or a half-life outside [0, 1], or a width that is not positive.
    """

    selects: ClassVar[bool] = False  # the loss is lowest where everything is one vector

    def __init__(
        self,
        modality: Modality,
        encoder: Any,
        tau: float = 0.996,
        half_life: float | None = None,
        hidden: int | None = None,
        projection: int = 256,
        views: Literal["augment", "dropout"] = "augment",
        dropout: float = 0.1,
        pooling: Literal["mean", "cls"] = "mean",
    ) -> None:
        super().__init__(modality, encoder, views, dropout, pooling)
        if not 0 <= tau <= 1:
            raise SuiteError(f"objective.tau={tau} must lie between 0 and 1 (BYOL: 0.996).")
        if half_life is not None and not 0 < half_life <= 1:
            raise SuiteError(f"objective.half_life={half_life} must lie between 0 and 1 (a share of the steps).")
        for key, value in (("hidden", hidden), ("projection", projection)):
            if value is not None and value <= 0:
                raise SuiteError(f"objective.{key}={value} must be above 0.")
        self.tau, self.half_life, width = tau, half_life, encoder.width
        inner = hidden or 2 * width
        self.projector = convert(BYOLProjectionHead(width, inner, projection))
        self.predictor = convert(BYOLPredictionHead(projection, inner, projection))
        self.target = nn.ModuleDict(
            {"encoder": ema.copy_of(encoder, modality), "projector": ema.copy_of(self.projector)}
        )

    def forward(self, encoder: Any, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """2 - 2 cos(prediction, target), both ways, summed over the sequences, and their count.

        Metrics: ``similarity``, the mean cosine of prediction and target; ``target_std``, see ``spread``.
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
            "target_std": spread(unit_AE, real_B.repeat(2)),
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
        ema.follow(self.target["encoder"], encoder, tau)
        ema.follow(self.target["projector"], self.projector, tau)

    def health(self, encoder: Any) -> dict[str, Tensor]:
        """``target_gap``: how far the target is from the encoder, relative to its weights."""
        return {"target_gap": ema.gap(self.target["encoder"], encoder)}

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of both views, as if they were as long as their sequence: through the network and back, and the target."""
        both, encoding = 2 * sequences(batch), 2 * encoder_flops(model, batch)
        online = encoding + both * head_flops(self.projector, self.predictor)
        return 3 * online + encoding + both * head_flops(self.projector)
