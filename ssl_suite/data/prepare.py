"""From a user's files to a prepared store: tokenise once, split, cut into windows, publish by one rename.

A preparation that is killed goes on where it was; two that run at once wait for each other; a finished one is found
again by a key over the content of all inputs and every setting that matters.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.core.records import Record
from ssl_suite.core.wording import count
from ssl_suite.data import cache, parallel, windows
from ssl_suite.data.assemble import assemble
from ssl_suite.data.seals import discard_damaged
from ssl_suite.data.shards import REPEATED, Task, tasks_of, with_tags
from ssl_suite.data.sides import assign_sides
from ssl_suite.data.sources import Sources, resolve
from ssl_suite.data.store import FORMAT, INDEX, Store
from ssl_suite.modalities.base import Modality

SHORTEST = 8  # positions of a window, two of them special
Report = Callable[[str], None]


def prepare(
    modality: Modality,
    data: Mapping[str, Any],
    *,
    report: Report = print,
    thorough: bool = False,
    accept: Callable[[str], None] = lambda key: None,
) -> Store:
    """The store of these inputs and settings: opened when the cache has it, else made.

    A trained tokeniser is part of the store; ``modality`` has it afterwards.

    Args:
        modality: reads and encodes.
        data: the ``data`` section of the configuration.
        report: takes the lines that tell a user what goes on.
        thorough: hash a store that is there, even where no file of it has changed since the last time.
        accept: called with the store's key before anything is made; raises where another is wanted.

    Raises:
        SuiteError: unusable input, settings, or cache folder; or the input changed on the way.
    """
    window = modality.max_length - 2
    if modality.max_length < SHORTEST:
        raise SuiteError(f"modality.max_length={modality.max_length} should be at least {SHORTEST}.")
    if not 0 <= modality.overlap < window:
        raise SuiteError(
            f"modality.overlap={modality.overlap} should be at least 0 and below max_length - 2 = {window}."
        )
    sources = resolve(modality, data, report)
    before = stamps(sources)
    key = store_key(modality, data, sources)
    accept(key)
    target = cache.cache_folder(data.get("cache")) / f"{modality.name}-{key[:24]}"
    if target.is_dir():
        discard_damaged(target, INDEX, report, thorough)
    store = existing(target)
    if store is not None:
        report(f"data: {sources.described}, prepared before in {target}")
    else:
        try:
            store = make(modality, data, sources, key, target, before, report)
        except OSError as error:
            why = error.strerror or error
            message = f"{error.filename or target}: cannot be written ({why}); free space or set data.cache."
            raise SuiteError(message) from None
    modality.load(store.folder / "tokenizer")
    return store


def stamps(sources: Sources) -> list[list[int]]:
    """What tells that no input has been replaced; nothing of one that is not there, whose reader says what is wrong."""
    return [cache.stamp(path) if path.exists() else [] for path in sources.paths]


def store_key(modality: Modality, data: Mapping[str, Any], sources: Sources) -> str:
    """SHA-256 over the names and contents of all inputs and all that changes the store."""
    contents = []
    for path in sources.paths:
        try:
            contents.append(cache.content_hash(path, data.get("cache")))
        except BadRecord as error:
            if data.get("on_error") != "skip":
                raise error.advised() if len(sources.paths) > 1 else error from None
            contents.append("unreadable")  # counted when it is read
    parts = {
        "format": FORMAT,
        "inputs": list(zip(sources.labels(), contents, strict=True)),
        "modality": modality.fingerprint(),
        "window": [modality.max_length, modality.overlap, modality.max_ambiguous],
        "tags": [sources.tags.get(path) for path in sources.paths],
        "fewest": min_tokens(data),
        "data": {name: data.get(name) for name in ("column", "id_column", "on_error", "valid_fraction")}
        | ({"max_record_mb": data["max_record_mb"]} if data.get("max_record_mb") else {}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()


def existing(target: Path) -> Store | None:
    """The store at ``target`` if it is complete; a damaged one is as good as none."""
    if not (target / INDEX).is_file():
        return None
    with suppress(SuiteError):
        return Store(target)
    return None


def make(
    modality: Modality,
    data: Mapping[str, Any],
    sources: Sources,
    key: str,
    target: Path,
    before: list[list[int]],
    report: Report,
) -> Store:
    """Prepare into a folder beside ``target``, then rename it.

    Raises:
        SuiteError: the inputs, whose ``stamps`` were ``before``, have changed meanwhile: nothing is published.
    """

    def waiting() -> None:
        report(f"data: another process is preparing {target.name}; waiting for it")

    with cache.lock(target.parent / f".{target.name}.lock", waiting) as alone:
        store = existing(target)  # the process we waited for has made it
        if store is not None:
            return store
        work = target.parent / (f".{target.name}.partial" + ("" if alone else f".{os.uname().nodename}.{os.getpid()}"))
        open_work_folder(work, before, report)
        begun = time.monotonic()
        report(f"data: preparing {sources.described}")
        with parallel.helpers(modality, sources.paths, data.get("workers")) as pool:
            fit_tokenizer(modality, data, sources, work)
            template = Task(modality, work, data.get("on_error", "stop"), min_tokens(data), read_settings(data))
            tasks = tasks_of(template, sources.paths, sources.tags)
            reused = parallel.tokenise_all(tasks, pool, Progress(report))
        assemble(tasks, sources, data, key, work / "store", begun, reused)
        unchanged = stamps(sources) == before
        if unchanged:
            publish(work / "store", target)
        shutil.rmtree(work, ignore_errors=True)
    if not unchanged:
        raise SuiteError(
            f"{sources.described} changed while it was prepared; start again, or prepare a copy of it that nothing "
            "writes to."
        )
    store = Store(target)
    report_result(store, report)
    return store


def open_work_folder(work: Path, before: list[list[int]], report: Report) -> None:
    """The folder of a preparation; what a killed one left there is kept if the inputs are those it read."""
    note = work / "inputs.json"
    if work.is_dir():
        with suppress(OSError, ValueError):
            if json.loads(note.read_text("utf-8")) == before:
                return
        report("data: the input has changed since a preparation of it was interrupted; starting again")
        shutil.rmtree(work)
    work.mkdir()
    atomic.write_json(note, before)


def min_tokens(data: Mapping[str, Any]) -> int:
    """``data.min_tokens``; runs of before it was a key have none."""
    return data.get("min_tokens", windows.MINIMUM)


def read_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of ``modality.read`` that are set; only modalities with tables know them."""
    return {name: data[name] for name in ("column", "id_column", "max_record_mb") if data.get(name) is not None}


def fit_tokenizer(modality: Modality, data: Mapping[str, Any], sources: Sources, work: Path) -> None:
    """Train the tokeniser on what the split leaves for training, or take the one that the finished shards of a killed
    preparation were made with."""
    folder, on_error = work / "tokenizer", data.get("on_error", "stop")
    if folder.is_dir():
        modality.load(folder)
        return

    def read(file: int) -> Iterator[Record]:
        path = sources.paths[file]
        try:
            for record in modality.read(path, FaultCounter(on_error), **read_settings(data)):
                yield with_tags(record, sources.tags.get(path))
        except BadRecord as error:
            if on_error != "skip":
                raise error.advised() if len(sources.paths) > 1 else error from None

    if modality.learns:
        sides = assign_sides(modality, read, len(sources.paths), data.get("valid_fraction", 0.05), sources.described)
        sides.save(work)
        modality.fit(sides.training(modality, read))
    else:
        modality.fit(iter(()))
    unfinished = work / "tokenizer.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    modality.save(unfinished)
    unfinished.rename(folder)


class Progress:
    """A line every ten seconds."""

    def __init__(self, report: Report) -> None:
        self.report, self.tokens, self.last = report, 0, time.monotonic()

    def __call__(self, tokens: int) -> None:
        self.tokens += tokens
        if time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            self.report(f"data: {self.tokens:,} tokens so far")


def publish(built: Path, target: Path) -> None:
    """Make the store visible, whole. A damaged one is moved out of the way; where another came first, it is taken."""
    atomic.sync_all(built)
    if target.exists() and existing(target) is None:
        shutil.rmtree(target)
    try:
        built.rename(target)
    except OSError:
        if existing(target) is None:
            raise
    atomic.sync(target.parent)


def report_result(store: Store, report: Report) -> None:
    """The result in two lines, and one more for what was left out."""
    facts = store.report
    report(
        f"data: {count(facts['tokens'], 'token')} of {count(facts['records'], 'record')} in {facts['seconds']:.1f} s "
        f"({facts['mb_per_s']:.1f} MB/s); split by {facts['split']}: "
        f"{facts['windows']['train']:,} training and {facts['windows']['valid']:,} validation windows"
    )
    if facts["counts"].get(REPEATED):
        report(f"data: repeated names, numbered from NAME#2: {facts['counts'][REPEATED]:,}")
    left_out = {**facts["skipped"], **{name: count for name, count in facts["left_out"].items() if count}}
    if left_out:
        report("data: left out: " + ", ".join(f"{count:,} {name}" for name, count in left_out.items()))
