"""``data fetch``: the files of a catalogue entry, from their official source, checked and unpacked."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.data import archives, cache
from ssl_suite.data.catalogue import (
    PRESENT,
    Download,
    Entry,
    Source,
    fetched,
    locate,
    places,
    state,
)
from ssl_suite.data.download import WAITS, Unreachable, Wanted, download, enough
from ssl_suite.data.meter import Meter, metering

NOTE = ".fetched.json"  # in a folder that came out of an archive: which archive
OFFLINE_VARIABLES = ("SSL_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
Report = Callable[[str], None]


def fetch(
    entry: Entry,
    root: str | Path | None = None,
    given_cache: str | None = None,
    report: Report = print,
    terminal: bool = False,
    waits: tuple[float, ...] = WAITS,
) -> Path:
    """Get what is missing of an entry, and check what is there.

    Args:
        entry: of the catalogue.
        root: where to put it; default: the folder ``data`` of the cache, where ``data=NAME`` looks as well.
        given_cache: ``data.cache``.
        report: takes a line at a time.
        terminal: draw progress bars on stderr.
        waits: seconds before further tries.

    Returns:
        The folder below which its files are.

    Raises:
        SuiteError: they cannot be had; the line says which file to place where instead.
    """
    name, source = entry.name, entry.source
    # Who names a folder wants it there, wherever else it may be.
    where = [Path(root).expanduser().absolute()] if root else places(None, given_cache)
    if state(source, where) == PRESENT:
        base = check(entry, where, given_cache)
        report(f"{name}: all of it is here, below {base}")
        return base
    if not source.downloads:
        raise SuiteError(f"{name}: {remedy(name, source, where)}")
    base = where[0] if root else fetched(given_cache)
    try:
        base.mkdir(parents=True, exist_ok=True)
        with (
            cache.lock(base / f".{name}.lock", lambda: report(f"{name}: another process is fetching it; waiting")),
            metering(report, terminal) as meter,
        ):
            for item in source.downloads:
                get(entry, item, base, meter(Path(item.file).name), waits)
    except OSError as error:
        why = f"{error.filename or base}: {error.strerror or error}"
        raise SuiteError(f"{name}: {why}; choose another folder by data.root.") from None
    check(entry, [base], given_cache)
    report(f"{name}: all of it is here, below {base}; use it with data={name}" + (f" data.root={root}" if root else ""))
    return base


def check(entry: Entry, where: Sequence[Path], given_cache: str | None) -> Path:
    """Hold an entry's files against their lengths, SHA-256 and counts; returns the place of the first.

    Raises:
        SuiteError: a file is missing or another.
    """
    from ssl_suite.data.sources import check_files

    base = where[0]
    for number, item in enumerate(entry.source.files):
        found = locate(item, where)
        if not found:
            raise SuiteError(f"{entry.name}: what came does not hold {item.file}, which the catalogue expects in it.")
        check_files(entry.name, entry.source, item, found, {"cache": given_cache})
        if number == 0:
            base = next(place for place in where if found[0].is_relative_to(place))
    return base


def get(entry: Entry, item: Download, base: Path, meter: Meter, waits: tuple[float, ...]) -> None:
    """One download of an entry: use what is there, else download; then unpack."""
    target = base / item.file
    into = base / item.unpack if item.unpack else None
    if into is not None and into.is_dir():
        if (into / NOTE).is_file():
            return
        raise SuiteError(
            f"{entry.name}: {into} is in the way: it holds other things; move it away, or choose another data.root."
        )
    placed = target.is_file()
    digest = check_placed(item, target) if placed else bring(entry, item, target, meter, waits)
    if into is None:
        return
    enough(base, item.unpacked_bytes or item.bytes or 0)
    meter.say(f"unpacking into {into}")
    note = {"address": item.address, "sha256": digest, "bytes": target.stat().st_size}
    result = archives.unpack(target, into, item.unpacked_bytes, note={NOTE: note})
    meter.say(f"{count(result.files, 'file')}, {result.bytes / 1e6:,.1f} MB")
    if not placed:
        target.unlink()


def check_placed(item: Download, target: Path) -> str:
    """SHA-256 of a file that was there already, placed by hand or by an interrupted call; checked."""
    size, digest = target.stat().st_size, content_hash(target)
    if item.bytes not in (None, size) or item.sha256 not in (None, digest):
        raise SuiteError(
            f"{target}: is not the catalogued file (its {'size' if item.bytes not in (None, size) else 'SHA-256'} "
            f"differs); move it away and run the command again."
        )
    return digest


def content_hash(path: Path) -> str:
    """SHA-256 of a file, read now."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bring(entry: Entry, item: Download, target: Path, meter: Meter, waits: tuple[float, ...]) -> str:
    """Download one file; returns its SHA-256."""
    if offline():
        raise SuiteError(f"{entry.name}: {offline()}=1 forbids the network; {by_hand(entry.name, item, target)}")
    enough(nearest_folder(target), (item.bytes or 0) + (item.unpacked_bytes or item.bytes or 0) * bool(item.unpack))
    try:
        if item.hub is not None:
            found = from_hub(entry.name, item, target)
        else:
            wanted = Wanted(str(item.url), item.address, item.bytes, item.sha256)
            found = download(wanted, target, meter, waits).sha256
    except Unreachable as error:
        raise SuiteError(f"{entry.name}: {error}; {by_hand(entry.name, item, target)}") from None
    if item.sha256 is None:
        meter.say(f"WARNING: no SHA-256 is known for {item.address}: nobody has checked what came (SHA-256 {found})")
    return found


def from_hub(name: str, item: Download, target: Path) -> str:
    """Download a file of the Hugging Face hub by its own client, which resumes and retries; returns its SHA-256."""
    from huggingface_hub import errors, hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its lines about each retry hide the one that counts
    folder = target.with_name(f".{target.name}.hub")
    endpoint = os.environ.get("HF_ENDPOINT")
    facts: dict[str, Any] = {"revision": item.revision, "repo_type": "dataset", "endpoint": endpoint}
    try:
        came = Path(hf_hub_download(str(item.hub), str(item.path), local_dir=folder, **facts))
    except errors.GatedRepoError:
        raise SuiteError(
            f"{name}: {item.hub} asks for consent: give it on its page and log in with `hf auth login`."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise Unreachable("the Hugging Face hub does not answer as it should") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        what = str(error).strip().splitlines()[-1].split(" for url")[0]
        raise SuiteError(f"{name}: {item.address} is not there (any more): {what}") from None
    except Exception as error:  # its client raises what its HTTP library raises; all of it is about the network
        what = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SuiteError(f"{name}: {item.address}: {what}; run the command again later.") from None
    found, size = content_hash(came), came.stat().st_size
    if item.bytes not in (None, size) or item.sha256 not in (None, found):
        shutil.rmtree(folder, ignore_errors=True)
        raise SuiteError(
            f"{item.address}: what came has {size:,} bytes and SHA-256 {found}, the catalogue says "
            f"{item.bytes or size:,} and {item.sha256 or found}; nothing was kept."
        )
    atomic.sync(came)
    os.replace(came, target)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def offline(environment: Mapping[str, str] = os.environ) -> str | None:
    """The variable that forbids the network, if one does."""
    on = ("1", "ON", "YES", "TRUE")
    return next((name for name in OFFLINE_VARIABLES if environment.get(name, "").upper() in on), None)


def nearest_folder(path: Path) -> Path:
    """A path whose parent exists, on the way to ``path``."""
    while not path.parent.is_dir():
        path = path.parent
    return path


def by_hand(name: str, item: Download, target: Path) -> str:
    """What to do where this machine has no network."""
    facts = [f"{item.bytes:,} bytes" if item.bytes else "", f"SHA-256 {item.sha256}" if item.sha256 else ""]
    known = ", ".join(fact for fact in facts if fact)
    return (
        f"download {item.address}{f' ({known})' if known else ''} elsewhere, place it at {target} "
        f"and run `ssl_suite data fetch {name}` again."
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
    facts = f"{first.bytes:,} bytes, SHA-256 {first.sha256}"
    more = f" and {len(missing) - 1} more (`ssl_suite data list --json` names them)" if len(missing) > 1 else ""
    instead = f" or fetch data={source.instead}," if source.instead else ""
    return (
        f"this prepared copy is published nowhere: place {where[0] / first.file} ({facts}){more},{instead} "
        f"or get the official data at {source.official} and name your files by data.path."
    )
