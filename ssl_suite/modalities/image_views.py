"""Random views of pictures on the device, the whole batch at once: SimCLR's recipe (Chen et al. 2020, appendix A).

In this order, every picture with its own draws: a random resized crop and a mirror in one sampling; colour jitter;
grey; Gaussian blur; solarisation (BYOL, Grill et al. 2020, appendix B). Each step computes what torchvision's
functional of that name does with the same parameters, on pictures of floats in [0, 1].

Shapes: I pictures, S pixels a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TRIES = 10  # boxes drawn before a crop gives up, as torchvision's
ASPECTS = (3 / 4, 4 / 3)
SIGMAS = (0.1, 2.0)  # of the blur, in pixels
THRESHOLD = 0.5
LUMA = (0.2989, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
STRENGTHS = (0.8, 0.8, 0.8, 0.2)  # of brightness, contrast, saturation, hue, times SimCLR's s
STRONGEST = 2.5  # hue turns by half a circle at most

# Places of a picture's draws, uniform in [0, 1).
AREAS, RATIOS = slice(0, TRIES), slice(TRIES, 2 * TRIES)
TOP, LEFT, FLIP, JITTER, GREY, BLUR, SIGMA, SOLARISE = range(2 * TRIES, 2 * TRIES + 8)
FACTORS = slice(2 * TRIES + 8, 2 * TRIES + 12)
ORDER = slice(2 * TRIES + 12, 2 * TRIES + 16)
DRAWS = 2 * TRIES + 16


@dataclass(frozen=True)
class Recipe:
    """The smallest share of a crop, probabilities of the steps, and ``strength``, SimCLR's s; see ``Image``."""

    crop: float
    flip: float
    jitter: float
    strength: float
    grey: float
    blur: float
    solarise: float


def random_views(pictures: Tensor, draws: Tensor, recipe: Recipe) -> Tensor:
    """A view of each picture.

    Args:
        pictures: (I, 3, S, S) float32 in [0, 1].
        draws: (I, DRAWS) uniform in [0, 1).
        recipe: steps of probability 0 are not computed.

    Returns:
        (I, 3, S, S) float32 in [0, 1].
    """
    size = pictures.shape[-1]
    box_I4 = crop_boxes(draws, size, recipe.crop)
    views = crop_and_flip(pictures, box_I4, draws[:, FLIP] < recipe.flip)
    if recipe.jitter > 0 and recipe.strength > 0:
        factors_I4, order_I4 = jitter_factors(draws, recipe)
        views = colour_jitter(views, factors_I4, order_I4)
    if recipe.grey > 0:
        views = chosen(draws[:, GREY] < recipe.grey, luma(views).expand_as(views), views)
    if recipe.blur > 0:
        sigma_I = SIGMAS[0] + draws[:, SIGMA] * (SIGMAS[1] - SIGMAS[0])
        views = chosen(draws[:, BLUR] < recipe.blur, gaussian_blur(views, sigma_I, kernel_size(size)), views)
    if recipe.solarise > 0:
        views = chosen(draws[:, SOLARISE] < recipe.solarise, solarise(views), views)
    return views


def chosen(which_I: Tensor, changed: Tensor, kept: Tensor) -> Tensor:
    """One or the other of each picture."""
    return torch.where(which_I[:, None, None, None], changed, kept)


def luma(pictures: Tensor) -> Tensor:
    """(I, 1, …) brightness of (I, 3, …) colours, with torchvision's weights."""
    red, green, blue = pictures.split(1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def crop_boxes(draws: Tensor, size: int, smallest: float) -> Tensor:
    """(I, 4) float32 whole numbers: top, left, height and width of a random resized crop (Szegedy et al. 2015).

    The area is uniform between ``smallest`` and all, the logarithm of the aspect between 3:4 and 4:3; the first of ten
    boxes that fits is taken, else the whole picture.
    """
    area = (size * size) * (smallest + draws[:, AREAS] * (1 - smallest))
    low, high = math.log(ASPECTS[0]), math.log(ASPECTS[1])
    ratio = (low + draws[:, RATIOS] * (high - low)).exp()
    width, height = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (width > 0) & (width <= size) & (height > 0) & (height <= size)
    first = fits.int().argmax(1, keepdim=True)  # the first of several that are largest
    any_fits = fits.any(1)
    width = torch.where(any_fits, width.gather(1, first)[:, 0], size)
    height = torch.where(any_fits, height.gather(1, first)[:, 0], size)
    top = (draws[:, TOP] * (size - height + 1)).floor().minimum(size - height)
    left = (draws[:, LEFT] * (size - width + 1)).floor().minimum(size - width)
    return torch.stack([top, left, height, width], 1)


def crop_and_flip(pictures: Tensor, box_I4: Tensor, flip_I: Tensor) -> Tensor:
    """Cut out boxes, resize them to S × S bilinearly and mirror some, in one ``grid_sample``.

    A box is never larger than the picture, so nothing shrinks and there is nothing for an antialiasing filter to do.
    Places are clamped to the middle of the box's outermost pixels: no pixel from outside the box bleeds in.
    """
    size = pictures.shape[-1]
    top, left, height, width = (column[:, None] for column in box_I4.unbind(1))
    centre = (torch.arange(size, device=pictures.device) + 0.5) / size
    across = torch.where(flip_I[:, None], 1 - centre, centre)
    x = (left + across * width - 0.5).maximum(left).minimum(left + width - 1)
    y = (top + centre * height - 0.5).maximum(top).minimum(top + height - 1)
    grid = torch.stack(
        [x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)],
        3,
    )
    grid = (2 * grid + 1) / size - 1  # from pixels to [-1, 1]
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jitter_factors(draws: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """(I, 4) factors of brightness, contrast and saturation and the turn of hue; (I, 4) int64, which comes when.

    Pictures that are not jittered get factors of one and no turn.
    """
    columns = []
    for step, reach in enumerate(STRENGTHS):
        half = recipe.strength * reach
        low, high = (-half, half) if step == HUE else (max(0.0, 1 - half), 1 + half)
        columns.append(low + draws[:, FACTORS][:, step] * (high - low))
    factors_I4 = torch.stack(columns, 1)
    nothing_4 = (torch.arange(4, device=draws.device) != HUE).float()
    factors_I4 = torch.where(draws[:, JITTER, None] < recipe.jitter, factors_I4, nothing_4)
    return factors_I4, draws[:, ORDER].argsort(1)


def colour_jitter(pictures: Tensor, factors_I4: Tensor, order_I4: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, each picture's in its own order.

    The first three are affine maps of colours: those before the hue are one matrix, those after it another. The hue
    turns in HSV, as torchvision's does, which is no matrix. torchvision clamps to [0, 1] after each of the four, here
    the hue and the end do: on CIFAR-10 a mean difference of 0.18 of 255 levels at strength 0.5 (95 % of the pixels
    none), 0.74 at strength 1, where the jitter itself moves pixels by 26 and 48.
    """
    place_I1 = (order_I4 == HUE).int().argmax(1, keepdim=True)
    step_4 = torch.arange(4, device=pictures.device)
    pictures = affine(pictures, factors_I4, order_I4, step_4 < place_I1)
    pictures = turn_hue(pictures, factors_I4[:, HUE])
    return affine(pictures, factors_I4, order_I4, step_4 > place_I1)


def affine(pictures: Tensor, factors_I4: Tensor, order_I4: Tensor, active_I4: Tensor) -> Tensor:
    """Apply those of brightness, contrast and saturation whose step is active, in their order, clamped to [0, 1]."""
    flat = pictures.flatten(2)
    matrix_I33, offset_I31 = colour_matrix(flat.mean(2), factors_I4, order_I4, active_I4)
    return torch.baddbmm(offset_I31, matrix_I33, flat).clamp(0, 1).view_as(pictures)


def colour_matrix(mean_I3: Tensor, factors_I4: Tensor, order_I4: Tensor, active_I4: Tensor) -> tuple[Tensor, Tensor]:
    """(I, 3, 3) and (I, 3, 1): colour → matrix · colour + offset.

    Each step blends a colour with another: f · colour + (1 - f) · other, where other is black (brightness), the
    picture's mean brightness (contrast) or the colour's own (saturation). The picture's mean is carried along.
    """
    identity = torch.eye(3, device=mean_I3.device).expand(len(mean_I3), 3, 3)
    state = torch.cat([identity, torch.zeros_like(mean_I3)[:, :, None], mean_I3[:, :, None]], 2)  # (I, 3, 5)
    for step in range(4):
        kind_I1 = order_I4[:, step : step + 1]
        factor = torch.where(active_I4[:, step : step + 1], factors_I4.gather(1, kind_I1), 1.0)[:, :, None]
        bright = luma(state)  # (I, 1, 5)
        mean = functional.pad(bright[:, :, 4:].expand(-1, -1, 2), (3, 0))  # of the offset and of the mean itself
        kind = kind_I1[:, :, None]
        other = torch.where(kind == SATURATION, bright, torch.where(kind == CONTRAST, mean, 0.0))
        state = factor * state + (1 - factor) * other
    return state[:, :, :3], state[:, :, 3:4]


def turn_hue(pictures: Tensor, turn_I: Tensor) -> Tensor:
    """Turn the hue by a share of the full circle, value and saturation of HSV unchanged.

    With V the largest and C the chroma (largest less smallest), a channel is V - C · clamp(min(k, 4 - k), 0, 1), where
    k = (n + hue in sextants) mod 6 and n is 5, 3, 1 for red, green and blue.
    """
    red, green, blue = pictures.split(1, 1)
    high = pictures.amax(1, keepdim=True)
    chroma = high - pictures.amin(1, keepdim=True)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(green == high, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    hue = torch.where(red == high, (green - blue) / divisor, hue)
    n_13 = (5 - 2 * torch.arange(3, device=pictures.device)).view(1, 3, 1, 1)
    k = torch.remainder(hue + 6 * turn_I[:, None, None, None] + n_13, 6)
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def kernel_size(size: int) -> int:
    """A tenth of the side, as in SimCLR, made odd: 3 pixels of 32, 23 of 224."""
    return max(3, size // 10 // 2 * 2 + 1)


def gaussian_blur(pictures: Tensor, sigma_I: Tensor, kernel: int) -> Tensor:
    """Gaussian blur, pictures mirrored at their edges: rows, then columns, each as a product with a band matrix."""
    size, reach = pictures.shape[-1], kernel // 2
    places = torch.arange(size, device=pictures.device)
    steps = torch.arange(-reach, reach + 1, device=pictures.device)
    weights_Ik = torch.exp(-0.5 * (steps / sigma_I[:, None]).square())
    weights_Ik = weights_Ik / weights_Ik.sum(1, keepdim=True)
    source_kS = (places + steps[:, None]).abs()  # mirrored: -1 is 1, S is S - 2
    source_kS = (size - 1) - ((size - 1) - source_kS).abs()
    chosen_kSS = (source_kS[:, :, None] == places).float()
    band_ISS = (weights_Ik @ chosen_kSS.flatten(1)).view(-1, 1, size, size)
    return band_ISS @ pictures @ band_ISS.transpose(2, 3)


def solarise(pictures: Tensor) -> Tensor:
    """Invert what is brighter than the threshold."""
    return torch.where(pictures >= THRESHOLD, 1 - pictures, pictures)
