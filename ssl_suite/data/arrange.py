"""Laying sequences out on the host: what an objective does to a sequence before it becomes part of a batch.

Pairs of segments, corrupted sources with targets for a decoder: their lengths differ from the original's, so they are
made where lengths are host numbers, in the thread that prepares batches. One generator a row of the run, so the draws
do not depend on the number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ssl_suite.data.store import Store

STREAM = 4  # tells these draws from those of other parts with the same seed


@dataclass(frozen=True)
class Arranged:
    """One sequence, laid out.

    Attributes:
        source: (length,) int64 ids with their special tokens, at most two longer than the content.
        target: (length,) int64 ids of the decoder's sequence, [CLS] … [SEP]; None without a decoder.
        segments: as long as ``source``, 0 or 1; None outside pair tasks.
        label: the sequence's class, -100 for none.
    """

    source: np.ndarray
    target: np.ndarray | None = None
    segments: np.ndarray | None = None
    label: int = -100


class Arranger(Protocol):
    """What an objective sets as its ``arranger``."""

    def __call__(self, contents: Contents, item: int, draw: np.random.Generator) -> Arranged:
        """The layout of one sequence."""
        ...

    def target_length(self, length: int) -> int:
        """The longest target of a content of ``length`` ids, 0 without a decoder; never falls with the length."""
        ...


class Contents:
    """The windows of a split, as an arranger sees them.

    Args:
        store: with ids (tokens, or units that have been assigned).
        split: ``train`` or ``valid``.
    """

    def __init__(self, store: Store, split: str) -> None:
        self._store, self._windows, self._ids = store, store.split(split), store.ids

    def ids(self, item: int) -> np.ndarray:
        """(length,) int64 ids of a window, without special tokens."""
        start, length = int(self._windows.starts_S[item]), int(self._windows.lengths_S[item])
        return self._ids[start : start + length].astype(np.int64)

    def bounds(self, item: int) -> np.ndarray:
        """Places within the window, above 0, where sentences begin; empty where the modality knows none."""
        windows, record = self._windows, int(self._windows.records_S[item])
        bounds = self._store.record_bounds(record)
        if not len(bounds):
            return bounds
        place = int(windows.starts_S[item]) - int(self._store.record_starts[record])
        inside = bounds - place
        return inside[(inside > 0) & (inside < int(windows.lengths_S[item]))]

    def ends(self, item: int) -> bool:
        """Whether a window ends its record."""
        windows, record = self._windows, int(self._windows.records_S[item])
        end = int(self._store.record_starts[record]) + int(self._store.record_lengths[record])
        return int(windows.starts_S[item]) + int(windows.lengths_S[item]) == end

    def random_other_record(self, item: int, draw: np.random.Generator) -> int:
        """A random window of another record; where there is one record only, one that does not touch this one."""
        records = self._windows.records_S
        first, last = np.searchsorted(records, [records[item], records[item] + 1])  # windows stand in record order
        if last - first == len(records):
            first, last = max(0, item - 1), min(len(records), item + 2)  # neighbours may overlap
        others = len(records) - int(last - first)
        if others == 0:
            return item
        chosen = int(draw.integers(others))
        return chosen if chosen < first else chosen + int(last - first)
