"""Which files a run reads: a file, a folder, a glob, a name on the hub, a catalogue entry, or the built-in sample."""

from __future__ import annotations

import difflib
import glob
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.limits import special
from ssl_suite.core.registry import MODALITIES
from ssl_suite.core.resources import folder
from ssl_suite.core.wording import count
from ssl_suite.data import recipes
from ssl_suite.data.cache import cache_folder, cache_path
from ssl_suite.data.catalogue import ROOT_VARIABLE, check_files, chosen, locate, places, read_source, remedy
from ssl_suite.modalities.base import Modality

HUB, TORCHVISION = "hf:", "torchvision:"
PACKED = (".gz", ".bgz")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """The input files.

    Attributes:
        paths: existing files, sorted, each once.
        described: what they are, for a user.
        tags: by path, what the catalogue says of every record of a file; stronger than the records' own tags.
    """

    paths: list[Path]
    described: str
    tags: dict[Path, dict[str, str]] = field(default_factory=dict)

    def labels(self) -> list[str]:
        """A short unique name for each path: relative to the folder that holds them all."""
        common = Path(os.path.commonpath([path.parent for path in self.paths]))
        return [path.relative_to(common).as_posix() for path in self.paths]


def to_stderr(text: str) -> None:
    """Progress that must not mix with what a command prints."""
    print(text, file=sys.stderr)


def resolve(modality: Modality, data: Mapping[str, Any], report: Report = to_stderr) -> Sources:
    """Find the files that ``data.path``, a catalogue entry (``data.source``) or neither stands for.

    Args:
        modality: whose files they are.
        data: the ``data`` section of the configuration.
        report: takes the lines that tell how a data set of the hub is streamed into the cache.

    Raises:
        SuiteError: nothing matches; the message offers the nearest name there is.
    """
    if data.get("path") is not None:
        return resolve_path(str(data["path"]), modality.suffixes, data.get("cache"), report, data.get("root"))
    if data.get("source") is not None:
        return resolve_entry(modality, data, report)
    return builtin(modality)


def resolve_path(
    text: str,
    suffixes: tuple[str, ...],
    given_cache: str | None = None,
    report: Report = to_stderr,
    root: str | None = None,
) -> Sources:
    """The files of a path as a user wrote it; of a folder those that end in one of ``suffixes``."""
    if text.startswith(HUB):
        from ssl_suite.data import hub

        paths, described = hub.stream(text, given_cache, report)
        return Sources(paths, described)
    if text.startswith(TORCHVISION):
        from ssl_suite.modalities import image_sets

        place = Path(root or os.environ.get(ROOT_VARIABLE) or cache_folder(given_cache) / "data").expanduser()
        return Sources([image_sets.as_parquet(text, place, cache_folder(given_cache), report)], text)
    path = Path(text).expanduser()
    if is_there(path):
        if not path.is_dir() and (what := special(path)):
            raise SuiteError(f"data.path={text}: {what}.")
        if path.is_dir():
            return resolve_folder(text, path, suffixes, cache_path(given_cache))
        return Sources([path.absolute()], str(path))
    if glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [match.absolute() for match in matches if match.is_file()]
        if files:
            return Sources(files, f"{count(len(files), 'file')} that match {text}")
    raise SuiteError(f"data.path={text}: no such file or folder.{nearest_file(path)}")


def resolve_folder(text: str, path: Path, suffixes: tuple[str, ...], cache: Path) -> Sources:
    """The files in a folder and below it that the modality reads; the others are counted.

    Args:
        cache: what this suite keeps there is no data of the user's, where the folder holds it.
    """
    own = path.absolute() != cache and cache.is_relative_to(path.absolute())
    files = [file for file in files_in(path) if not (own and file.absolute().is_relative_to(cache))]
    found = [file.absolute() for file in files if file.name.lower().endswith(suffixes)]
    if not found:
        raise SuiteError(f"data.path={text}: {no_files(files, suffixes)}")
    others = len(files) - len(found)
    also = f"; {others} of other kinds left alone" if others else ""
    return Sources(found, f"{count(len(found), 'file')} in {path}{also}")


def files_in(base: Path) -> list[Path]:
    """The files in a folder and below it, sorted, without those that are hidden or in a hidden folder."""
    found = (file for file in sorted(base.rglob("*")) if file.is_file())
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(base).parts)]


def no_files(files: list[Path], suffixes: tuple[str, ...]) -> str:
    """What to say of a folder without files for a modality: what it reads, and which modality reads what is there."""
    counts = {name: sum(file.name.lower().endswith(ends) for file in files) for name, ends in readers().items()}
    most = max(counts.values(), default=0)
    best = [f"modality={name}" for name, count in counts.items() if count == most]
    hint = f" {most} of its {count(len(files), 'file')} can be read with {' or '.join(best)}." if most else ""
    return f"the folder holds no file that ends in {unpacked_suffixes(suffixes)}.{hint}"


def unpacked_suffixes(suffixes: tuple[str, ...]) -> str:
    """Suffixes for a message, without those of packed files."""
    return ", ".join(suffix for suffix in suffixes if not suffix.endswith(PACKED))


def readers() -> dict[str, tuple[str, ...]]:
    """The suffixes that each modality reads; one whose packages are not installed is left out."""
    found = {}
    for name, place in MODALITIES.items():
        module, _, attribute = place.partition(":")
        try:
            found[name] = getattr(importlib.import_module(module), attribute).suffixes
        except (ImportError, OSError):  # OSError: a package whose shared library is missing
            continue
    return found


def is_there(path: Path) -> bool:
    """Whether a path names something, be it unreadable (the reader says why) or a link to itself."""
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


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


def resolve_entry(modality: Modality, data: Mapping[str, Any], report: Report = to_stderr) -> Sources:
    """The local files of a catalogue entry, checked by size and SHA-256, or the table its recipe makes of them.

    Raises:
        SuiteError: it is for another modality, or a file is missing, is another, or is of no kind that is read.
    """
    name = data["name"]
    source = read_source(data["source"], f"data={name}")
    if source.modality != modality.name:
        raise SuiteError(f"data={name} is for modality={source.modality}, not {modality.name}; choose another.")
    where = places(data.get("root"), data.get("cache"))
    paths: list[Path] = []
    tags: dict[Path, dict[str, str]] = {}
    for item in chosen(source, where):
        found = locate(item, where)
        if not found and item.optional:
            continue
        if not found:
            raise SuiteError(f"data={name}: {item.file} is not here; {remedy(name, source, where)}")
        check_files(name, source, item, found, data.get("cache"))
        paths += found
        tags |= {path: {key: str(value) for key, value in item.tags.items()} for path in found if item.tags}
    if source.recipe is not None:
        paths = [recipes.made(name, source.recipe, list(dict.fromkeys(paths)), data.get("cache"), report)]
    alien = next((path for path in paths if not path.name.lower().endswith(modality.suffixes)), None)
    if alien is not None:
        raise SuiteError(
            f"data={name}: {alien.name} is of a kind that modality={modality.name} does not read "
            f"({unpacked_suffixes(modality.suffixes)}); the entry is for tasks, or for reading it elsewhere."
        )
    return Sources(sorted(set(paths)), f"{name}: {source.title}", tags=tags)


def builtin(modality: Modality) -> Sources:
    """The sample in ``samples/NAME``."""
    base = folder("samples") / modality.name
    files = [file for file in files_in(base) if file.name.lower().endswith(modality.suffixes)]
    if not files:
        raise SuiteError(f"modality={modality.name} has no built-in sample; set data.path=FILE.")
    names = [file.name for file in files]
    shown = ", ".join(names) if len(names) <= 4 else f"{len(names)} files: {names[0]} to {names[-1]}"
    return Sources(files, f"the built-in {modality.name} sample ({shown})")
