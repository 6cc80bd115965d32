"""What every modality offers: read user files, encode records, augment batches on the device.

A modality is one file with one class, one file in ``conf/modality/`` and one line in ``ssl_suite/registry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ssl_suite.data.batch import Batch
from ssl_suite.data.rng import Rng
from ssl_suite.errors import SuiteError


@dataclass(frozen=True)
class Vocabulary:
    """The ids a token modality uses.

    Attributes:
        tokens: the text of each id; a token's place is its id.
        targets: ``(low, high)``, the half-open range of ids that may be masked, predicted, and drawn as a random
            replacement. Special tokens and symbols that say nothing (an N in DNA) lie outside it.
        reach: how many neighbouring tokens share a symbol: 1, or k for overlapping k-mers, whose masks must cover
            k tokens in a row or the answer is spelled out next door.
        pad, unk, cls, sep, mask: ids of the special tokens.
    """

    tokens: tuple[str, ...]
    targets: tuple[int, int]
    reach: int = 1
    pad: int = 0
    unk: int = 1
    cls: int = 2
    sep: int = 3
    mask: int = 4

    def __len__(self) -> int:
        return len(self.tokens)


SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Record:
    """One item of a user's file: a sequence, a piece, a picture, a recording.

    Attributes:
        name: its identifier, unique within ``source`` (checked by the reader).
        data: what ``encode`` takes: ``str`` or ``bytes`` for sequences.
        source: the file it came from, for error messages.
        tags: anything else worth keeping, such as a given split or a language.
    """

    name: str
    data: Any
    source: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """A record as the model will see it, without [CLS] and [SEP].

    Attributes:
        values: (length,) integers for token modalities.
        counts: what was met on the way (``{"ambiguous": 12, "unknown": 0}``); the store adds them up and reports.
    """

    values: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)


Fault = Callable[[SuiteError], None]
"""Called with each bad record. It raises (``data.on_error=stop``) or counts and returns (``skip``)."""


class Modality(Protocol):
    """``name`` is the registry key; the constructor's keywords are the keys of ``conf/modality/NAME.yaml``."""

    name: str
    max_length: int  # positions of one sequence, [CLS] and [SEP] included
    overlap: int  # positions that neighbouring windows of one record share
    suffixes: tuple[str, ...]  # file names it reads, e.g. (".fa", ".fa.gz")

    @property
    def vocabulary(self) -> Vocabulary:
        """Known from construction, or after ``fit`` or ``load`` for a trained tokeniser."""
        ...

    def read(self, path: Path, fault: Fault) -> Iterator[Record]:
        """Stream the records of one file. Raises ``SuiteError`` when the file as a whole cannot be read."""
        ...

    def fit(self, records: Iterator[Record]) -> None:
        """Train the tokeniser where it is trained on the input; does nothing otherwise."""
        ...

    def encode(self, record: Record) -> Encoded:
        """Tokenise one record. Raises ``SuiteError`` for a record that is not of this modality."""
        ...

    def identity(self, values: np.ndarray) -> bytes:
        """A digest under which equivalent records are equal (DNA: a sequence and its reverse complement)."""
        ...

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """One random view of the batch, drawn on the batch's device, with the same N, B and offsets' bounds."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Everything that changes what ``encode`` gives; part of the store's cache key."""
        ...

    def save(self, folder: Path) -> None:
        """Write a tokeniser that ``transformers.AutoTokenizer`` opens, plus what ``load`` needs."""
        ...

    def load(self, folder: Path) -> None:
        """Restore what ``fit`` learned, from a folder written by ``save``."""
        ...
