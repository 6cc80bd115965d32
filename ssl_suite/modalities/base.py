"""What every modality offers: read user files, encode records, augment batches on the device.

A modality is one file with one class, one file in ``conf/modality/`` and one line: in ``ssl_suite/registry.py``, or
among the entry points of a package of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Encoded, Frame, Record, Vocabulary
from ssl_suite.core.rng import Rng

Fault = Callable[[SuiteError], None]
"""Called with each bad record. It raises (``data.on_error=stop``) or counts and returns (``skip``)."""


class Modality:
    """The base of all modalities: what the suite asks of one, with what most of them answer.

    ``name`` is the registry key; the fields of the class, a checked dataclass, are the keys of
    ``conf/modality/NAME.yaml``. Token
    modalities also follow ``modalities.tokens``, images and speech ``modalities.signals``.

    Attributes:
        max_length: positions of one sequence, [CLS] and [SEP] included.
        overlap: positions that neighbouring windows of one record share.
        suffixes: file names it reads, e.g. (".fa", ".fa.gz").
        max_ambiguous: windows with a larger share of tokens outside ``vocabulary.targets`` are left out.
        frame: of signal modalities; None for tokens.
        cuts_words: whether some tokenisers of it cut words into several tokens (``Vocabulary.continues``).
        ngrams: the shortest and the longest n-gram of tokens that the linear control counts.
        aligned: whether the items of a set may be aligned, so that it also reads what stands at each position.
        parallel_from: bytes of input from which preparing in several processes pays (each takes 2 s to start).
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    parallel_from: ClassVar[int] = 64 << 20
    cuts_words: ClassVar[bool] = False
    ngrams: ClassVar[tuple[int, int]] = (3, 5)
    aligned: ClassVar[bool] = True
    max_length: int
    overlap: int = 0
    max_ambiguous: float = 1.0
    frame: Frame | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """Known from construction, or after ``fit`` or ``load`` for a trained tokeniser."""
        raise NotImplementedError

    def read(
        self,
        path: Path,
        fault: Fault,
        column: str | None = None,
        id_column: str | None = None,
        max_record_mb: int | None = None,
    ) -> Iterator[Record]:
        """Stream the records of one file; ``column`` and ``id_column`` name columns of a table.

        A record of more than ``max_record_mb`` (see ``core.limits``) is a fault, found before it is in memory.

        Raises:
            BadRecord: the file as a whole cannot be read.
        """
        raise NotImplementedError

    @property
    def learns(self) -> bool:
        """Whether its tokeniser is trained on records, those of the training split alone.

        That a run has its tokeniser from another changes nothing: one input is split one way for both.
        """
        return type(self).fit is not Modality.fit

    def fit(self, records: Iterator[Record]) -> None:
        """Train the tokeniser where it is trained on the input; does nothing otherwise."""

    def content(self, record: Record) -> tuple[bytes, int]:
        """What ``identity`` tells of tokens, before there are any: a digest of 16 bytes, and the number of letters.

        Raises:
            BadRecord: as ``encode``.
        """
        return hashlib.blake2b(repr(record.data).encode("utf-8", "replace"), digest_size=16).digest(), len(record.data)

    divisible: ClassVar[bool] = False
    """Whether ``divide`` is there; else only whole records can be held back from a tokeniser that ``learns``."""

    def divide(self, data: Any, count: int, size: int) -> list[Any]:
        """``Record.data`` in ``count`` parts of about ``size`` letters, of which the last takes what is left."""
        raise NotImplementedError

    def encode(self, record: Record) -> Encoded:
        """Tokenise (or decode) one record.

        Raises:
            BadRecord: the record is not of this modality, or damaged.
        """
        raise NotImplementedError

    def split_words(self, data: str) -> list[str]:
        """The words of a record that is no list of them: each letter of a sequence."""
        return list("".join(data.split()))

    def words(self, words: list[str]) -> list[np.ndarray]:
        """The ids of each of a record's words (letters of a sequence), each at least one id long."""
        return [self.encode(Record(str(i + 1), word, "word")).values for i, word in enumerate(words)]

    def located(self, record: Record) -> tuple[np.ndarray, np.ndarray, str]:
        """The ids of a text, (length, 2) where each begins and ends in it, and the text as the tokeniser sees it."""
        raise SuiteError(f"modality={self.name} does not tell where its tokens stand; reading needs modality=text.")

    def identity(self, values: np.ndarray) -> bytes:
        """A digest (16 bytes) under which equivalent records are equal (DNA: a sequence and its reverse complement)."""
        return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()

    example: ClassVar[str] = ""
    """A short sequence with a [MASK], to show what ``fill`` does; empty where ids have no text."""

    near_duplicate_kind: ClassVar[str] = ""
    """How ``near_duplicate_features`` finds near copies, in a few words for the report; empty where it does not."""

    near_duplicate_similarity: ClassVar[float] = 0.5
    """The Jaccard similarity of two ``near_duplicate_features`` sets from which they count as near copies."""

    def near_duplicate_features(self, values: np.ndarray) -> np.ndarray:
        """(n,) uint64, distinct features (6-mers, a perceptual hash): near copies share most of them."""
        return np.zeros(0, np.uint64)

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """One random view of the batch, drawn on the batch's device, with the same N, B and offsets' bounds."""
        raise NotImplementedError

    def fingerprint(self) -> dict[str, Any]:
        """Everything that changes what ``encode`` gives; part of the store's cache key."""
        raise NotImplementedError

    def blank(self, length: int) -> np.ndarray:
        """(length,) a token, or (length, F) silent frames: what stands for a record where only its size matters."""
        if self.frame is None:
            return np.full(length, self.vocabulary.targets[0], np.int64)
        return np.zeros((length, self.frame.width), self.frame.dtype)

    def decode(self, values: np.ndarray) -> str:
        """The text of ids; for units their tokens, separated by spaces."""
        return " ".join(self.vocabulary.tokens[i] for i in values.tolist())

    def save(self, folder: Path) -> None:
        """Write what ``load`` needs, and for tokens a tokeniser that ``transformers.AutoTokenizer`` opens."""
        raise NotImplementedError

    def load(self, folder: Path) -> None:
        """Restore what ``fit`` learned, from a folder written by ``save``."""
        raise NotImplementedError
