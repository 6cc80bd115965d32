"""Blockwise masks of pictures (Bao et al. 2022, BEiT, arXiv:2106.08254, algorithm 1): rectangles, not single patches.

A patch's neighbours nearly tell it (its unit is right at 31 % beside visible ones), so whole regions are hidden.

Shapes: I pictures that rows have room for, P patches of a picture, M rectangles drawn for each, k patches hidden in it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import image_layout
from ssl_suite.modalities.base import Modality
from ssl_suite.objectives.masking import Masker, maskable_N

SMALLEST, NARROWEST = 16 / 196, 0.3  # a rectangle's share of the picture at least, and its height over its width
MARKS, RECTANGLES = (
    2,
    32,
)  # [CLS] and [SEP]; what 32 do not cover (never seen at a rate of 0.6) is filled patch by patch


def masker(modality: Modality, rate: float, span: int | str, whole_word: bool = False, static: bool = False) -> Masker:
    """What draws the masks: ``BlockMasker`` for ``span="blocks"``, else ``Masker``, whose arguments the others are.

    Raises:
        SuiteError: blocks of what is no picture.
    """
    if span != "blocks":
        return Masker(modality.vocabulary, rate, span, whole_word, static)
    if modality.frame is None or modality.frame.grid is None:
        raise SuiteError(f"objective.span=blocks hides rectangles of a picture, and modality={modality.name} has none.")
    return BlockMasker(modality.vocabulary, rate, modality.frame.grid, static)


class BlockMasker(Masker):
    """Rectangles of random area, shape and place in turn, until the rate is met; the last one ends where it is.

    Args:
        vocabulary, rate, static: as of ``Masker``.
        grid: rows and columns of a picture's patches.
    """

    def __init__(self, vocabulary: Vocabulary, rate: float, grid: tuple[int, int], static: bool = False) -> None:
        super().__init__(vocabulary, rate, 1, static=static)
        self.grid, self.patches = grid, math.prod(grid)
        self.hidden = max(1, round(rate * self.patches))

    def room(self, n: int) -> int:
        return n // (self.patches + MARKS) * self.hidden

    def forward(self, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor]:
        """As ``Masker.forward``; every picture has as many hidden patches."""
        rng, length = self.draws(batch, rng), self.patches + MARKS
        order_IP = self.order(self._draws(batch, rng, 5))
        cells_Ik = order_IP.topk(self.hidden, dim=1, largest=False).indices
        each, device = image_layout.per_row(batch, length), batch.values.device
        rows_R1 = torch.arange(batch.rows, device=device)[:, None] * (len(batch.values) // batch.rows)
        starts_I1 = (rows_R1 + torch.arange(each, device=device) * length).view(-1, 1)
        picks_K = (starts_I1 + 1 + cells_Ik).flatten()
        return picks_K, maskable_N(batch.values, self.vocabulary)[picks_K]

    def _draws(self, batch: Batch, rng: Rng, count: int) -> Tensor:
        """(count, I, P + 2) in [0, 1): a draw a position, which static masks key by picture and place."""
        n, length = len(batch.values) // batch.rows, self.patches + MARKS
        each = image_layout.per_row(batch, length)
        drawn = torch.stack([rng.uniform(n) for _ in range(count)]).view(count, batch.rows, n)
        return drawn[:, :, : each * length].reshape(count, -1, length)

    def order(self, drawn: Tensor) -> Tensor:
        """(I, P) when each patch's turn comes: that of the first rectangle over it, row by row within it."""
        rows, columns = self.grid
        area_IM, shape_IM, top_IM, left_IM = drawn[:4, :, :RECTANGLES]
        least, log_shape = max(1.0, SMALLEST * self.patches), math.log(NARROWEST)
        area_IM = least + area_IM * max(0.0, self.hidden - least)
        ratio_IM = torch.exp(log_shape * (1 - 2 * shape_IM))
        height_IM = (area_IM * ratio_IM).sqrt().round().clamp(1, rows)
        width_IM = (area_IM / ratio_IM).sqrt().round().clamp(1, columns)
        top_IM, left_IM = (top_IM * (rows - height_IM + 1)).floor(), (left_IM * (columns - width_IM + 1)).floor()
        cell_P = torch.arange(self.patches, device=drawn.device)
        below_IMP = cell_P // columns - top_IM[..., None]
        beside_IMP = cell_P % columns - left_IM[..., None]
        over_IMP = (below_IMP >= 0) & (below_IMP < height_IM[..., None])
        over_IMP &= (beside_IMP >= 0) & (beside_IMP < width_IM[..., None])
        turn_M = torch.arange(over_IMP.shape[1], device=drawn.device)[:, None]
        turn_IP = turn_M.masked_fill(~over_IMP, RECTANGLES).amin(1)
        within_IP = torch.where(turn_IP < RECTANGLES, cell_P / self.patches, drawn[4, :, : self.patches])
        return turn_IP + within_IP
