"""The cache folder: where it is, remembered content hashes, locks, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ssl_suite.core import atomic
from ssl_suite.errors import SuiteError
from ssl_suite.modalities.text_files import unreadable

VARIABLE = "SSL_CACHE_DIR"


def cache_folder(given: str | None) -> Path:
    """``data.cache``, else ``SSL_CACHE_DIR``, else ``~/.cache/ssl_suite``; made when missing.

    Raises:
        SuiteError: it cannot be made or written.
    """
    chosen = given or os.environ.get(VARIABLE) or Path("~/.cache/ssl_suite")
    path = Path(chosen).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SuiteError(
            f"{path}: the cache folder cannot be made ({error.strerror}); set data.cache or {VARIABLE}."
        ) from None
    return path


def content_hash(path: Path, given_cache: str | None = None) -> str:
    """SHA-256 of a file, remembered in the cache by path, size and time of change (a big input is hashed once).

    Raises:
        BadRecord: the file cannot be read.
    """
    try:
        status = path.stat()
        stamp = [str(path.resolve()), status.st_size, status.st_mtime_ns]
        note = cache_folder(given_cache) / "hashes" / hashlib.sha256(json.dumps(stamp).encode("utf-8")).hexdigest()
        with contextlib.suppress(OSError):
            known = note.read_text("ascii")
            if len(known) == 64:
                return known
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None
    note.parent.mkdir(exist_ok=True)
    atomic.write(note, digest)
    return digest


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
