"""Opening a user's text file: plain, gzip or bgzip, found by content; faults become one clear line."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from Bio import bgzf

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.limits import Limit, open_file, unreadable
from ssl_suite.modalities.encodings import not_text

GZIP = b"\x1f\x8b"
BGZIP_END = bgzf._bgzf_eof  # the empty block that closes every complete bgzip file (SAM specification, 4.1.2)
PARQUET = b"PAR1"
OTHER_PACKINGS = {
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"PK\x03\x04": ("a zip archive", "unzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
BUFFER = 1 << 20
AHEAD = 1 << 16  # bytes decoded at a time


class Guard(io.BufferedIOBase):
    """The bytes of a text file, refused where they are none of a text, and where a record takes more than the limit.

    The limit holds in front of the parsers: none of them sees a line, a quoted field or a sequence that has no end.

    Args:
        path: for messages.
        source: a buffered binary file, unpacked.
        limit: of a record.
    """

    def __init__(self, path: Path, source: Any, limit: Limit) -> None:
        self.path, self.source, self.limit = path, source, limit
        self.read_so_far = self.begun = 0
        self.where = "line 1"

    def readable(self) -> bool:
        """True, which ``TextIOWrapper`` asks."""
        return True

    def read1(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            BadRecord: they hold NUL, or more than the limit has come since ``begin``.
        """
        block: bytes = self.source.read1(size)
        if b"\0" in block:
            raise not_text(self.path, self.source)
        self.read_so_far += len(block)
        if self.read_so_far - self.begun > self.limit.bytes + AHEAD:
            raise self.limit.fault(f"{self.path}: the record that begins at {self.where}")
        return block

    def begin(self, line: int) -> None:
        """A record begins at this line (what has been read ahead is not counted)."""
        self.begun, self.where = self.read_so_far, f"line {line}"


class Lines:
    """A text file read line by line, with the number of the last line handed out.

    It offers what Biopython's parsers use of a file: iteration, ``readline`` and ``read``.

    Attributes:
        number: of the last line handed out.
        begun: the line at which the record that is read begins.
        comments: lines that the parser has passed over since they were last counted.
    """

    def __init__(self, handle: TextIO, guard: Guard | None = None) -> None:
        self.handle, self.guard = handle, guard
        self.number = self.comments = 0
        self.begun = 1
        self._held: list[str] = []

    def begin(self, line: int) -> None:
        """A record begins at this line: the limit of a record counts from here."""
        self.begun = line
        if self.guard is not None:
            self.guard.begin(line)

    def counts(self) -> dict[str, int]:
        """The comment lines passed over since the last call, for ``Record.counts``."""
        count, self.comments = self.comments, 0
        return {"comment lines": count} if count else {}

    def __iter__(self) -> Iterator[str]:
        while self._held:
            yield self.readline()
        for line in self.handle:  # twice as fast as ``readline``
            self.number += 1
            yield line

    def readline(self) -> str:
        """The next line, empty at the end."""
        line = self._held.pop() if self._held else self.handle.readline()
        self.number += bool(line)
        return line

    def read(self, size: int = -1) -> str:
        """Only ``read(0)``, by which Biopython asks whether a file is open as text."""
        if size != 0:
            raise io.UnsupportedOperation("read line by line")
        return ""

    def peek_text(self) -> str:
        """The first line that is not blank (not consumed; the blank ones before it are), or the empty string."""
        while line := self.readline():
            if line.strip():
                self._held.append(line)
                self.number -= 1
                return line
        return ""


def packing(path: Path) -> str:
    """``plain``, ``gzip``, ``bgzip`` or ``parquet``, by the file's first bytes.

    Raises:
        BadRecord: the file cannot be opened, is empty, or is packed in a way that is not read here.
    """
    try:
        with open_file(path) as file:
            head = file.read(18)
            if head[:2] == GZIP and head[12:14] == b"BC":
                check_bgzip_end(path, file)
                return "bgzip"
    except OSError as error:
        raise unreadable(path, error) from None
    if not head:
        raise empty(path)
    for magic, (name, command) in OTHER_PACKINGS.items():
        if head.startswith(magic):
            raise BadRecord(
                f"{path}: is packed with {name}; unpack it with {command} first, or use gzip.",
                "packing",
            )
    return "gzip" if head[:2] == GZIP else "parquet" if head[:4] == PARQUET else "plain"


def check_bgzip_end(path: Path, file: BinaryIO) -> None:
    """bgzip ends with an empty block; a file cut between two blocks decompresses without complaint otherwise."""
    file.seek(0, io.SEEK_END)
    file.seek(max(0, file.tell() - len(BGZIP_END)))
    if file.read() != BGZIP_END:
        raise BadRecord(
            f"{path}: bgzip file is truncated (its closing block is missing); copy it again.",
            "truncated",
        )


@contextmanager
def open_lines(path: Path, packed: str, limit: Limit | None = None) -> Iterator[Lines]:
    """The file as text lines. Faults of the file that show while it is read leave as ``BadRecord``.

    Args:
        path: the file.
        packed: what ``packing`` said of it. bgzip is read as the multi-member gzip it is.
        limit: of a record, see ``Lines.begin``.
    """
    try:
        with unpacked(path, packed) as binary:
            guard = Guard(path, binary, limit or Limit())
            handle = io.TextIOWrapper(cast(Any, guard), encoding="utf-8-sig")
            handle._CHUNK_SIZE = AHEAD  # type: ignore[attr-defined]  # 8 kB by default: eight times the calls
            yield Lines(handle, guard)
    except UnicodeDecodeError:
        with unpacked(path, packed) as binary:
            raise not_text(path, binary) from None
    except EOFError:
        raise BadRecord(f"{path}: gzip file is truncated; copy or download it again.", "truncated") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadRecord(
            f"{path}: gzip file is damaged ({error}); copy or download it again.",
            "damaged",
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None


@contextmanager
def unpacked(path: Path, packed: str) -> Iterator[Any]:
    """The file's bytes, unpacked."""
    with open_file(path, BUFFER) as raw:
        # GzipFile reads ahead on its own; the extra buffer turns its many short reads into long ones.
        yield raw if packed == "plain" else io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=raw)), BUFFER)


def empty(path: Path) -> BadRecord:
    """The fault of a file without content."""
    return BadRecord(f"{path}: is empty; remove it or give one with content.", "empty file")
