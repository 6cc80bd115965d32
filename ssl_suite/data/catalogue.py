"""The data sets that are known by name: ``conf/data/*.yaml`` with a ``source`` block."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ssl_suite.data.sources import ROOT_VARIABLE
from ssl_suite.errors import SuiteError
from ssl_suite.resources import folder

ABSENT, PRESENT, WRONG_SIZE = "absent", "present", "wrong size"


@dataclass(frozen=True)
class Entry:
    """A catalogued data set.

    Attributes:
        name: what ``data=NAME`` takes.
        title: what it is, in a few words.
        url: the official source.
        file: where it is looked for, below ``data.root``.
        bytes, sha256: of that file.
        licence: its terms.
        citation: whom to cite.
        modality: the modality it is for.
        columns: what a table's columns hold.
        splits: rows or records by split.
        state: ``present``, ``wrong size`` (by the file's length; ``prepare`` also checks its SHA-256), or ``absent``.
    """

    name: str
    title: str
    url: str
    file: str
    bytes: int
    sha256: str
    licence: str
    citation: str
    modality: str
    columns: dict[str, str]
    splits: dict[str, int]
    state: str = ABSENT


REQUIRED = tuple(field.name for field in fields(Entry) if field.name not in ("name", "state"))


def list_entries(root: str | Path | None = None) -> list[Entry]:
    """All entries by name, and whether their files are below ``root`` (default: ``SSL_DATA_DIR``)."""
    base = root or os.environ.get(ROOT_VARIABLE)
    entries = []
    for path in sorted((folder("conf") / "data").glob("*.yaml")):
        content = yaml.safe_load(path.read_text("utf-8"))
        if content.get("source") is not None:
            entries.append(read_entry(path, content, Path(base).expanduser() if base else None))
    return entries


def read_entry(path: Path, content: dict[str, Any], base: Path | None) -> Entry:
    """One entry from its file's content.

    Raises:
        SuiteError: a key of ``source`` is missing, unknown, or not of its type.
    """
    source = content["source"]
    odd = sorted(set(source) ^ set(REQUIRED))
    if odd:
        raise SuiteError(
            f"{path}: source has missing or unknown keys {', '.join(odd)}; it takes {', '.join(REQUIRED)}."
        )
    if not isinstance(source["bytes"], int) or len(str(source["sha256"])) != 64:
        raise SuiteError(f"{path}: source.bytes should be a whole number and source.sha256 64 hexadecimal digits.")
    return Entry(name=content["name"], state=state(base, source), **source)


def state(base: Path | None, source: dict[str, Any]) -> str:
    """Whether the file is there, by its size alone: a list of entries should not read gigabytes."""
    path = base / source["file"] if base is not None else None
    if path is None or not path.is_file():
        return ABSENT
    return PRESENT if path.stat().st_size == source["bytes"] else WRONG_SIZE
