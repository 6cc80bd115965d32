"""Regression of a signal's frames: altered ones on a line (TERA), left-out ones on a grid (MAE).

Nothing is clustered: what is predicted are the log-mel features of speech and the pixels of pictures themselves. Which
of the two ways fits follows from what a frame is: the frames of a recording stand on a line and differ little from
their neighbours, so spans of them are altered; the patches of a picture stand on a grid, and so many of them can be
left out that the encoder's work shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count, Share
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.base import Metrics, Objective
from ssl_suite.objectives.mae import Mae
from ssl_suite.objectives.tera import Tera


class Frames(Objective):
    """``Tera`` or ``Mae``, by the ``frame.grid`` of a signal.

    Raises:
        SuiteError: a modality of tokens, or settings that do not fit its frames.
    """

    predicts_ids: ClassVar[bool] = False

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        time_rate: Annotated[
            float, Field(gt=0, lt=1, description="Speech: share of the frames that are altered.")
        ] = 0.15,
        time_width: Annotated[
            Count, Field(description="Speech: positions of 20 ms altered in a row (TERA: 7 frames of 10 ms).")
        ] = 4,
        frequency_width: Annotated[
            float,
            Field(
                ge=0, lt=1, description="Speech: widest band that is blanked, share of the channels; 0 = Mockingjay."
            ),
        ] = 0.2,
        noise_rate: Annotated[
            Share, Field(description="Speech: probability that noise is added to a sequence's features (TERA: 0.15).")
        ] = 0.0,
        mask_ratio: Annotated[
            float, Field(gt=0, lt=1, description="Images: share of patches that the encoder does not see.")
        ] = 0.75,
        decoder_layers: Annotated[
            Count, Field(description="Images: depth of the decoder (MAE: 8 for an encoder of 24).")
        ] = 2,
        decoder_width: Annotated[
            Count | None,
            Field(multiple_of=64, description="Images: width of the decoder; null = half the encoder's, rounded up."),
        ] = None,
    ) -> None:
        super().__init__()
        if not isinstance(modality, SignalModality):
            raise SuiteError(f"objective=frames with modality={modality.name}: {self.refuses(type(modality))}")
        self.part: Tera | Mae
        if modality.frame.grid is None:
            self.part = Tera(modality, spec, time_rate, time_width, frequency_width, noise_rate)
        else:
            self.part = Mae(modality, spec, mask_ratio, decoder_layers, decoder_width)

    @classmethod
    def refuses(cls, modality: type[Modality]) -> str:
        """Tokens have no frames."""
        return (
            "" if issubclass(modality, SignalModality) else "it predicts frames and tokens are none; try objective=mlm."
        )

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The loss of the part; see there for its metrics."""
        return self.part(encoder, batch, rng)

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder on what it sees, and of the head or decoder."""
        return self.part.flops(model, batch)
