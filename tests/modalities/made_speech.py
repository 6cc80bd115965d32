"""Sounds and batches made for the tests of the speech modality."""

from __future__ import annotations

import io

import numpy as np

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Record
from ssl_suite.modalities.speech import Speech
from tests.modalities.made import ragged

FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".opus": ("OGG", "OPUS"), ".mp3": ("MP3", None)}
PAD, CLS, SEP = 0, 2, 3


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0, level: float = 0.3) -> np.ndarray:
    """(samples,) float64: a tone that swells, with a little noise."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(t)) * 0.01
    return level * (np.sin(2 * np.pi * hertz * t) * (0.2 + np.sin(3 * t) ** 2) + noise)


def sound_file(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def record(data: bytes, name: str = "r") -> Record:
    return Record(name, data, "x.wav")


def encoded(data: bytes, **settings: object) -> np.ndarray:
    """(positions, 320) int16."""
    return Speech(**settings).encode(record(data)).values  # type: ignore[arg-type]


def noise_frames(length: int, seed: int = 0, loud: float = 3000.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((length, 320)) * loud).clip(-32768, 32767).astype(np.int16)


def laid_out(rows: list[list[np.ndarray]], n: int) -> Batch:
    """A batch of frames; units count upwards."""
    frames = np.zeros((len(rows), n, 320), np.int16)
    for r, row in enumerate(rows):
        place = 0
        for some in row:
            frames[r, place + 1 : place + 1 + len(some)] = some
            place += len(some) + 2
    return ragged([[list(range(5, 5 + len(some))) for some in row] for row in rows], n, frames)
