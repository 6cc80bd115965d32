"""The data sets that are known by name: ``conf/data/*.yaml`` with a ``source`` block."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_type_hints

import yaml

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.files import YamlLoader
from ssl_suite.core.registry import describe, fits
from ssl_suite.core.resources import folder
from ssl_suite.data import cache

ROOT_VARIABLE = "SSL_DATA_DIR"
FETCHED = "data"  # folder of the cache into which ``data fetch`` puts things without data.root
ABSENT, PARTLY, PRESENT, WRONG_SIZE = "absent", "partly", "here", "wrong size"


@dataclass(frozen=True)
class File:
    """What is read.

    Attributes:
        file: its path below ``data.root``, or a glob for what an archive holds.
        bytes, sha256: of a plain file; None where they are not known (of a glob, always).
        count: how many files a glob finds; None where that is not known.
        tags: what holds for every record in it (its language); stronger than what its own columns say.
    """

    file: str
    bytes: int | None = None
    sha256: str | None = None
    count: int | None = None
    tags: dict = field(default_factory=dict)

    @property
    def many(self) -> bool:
        """Whether ``file`` is a glob."""
        return glob.has_magic(self.file)


@dataclass(frozen=True)
class Download:
    """What is fetched.

    Attributes:
        file: where it is put below ``data.root``.
        bytes: its length; None where it is not known.
        sha256: None where it is not known: what comes is used, with a warning, and never taken for checked.
        url: its official address, or
        hub, revision, path: its data set on the Hugging Face hub, the commit there, and its path in that.
        unpack: the folder below ``data.root`` that an archive is unpacked into; None for other files.
        unpacked_bytes: the most it may unpack to; None stands for 50 times its length.
    """

    file: str
    bytes: int | None
    sha256: str | None
    url: str | None = None
    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    unpack: str | None = None
    unpacked_bytes: int | None = None

    @property
    def address(self) -> str:
        """Where a person finds it, without what a URL may carry of passwords and signatures."""
        if self.hub is not None:
            return f"https://huggingface.co/datasets/{self.hub}/resolve/{self.revision}/{self.path}"
        return re.sub(r"//[^/@]*@|[?#].*", lambda m: "//" if m[0].startswith("//") else "", str(self.url))


@dataclass(frozen=True)
class Source:
    """The ``source`` block of an entry.

    Attributes:
        title: what it is, honestly and in at most 52 letters, so that a list fits 100.
        modality: the modality it is for.
        use: ``pretraining``, or ``task`` for what is for downstream tasks in the first place.
        official: where the data come from.
        files: what is read. A file that is also in ``downloads`` has its length and SHA-256 from there.
        downloads: what ``data fetch`` gets; empty for files that are published nowhere in this form.
        columns: what a table's columns hold.
        splits: records by split.
        licence: its terms.
        citation: whom to cite.
        instead: an entry that can be fetched and holds the official data, where there is one.
        note: what a user must know besides.
    """

    title: str
    modality: str
    use: Literal["pretraining", "task"]
    official: str
    files: list
    columns: dict
    splits: dict
    licence: str
    citation: str
    downloads: list = field(default_factory=list)
    instead: str | None = None
    note: str | None = None

    @property
    def bytes(self) -> int | None:
        """The length of what is downloaded, else of what is read; None where some of it is not known."""
        sizes = [item.bytes for item in self.downloads or self.files]
        return None if None in sizes else sum(sizes)


@dataclass(frozen=True)
class Entry:
    """A catalogued data set: what ``data=NAME`` takes, its source, and whether its files are here.

    Attributes:
        state: ``here``, ``partly``, ``absent``, or ``wrong size`` (by length alone: a list should not read gigabytes;
            ``prepare`` and ``fetch`` check SHA-256 too).
    """

    name: str
    source: Source
    state: str = ABSENT

    @property
    def shown(self) -> str:
        """The state in a list: what is not here but can be had says so."""
        return "fetch" if self.state == ABSENT and self.source.downloads else self.state


def places(root: str | Path | None, given_cache: str | None = None) -> list[Path]:
    """Where files are looked for: ``data.root`` (else ``SSL_DATA_DIR``), then where ``data fetch`` puts them."""
    base = root or os.environ.get(ROOT_VARIABLE)
    found = [Path(base).expanduser().absolute()] if base else []
    with suppress(SuiteError):  # a list of what is here needs no cache that can be written
        found.append(fetched(given_cache))
    return found


def fetched(given_cache: str | None = None) -> Path:
    """Where ``data fetch`` puts things without ``data.root``."""
    return cache.cache_folder(given_cache) / FETCHED


def list_entries(
    root: str | Path | None = None, given_cache: str | None = None, own: str | Path | None = None
) -> list[Entry]:
    """All entries by name, and whether their files are here.

    Args:
        root: ``data.root``; default: ``SSL_DATA_DIR``.
        given_cache: ``data.cache``.
        own: a folder of the user's own laid out like ``conf/``; its entries come first.
    """
    shipped = folder("conf")
    paths: dict[str, Path] = {}
    for base in [Path(own).expanduser(), shipped] if own else [shipped]:
        for path in sorted((base / "data").glob("*.yaml")):
            paths.setdefault(path.stem, path)
    where, entries = places(root, given_cache), []
    for name in sorted(paths):
        content = yaml.load(paths[name].read_text("utf-8"), YamlLoader)
        if isinstance(content, dict) and content.get("source") is not None:
            source = read_source(content["source"], str(paths[name]))
            entries.append(Entry(name, source, state(source, where)))
    return entries


def find(entries: Iterable[Entry], name: str) -> Entry:
    """The entry of that name.

    Raises:
        SuiteError: there is none; the line offers the nearest.
    """
    known = {entry.name: entry for entry in entries}
    if name not in known:
        raise SuiteError(f"'{name}' is not in the catalogue.{nearest(name, known)}")
    return known[name]


def read_source(content: Mapping[str, Any], where: str) -> Source:
    """A ``source`` block as YAML gives it, checked.

    Args:
        content: the block.
        where: the file or entry it is of, for messages.

    Raises:
        SuiteError: a key is missing, unknown, not of its type, or not of its form.
    """
    source = _checked(Source, content, f"{where}: source")
    downloads = [_download(item, f"{where}: source.downloads") for item in source.downloads]
    known = {item.file: item for item in downloads}
    files = [_file(item, known, f"{where}: source.files") for item in source.files]
    if not files:
        raise SuiteError(f"{where}: source.files is empty; name at least one file below data.root.")
    return Source(**{**vars(source), "files": files, "downloads": downloads})


def _checked(cls: type, content: Any, where: str) -> Any:
    """``cls(**content)`` after its keys and types have been checked."""
    if not isinstance(content, Mapping):
        raise SuiteError(f"{where} should hold keys and values.")
    names = [item.name for item in fields(cls)]
    needed = {item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING}
    odd = sorted((set(content) - set(names)) | (needed - set(content)))
    if odd:
        raise SuiteError(f"{where} has missing or unknown keys {', '.join(odd)}; it takes {', '.join(names)}.")
    hints = get_type_hints(cls)
    for key, value in content.items():
        if not fits(value, hints[key]):
            raise SuiteError(f"{where}.{key}={value} should be {describe(hints[key])}.")
    return cls(**content)


def _file(content: Any, downloads: Mapping[str, Download], where: str) -> File:
    item = _checked(File, content, where)
    inherited = downloads.get(item.file)
    inside = any(one.unpack and item.file.startswith(f"{one.unpack}/") for one in downloads.values())
    if inherited is not None and inherited.unpack is None:
        item = File(**{**vars(item), "bytes": inherited.bytes, "sha256": inherited.sha256})
    elif not inside and (item.many or item.bytes is None or item.sha256 is None):
        raise SuiteError(
            f"{where}: {item.file} needs bytes and sha256, or to be in downloads or in an archive that they unpack."
        )
    _check_path(item.file, where)
    _check_digest(item.sha256, where)
    return item


def _download(content: Any, where: str) -> Download:
    item = _checked(Download, content, where)
    for name in (item.file, item.unpack):
        _check_path(name, where)
    _check_digest(item.sha256, where)
    parts = (item.hub, item.revision, item.path)
    if (item.url is None) == (item.hub is None) or (None in parts and any(parts)):
        raise SuiteError(f"{where}: {item.file} needs either url, or all of hub, revision and path.")
    if item.url is not None and not re.match(r"https?://[^/@]+(/|$)", item.url):
        raise SuiteError(f"{where}: {item.address} should begin with https:// or http:// and hold no password.")
    return item


def _check_path(name: str | None, where: str) -> None:
    """Refuse a path that leaves ``data.root``."""
    if name is None:
        return
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        raise SuiteError(f"{where}: {name} should be a path below data.root.")


def _check_digest(digest: str | None, where: str) -> None:
    if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise SuiteError(f"{where}: sha256 should be 64 hexadecimal digits in lower case, or null where none is known.")


def locate(item: File, where: Sequence[Path]) -> list[Path]:
    """The existing files that ``item`` stands for, sorted, in the first of the places that has any."""
    for place in where:
        if not item.many and (place / item.file).is_file():
            return [place / item.file]
        if item.many:
            found = sorted(path for path in place.glob(item.file) if path.is_file())
            if found:
                return found
    return []


def state(source: Source, where: Sequence[Path]) -> str:
    """Whether the files are there, by their lengths alone."""
    found = 0
    for item in source.files:
        if item.many:
            found += any(path.is_file() for place in where for path in place.glob(item.file))
            continue
        paths = locate(item, where)
        if paths and item.bytes not in (None, paths[0].stat().st_size):
            return WRONG_SIZE
        found += bool(paths)
    return PRESENT if found == len(source.files) else PARTLY if found else ABSENT


def table(entries: Iterable[Entry]) -> Any:
    """A ``rich.table.Table``, at most 100 letters wide, one block a modality."""
    from rich.table import Column, Table

    rows = Table("name", Column("size", justify="right"), "here", "what it is", box=None, pad_edge=False)
    before = ""
    for entry in sorted(entries, key=lambda entry: (entry.source.modality, entry.source.use, entry.name)):
        source = entry.source
        block = f"modality={source.modality}{', for tasks' if source.use == 'task' else ''}"
        if block != before:
            before = block
            rows.add_row(block, style="bold")
        unchecked = "; NO CHECKSUM" if any(item.sha256 is None for item in source.downloads) else ""
        rows.add_row(f" {entry.name}", size(source.bytes), entry.shown, f"{source.title}{unchecked}")
    return rows


def size(count: int | None) -> str:
    """Bytes for a reader."""
    return "?" if count is None else f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
