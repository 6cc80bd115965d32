"""Masked autoencoders (He et al. 2022, arXiv:2111.06377): leave most patches of a picture out, predict their pixels.

The encoder sees the remaining patches only, so its work shrinks with the mask ratio: a shorter batch is made, with each
patch's place in its picture kept. A light decoder sees the whole sequence again, a learnt vector where a patch is
missing, and predicts the missing patches' pixels, each patch less its mean and divided by its deviation.

All sequences are pictures of P patches between [CLS] and [SEP], which are always kept. A row that is not full ends in
padding; the room for pictures in it is treated like pictures, so that shapes depend on the run alone.

Shapes: I pictures that rows have room for, P patches of a picture, S of them seen, T = S + 2 with [CLS] and [SEP],
N positions, M = I * T positions that the encoder sees, C width of the decoder, F pixels of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import image_layout
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models.attention import rope_table
from ssl_suite.models.encoder import HEAD_WIDTH, Encoder, EncoderSpec, Layer
from ssl_suite.models.flops import encoder_flops, forward_flops
from ssl_suite.objectives.base import Metrics

MARKS = 2  # [CLS] and [SEP]


class Mae(nn.Module):
    """Args:
    modality: pictures; ``patch_targets`` gives what is predicted, its ``features`` where it has none.
    spec: the encoder's shapes.
    mask_ratio: share of a picture's patches that are left out.
    decoder_layers: its depth.
    decoder_width: C, a multiple of 64; None is half the encoder's width, rounded up to one.

    Raises:
        SuiteError: a ratio that leaves out no patch, or all.
    """

    def __init__(
        self,
        modality: SignalModality,
        spec: EncoderSpec,
        mask_ratio: float = 0.75,
        decoder_layers: int = 2,
        decoder_width: int | None = None,
    ) -> None:
        super().__init__()
        assert modality.frame.grid is not None
        self.patches = math.prod(modality.frame.grid)
        self.seen = round(self.patches * (1 - mask_ratio))
        width = decoder_width or HEAD_WIDTH * -(-spec.width // (2 * HEAD_WIDTH))
        if not 1 <= self.seen < self.patches:
            raise SuiteError(
                f"objective.mask_ratio={mask_ratio} should be such that patches are seen and left out (0.75)."
            )
        self.targets = getattr(modality, "patch_targets", modality.features)
        self.decoder = Decoder(spec, modality.frame.grid, decoder_layers, width, modality.frame.width)

    @property
    def lengths(self) -> tuple[int, int]:
        """Positions of a picture, and how many of them the encoder sees."""
        return self.patches + MARKS, self.seen + MARKS

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The squared error, a mean over a patch's pixels, summed over the left-out patches, and their count.

        Metrics: ``mse``, and ``mean_mse`` of predicting each patch's mean, which is 1 but for patches of one colour.
        """
        kept_IT, out_IK = self.draw(batch, rng)
        states_MD = encoder(self.shorter(batch, kept_IT))
        starts_I1 = self._starts(batch)
        picks_K = (starts_I1 + out_IK).flatten()
        found_KF = self.decoder(states_MD, (starts_I1 + kept_IT).flatten(), picks_K, batch).float()
        with torch.no_grad():
            wanted_KF = self.targets(batch)[picks_K]
        real_K = batch.real_B[batch.sequence_ids_N()[picks_K]]
        loss_K = (found_KF - wanted_KF).square().mean(1) * real_K
        count = real_K.sum()
        metrics: Metrics = {
            "mse": (loss_K.detach().sum(), count),
            "mean_mse": ((wanted_KF.square().mean(1) * real_K).sum(), count),
        }
        return loss_K.sum(), count, metrics

    def draw(self, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor]:
        """Places in a picture, [CLS] at 0: (I, T) of what is seen, in order, and (I, P - S) of what is left out."""
        each = image_layout.per_row(batch, self.patches + MARKS)
        order_IP = 1 + rng.bits(each * self.patches).view(-1, self.patches).argsort(1)
        seen_IS = order_IP[:, : self.seen].sort(1).values
        first_I1 = torch.zeros_like(seen_IS[:, :1])
        return torch.cat((first_I1, seen_IS, first_I1 + self.patches + 1), 1), order_IP[:, self.seen :]

    def _starts(self, batch: Batch) -> Tensor:
        """(I, 1) where in N each picture begins."""
        length, device = self.patches + MARKS, batch.values.device
        rows_R1 = torch.arange(batch.rows, device=device)[:, None] * (len(batch.values) // batch.rows)
        return (rows_R1 + torch.arange(image_layout.per_row(batch, length), device=device) * length).view(-1, 1)

    def shorter(self, batch: Batch, kept_IT: Tensor) -> Batch:
        """The batch without the patches that are left out, M positions.

        A slot of the batch holds a picture, or the padding of as many as did not come, or nothing: so whatever it
        holds, its length in pictures is the quotient, and the same on the device and on the host.
        """
        length, short = self.lengths
        index_M = (self._starts(batch) + kept_IT).flatten()
        sizes_B = batch.offsets_B1.diff() // length * short
        pictures = batch.tokens // length
        assert batch.frames_NF is not None
        return replace(
            batch,
            values=batch.values[index_M],
            frames_NF=batch.frames_NF[index_M],
            offsets_B1=torch.nn.functional.pad(sizes_B.cumsum(0, dtype=torch.int32), (1, 0)),
            places_N=kept_IT.flatten(),
            max_length=short,
            lengths=tuple(n // length * short for n in batch.lengths),
            tokens=pictures * short,
            squares=pictures * short**2,
        )

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder on the patches it sees, and of the decoder on all."""
        length, short = self.lengths
        pictures = batch.tokens // length
        seen = replace(batch, tokens=pictures * short, squares=pictures * short**2)
        return 3 * (encoder_flops(model, seen) + self.decoder.flops(seen.tokens, batch, pictures * (length - short)))


class Decoder(nn.Module):
    """A narrow stack of the encoder's layers over whole pictures.

    Args:
        spec: the encoder's shapes.
        grid: rows and columns of patches.
        layers, width: its own depth and C.
        pixels: F.
    """

    def __init__(self, spec: EncoderSpec, grid: tuple[int, int], layers: int, width: int, pixels: int) -> None:
        super().__init__()
        self.spec = replace(
            spec,
            layers=layers,
            width=width,
            heads=width // HEAD_WIDTH,
            mlp_width=max(1, spec.mlp_width * width // spec.width),
            windows=(None,) * layers,
            thetas=spec.thetas[:1] * layers,
            init_std=spec.init_std * (spec.width / width) ** 0.5,  # as an encoder of this width would start
        )
        self.grid = grid
        self.narrow = nn.Linear(spec.width, width, bias=False)
        self.missing_C = nn.Parameter(torch.empty(width))
        self.row_embeddings = nn.Embedding(grid[0], width)
        self.column_embeddings = nn.Embedding(grid[1], width)
        self.norm = nn.LayerNorm(width, eps=spec.eps, bias=False)
        self.layers = nn.ModuleList(Layer(self.spec, index) for index in range(layers))
        self.final_norm = nn.LayerNorm(width, eps=spec.eps, bias=False)
        self.pixels = nn.Linear(width, pixels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the encoder's weights start; biases at 0, norms at 1."""
        std = self.spec.init_std
        for name, weight in self.named_parameters():
            if weight.dim() > 1 or name == "missing_C":
                own = std / (2 * self.spec.layers) ** 0.5 if name.endswith("Wo.weight") else std
                nn.init.trunc_normal_(weight, std=own, a=-2 * own, b=2 * own)
        nn.init.zeros_(self.pixels.bias)

    def forward(self, states_MD: Tensor, index_M: Tensor, picks_K: Tensor, batch: Batch) -> Tensor:
        """(K, F) pixels.

        Args:
            states_MD: the encoder's.
            index_M: which of the N positions of ``batch`` they belong to.
            picks_K: positions to predict.
        """
        narrow_MC = self.narrow(states_MD)
        missing_NC = self.missing_C.to(narrow_MC.dtype).expand(len(batch.values), -1)
        x_NC = missing_NC.index_copy(0, index_M, narrow_MC)
        positions_N, (rows, columns) = batch.positions_N(), self.grid
        cell_N = positions_N - 1
        inside_N = (cell_N >= 0) & (cell_N < rows * columns)
        cell_N = cell_N.clamp(0, rows * columns - 1)
        place_NC = self.row_embeddings(cell_N // columns) + self.column_embeddings(cell_N % columns)
        x_NC = self.norm(x_NC + place_NC * inside_N[:, None])
        rope = rope_table(positions_N, HEAD_WIDTH, self.spec.thetas[0])
        for layer in self.layers:
            x_NC = layer(x_NC, rope, batch)
        return self.pixels(self.final_norm(x_NC[picks_K]))

    def flops(self, seen: int, batch: Batch, predicted: int) -> float:
        """Of one forward pass over the data of ``batch``, from ``seen`` states to ``predicted`` patches."""
        widths = {"layers": self.spec.layers, "width": self.spec.width, "mlp_width": self.spec.mlp_width}
        layers = forward_flops(
            widths, lengths_squared_sum=batch.squares, positions=batch.tokens, predicted=0, vocabulary=0
        )
        return layers + 2 * seen * self.narrow.weight.numel() + 2 * predicted * self.pixels.weight.numel()
