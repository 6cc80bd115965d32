"""Sealed folders, such as a prepared store: an index holds the SHA-256 of every other file and one of itself.

Opening one hashes its files once: what was found whole is noted beside the folder (``.NAME.checked``) with every file's
size, times and inode, and hashed again when one of these has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.data import cache

DIGESTS, OWN = "sha256", "own_sha256"
REMEDY = "prepare the data again"


def seal(folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Write the index ``name`` of a folder whose other files are complete: ``facts`` and the digests."""
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    told = {**facts, DIGESTS: {file: cache.sha256(folder / file) for file in files if file != name}}
    atomic.write_json(folder / name, {**told, OWN: _own(told)})


def read(folder: Path, name: str, thorough: bool = False) -> dict[str, Any]:
    """The index of a folder whose files are as they were sealed.

    Args:
        thorough: hash all files, changed or not.

    Raises:
        SuiteError: a file is missing or damaged; names it.
    """
    facts = read_json(folder / name, REMEDY)
    digests = facts.get(DIGESTS)
    if not isinstance(digests, dict) or facts.get(OWN) != _own(facts):
        raise SuiteError(f"{folder / name}: does not match its own SHA-256; {REMEDY}.")
    note = folder.with_name(f".{folder.name}.checked")
    try:
        stamps = {file: cache.stamp(folder / file) for file in digests}
    except OSError as error:
        raise SuiteError(f"{error.filename}: {error.strerror}; {REMEDY}.") from None
    with suppress(OSError, ValueError):
        if not thorough and json.loads(note.read_text("utf-8")) == stamps:
            return facts
    for file, digest in digests.items():
        if cache.sha256(folder / file) != digest:
            raise SuiteError(f"{folder / file}: does not match its SHA-256; {REMEDY}.")
    if cache.is_settled(stamps.values()):
        with suppress(OSError):  # a cache that cannot be written is hashed each time
            atomic.write(note, json.dumps(stamps))
    return facts


def discard_damaged(folder: Path, name: str, report: Callable[[str], None], thorough: bool = False) -> None:
    """Remove a folder that is not as it was sealed, so that it is made anew, and say so."""
    try:
        read(folder, name, thorough)
    except SuiteError as error:
        report(f"damaged: {str(error).removesuffix(f'; {REMEDY}.')}; it is made anew")
        gone = atomic.beside(folder)
        try:
            folder.rename(gone)  # at once: a kill while deleting leaves no half one
        except FileNotFoundError:  # another process was first
            return
        except OSError as why:
            raise SuiteError(f"{folder}: is damaged and cannot be removed ({why.strerror}); remove it.") from None
        atomic.remove(gone)


def _own(facts: dict[str, Any]) -> str:
    """SHA-256 of an index's other entries."""
    others = {key: value for key, value in facts.items() if key != OWN}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode("utf-8")).hexdigest()
