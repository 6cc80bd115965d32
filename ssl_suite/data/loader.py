"""From a prepared store to the batches of a step.

The order of the data is a function, not a stream: row ``r`` of step ``s`` depends on (seed, s, r) alone. Each process
takes its slice of a step's rows, so a run resumes exactly on any number of processes and no shard is uneven.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssl_suite.data.batch import Batch
from ssl_suite.data.packing import Rows, pack, slots_per_row
from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Vocabulary

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
    """

    store: Store
    split: str
    vocabulary: Vocabulary
    n: int
    slots: int
    max_length: int

    def rows(self, rows: list[np.ndarray]) -> Batch:
        """One batch of ``len(rows)`` rows. An empty row is all padding (it evens out the processes' shares)."""
        windows, v, ids, signal = self.store.split(self.split), self.vocabulary, self.store.ids, self.store.values
        values = np.full(len(rows) * self.n, v.pad, dtype=np.int64)
        frames = np.zeros((len(values), signal.shape[1]), signal.dtype) if signal.ndim == 2 else None
        lengths = np.zeros((len(rows), self.slots + 1), dtype=np.int64)
        keys = np.full((len(rows), self.slots + 1), -1, dtype=np.int64)
        for r, items in enumerate(rows):
            place = r * self.n
            for slot, item in enumerate(items):
                start, length = int(windows.starts_S[item]), int(windows.lengths_S[item])
                values[place] = v.cls
                values[place + 1 : place + 1 + length] = ids[start : start + length]
                if frames is not None:
                    frames[place + 1 : place + 1 + length] = signal[start : start + length]
                values[place + 1 + length] = v.sep
                lengths[r, slot], keys[r, slot] = length + FRAME, item
                place += length + FRAME
            lengths[r, len(items)] = (r + 1) * self.n - place  # the padding, a sequence of its own
        flat = lengths.reshape(-1)
        offsets = np.concatenate([[0], np.cumsum(flat)]).astype(np.int32)
        keys_B = torch.from_numpy(keys.reshape(-1))
        data = flat[keys.reshape(-1) >= 0]
        return Batch(
            values=torch.from_numpy(values),
            frames_NF=None if frames is None else torch.from_numpy(frames),
            offsets_B1=torch.from_numpy(offsets),
            max_length=self.max_length,
            lengths=tuple(flat.tolist()),
            real_B=keys_B >= 0,
            keys_B=keys_B,
            tokens=int(data.sum()),
            squares=int((data**2).sum()),
            rows=len(rows),
        )


def prefetch(batches: Iterator, depth: int = 2, pin: bool = False) -> Generator[Any]:
    """Draw from ``batches`` in a thread, ``depth`` ahead; an exception there is raised here.

    Closing the generator stops the thread: no thread outlives a run that ends early.
    """
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for step in batches:
                if not put(("batch", [(numbers, batch.pin()) for numbers, batch in step] if pin else step)):
                    return
            put(("end", None))
        except BaseException as error:  # handed to the consumer, which raises it
            put(("error", error))

    thread = threading.Thread(target=work, name="rows", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
