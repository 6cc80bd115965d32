"""Damaged files: whatever a file holds, reading it gives records or one clear line, quickly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.modalities.base import Modality

LONGEST = 5.0  # seconds one file may take


def mutations(valid: list[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """``count`` damaged copies of valid files: bits flipped, cut short, a stretch overwritten by another file's,
    removed or repeated. Seeded."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(valid[int(draw.integers(len(valid)))])
        kind = number % 5
        if kind == 0:
            for _ in range(int(draw.integers(1, 20))):
                data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            del data[int(draw.integers(len(data))) :]
        else:
            other = valid[int(draw.integers(len(valid)))]
            begin, size = int(draw.integers(len(data))), int(draw.integers(1, 1 + min(len(data), 512)))
            start = int(draw.integers(len(other)))
            piece = other[start : start + size] if kind == 2 else b"" if kind == 3 else bytes(data[begin:]) * 2
            data[begin : begin + size] = piece
        yield bytes(data)


def survive(modality: Modality, suffix: str, valid: list[bytes], folder: Path, count: int = 2000) -> Counter[str]:
    """Read and encode ``count`` mutated files. Returns how many loaded and why the others did not.

    Raises:
        AssertionError: an exception that is no ``SuiteError``, a message of more than one line or without the file's
            name, or more than ``LONGEST`` seconds for one file.
    """
    seen: Counter[str] = Counter()
    for number, data in enumerate(mutations(valid, count)):
        path = folder / f"damaged{number}{suffix}"
        path.write_bytes(data)
        begun = time.monotonic()
        try:
            seen["records"] += sum(len(modality.encode(record).values) > 0 for record in modality.read(path, stop))
            seen["loaded"] += 1
        except SuiteError as error:
            text = str(error)
            assert "\n" not in text and path.name in text, f"file {number}: {text!r}"
            seen[error.reason if isinstance(error, BadRecord) else "file"] += 1
        except Exception as error:
            raise AssertionError(f"mutation {number}: {type(error).__name__}: {error}") from error
        taken = time.monotonic() - begun
        assert taken < LONGEST, f"mutation {number} took {taken:.1f} s"
        skipping = FaultCounter("skip")
        if number % 20 == 0:  # what skipping leaves can be encoded too
            try:
                for record in modality.read(path, skipping):
                    try:
                        modality.encode(record)
                    except BadRecord as error:
                        skipping(error)
            except BadRecord as error:
                skipping(error)
        path.unlink()
    return seen


def stop(error: SuiteError) -> None:
    raise error
