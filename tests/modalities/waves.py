"""A small signal modality for tests of what images and speech share: raw int16 files, a frame every 8 samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Encoded, Frame, Record
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.base import Fault
from ssl_suite.modalities.signals import SignalModality

WIDTH = 8


class Waves(SignalModality):
    name = "waves"
    suffixes = (".raw",)

    def __init__(
        self, max_length: int = 34, codes: int = 12, units: str = "signal", grid: tuple[int, int] | None = None
    ) -> None:
        self.max_length = max_length
        self.frame = Frame("int16", WIDTH, WIDTH, grid)
        self.codes, self.units = codes, units
        self.__post_init__()

    def read(
        self, path: Path, fault: Fault, column: str | None = None, id_column: str | None = None
    ) -> Iterator[Record]:
        yield Record(path.stem, path.read_bytes(), str(path), {"speaker": path.stem[0]})

    def encode(self, record: Record) -> Encoded:
        return Encoded(np.frombuffer(record.data, np.int16).reshape(-1, WIDTH), {"frames": len(record.data) // 16})

    def features(self, batch: Batch) -> Tensor:
        assert batch.frames_NF is not None
        return batch.frames_NF.float() / 1000

    unit_features = features

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        return batch

    def fingerprint(self) -> dict[str, Any]:
        return {"name": self.name}


def write(folder: Path, files: int = 30, frames: int = 64, kinds: int = 6, seed: int = 0) -> Path:
    """Files whose frames are noisy copies of ``kinds`` shapes that follow one another in a circle."""
    draw = np.random.default_rng(seed)
    shapes = draw.normal(0, 3000, (kinds, WIDTH))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        kind = (draw.integers(kinds) + np.arange(frames)) % kinds
        signal = shapes[kind] + draw.normal(0, 100, (frames, WIDTH))
        (folder / f"{'ab'[number % 2]}{number:03d}.raw").write_bytes(signal.astype(np.int16).tobytes())
    return folder
