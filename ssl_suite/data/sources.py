"""Which files a run reads: a file, a folder, a glob, a catalogue entry, or the built-in sample."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_suite.errors import SuiteError
from ssl_suite.modalities.base import Modality
from ssl_suite.resources import folder

ROOT_VARIABLE = "SSL_DATA_DIR"


@dataclass(frozen=True)
class Sources:
    """The input files.

    Attributes:
        paths: existing files, sorted, each once.
        described: what they are, for a user.
        builtin: True for the sample that comes with the package.
    """

    paths: list[Path]
    described: str
    builtin: bool = False

    def labels(self) -> list[str]:
        """A short unique name for each path: relative to the folder that holds them all."""
        common = Path(os.path.commonpath([path.parent for path in self.paths]))
        return [path.relative_to(common).as_posix() for path in self.paths]


def resolve(modality: Modality, data: Mapping[str, Any]) -> Sources:
    """Find the files that ``data.path``, a catalogue entry (``data.source``) or neither stands for.

    Raises:
        SuiteError: nothing matches; the message offers the nearest name there is.
    """
    if data.get("path") is not None:
        return resolve_path(str(data["path"]), modality.suffixes)
    if data.get("source") is not None:
        return resolve_entry(data, modality.name)
    return builtin(modality)


def resolve_path(text: str, suffixes: tuple[str, ...]) -> Sources:
    """The files of a path as a user wrote it."""
    path = Path(text).expanduser()
    if is_there(path):
        if not path.is_dir():
            return Sources([path.absolute()], str(path))
        found = [file for file in sorted(path.rglob("*")) if wanted(file, path, suffixes)]
        if not found:
            raise SuiteError(f"data.path={text}: the folder holds no file that ends in {', '.join(suffixes[::3])}.")
        return Sources([file.absolute() for file in found], f"{len(found)} files in {path}")
    if glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [match.absolute() for match in matches if match.is_file()]
        if files:
            return Sources(files, f"{len(files)} files that match {text}")
    raise SuiteError(f"data.path={text}: no such file or folder.{nearest_file(path)}")


def is_there(path: Path) -> bool:
    """Whether a path names something, be it unreadable (the reader says why) or a link to itself."""
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


def wanted(file: Path, base: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a folder's file is read: by its suffix, hidden files and folders left out."""
    hidden = any(part.startswith(".") for part in file.relative_to(base).parts)
    return not hidden and file.name.lower().endswith(suffixes) and file.is_file()


def nearest_file(path: Path) -> str:
    """A hint: the name closest to the first part of ``path`` that does not exist, or the place where it ends."""
    parent, child = path.parent, path.name
    while not parent.is_dir() and parent != parent.parent:
        parent, child = parent.parent, parent.name
    try:
        close = difflib.get_close_matches(child, os.listdir(parent), n=1, cutoff=0.5)
    except OSError:
        return ""
    return f" Did you mean '{parent / close[0]}'?" if close else f" '{parent}' exists, '{child}' in it does not."


def resolve_entry(data: Mapping[str, Any], modality: str) -> Sources:
    """The local file of a catalogue entry, its size and SHA-256 checked."""
    from ssl_suite.data.cache import content_hash

    source = data["source"]
    if source["modality"] != modality:
        raise SuiteError(f"data={data['name']} is for modality={source['modality']}, not {modality}; choose another.")
    root = data.get("root") or os.environ.get(ROOT_VARIABLE)
    if root is None:
        raise SuiteError(
            f"data={data['name']} needs data.root=FOLDER or {ROOT_VARIABLE}: the folder that holds {source['file']} "
            f"(from {source['url']})."
        )
    path = Path(str(root)).expanduser() / source["file"]
    if not path.is_file():
        raise SuiteError(f"data={data['name']}: {path} does not exist; it comes from {source['url']}.")
    if path.stat().st_size != source["bytes"] or content_hash(path, data.get("cache")) != source["sha256"]:
        raise SuiteError(
            f"data={data['name']}: {path} is not the catalogued file (its size or SHA-256 differs); "
            f"get it again or name it by data.path."
        )
    return Sources([path.absolute()], f"{data['name']}: {source['title']}")


def builtin(modality: Modality) -> Sources:
    """The sample in ``samples/NAME``."""
    base = folder("samples") / modality.name
    files = [file for file in sorted(base.rglob("*")) if wanted(file, base, modality.suffixes)] if base.is_dir() else []
    if not files:
        raise SuiteError(f"modality={modality.name} has no built-in sample; set data.path=FILE.")
    return Sources(files, f"the built-in {modality.name} sample ({', '.join(file.name for file in files)})", True)
