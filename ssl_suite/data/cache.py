"""The cache folder: where it is, remembered content hashes, locks, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.text_files import unreadable

VARIABLE = "SSL_CACHE_DIR"
BLOCK = 4096  # bytes of a sample's block
TICK = 20_000_000  # nanoseconds; Linux counts the times of files in steps of 1 to 10 ms


def cache_folder(given: str | None) -> Path:
    """``data.cache``, else ``SSL_CACHE_DIR``, else ``~/.cache/ssl_suite``; made when missing.

    Raises:
        SuiteError: it cannot be made or written.
    """
    path = cache_path(given)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SuiteError(
            f"{path}: the cache folder cannot be made ({error.strerror}); set data.cache or {VARIABLE}."
        ) from None
    return path


def cache_path(given: str | None) -> Path:
    """Where ``cache_folder`` is, made or not."""
    return Path(given or os.environ.get(VARIABLE) or "~/.cache/ssl_suite").expanduser().absolute()


def content_hash(path: Path, given_cache: str | None = None) -> str:
    """SHA-256 of a file, remembered in the cache by path, ``stamp`` and ``sample`` (a big input is hashed once).

    Raises:
        BadRecord: the file cannot be read.
    """
    try:
        before = stamp(path)
        known_by = json.dumps([str(path.resolve()), *before, sample(path)])
        note = cache_folder(given_cache) / "hashes" / hashlib.sha256(known_by.encode("utf-8")).hexdigest()
        with contextlib.suppress(OSError):
            known = note.read_text("ascii")
            if len(known) == 64:
                return known
        digest = sha256(path)
        unchanged = stamp(path) == before and is_settled([before])
    except OSError as error:
        raise unreadable(path, error) from None
    if unchanged:
        note.parent.mkdir(exist_ok=True)
        atomic.write(note, digest)
    return digest


def stamp(path: Path) -> list[int]:
    """Size, times of change of content and of entry, and inode of a file.

    ``cp -p`` and ``rsync -t`` set the first two as they like; one keeps the inode, none the time of the entry.
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def is_settled(stamps: Iterable[list[int]]) -> bool:
    """Whether a change of any of these files from now on gives another stamp: its clock has moved on since the last."""
    return time.time_ns() - max((changed for _, _, changed, _ in stamps), default=0) > TICK


def sample(path: Path) -> str:
    """SHA-256 of the first, the middle and the last block of a file: some file systems keep no true times."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with open(path, "rb") as file:
        for place in (0, size // 2, max(0, size - BLOCK)):
            file.seek(place)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(path: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Hold an advisory lock for the body; the system frees it when the process dies, however it dies.

    Args:
        path: the lock file; it stays.
        waiting: called once before waiting for another holder.

    Yields:
        False where the file system has no locks; the body must then keep its files to itself.
    """
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            yield False
            return
        yield True
