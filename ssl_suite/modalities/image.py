"""Images: files and tables of encoded pictures to patches of pixels, and their random views."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Encoded, Frame, Record
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import STRICT, Count, Share
from ssl_suite.modalities import image_files, image_hash, image_layout, image_views
from ssl_suite.modalities.signals import Codes, SignalModality

MARKS = 2  # [CLS] and [SEP]
LARGEST_SIZE = 1024  # pixels a side
FEWEST = 3  # patches a side: a store holds no sequence of fewer than 8 positions
BLUR_FROM = 64  # pixels a side: SimCLR blurs half of its views, those of CIFAR not (appendix B.9)


@dataclass(config=STRICT, eq=False)
class Image(SignalModality):
    """Pictures, cut to a square and into patches, row after row."""

    size: Annotated[int, Field(ge=FEWEST, le=LARGEST_SIZE)] = 32
    """Side of the square that pictures are cropped and resized to, in pixels."""
    patch: Annotated[int, Field(ge=1, le=LARGEST_SIZE // FEWEST)] = 4
    """Side of a patch, in pixels; divides ``size``."""
    max_length: int | None = None  # type: ignore[assignment]  # a number once it is built
    """Positions of a picture, [CLS] and [SEP] included: follows from size and patch, (size / patch)² + 2; null, or that
    number."""
    codes: Codes = 512
    """Entries of the codebook: how many units patches are told apart by."""
    units: str = "signal"
    """What is clustered: ``signal`` (patches) or ``run:PATH@LAYER`` (states of a pre-trained encoder)."""
    min_side: Count = 8
    """Pictures with a shorter side are faults, in pixels."""
    max_pixels: Annotated[int, Field(ge=1, le=image_files.LARGEST)] = 100_000_000
    """Larger pictures are faults: a small file may unpack to gigabytes."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Views: smallest share of the area that is kept."""
    flip: Share = 0.5
    """Views: probability of a mirror image."""
    jitter: Share = 0.8
    """Views: probability of colour jitter."""
    strength: Annotated[float, Field(ge=0, le=image_views.STRONGEST)] = 0.5
    """Views: of the jitter, SimCLR's s: 1 for ImageNet, 0.5 for CIFAR."""
    grey: Share = 0.2
    """Views: probability of a grey picture."""
    blur: Share | None = None
    """Views: probability of a Gaussian blur; null is SimCLR's: 0.5, and 0 below 64 pixels a side."""
    solarise: Share = 0.0
    """Views: probability that bright pixels are inverted (BYOL: 0.2 in its second view)."""

    name = "image"
    suffixes = image_files.SUFFIXES
    near_duplicate_kind = "perceptual hash"
    near_duplicate_similarity = image_hash.SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        size, patch = self.size, self.patch
        if size < FEWEST * patch or size % patch:
            raise SuiteError(
                f"modality.size={size} should be a multiple of modality.patch={patch}, at least {FEWEST} times it "
                f"and at most {LARGEST_SIZE}."
            )
        self.cells = size // patch
        positions = self.cells**2 + MARKS
        if self.max_length not in (None, positions):
            raise SuiteError(
                f"modality.max_length={self.max_length} should be null or {positions}: a picture of {size} × {size} "
                f"pixels has {self.cells**2} patches of {patch} × {patch}, [CLS] and [SEP]."
            )
        self.max_length = positions
        blur = self.blur if self.blur is not None else 0.5 if size >= BLUR_FROM else 0.0
        self.recipe = image_views.Recipe(
            self.crop, self.flip, self.jitter, self.strength, self.grey, blur, self.solarise
        )
        width = 3 * patch * patch
        self.frame = Frame("uint8", width, width, (self.cells, self.cells))

    read = staticmethod(image_files.read)

    def encode(self, record: Record) -> Encoded:
        """(P, 3 * patch²) uint8 patches in raster order; a patch is its rows of RGB pixels.

        Raises:
            BadRecord: it is no picture or cannot be used, see ``image_files.decode``.
        """
        pixels, counts = image_files.decode(record, self.size, self.min_side, self.max_pixels)
        return Encoded(image_layout.patches(pixels, self.patch), counts)

    def fingerprint(self) -> dict[str, Any]:
        """The settings that change patches, or which pictures have any."""
        keys = ("name", "size", "patch", "min_side", "max_pixels")
        return {key: getattr(self, key) for key in keys} | {"resize": "bilinear"}

    def settings(self) -> dict[str, Any]:
        """What turns a picture into the encoder's input, for readers of an exported folder."""
        normal = {"mean": list(image_layout.MEAN), "std": list(image_layout.STD)}
        return self.fingerprint() | {"patch_order": "rows of patches; rows of RGB pixels in a patch"} | normal

    def features(self, batch: Batch) -> Tensor:
        """(N, G) float32: pixels less the mean and divided by the deviation of ImageNet's three channels."""
        return image_layout.normalised(image_layout.frames(batch))

    def unit_features(self, batch: Batch) -> Tensor:
        """(N, U) float32: shape, contrast, brightness and colour of each patch, see ``image_layout.unit_features``."""
        return image_layout.unit_features(image_layout.frames(batch), self.patch)

    def patch_targets(self, batch: Batch) -> Tensor:
        """(N, F) float32: each patch less its mean and divided by its deviation (MAE's targets)."""
        return image_layout.patch_targets(image_layout.frames(batch))

    def pixels(self, batch: Batch) -> Tensor:
        """(I, 3, size, size) uint8: the pictures of every row, I = R * (N / R // max_length).

        Rows that are not full have black ones at their end: ``real(batch)`` tells. Shapes depend on the run alone.
        """
        return image_layout.pixels(batch, self.cells, self.patch)

    def with_pixels(self, batch: Batch, pixels: Tensor) -> Batch:
        """The batch with other pictures, (I, 3, size, size) uint8; padding stays. Its ids are those of the old ones."""
        return batch.with_values(batch.values, image_layout.replaced(batch, pixels, self.cells, self.patch))

    def sequences(self, batch: Batch) -> Tensor:
        """(I,) int64: the sequence of ``batch`` that holds each picture of ``pixels``."""
        return image_layout.sequences(batch, self.cells**2 + MARKS)

    def real(self, batch: Batch) -> Tensor:
        """(I,) bool: which of ``pixels`` are pictures."""
        return batch.real_B[self.sequences(batch)]

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """A view of every picture by SimCLR's recipe (Chen et al. 2020, arXiv:2002.05709), see ``image_views``.

        Float32 inside, rounded to the nearest of 256 levels once, at the end. The ids stay those of the picture as it
        was: whoever predicts units of a view must assign them anew.
        """
        pixels = self.pixels(batch)
        each = pixels.shape[0] // batch.rows
        draws = rng.uniform(each * image_views.DRAWS).view(-1, image_views.DRAWS)
        views = image_views.random_views(pixels.float() / 255, draws, self.recipe)
        return self.with_pixels(batch, (views * 255).round().to(torch.uint8))

    def near_duplicate_features(self, values: np.ndarray) -> np.ndarray:
        """(n,) uint64, features of a perceptual hash, see ``image_hash``."""
        return image_hash.features(image_layout.picture(values, self.cells, self.patch))
