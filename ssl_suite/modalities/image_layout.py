"""Between pictures and the positions of a batch, and what is computed from patches.

A row of a batch holds whole pictures of P + 2 positions end to end, [CLS] patches [SEP], then padding.

Shapes: I pictures of a batch, P patches of a picture, p pixels of a patch's side, S pixels of a picture's side,
F = 3 p² numbers of a patch: its rows of pixels, red, green and blue of each.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.batch import Batch

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training pictures in [0, 1], as all its convnets take them
STD = (0.229, 0.224, 0.225)
LUMA = (0.2989, 0.587, 0.114)  # weights of ITU-R BT.601, as torchvision rounds them
SHARPEST = 1e-6  # added to a patch's variance, as in MAE's code
CONTRAST = 0.00125  # added to a patch's squared contrast: 9 of 255 levels, below which a patch counts as smooth
FREQUENCIES = 3  # of a patch's cosine transform: those whose row and column add up to less, 6 of 16 at p = 4
CHROMA_FREQUENCIES = 2


def patches(pixels: np.ndarray, p: int) -> np.ndarray:
    """(S, S, 3) pixels as (P, F) patches, row after row."""
    cells = pixels.shape[0] // p
    return pixels.reshape(cells, p, cells, p, 3).transpose(0, 2, 1, 3, 4).reshape(cells * cells, -1)


def picture(values: np.ndarray, cells: int, p: int) -> np.ndarray:
    """The inverse of ``patches``."""
    return values.reshape(cells, cells, p, p, 3).transpose(0, 2, 1, 3, 4).reshape(cells * p, cells * p, 3)


def frames(batch: Batch) -> Tensor:
    """(N, F) uint8."""
    if batch.frames_NF is None:
        raise ValueError("a batch of pictures has frames")
    return batch.frames_NF


def per_row(batch: Batch, length: int) -> int:
    """Pictures that a row has room for."""
    return batch.values.shape[0] // batch.rows // length


def blocks(batch: Batch, frames_NF: Tensor, length: int) -> Tensor:
    """(R, I / R, P, F): the patches of all pictures, a view of ``frames_NF`` (which must be contiguous)."""
    each = per_row(batch, length)
    rows = frames_NF.view(batch.rows, -1, frames_NF.shape[1])[:, : each * length]
    return rows.unflatten(1, (each, length))[:, :, 1:-1]


def pixels(batch: Batch, cells: int, p: int) -> Tensor:
    """(I, 3, S, S) uint8."""
    taken = blocks(batch, frames(batch), cells * cells + 2).reshape(-1, cells, cells, p, p, 3)
    return taken.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, cells * p, cells * p)


def to_patches(pixels_I3SS: Tensor, cells: int, p: int) -> Tensor:
    """(I, P, F) patches of (I, 3, S, S) pixels, of any type."""
    cut = pixels_I3SS.reshape(-1, 3, cells, p, cells, p)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(-1, cells * cells, 3 * p * p)


def sequences(batch: Batch, length: int) -> Tensor:
    """(I,) int64: the sequence of each picture. A row's slots for sequences begin with its pictures."""
    device, slots = batch.values.device, batch.real_B.shape[0] // batch.rows
    rows_R1 = torch.arange(batch.rows, device=device)[:, None] * slots
    return (rows_R1 + torch.arange(per_row(batch, length), device=device)).flatten()


def replaced(batch: Batch, pixels_I3SS: Tensor, cells: int, p: int) -> Tensor:
    """(N, F): the batch's frames with other pictures in the places of its own."""
    length = cells * cells + 2
    changed_NF = frames(batch).clone()
    places = blocks(batch, changed_NF, length)
    real_RI11 = batch.real_B[sequences(batch, length)].view(places.shape[0], -1, 1, 1)
    new = to_patches(pixels_I3SS, cells, p).view(places.shape)
    places.copy_(torch.where(real_RI11, new, places))
    return changed_NF


def channels(numbers: tuple[float, float, float], like: Tensor) -> Tensor:
    """(3,) on the device of ``like``, made there: a copy from the host would wait for the device."""
    return torch.stack([torch.full((), number, device=like.device) for number in numbers])


def normalised(frames_NF: Tensor) -> Tensor:
    """(N, F) float32: (pixel / 255 - MEAN) / STD by channel."""
    mean_3, std_3 = channels(MEAN, frames_NF), channels(STD, frames_NF)
    colours = frames_NF.float().unflatten(1, (-1, 3))
    return ((colours - 255 * mean_3) / (255 * std_3)).flatten(1)


def patch_targets(frames_NF: Tensor) -> Tensor:
    """(N, F) float32: each patch less its mean, divided by its deviation (He et al. 2022, arXiv:2111.06377)."""
    values_NF = frames_NF.float() / 255
    mean_N1, variance_N1 = values_NF.mean(1, keepdim=True), values_NF.var(1, keepdim=True)
    return (values_NF - mean_N1) / (variance_N1 + SHARPEST).sqrt()


def unit_features(frames_NF: Tensor, p: int) -> Tensor:
    """(N, U) float32, what k-means clusters: U = 13 where p is 3 or more.

    Low frequencies of the patch's cosine transform, in brightness (Y) and two colours (Cb, Cr): the mean brightness,
    its other frequencies divided by the patch's contrast (their root sum of squares), the logarithm of that contrast,
    and the colours. Divided, equal edges are near each other whatever their strength; the contrast as a number of its
    own keeps what a plain division loses. k-means standardises each number, so that plain pixels would be clustered by
    brightness, in which all 48 agree. On 6,000 CIFAR-10 pictures, 512 codes, histograms of units in four quarters
    classified linearly: 46.8 % right with these, 39.4 % with plain pixels, 40.4 % with pixels normalised per patch;
    the unit to the left predicts 14 % of units, the commonest unit is 2 %, perplexity 374.
    """
    colours = frames_NF.float().view(-1, p, p, 3) / 255
    red, green, blue = colours.unbind(3)
    bright = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    y_NU, scale = cosines(bright, p, FREQUENCIES), CONTRAST
    contrast_N1 = (y_NU[:, 1:].square().sum(1, keepdim=True) + scale).sqrt()
    cb_NU = cosines((blue - bright) / (2 - 2 * LUMA[2]), p, CHROMA_FREQUENCIES)
    cr_NU = cosines((red - bright) / (2 - 2 * LUMA[0]), p, CHROMA_FREQUENCIES)
    return torch.cat([y_NU[:, :1], y_NU[:, 1:] / contrast_N1, contrast_N1.log(), cb_NU, cr_NU], 1)


def cosines(plane_Npp: Tensor, p: int, below: int) -> Tensor:
    """(N, frequencies) of the two-dimensional cosine transform, the mean first; squares sum to the mean square."""
    k = torch.arange(p, device=plane_Npp.device)
    basis_kp = torch.cos((math.pi / (2 * p)) * k[:, None] * (2 * k[None] + 1)) * math.sqrt(2) / p
    basis_kp = torch.where(k[:, None] == 0, 1 / p, basis_kp)
    all_Nkk = basis_kp @ plane_Npp @ basis_kp.T
    kept = [all_Nkk[:, i, j] for i in range(min(p, below)) for j in range(min(p, below - i))]
    return torch.stack(kept, 1)
