"""``data fetch``: the files of a catalogue entry, from their official source, checked and unpacked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.data import archives, cache
from ssl_suite.data.catalogue import (
    PRESENT,
    Download,
    Entry,
    check_files,
    chosen,
    difference,
    fetched,
    locate,
    places,
    remedy,
    state,
)
from ssl_suite.data.download import WAITS, Unreachable, check_space, download
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
                fetch_item(entry.name, item, base, meter(Path(item.file).name), waits)
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
    base = where[0]
    for number, item in enumerate(chosen(entry.source, where)):
        found = locate(item, where)
        if not found and item.optional:
            continue
        if not found:
            raise SuiteError(f"{entry.name}: what came does not hold {item.file}, which the catalogue expects in it.")
        check_files(entry.name, entry.source, item, found, given_cache)
        if number == 0:
            base = next(place for place in where if found[0].is_relative_to(place))
    return base


def fetch_item(name: str, item: Download, base: Path, meter: Meter, waits: tuple[float, ...]) -> None:
    """One download of an entry: use what is there, else download; then unpack."""
    target = base / item.file
    into = base / item.unpack if item.unpack else None
    if into is not None and into.is_dir():
        if (into / NOTE).is_file():
            return
        raise SuiteError(
            f"{name}: {into} is in the way: it holds other things; move it away, or choose another data.root."
        )
    placed = target.is_file()  # by hand, or by an interrupted call
    if not placed:
        digest = fetch_file(name, item, target, meter, waits)
    elif what := difference(item, target):
        raise SuiteError(
            f"{target}: is not the catalogued file (its {what} differs); move it away and run the command again."
        )
    else:
        digest = cache.sha256(target)
    if into is None:
        return
    check_space(into, item.unpacked_bytes or item.bytes or 0)
    meter.say(f"unpacking into {into}")
    note = {"address": item.address, "sha256": digest, "bytes": target.stat().st_size}
    result = archives.unpack(target, into, item.unpacked_bytes, note={NOTE: note})
    meter.say(f"{count(result.files, 'file')}, {result.bytes / 1e6:,.1f} MB")
    if not placed:
        target.unlink()


def fetch_file(name: str, item: Download, target: Path, meter: Meter, waits: tuple[float, ...]) -> str:
    """Download one file; returns its SHA-256."""
    if offline():
        raise SuiteError(f"{name}: {offline()}=1 forbids the network; {manual_instructions(name, item, target)}")
    check_space(target, (item.bytes or 0) + (item.unpacked_bytes or item.bytes or 0) * bool(item.unpack))
    try:
        found = download(item, target, meter, waits)
    except Unreachable as error:
        raise SuiteError(f"{name}: {error}; {manual_instructions(name, item, target)}") from None
    if item.sha256 is None:
        meter.say(f"WARNING: no SHA-256 is known for {item.address}: nobody has checked what came (SHA-256 {found})")
    return found


def offline(environment: Mapping[str, str] = os.environ) -> str | None:
    """The variable that forbids the network, if one does."""
    on = ("1", "ON", "YES", "TRUE")
    return next((name for name in OFFLINE_VARIABLES if environment.get(name, "").upper() in on), None)


def manual_instructions(name: str, item: Download, target: Path) -> str:
    """What to do where this machine has no network."""
    facts = [f"{item.bytes:,} bytes" if item.bytes else "", f"SHA-256 {item.sha256}" if item.sha256 else ""]
    known = ", ".join(fact for fact in facts if fact)
    return (
        f"download {item.address}{f' ({known})' if known else ''} elsewhere, place it at {target} "
        f"and run `ssl_suite data fetch {name}` again."
    )
