"""Files and folders that appear whole or not at all, and folders of which only this suite's own are replaced.

Content is written beside its place under ``.NAME.HOST.PID.writing``, synced and renamed. What a killed process has left
under such a name is removed by the next process that writes into the same folder, once no process of that number lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssl_suite.core.errors import SuiteError

UNFINISHED, REPLACED = ".writing", ".replaced"
MARKER = ".ssl_suite.json"  # in a folder that this suite wrote as a whole: its files with their SHA-256
HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:20]  # a process id says nothing about another machine
_PATTERN = re.compile(rf"\.(.+)\.{re.escape(HOST)}\.(\d+)-\d+(\{UNFINISHED}|\{REPLACED})")
_numbers = itertools.count(1)
_swept: set[tuple[int, Path]] = set()


def beside(path: Path, ending: str = UNFINISHED) -> Path:
    """A name in the folder of ``path``, which is made if missing, that no other writer uses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    return path.with_name(f".{path.name}.{HOST}.{os.getpid()}-{next(_numbers)}{ending}")


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine have left unfinished in a folder; once per process and folder.

    An old folder whose successor had not yet taken its place comes back.
    """
    if (os.getpid(), folder) in _swept:
        return
    _swept.add((os.getpid(), folder))
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            match = _PATTERN.fullmatch(entry.name)
            if match is None or alive(int(match[2])):
                continue
            if match[3] == REPLACED and not os.path.lexists(folder / match[1]):
                os.rename(entry.path, folder / match[1])
            else:
                remove(Path(entry.path))


def alive(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def remove(path: Path) -> None:
    """Delete a file, a link or a folder; what cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside ``path``; the file written under it takes the place of ``path`` at the end of the block.

    Readers see the old file or the new one. After an error ``path`` is as it was. A new folder may be written so, too;
    where there is one already it stays, and ``OSError`` says so: see ``replacing_folder``.
    """
    path = path.resolve() if path.is_symlink() else path  # the link stays
    unfinished = beside(path)
    try:
        yield unfinished
        sync_all(unfinished)
        os.replace(unfinished, path)
        sync(path.parent)
    finally:
        remove(unfinished)


@contextlib.contextmanager
def replacing_folder(folder: Path, key: str) -> Iterator[Path]:
    """An empty folder beside ``folder``, whose place it takes at the end of the block.

    Args:
        key: the setting that names ``folder``, for messages.

    Raises:
        SuiteError: ``folder`` is there and was not written in this way, or holds what was not.
    """
    check_own(folder, key)
    folder = folder.resolve()
    unfinished, old = beside(folder), beside(folder, REPLACED)
    try:
        unfinished.mkdir()
        yield unfinished
        write_json(unfinished / MARKER, {"written by": "ssl_suite", "files": _digests(unfinished)})
        sync_all(unfinished)
        if folder.is_dir():
            os.replace(folder, old)
        os.replace(unfinished, folder)
        sync(folder.parent)
    finally:
        if not os.path.lexists(folder) and old.is_dir():
            os.replace(old, folder)
        remove(unfinished)
        remove(old)


def write(path: Path, content: str | bytes) -> None:
    """Write a small file whole."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON whole."""
    write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def sync_all(path: Path) -> None:
    """``sync`` a file, or a folder with all that is in it."""
    for inner in [*sorted(path.rglob("*")), path]:
        sync(inner)


def sync(path: Path) -> None:
    """Force a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def foreign(folder: Path) -> str | None:
    """What a folder holds that this suite has not written there, in a few words; None if it may be replaced."""
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not folder.is_dir():
        return "it is a file"
    try:
        noted = dict(json.loads((folder / MARKER).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return "ssl_suite has not written it"
    names = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    unknown = sorted(names - {*noted, MARKER})
    if unknown:
        return f"it holds {unknown[0]}, which ssl_suite has not written"
    changed = [name for name, digest in _digests(folder).items() if noted[name] != digest]
    return f"its {changed[0]} has been changed since ssl_suite wrote it" if changed else None


def check_own(folder: Path, key: str) -> None:
    """Refuse a folder that may not be replaced; ``key`` is the setting that names it.

    Raises:
        SuiteError: it is a file, or holds what this suite has not written.
    """
    why = foreign(folder)
    if why is not None:
        raise SuiteError(f"{key}={folder} would be replaced, but {why}: name a new folder, or move that one away.")


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name of the files in a folder and below."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.name != MARKER:
            with open(path, "rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
