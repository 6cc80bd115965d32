"""From a prepared store to the batches of a step.

The order of the data is a function, not a stream: row ``r`` of step ``s`` depends on (seed, s, r) alone. Each process
takes its slice of a step's rows, so a run resumes exactly on any number of processes and no shard is uneven.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ssl_suite.core.batch import Batch, framed
from ssl_suite.core.records import Vocabulary
from ssl_suite.data.arrange import STREAM, Arranged, Arranger, Contents
from ssl_suite.data.packing import Rows, pack, slots_per_row
from ssl_suite.data.store import Store

FRAME = 2  # [CLS] and [SEP] around each sequence


class RowOrder:
    """The endless sequence of training rows: epoch after epoch, each shuffled and packed anew.

    Args:
        lengths: (S,) positions of each sequence, [CLS] and [SEP] included.
        n: positions of a row.
        seed: of the run.
        shuffle: False keeps the store's order and packs once (validation).
    """

    def __init__(self, lengths: np.ndarray, n: int, seed: int, shuffle: bool = True) -> None:
        self.lengths, self.n, self.seed, self.shuffle = lengths, n, seed, shuffle
        self.slots = slots_per_row(lengths, n)
        self._epochs: dict[int, Rows] = {}
        self._firsts = [0]  # the global number of each epoch's first row

    def epoch(self, e: int) -> Rows:
        """The rows of epoch ``e``; the last two epochs asked for are kept."""
        if e not in self._epochs:
            order = np.arange(len(self.lengths))
            if self.shuffle:
                order = np.random.default_rng([self.seed, e]).permutation(order)
            self._epochs[e] = pack(self.lengths, order, self.n, self.slots)
            for old in [key for key in self._epochs if key < e - 1]:
                del self._epochs[old]
        return self._epochs[e]

    def locate(self, g: int) -> tuple[int, int]:
        """(epoch, row within it) of the g-th row since the start of training."""
        while self._firsts[-1] <= g:
            self._firsts.append(self._firsts[-1] + len(self.epoch(len(self._firsts) - 1)))
        e = int(np.searchsorted(self._firsts, g, side="right")) - 1
        return e, g - self._firsts[e]

    def items(self, g: int) -> np.ndarray:
        """The sequences of the g-th row."""
        e, r = self.locate(g)
        return self.epoch(e).row(r)


@dataclass(frozen=True)
class StepRows:
    """Which rows this process works on in a step, and in how many forward passes.

    Attributes:
        order: the endless sequence of training rows.
        rows: rows of a step, over all processes.
        rank, world: this process's slice is rows rank, rank + world, ...
        at_once: rows of one forward pass.
    """

    order: RowOrder
    rows: int
    rank: int
    world: int
    at_once: int

    def sequences(self) -> int:
        """How many sequences the first step has, over all processes."""
        return sum(len(self.order.items(number)) for number in range(self.rows))

    def numbers(self, step: int) -> list[list[int]]:
        """The global numbers of this process's rows of ``step``, by forward pass."""
        mine = list(range(step * self.rows + self.rank, (step + 1) * self.rows, self.world))
        return [mine[i : i + self.at_once] for i in range(0, len(mine), self.at_once)]


@dataclass(frozen=True)
class Collator:
    """Lays sequences of a store end to end.

    Attributes:
        store, split: where the sequences are.
        vocabulary: gives [CLS], [SEP] and [PAD].
        n, slots: positions and sequences of a row; every row gets one more slot for its padding.
        max_length: the longest sequence of the run.
        arranger: lays out each sequence; None frames it by [CLS] and [SEP].
        seed: of the arranger's draws.
        frames: whether batches carry a signal's frames.
    """

    store: Store
    split: str
    vocabulary: Vocabulary
    n: int
    slots: int
    max_length: int
    arranger: Arranger | None = None
    seed: int = 0
    frames: bool = True

    def rows(self, rows: list[np.ndarray], numbers: list[int] | None = None) -> Batch:
        """One batch of ``len(rows)`` rows. An empty row is all padding (it evens out the processes' shares).

        Args:
            rows: the sequences of each.
            numbers: each row's number since the start of the run, which seeds its arranger's draws.
        """
        if self.arranger is not None:
            return self._arranged(rows, numbers if numbers is not None else list(range(len(rows))))
        windows, v, signal = self.store.split(self.split), self.vocabulary, self.store.values
        ids = self.store.ids if signal.ndim == 1 or self.store.units is not None else None
        layout = _Layout(len(rows), self.n, self.slots, v)
        frames = None
        if signal.ndim == 2 and self.frames:
            frames = np.zeros((len(layout.values), signal.shape[1]), signal.dtype)
        pairs, segments = getattr(self.store, "segments", None), None  # of a task's data; a store holds no pairs
        if pairs is not None:
            segments = np.zeros(len(layout.values), np.int64)
        for r, items in enumerate(rows):
            for item in items:
                start, length = int(windows.starts_S[item]), int(windows.lengths_S[item])
                place = layout.put(r, item, length + FRAME)
                layout.values[place] = v.cls
                inside = slice(place + 1, place + 1 + length)
                layout.values[inside] = v.targets[0] if ids is None else ids[start : start + length]
                if frames is not None:
                    frames[inside] = signal[start : start + length]
                if pairs is not None and segments is not None:
                    segments[place : place + length + FRAME] = framed(pairs[start : start + length])
                layout.values[place + 1 + length] = v.sep
        batch = layout.batch(self.max_length)
        if segments is not None:
            batch = replace(batch, segments_N=torch.from_numpy(segments))
        return batch if frames is None else replace(batch, frames_NF=torch.from_numpy(frames))

    def _arranged(self, rows: list[np.ndarray], numbers: list[int]) -> Batch:
        """The same with every sequence laid out by the arranger, and a second batch of targets where it makes some."""
        contents, v = self._contents, self.vocabulary
        layout = _Layout(len(rows), self.n, self.slots, v)
        longest = self._arranger.target_length(self.max_length - FRAME)
        target = _Layout(len(rows), self._target_positions, self.slots, v) if longest else None
        segments, labels = np.zeros(len(layout.values), np.int64), np.full(layout.lengths.shape, -100)
        for r, (items, number) in enumerate(zip(rows, numbers, strict=True)):
            draw = np.random.default_rng([self.seed, STREAM, number])
            for slot, item in enumerate(items):
                made: Arranged = self._arranger(contents, int(item), draw)
                place = layout.put(r, item, len(made.source))
                layout.values[place : place + len(made.source)] = made.source
                if made.segments is not None:
                    segments[place : place + len(made.source)] = made.segments
                labels[r, slot] = made.label
                if target is not None and made.target is not None:
                    place = target.put(r, item, len(made.target))
                    target.values[place : place + len(made.target)] = made.target
        batch = layout.batch(self.max_length)
        second = target.batch(longest) if target is not None else None
        labels_B = torch.from_numpy(labels.reshape(-1))
        return replace(batch, segments_N=torch.from_numpy(segments), labels_B=labels_B, target=second)

    @property
    def _arranger(self) -> Arranger:
        assert self.arranger is not None
        return self.arranger

    @cached_property
    def _contents(self) -> Contents:
        return Contents(self.store, self.split)

    @cached_property
    def _target_positions(self) -> int:
        """Positions of a row of targets: as many as the worst row of this split can need, whatever the shuffle.

        Each sequence takes at most its share of a row; the share is largest for one of the lengths there are.
        """
        lengths = np.unique(self.store.split(self.split).lengths_S).tolist()
        share = max((self._arranger.target_length(length) / (length + FRAME) for length in lengths), default=0.0)
        return max(1, int(np.ceil(self.n * share)))


class _Layout:
    """Rows that are being filled with sequences: host arrays of one batch.

    Args:
        rows, n, slots: rows, positions of a row, and sequences of a row without the one for its padding.
    """

    def __init__(self, rows: int, n: int, slots: int, vocabulary: Vocabulary) -> None:
        self.n = n
        self.values = np.full(rows * n, vocabulary.pad, dtype=np.int64)
        self.lengths = np.zeros((rows, slots + 1), dtype=np.int64)
        self.keys = np.full((rows, slots + 1), -1, dtype=np.int64)
        self._filled, self._used = [0] * rows, [0] * rows

    def put(self, row: int, item: int, length: int) -> int:
        """Take the row's next slot for a sequence; gives the place of its first position."""
        place, slot = row * self.n + self._filled[row], self._used[row]
        self.lengths[row, slot], self.keys[row, slot] = length, item
        self._filled[row] += length
        self._used[row] += 1
        assert self._filled[row] <= self.n
        return place

    def batch(self, max_length: int) -> Batch:
        for row, (filled, used) in enumerate(zip(self._filled, self._used, strict=True)):
            self.lengths[row, used] = self.n - filled  # the padding, a sequence of its own
        flat = self.lengths.reshape(-1)
        index_B = torch.from_numpy(self.keys.reshape(-1))
        data = flat[self.keys.reshape(-1) >= 0]
        return Batch(
            values=torch.from_numpy(self.values),
            offsets_B1=torch.from_numpy(np.concatenate([[0], np.cumsum(flat)]).astype(np.int32)),
            max_length=max_length,
            lengths=tuple(flat.tolist()),
            real_B=index_B >= 0,
            index_B=index_B,
            tokens=int(data.sum()),
            squares=int((data**2).sum()),
            rows=len(self.lengths),
        )


def prefetch(batches: Iterator, depth: int = 2, pin: bool = False) -> Generator[Any]:
    """Draw from ``batches`` in a thread, ``depth`` ahead; an exception there is raised here.

    Closing the generator stops the thread: no thread outlives a run that ends early.
    """

    def draw() -> Any:
        step = next(batches, None)
        return [(numbers, batch.pin()) for numbers, batch in step] if pin and step is not None else step

    with ThreadPoolExecutor(1, "rows") as thread:
        ahead = deque(thread.submit(draw) for _ in range(depth))
        try:
            while (step := ahead.popleft().result()) is not None:
                ahead.append(thread.submit(draw))
                yield step
        finally:
            for future in ahead:
                future.cancel()
