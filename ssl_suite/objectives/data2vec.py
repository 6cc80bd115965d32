"""Regression of a teacher's states (Baevski et al. 2022, data2vec, arXiv:2202.03555), the same for all modalities.

The teacher is a moving average of the encoder and sees everything; the encoder sees part of the positions masked and
predicts there the mean of the teacher's upper layers, which depend on the whole sequence.

Unlike the paper's: the targets are the states after each block's residual connection (it takes the output of the
feed-forward layers before it), layer norm for all modalities (it takes instance norm for speech), every hidden token
shows [MASK] (BERT's 80 %), and the teacher's embedder is a moving average too (the paper shares it for speech).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count, Share
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives import blocks, ema
from ssl_suite.objectives.base import Metrics, Objective
from ssl_suite.objectives.ema import HalfLife

TOKENS, SIGNALS = (0.15, 1), (0.5, 10)  # mask_rate and span: BERT's, and wav2vec 2.0's (49 % in spans of 10)


class Data2Vec(Objective):
    """The encoder's head predicts what a teacher, its moving average, makes of the whole sequence.

    Raises:
        SuiteError: more upper layers than the model has.
    """

    predicts_ids: ClassVar[bool] = False
    selects: ClassVar[bool] = False  # the targets move: a low loss may mean easy ones

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        encoder: Encoder,
        mask_rate: Annotated[
            float | None,
            Field(gt=0, lt=1, description="Share of the tokens present that are predicted; null = 0.15, signals: 0.5."),
        ] = None,
        span: Annotated[
            Count | Literal["geometric", "blocks"] | None,
            Field(
                description="Tokens (sub-words: words) hidden in a row, `geometric` or `blocks` of a picture; "
                "null = 1, signals: 10."
            ),
        ] = None,
        top_layers: Annotated[
            Count | None,
            Field(
                description="Upper layers of the teacher whose mean is predicted; null = two thirds of them "
                "(the paper: 8 of 12 for speech, 10 for text, 6 for images)."
            ),
        ] = None,
        beta: Annotated[
            float,
            Field(
                ge=0,
                description="Where the smooth L1 loss turns from a square into a line; 0 = squared error "
                "(the paper: 4 for text, 2 for images, 0 for speech).",
            ),
        ] = 2.0,
        tau_start: Annotated[Share, Field(description="What the teacher keeps at the first step …")] = 0.999,
        tau_end: Annotated[Share, Field(description="… and at the last.")] = 0.9999,
        tau_steps: Annotated[
            Share, Field(description="Share of the steps over which it rises from one to the other.")
        ] = 0.1,
        half_life: HalfLife = None,
    ) -> None:
        super().__init__()
        own_rate, own_span = TOKENS if modality.frame is None else SIGNALS
        self.vocabulary = modality.vocabulary
        self.mask_rate = own_rate if mask_rate is None else mask_rate
        self.top_layers = max(1, round(spec.layers * 2 / 3)) if top_layers is None else top_layers
        self.beta, self.taus, self.tau_steps = beta, (tau_start, tau_end), tau_steps
        self.half_life = half_life
        if self.top_layers > spec.layers:
            raise SuiteError(f"objective.top_layers={top_layers} must lie between 1 and model.layers={spec.layers}.")
        self.masker = blocks.masker(modality, self.mask_rate, own_span if span is None else span)
        self.head = nn.Linear(spec.width, spec.width)
        nn.init.trunc_normal_(self.head.weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)
        nn.init.zeros_(self.head.bias)
        self.teacher = ema.make_teacher(encoder, modality)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The loss of each predicted position, a mean over its D numbers, summed over positions, and their count.

        Metrics: ``target_std`` and ``prediction_std``, over the predicted positions of a row, averaged over D. Targets
        have unit variance over D at each position; over positions it falls to 0 where all become one (collapse).
        """
        picks_K, valid_K, shown_N = self.hide(batch, rng)
        targets_KD = self.targets(batch, picks_K)
        predicted_KD = self.head(encoder(batch.with_values(shown_N))[picks_K]).float()
        if self.beta > 0:
            loss_KD = F.smooth_l1_loss(predicted_KD, targets_KD, reduction="none", beta=self.beta)
        else:
            loss_KD = F.mse_loss(predicted_KD, targets_KD, reduction="none")
        metrics: Metrics = {
            "target_std": _row_std(targets_KD, valid_K, batch.rows),
            "prediction_std": _row_std(predicted_KD.detach(), valid_K, batch.rows),
        }
        return (loss_KD.mean(1) * valid_K).sum(), valid_K.sum(), metrics

    def hide(self, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the masks.

        Returns:
            picks_K: (K,) int64 indices into N. valid_K: (K,) bool, False where nothing is hidden.
            shown_N: (N,) int64 ids that the encoder sees; [MASK] stands in for a signal's frames as well.
        """
        picks_K, valid_K = self.masker(batch, rng)
        shown_K = batch.values[picks_K].masked_fill(valid_K, self.vocabulary.mask)
        return picks_K, valid_K, batch.values.index_copy(0, picks_K, shown_K)

    @torch.no_grad()
    def targets(self, batch: Batch, picks_K: Tensor) -> Tensor:
        """(K, D) float32: layer norm without parameters of the mean over the teacher's upper layers, each normalised so
        that none outweighs the others."""
        states = self.teacher.layer_states(batch)[-self.top_layers :]
        normal = [F.layer_norm(x_ND[picks_K].float(), x_ND.shape[1:]) for x_ND in states]
        return F.layer_norm(torch.stack(normal).mean(0), normal[0].shape[1:])

    def after_step(self, encoder: nn.Module, done: int, steps: int) -> None:
        """The teacher follows the encoder."""
        tau = ema.linear_tau(*self.taus, done, self.tau_steps * steps)
        if self.half_life is not None:
            tau = ema.lasting_tau(self.half_life, steps)
        ema.update_ema(self.teacher, encoder, tau)

    def health(self, encoder: nn.Module) -> dict[str, Tensor]:
        """``teacher_gap``: how far the teacher is from the encoder, relative to its weights."""
        return {"teacher_gap": ema.ema_distance(self.teacher, encoder)}

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder on every token and back, the teacher on every token, and the head on the predicted ones."""
        head = 2 * self.mask_rate * batch.tokens * model["width"] ** 2
        return 4 * encoder_flops(model, batch) + 3 * head


def _row_std(x_KD: Tensor, valid_K: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The standard deviation over a row's valid positions, averaged over D: its sum over rows, and how many had two."""
    x_RkD, valid_Rk1 = x_KD.unflatten(0, (rows, -1)), valid_K.view(rows, -1, 1)
    count_R1 = valid_Rk1.sum(1)
    mean_R1D = (x_RkD * valid_Rk1).sum(1, keepdim=True) / count_R1.clamp(min=1)[:, None]
    variance_RD = ((x_RkD - mean_R1D).square() * valid_Rk1).sum(1) / count_R1.clamp(min=1)
    enough_R = count_R1[:, 0] > 1
    return (variance_RD.sqrt().mean(1) * enough_R).sum(), enough_R.sum()
