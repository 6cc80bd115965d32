"""The prepared store: ids or frames of all records end to end in one memory-mapped file, and an index of windows.

    store.json      counts, the report, what the other files hold, and their SHA-256 (``data.seals``); written last
    values.bin      token ids, uint8, uint16 or int32 by vocabulary size, without special tokens; or signal frames
    records/        lengths (int64), digests (16 bytes), files (int32); names (UTF-8), tags (JSON) and bounds (where
                    sentences begin, int64), each with the records' ends (int64)
    train/ valid/   starts (int64, into values), lengths (int32) and records (int32) of the windows
    tokenizer/      what ``transformers.AutoTokenizer`` opens

Flat files instead of the Arrow tables of ``datasets``: see ``benchmarks/store_access.py`` for the measurement.
Shapes: S windows of a split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.files import read_json
from ssl_suite.data.seals import REMEDY

INDEX = "store.json"
AT_ONCE = 1 << 20  # windows checked together: 50 MB of memory
FORMAT = 4  # part of the cache key: a change of this layout prepares anew
SPLITS = ("train", "valid")
WINDOW_FIELDS = {"starts": np.int64, "lengths": np.int32, "records": np.int32}


@dataclass(frozen=True)
class Windows:
    """The windows of a split, as memory-mapped arrays.

    Attributes:
        starts_S: int64, first token in ``Store.values``.
        lengths_S: int32, tokens.
        records_S: int32, the record each belongs to.
    """

    starts_S: np.ndarray
    lengths_S: np.ndarray
    records_S: np.ndarray

    def __len__(self) -> int:
        return len(self.starts_S)

    def each(self) -> Iterator[tuple[int, int, int]]:
        """The record, start and length of each window."""
        yield from zip(self.records_S.tolist(), self.starts_S.tolist(), self.lengths_S.tolist(), strict=True)


class Store:
    """A store opened for reading.

    Attributes:
        folder: where it is.
        key: its cache key.
        report: counts of the preparation, see ``prepare``.
        values: (tokens,) memory-mapped ids, or (tokens, F) frames.
        units: (tokens,) ids of the frames' units, once ``training.units`` has set them; None for tokens.

    Raises:
        SuiteError: a file is missing or of another size than the index says, or windows lie where they cannot. Whether
            all bytes are what they were is the matter of ``data.seals``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._index = read_json(self.folder / INDEX, REMEDY)
        try:
            self.key: str = self._index["key"]
            self.report: dict[str, Any] = self._index["report"]
            width = self._index["width"]
            self.values = self._map("values.bin", np.dtype(self._index["dtype"]), self._index["tokens"] * (width or 1))
            if width is not None:
                self.values = self.values.reshape(-1, width)
            self.units: np.ndarray | None = None
            self._windows = {split: self._open_split(split) for split in SPLITS}
            self._check_windows(self.report["window_tokens"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SuiteError(f"{self.folder / INDEX}: is damaged ({error}); {REMEDY}.") from None

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.folder,)  # a process that gets a store opens it; the default would copy the tokens

    def shortened(self, longest: int) -> Store:
        """The same store, its windows cut to their first ``longest`` tokens."""
        found = object.__new__(Store)
        vars(found).update(vars(self))
        found._windows = {
            split: replace(windows, lengths_S=np.minimum(windows.lengths_S, longest))
            for split, windows in self._windows.items()
        }
        return found

    def _map(self, name: str, dtype: Any, count: int) -> np.ndarray:
        path = self.folder / name
        expected = count * np.dtype(dtype).itemsize
        if not path.is_file() or path.stat().st_size != expected:
            raise SuiteError(f"{path}: is missing or of another size; {REMEDY}.")
        if count == 0:
            return np.zeros(0, dtype=dtype)
        # A plain view: slicing the subclass ``np.memmap`` costs eight times as much (1.8 µs).
        return np.memmap(path, dtype=dtype, mode="r", shape=(count,)).view(np.ndarray)

    def _open_split(self, split: str) -> Windows:
        count = self._index["windows"][split]
        return Windows(*(self._map(f"{split}/{name}.bin", dtype, count) for name, dtype in WINDOW_FIELDS.items()))

    def _check_windows(self, longest: int) -> None:
        """Hold the windows against the tokens, the records, and each other: the loader takes them as they are.

        Raises:
            SuiteError: one is empty or too long, reaches beyond the tokens, is of no record, stands before the one that
                it follows, or shares tokens with one of the other split.
        """
        valid = self._windows["valid"]
        ends_V = np.maximum.accumulate(valid.starts_S + valid.lengths_S)
        for split in reversed(SPLITS):
            windows, before = self._windows[split], 0
            for first in range(0, len(windows), AT_ONCE):
                part = slice(first, first + AT_ONCE)
                starts, lengths, records = (x[part] for x in (windows.starts_S, windows.lengths_S, windows.records_S))
                good = (starts >= 0) & (lengths > 0) & (lengths <= longest) & (starts <= len(self.values) - lengths)
                good &= (records >= 0) & (records < self.records) & (np.diff(starts, prepend=before) >= 0)
                before = starts[-1]
                if split == "train" and len(valid):  # the last validation window that begins before this one's end
                    place = np.searchsorted(valid.starts_S, starts + lengths) - 1
                    good &= (place < 0) | (ends_V[place] <= starts)
                if not good.all():
                    at = first + int(np.argmin(good))
                    raise SuiteError(f"{self.folder / split}: window {at} is damaged; {REMEDY}.")

    def split(self, name: str) -> Windows:
        """The windows of ``train`` or ``valid``."""
        if name not in self._windows:
            raise SuiteError(f"a store has no split '{name}'.{nearest(name, SPLITS)}")
        return self._windows[name]

    @property
    def records(self) -> int:
        """How many records it holds."""
        return self._index["records"]

    @cached_property
    def record_lengths(self) -> np.ndarray:
        """(records,) int64 tokens of each record; they stand in ``values`` one after the other."""
        return self._map("records/lengths.bin", np.int64, self.records)

    @cached_property
    def record_starts(self) -> np.ndarray:
        """(records,) int64, where each record begins in ``values``."""
        return np.cumsum(self.record_lengths) - self.record_lengths

    @cached_property
    def record_digests(self) -> np.ndarray:
        """(records, 2) uint64: ``Modality.identity`` of each record."""
        return self._map("records/digests.bin", np.uint64, 2 * self.records).reshape(-1, 2)

    @cached_property
    def _record_files(self) -> np.ndarray:
        return self._map("records/files.bin", np.int32, self.records)

    @property
    def ids(self) -> np.ndarray:
        """(tokens,) what a masked objective predicts: token ids, or the units of frames."""
        if self.values.ndim == 1:
            return self.values
        if self.units is None:
            raise SuiteError(f"{self.folder}: its frames have no units yet; fit them with `ssl_suite data units`.")
        return self.units

    @cached_property
    def _ends(self) -> dict[str, np.ndarray]:
        return {
            name: self._map(f"records/{name}_ends.bin", np.int64, self.records) for name in ("name", "tag", "bound")
        }

    @cached_property
    def _bounds(self) -> np.ndarray:
        return self._map("records/bounds.bin", np.int64, self._index["bounds"])

    def _span(self, kind: str, i: int) -> tuple[int, int]:
        if not 0 <= i < self.records:
            raise IndexError(f"record {i} of {self.records}")
        ends = self._ends[kind]
        return int(ends[i - 1]) if i else 0, int(ends[i])

    def _text(self, kind: str, i: int) -> str:
        begin, end = self._span(kind, i)
        with open(self.folder / "records" / f"{kind}s.bin", "rb") as file:
            file.seek(begin)
            return file.read(end - begin).decode("utf-8")

    def record_name(self, i: int) -> str:
        """``file:record`` of the i-th record."""
        name = self._text("name", i)
        return f"{self._index['files'][int(self._record_files[i])]}:{name}"

    def record_tags(self, i: int) -> dict[str, str]:
        """What the reader knew of the i-th record: split, language, speaker, label."""
        text = self._text("tag", i)
        return json.loads(text) if text else {}

    def record_bounds(self, i: int) -> np.ndarray:
        """Places in the i-th record where sentences begin; empty where the modality has none."""
        begin, end = self._span("bound", i)
        return self._bounds[begin:end]
