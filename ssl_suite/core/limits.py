"""What a user's file may cost: which kinds of file are opened, and how large a record may grow in memory.

A megabyte of gzip holds a gigabyte of one letter, so sizes are held against what comes out, while it comes out. The
one key is ``data.max_record_mb``; modalities that decode have a limit of their own beside it (``modality.max_pixels``,
``modality.max_hours``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ssl_suite.core.faults import BadRecord

KEY = "data.max_record_mb"
RECORD_MB = 256  # the longest human chromosome has 249 million bases
SHARES = {  # of it, by what a record is read as: its parts take many times the bytes of the file
    "record": 1,
    "json": 4,  # "[]," becomes 64 bytes
    "row": 4,  # csv holds a field as 4 bytes a letter
    "midi": 16,  # a note is 3 bytes in the file, and hundreds as numbers and tokens
}
PAGE_VALUES = 1024  # of a parquet page, whatever their size: pyarrow looks at it no earlier
KINDS: tuple[tuple[Callable[[int], bool], str, str], ...] = (
    (stat.S_ISDIR, "a folder", "name a file"),
    (stat.S_ISFIFO, "a named pipe", "write what it gives to a file, and name that"),
    (stat.S_ISSOCK, "a socket", "name a file"),
    (stat.S_ISCHR, "a device", "name a file"),
    (stat.S_ISBLK, "a device", "name a file"),
)


@dataclass(frozen=True)
class Limit:
    """The largest record, in bytes, of what is read as ``kind`` (a key of ``SHARES``).

    Args:
        mb: ``data.max_record_mb``; None is ``RECORD_MB``.
    """

    mb: int | None = None
    kind: str = "record"

    @property
    def bytes(self) -> int:
        """The most that is accepted."""
        return ((self.mb or RECORD_MB) << 20) // SHARES[self.kind]

    def fault(self, where: str, size: str = "", remedy: str = "cut it into parts") -> BadRecord:
        """The fault of a record beyond it.

        Args:
            where: file and record.
            size: how large it is, where that is known.
            remedy: what else can be done.
        """
        share, mb = SHARES[self.kind], self.mb or RECORD_MB
        held = f"{KEY}={mb}" if share == 1 else f"{mb / share:g}, 1/{share} of {KEY}={mb}"
        larger = f"{size} MB, more than" if size else "more MB than"
        return BadRecord(f"{where} has {larger} {held}; {remedy}, or raise {KEY} if you trust it.", "too large")

    def check(self, where: str, size: int) -> None:
        """Raise ``fault`` for a record of ``size`` bytes that is too large."""
        if size > self.bytes:
            raise self.fault(where, f"{size / (1 << 20):,.4g}")


def special(path: Path) -> str:
    """What a path is instead of a file, and a remedy; empty for a file, and for what cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    return next((f"is {what}, not a file; {remedy}" for is_it, what, remedy in KINDS if is_it(mode)), "")


def open_file(path: Path, buffering: int = -1) -> BinaryIO:
    """A user's file, opened to be read. Only regular files are: a pipe would block, a device has no end.

    Raises:
        BadRecord: it is no file, or cannot be opened.
    """
    try:
        if what := special(path):
            raise BadRecord(f"{path}: {what}.", "no file")
        return open(path, "rb", buffering=buffering, opener=_without_waiting)
    except OSError as error:
        raise unreadable(path, error) from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe that took the file's place since


def unreadable(path: Path, error: OSError) -> BadRecord:
    """The fault of a file that the system does not let us read."""
    return BadRecord(
        f"{path}: cannot be read ({error.strerror or error}); check the path and its rights.",
        "unreadable",
    )
