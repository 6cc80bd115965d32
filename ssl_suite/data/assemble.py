"""Joining finished shards into a store, with its split, windows and report."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.data import split, windows
from ssl_suite.data.seals import seal
from ssl_suite.data.shards import SHORT, SMALL_VOCABULARY, Task, finished
from ssl_suite.data.sides import Sides
from ssl_suite.data.sources import Sources
from ssl_suite.data.store import FORMAT, INDEX, SPLITS
from ssl_suite.modalities.base import Modality

COPY = 16 << 20  # bytes at a time


class Totals:
    """Sums over shards."""

    def __init__(self, vocabulary: int) -> None:
        self.tokens = self.records = self.bounds = 0
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.examples: list[str] = []
        self.composition = np.zeros(vocabulary, dtype=np.int64)

    def add(self, notes: Mapping[str, Any], composition: np.ndarray) -> None:
        """Take in one shard."""
        self.tokens += notes["tokens"]
        self.records += notes["records"]
        self.counts.update(notes["counts"])
        self.skipped.update(notes["skipped"])
        self.examples = (self.examples + notes["examples"])[:10]
        self.composition += composition


def assemble(
    tasks: list[Task],
    sources: Sources,
    data: Mapping[str, Any],
    key: str,
    folder: Path,
    begun: float,
    reused: int,
) -> None:
    """Write the store of all shards to ``folder`` and seal it.

    Args:
        tasks: all files, tokenised; their folder holds the tokeniser, too.
        sources: their names.
        data: the configuration's section.
        key: of the store.
        folder: is emptied first.
        begun: when the preparation started (``time.monotonic``).
        reused: shards that an earlier attempt left.

    Raises:
        SuiteError: nothing usable in the input, or too little for two splits.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "records").mkdir(parents=True)
    modality, dtype = tasks[0].modality, tasks[0].dtype
    totals = join(tasks, folder)
    if totals.tokens == 0:
        raise SuiteError(nothing(sources, totals, tasks[0].fewest))
    low, high = modality.vocabulary.targets
    if (
        modality.frame is None
        and len(totals.composition) <= SMALL_VOCABULARY
        and not totals.composition[low:high].any()
    ):
        raise SuiteError(
            f"{sources.described}: all of its tokens are N or unknown; no modality.max_ambiguous (now "
            f"{modality.max_ambiguous}) makes that something to learn; give other data."
        )
    table = read_table(folder, totals.records)
    fraction = data.get("valid_fraction", 0.05)
    window = modality.max_length - 2
    plan = split.plan(table, fraction, window, modality.overlap, modality.vocabulary.reach)
    counts, left_out = windows.write(
        folder,
        split.segments(plan, table),
        np.memmap(folder / "values.bin", dtype=dtype, mode="r") if modality.frame is None else None,
        window,
        modality.overlap,
        modality.vocabulary.targets,
        modality.max_ambiguous,
        tasks[0].fewest,
    )
    for name in SPLITS:
        if counts[name] == 0:
            raise SuiteError(one_sided(name, sources, counts, left_out, fraction, modality.max_ambiguous))
    left_out[f"records shorter than data.min_tokens={tasks[0].fewest}"] = totals.counts.pop(SHORT, 0)
    left_out["test records"] = int(np.count_nonzero(table.given == split.TEST))
    left_out["repeated records"] = int(np.count_nonzero(table.given == split.COPY))
    if plan.keep is not None:
        left_out["repeated records"] = totals.records - int(np.count_nonzero(plan.keep)) - left_out["test records"]
    sides = Sides.load(tasks[0].folder)
    facts = {"split": sides.described if sides else plan.described, "windows": counts, "window_tokens": window}
    facts["overlap"] = modality.overlap
    report = facts | summary(modality, sources, totals) | {"left_out": dict(left_out), "shards_reused": reused}
    report |= speed(report, time.monotonic() - begun)
    index = {"format": FORMAT, "key": key, "dtype": dtype.name, "files": sources.labels(), "report": report}
    index |= {"tokens": totals.tokens, "records": totals.records, "windows": counts}
    index |= {"width": None if modality.frame is None else modality.frame.width, "bounds": totals.bounds}
    shutil.copytree(tasks[0].folder / "tokenizer", folder / "tokenizer")
    seal(folder, INDEX, index)


def summary(modality: Modality, sources: Sources, totals: Totals) -> dict[str, Any]:
    """What was read, for the report."""
    return {
        "sources": sources.described,
        "files": len(sources.paths),
        "bytes": sum(path.stat().st_size for path in sources.paths),
        "records": totals.records,
        "tokens": totals.tokens,
        "composition": composition(modality, totals.composition),
        "counts": dict(totals.counts),
        "skipped": dict(totals.skipped),
        "examples": totals.examples,
    }


def speed(report: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """Seconds, megabytes of input a second, and million tokens a second."""
    return {
        "seconds": round(seconds, 3),
        "mb_per_s": round(report["bytes"] / 1e6 / seconds, 3),
        "mtokens_per_s": round(report["tokens"] / 1e6 / seconds, 3),
    }


def join(tasks: list[Task], folder: Path) -> Totals:
    """Append the shards of all files to the store's files."""
    totals = Totals(len(tasks[0].modality.vocabulary))
    blobs = {"names": "name_ends", "tags": "tag_ends", "bounds": "bound_ends"}  # each with its records' ends
    names = ("lengths", "digests", "given", "files", *blobs, *blobs.values())
    out = {name: open(folder / "records" / f"{name}.bin", "wb") for name in names}  # noqa: SIM115
    written = dict.fromkeys(blobs, 0)
    try:
        with open(folder / "values.bin", "wb") as values:
            for task in tasks:
                for shard in finished(task):
                    with open(shard.values, "rb") as file:
                        shutil.copyfileobj(file, values, COPY)
                    arrays = shard.arrays
                    totals.add(shard.notes, arrays.pop("composition"))
                    for blob, ends in blobs.items():
                        arrays[ends] = arrays[ends] + written[blob]
                        written[blob] += len(arrays[blob])
                    for name in names:
                        out[name].write(np.ascontiguousarray(arrays[name]).data)
    finally:
        for opened in out.values():
            opened.close()
    totals.bounds = written["bounds"]
    return totals


def read_table(folder: Path, records: int) -> split.RecordTable:
    """What the split looks at, memory-mapped."""

    def open_array(name: str, dtype: Any, *shape: int) -> np.ndarray:
        return np.memmap(folder / "records" / f"{name}.bin", dtype=dtype, mode="r", shape=(records, *shape))

    return split.RecordTable(
        open_array("lengths", np.int64), open_array("digests", np.uint64, 2), open_array("given", np.uint8)
    )


def composition(modality: Modality, counts: np.ndarray) -> dict[str, int]:
    """How often each token occurs, for small vocabularies; empty for others."""
    if len(counts) > SMALL_VOCABULARY:
        return {}
    return {token: int(count) for token, count in zip(modality.vocabulary.tokens, counts, strict=True) if count}


def nothing(sources: Sources, totals: Totals, fewest: int) -> str:
    """The message for an input without a usable record."""
    skipped = sum(totals.skipped.values())
    why = f"{totals.counts[SHORT]} shorter than data.min_tokens={fewest}, {skipped} skipped"
    first = f" (first: {totals.examples[0]})" if totals.examples else ""
    return f"{sources.described}: holds no usable record: {why}{first}; give longer ones, or lower data.min_tokens."


def one_sided(
    name: str, sources: Sources, counts: dict[str, int], left_out: Counter[str], fraction: float, ambiguous: float
) -> str:
    """The message for an input whose split leaves one side without a window."""
    dropped = left_out["ambiguous windows"]
    if dropped > sum(counts.values()):
        return (
            f"{sources.described}: {dropped} of {dropped + sum(counts.values())} windows are left out: more than "
            f"modality.max_ambiguous={ambiguous} of their tokens are N or unknown, from which nothing is learnt; give "
            "other data, or raise the key to keep those of which some is known."
        )
    also = f" ({dropped} ambiguous ones left out)" if dropped else ""
    side, left = "validation" if name == "valid" else "training", sum(counts.values())
    verb = "leaves" if left == 1 else "leave"
    return (
        f"{sources.described}: {count(left, 'window')}{also} {verb} none for {side}; give more data, "
        f"lower modality.max_length, or change data.valid_fraction={fraction}."
    )
