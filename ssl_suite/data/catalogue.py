"""The data sets known by name: ``conf/data/*.yaml`` with a ``source`` block."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.files import YamlLoader
from ssl_suite.core.resources import folder
from ssl_suite.core.schema import parse
from ssl_suite.core.wording import count
from ssl_suite.data import cache

ROOT_VARIABLE = "SSL_DATA_DIR"
FETCHED = "data"  # folder of the cache into which ``data fetch`` puts things without data.root
ABSENT, PARTLY, PRESENT, WRONG_SIZE = "absent", "partly", "here", "wrong size"


def _below_root(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        raise ValueError("should be a path below data.root")
    return name


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("should be 64 hexadecimal digits in lower case, or null where none is known")
    return text


BelowRoot = Annotated[str, AfterValidator(_below_root)]
Digest = Annotated[str, AfterValidator(_digest)]


class _Block(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class File(_Block):
    """What is read. ``bytes`` and ``sha256`` of a file that is also a download stand there."""

    file: BelowRoot
    """Its path below ``data.root``, or a glob for what an archive holds."""
    bytes: int | None = None
    sha256: Digest | None = None
    count: int | None = None
    """How many files a glob finds; None where that is not known."""
    tags: dict = Field(default_factory=dict)
    """Tags of every record in it (its language); they win over what its own columns say."""
    optional: bool = False
    """Whether the entry is whole without it."""

    @property
    def many(self) -> bool:
        """Whether ``file`` is a glob."""
        return glob.has_magic(self.file)


class Download(_Block):
    """What is fetched: from ``url``, or from a data set of the Hugging Face hub."""

    file: BelowRoot
    """Where it is put below ``data.root``."""
    bytes: int | None
    sha256: Digest | None
    """None where it is not known: the file is used with a warning, and never taken for checked."""
    url: str | None = None
    hub: str | None = None
    """``OWNER/NAME`` on the hub; ``revision`` is a commit and ``path`` the file's in it."""
    revision: str | None = None
    path: str | None = None
    unpack: BelowRoot | None = None
    """The folder below ``data.root`` that an archive is unpacked into."""
    unpacked_bytes: int | None = None
    """The most it may unpack to; by default 50 times its length."""

    @property
    def link(self) -> str:
        """The URL to ask for it."""
        if self.hub is None:
            return str(self.url)
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        return f"{endpoint}/datasets/{self.hub}/resolve/{self.revision}/{self.path}"

    @property
    def address(self) -> str:
        """``link`` without what it may carry of passwords and signatures."""
        return re.sub(r"//[^/@]*@|[?#].*", lambda m: "//" if m[0].startswith("//") else "", self.link)


class Source(_Block):
    """The ``source`` block of an entry."""

    title: str
    """What it is, in at most 52 letters, so that a list fits 100."""
    modality: str
    use: Literal["pretraining", "task"]
    """What it is for in the first place."""
    official: str
    """Where the data come from."""
    files: list[File]
    """Empty only where a recipe makes all of it."""
    columns: dict
    """What a table's columns hold."""
    splits: dict
    """Records by split."""
    licence: str
    citation: str
    downloads: list[Download] = Field(default_factory=list)
    """What ``data fetch`` gets; empty for files that are published nowhere in this form."""
    recipe: str | None = None
    """A key of ``recipes.RECIPES``, which makes one table of the files; without it they are read as they are."""
    blind: str | None = None
    """The recipe of the table of items whose labels are not public."""
    layouts: list[list[File]] = Field(default_factory=list)
    """Where else a user may have the same data, which the recipe reads too; taken in order where ``files`` are not
    here. What is not known of them is not checked."""
    instead: str | None = None
    """An entry that can be fetched and holds the official data, where there is one."""
    note: str | None = None

    @property
    def bytes(self) -> int | None:
        """The length of what is downloaded, else of what is read; None where some of it is not known."""
        sizes = [item.bytes for item in self.downloads or self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


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


def read_source(content: Any, where: str) -> Source:
    """A ``source`` block as YAML gives it, checked.

    Args:
        content: the block.
        where: the file or entry it is of, for messages.

    Raises:
        SuiteError: a key is missing, unknown, not of its type, or not of its form.
    """
    source = parse(Source, content, where, "source.")
    where += ": source."
    if not source.files and source.recipe is None:
        raise SuiteError(f"{where}files: is empty, which it may be only where a recipe makes all of the data.")
    for one in source.downloads:  # messages show no URL, which may hold a password
        parts = (one.hub, one.revision, one.path)
        if (one.url is None) == (one.hub is None) or (None in parts and any(parts)):
            raise SuiteError(f"{where}downloads: {one.file} needs either url, or all of hub, revision and path.")
        if one.url is not None and not re.match(r"https?://[^/@]+(/|$)", one.url):
            raise SuiteError(
                f"{where}downloads: {one.address} should begin with https:// or http:// and hold no password."
            )
    plain = {one.file: one for one in source.downloads if not one.unpack}
    folders = tuple(f"{item.unpack}/" for item in source.downloads if item.unpack)
    files = []
    for item in source.files:
        if item.file in plain:
            inherited = {"bytes": plain[item.file].bytes, "sha256": plain[item.file].sha256}
            item = item.model_copy(update=inherited)
        elif item.many and source.recipe is not None:
            pass  # a corpus in folders, as its owner gives it out: the recipe reads its lists
        elif not item.file.startswith(folders) and (item.many or None in (item.bytes, item.sha256)):
            raise SuiteError(
                f"{where}files: {item.file} needs bytes and sha256, or to be in downloads or in an archive that they "
                "unpack, or a recipe that reads folders."
            )
        files.append(item)
    return source.model_copy(update={"files": files})


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


def chosen(source: Source, where: Sequence[Path]) -> list[File]:
    """The first of ``files`` and ``layouts`` of which all is there; ``files`` where that is none."""
    for layout in (source.files, *source.layouts):
        if all(item.optional or locate(item, where) for item in layout):
            return layout
    return source.files


def state(source: Source, where: Sequence[Path]) -> str:
    """Whether the files are there, by their lengths alone."""
    found, files = 0, [item for item in chosen(source, where) if not item.optional]
    for item in files:
        if item.many:
            found += any(path.is_file() for place in where for path in place.glob(item.file))
            continue
        paths = locate(item, where)
        if paths and item.bytes not in (None, paths[0].stat().st_size):
            return WRONG_SIZE
        found += bool(paths)
    return PRESENT if found == len(files) else PARTLY if found else ABSENT


def difference(item: File | Download, path: Path, given_cache: str | None = None) -> str | None:
    """``size`` or ``SHA-256``, in which a file is not the catalogued one; None where it is."""
    if item.bytes not in (None, path.stat().st_size):
        return "size"
    if item.sha256 is not None and cache.content_hash(path, given_cache) != item.sha256:
        return "SHA-256"
    return None


def check_files(name: str, source: Source, item: File, found: Sequence[Path], given_cache: str | None) -> None:
    """Hold the files of one item of an entry against its count, length and SHA-256.

    Raises:
        SuiteError: they differ.
    """
    again = f"run `ssl_suite data fetch {name}`" if source.downloads else "get it again"
    if item.many:
        if item.count not in (None, len(found)):
            raise SuiteError(
                f"data={name}: {item.file} finds {count(len(found), 'file')} instead of {item.count:,}; "
                f"remove what is there and {again}, or name them by data.path."
            )
    elif what := difference(item, found[0], given_cache):
        raise SuiteError(
            f"data={name}: {found[0]} is not the catalogued file (its {what} differs); move it away and {again}, or "
            "name it by data.path."
        )


def remedy(name: str, source: Source, where: Sequence[Path]) -> str:
    """How to get an entry that is not here, in one sentence."""
    if source.downloads:
        size = f" ({source.bytes / 1e6:,.1f} MB)" if source.bytes else ""
        return (
            f"get it with `ssl_suite data fetch {name}`{size}; it is looked for below {' and '.join(map(str, where))}."
        )
    missing = [item for item in source.files if not locate(item, where)] or source.files
    first = missing[0]
    if first.bytes is None:
        return f"get the corpus at {source.official} and unpack it so that {where[0] / first.file} finds its files."
    more = f" and {len(missing) - 1} more (`ssl_suite data list --json` names them)" if len(missing) > 1 else ""
    instead = f" or fetch data={source.instead}," if source.instead else ""
    return (
        f"this prepared copy is published nowhere: place {where[0] / first.file} ({first.bytes:,} bytes, SHA-256 "
        f"{first.sha256}){more},{instead} or get the official data at {source.official} and name your files by "
        "data.path."
    )


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
