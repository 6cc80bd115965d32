"""Pictures, encoded files and batches made for the tests of the image modality."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.core.resources import folder
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.image import Image

SAMPLE = folder("samples") / "image" / "photograph_tiles.parquet"


def stop(error: SuiteError) -> None:
    raise error


@cache
def sample_records() -> tuple[Record, ...]:
    """The built-in sample."""
    return tuple(Image().read(SAMPLE, stop))


@cache
def tiles(count: int) -> np.ndarray:
    """(count, 32, 32, 3) uint8 pictures of the built-in sample, evenly spread over it."""
    records = sample_records()
    chosen = [records[i * len(records) // count] for i in range(count)]
    return np.stack([np.asarray(Pillow.open(io.BytesIO(record.data))) for record in chosen])


def floats(count: int) -> torch.Tensor:
    """(count, 3, 32, 32) float32 in [0, 1]."""
    return torch.from_numpy(tiles(count)).permute(0, 3, 1, 2).float() / 255


def noise(*shape: int, high: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def encoded(picture: Pillow.Image | np.ndarray, form: str = "PNG", **settings: Any) -> bytes:
    """The bytes of a picture file."""
    out = io.BytesIO()
    image = picture if isinstance(picture, Pillow.Image) else Pillow.fromarray(picture)
    image.save(out, form, **settings)
    return out.getvalue()


def record(data: Any, name: str = "one") -> Record:
    """A record of a picture file, or of a picture or pixels."""
    return Record(name, data if isinstance(data, bytes) else encoded(data), "folder/one.png")


def laid_out(modality: Image, pictures: list[list[np.ndarray]], n: int) -> Batch:
    """Rows of ``n`` positions with room for as many pictures as fit, as the loader makes them."""
    length, frame = modality.max_length, modality.frame
    slots = n // length
    values, frames = np.zeros((len(pictures), n), np.int64), np.zeros((len(pictures), n, frame.width), np.uint8)
    lengths = np.zeros((len(pictures), slots + 1), np.int64)
    for r, some in enumerate(pictures):
        for slot, pixels in enumerate(some):
            start = slot * length
            values[r, start], values[r, start + length - 1] = 2, 3
            values[r, start + 1 : start + length - 1] = 5 + np.arange(length - 2) % 7
            frames[r, start + 1 : start + length - 1] = modality.encode(record(Pillow.fromarray(pixels))).values
            lengths[r, slot] = length
        lengths[r, len(some)] = n - len(some) * length
    real = np.arange(slots + 1)[None] < np.array([len(some) for some in pictures])[:, None]
    flat = lengths.reshape(-1)
    return Batch(
        values=torch.from_numpy(values.reshape(-1)),
        frames_NF=torch.from_numpy(frames.reshape(-1, frame.width)),
        offsets_B1=torch.from_numpy(np.concatenate([[0], np.cumsum(flat)]).astype(np.int32)),
        max_length=length,
        lengths=tuple(flat.tolist()),
        real_B=torch.from_numpy(real.reshape(-1)),
        index_B=torch.arange(len(flat)),
        tokens=int(flat[real.reshape(-1)].sum()),
        squares=0,
        rows=len(pictures),
    )


def rng(step: int = 0, rows: int = 1, first: int = 0) -> Rng:
    return Rng(seed=5, step=step, rows_R=torch.arange(first, first + rows))
