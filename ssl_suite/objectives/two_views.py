"""What SimCLR and BYOL share: two random views of every sequence, and a vector of each.

A view is what the modality's ``augment`` draws, or the sequence itself under dropout (SimCSE, Gao et al. 2021,
arXiv:2104.08821).

Shapes: A vectors (of one view or of both, padding sequences included), E width of a projection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.base import Modality
from ssl_suite.models import sync_norm
from ssl_suite.models.dropout import Dropout
from ssl_suite.objectives import gather
from ssl_suite.objectives.base import Objective


@dataclass(frozen=True)
class View:
    """Attributes:
    batch: what the encoder sees.
    dropout: the encoder's, if any.
    split: the trailing [PAD] of each slot is a sequence of its own; contents stand at even places.
    """

    batch: Batch
    dropout: Dropout | None = None
    split: bool = False


Views = Annotated[
    Literal["augment", "dropout"],
    Field(description="`augment` = the modality's random views; `dropout` = the same tokens twice, under dropout."),
]
DropoutShare = Annotated[
    float,
    Field(gt=0, lt=1, description="Of views=dropout: the share of the embeddings and of each branch that is dropped."),
]
Pooling = Annotated[
    Literal["mean", "cls"],
    Field(description="A sequence's vector: the mean over its positions, or its [CLS]."),
]


class TwoViews(Objective):
    """The base of objectives on two views.

    Args:
        modality: draws the views.
        encoder: what is trained, a transformer or a convnet, whose batch norms become ``SyncNorm``.
        views, dropout, pooling: settings, see their types.

    Raises:
        SuiteError: [CLS] asked of a convnet.
    """

    predicts_ids: ClassVar[bool] = False
    whole: ClassVar[bool] = True
    sequences: ClassVar[int] = 64
    pooled: ClassVar[bool] = True

    def __init__(
        self,
        modality: Modality,
        encoder: Any,
        views: Views,
        dropout: DropoutShare,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        if pooling == "cls" and not hasattr(encoder, "layer_states"):
            raise SuiteError("objective.pooling=cls: a convnet has no [CLS]; use objective.pooling=mean.")
        sync_norm.convert(encoder)  # a convnet's, so that one process and eight see the same statistics
        self.modality, self.vocabulary = modality, modality.vocabulary
        self.kind, self.dropout, self.pooling = views, dropout, pooling

    def views(self, batch: Batch, rng: Rng) -> tuple[View, View]:
        """Two views of every sequence, drawn on the batch's device."""
        return self._view(batch, rng), self._view(batch, rng)

    def both(self, batch: Batch, rng: Rng) -> View:
        """Two views of every sequence as one batch: the first view of all, then the second of all."""
        first, second = self.views(batch, rng)
        return View(joined(first.batch, second.batch), first.dropout, first.split)

    def _view(self, batch: Batch, rng: Rng) -> View:
        if self.kind == "dropout":
            return View(batch, Dropout(rng, self.dropout))
        with torch.no_grad():
            drawn = self.modality.augment(batch, rng)
        frame = self.modality.frame
        if frame is not None and frame.grid is not None:  # a crop of a picture fills it: nothing is left over
            return View(drawn)
        return View(drawn.without_padding(self.vocabulary.pad), split=True)

    def pool(self, encoder: Any, view: View) -> Tensor:
        """(A, D) float32: a vector a slot; numbers without meaning where a slot is empty or padding."""
        batch = view.batch
        if self.pooling == "mean":
            vectors_AD = encoder.pooled(batch) if view.dropout is None else encoder.pooled(batch, view.dropout)
        else:
            starts = batch.offsets_B1[:-1].long().clamp(max=batch.values.shape[0] - 1)
            vectors_AD = encoder(batch, view.dropout)[starts].float()
        return vectors_AD[::2] if view.split else vectors_AD


def joined(first: Batch, second: Batch) -> Batch:
    """The rows of one batch, then those of another of the same shapes."""
    n = first.values.shape[0]
    frames = None
    if first.frames_NF is not None and second.frames_NF is not None:
        frames = torch.cat((first.frames_NF, second.frames_NF))
    return replace(
        first,
        values=torch.cat((first.values, second.values)),
        offsets_B1=torch.cat((first.offsets_B1, second.offsets_B1[1:] + n)),
        lengths=first.lengths + second.lengths,
        real_B=torch.cat((first.real_B, second.real_B)),
        index_B=torch.cat((first.index_B, second.index_B)),
        tokens=first.tokens + second.tokens,
        squares=first.squares + second.squares,
        rows=first.rows + second.rows,
        frames_NF=frames,
        labels_B=None,
    )


def project(head: nn.Module, vectors_AD: Tensor, real_A: Tensor) -> Tensor:
    """(A, E): through a head whose batch norms count real sequences only."""
    with sync_norm.counting(real_A):
        return head(vectors_AD)


@torch.no_grad()
def embedding_std(z_AE: Tensor, real_A: Tensor) -> tuple[Tensor, Tensor]:
    """A metric: the standard deviation of unit vectors over all processes, averaged over axes, times sqrt(E).

    1 where they point everywhere alike, 0 where all are one (collapse; Chen and He 2021, arXiv:2011.10566, figure 2).
    """
    z_AE, real_A1 = z_AE.float(), real_A[:, None].float()
    moments = torch.cat(((z_AE * real_A1).sum(0), (z_AE.square() * real_A1).sum(0), real_A1.sum(0)))
    mean_E, square_E, count = gather.total(moments).split((z_AE.shape[1], z_AE.shape[1], 1))
    seen = count.clamp(min=1)
    variance_E = (square_E / seen - (mean_E / seen).square()).clamp(min=0)
    counted = (count[0] > 1).float()
    return variance_E.sqrt().mean() * z_AE.shape[1] ** 0.5 * counted, counted


def sequences(batch: Batch) -> int:
    """How many sequences carry data, by what the host knows: exact where no row is padded, or every row is."""
    filled = sum(1 for length in batch.lengths if length)
    return filled if batch.tokens == sum(batch.lengths) else max(0, filled - batch.rows)


def head_flops(*heads: nn.Module) -> int:
    """FLOPs of one vector's way through the linear maps of some heads."""
    maps = [module for head in heads for module in head.modules() if isinstance(module, nn.Linear)]
    return sum(2 * linear.in_features * linear.out_features for linear in maps)
