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

from ssl_suite.data.faults import BadRecord

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


class Lines:
    """A text file read line by line, with the number of the last line handed out.

    It offers what Biopython's parsers use of a file: iteration, ``readline`` and ``read``.
    """

    def __init__(self, handle: TextIO) -> None:
        self.handle = handle
        self.number = 0
        self._held: list[str] = []

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
        with open(path, "rb") as file:
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
def open_lines(path: Path, packed: str) -> Iterator[Lines]:
    """The file as text lines. Faults of the file that show while it is read leave as ``BadRecord``.

    Args:
        path: the file.
        packed: what ``packing`` said of it. bgzip is read as the multi-member gzip it is.
    """
    try:
        with open(path, "rb", buffering=BUFFER) as raw:
            # GzipFile reads ahead on its own; the extra buffer turns its many short reads into long ones.
            packed_file = None if packed == "plain" else gzip.GzipFile(fileobj=raw)
            binary: Any = raw if packed_file is None else io.BufferedReader(cast(Any, packed_file), BUFFER)
            yield Lines(io.TextIOWrapper(binary, encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise not_text(path, packed) from None
    except EOFError:
        raise BadRecord(f"{path}: gzip file is truncated; copy or download it again.", "truncated") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadRecord(
            f"{path}: gzip file is damaged ({error}); copy or download it again.",
            "damaged",
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None


def not_text(path: Path, packed: str) -> BadRecord:
    """The fault of a file that is not UTF-8, with the first line that shows it (the file is read once more)."""
    with open(path, "rb") as raw:
        for number, line in enumerate(raw if packed == "plain" else gzip.GzipFile(fileobj=raw), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte, place = line[error.start], error.start + 1
                return BadRecord(
                    f"{path}: line {number}, byte {place} (0x{byte:02x}) is not UTF-8 text; "
                    "convert the file (iconv -t UTF-8) or check that it is a text file.",
                    "not UTF-8",
                )
    return BadRecord(f"{path}: is not UTF-8 text.", "not UTF-8")


def empty(path: Path) -> BadRecord:
    """The fault of a file without content."""
    return BadRecord(f"{path}: is empty; remove it or give one with content.", "empty file")


def unreadable(path: Path, error: OSError) -> BadRecord:
    """The fault of a file that the system does not let us read."""
    return BadRecord(
        f"{path}: cannot be read ({error.strerror or error}); check the path and its rights.",
        "unreadable",
    )
