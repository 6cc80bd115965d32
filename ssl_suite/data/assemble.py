"""Joining finished shards into a store, with its split, windows and report."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import EXAMPLES
from ssl_suite.core.wording import count
from ssl_suite.data import split, windows
from ssl_suite.data.seals import seal
from ssl_suite.data.shards import BLOBS, COLUMNS, SHORT, SMALL_VOCABULARY, Task, finished_shards
from ssl_suite.data.sides import Sides
from ssl_suite.data.sources import Sources
from ssl_suite.data.store import FORMAT, INDEX, SPLITS

COPY = 16 << 20  # bytes at a time


class Totals:
    """Sums over shards."""

    def __init__(self, vocabulary: int) -> None:
        self.tokens = self.records = self.bounds = 0
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.examples: list[str] = []
        self.composition = np.zeros(vocabulary, dtype=np.int64)


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
        raise SuiteError(no_records(sources, totals, tasks[0].min_tokens))
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
        tasks[0].min_tokens,
    )
    for name in SPLITS:
        if counts[name] == 0:
            raise SuiteError(empty_split(name, sources, counts, left_out, fraction, modality.max_ambiguous))
    left_out[f"records shorter than data.min_tokens={tasks[0].min_tokens}"] = totals.counts.pop(SHORT, 0)
    left_out["test records"] = int(np.count_nonzero(table.given == split.TEST))
    left_out["repeated records"] = int(np.count_nonzero(table.given == split.COPY))
    if plan.keep is not None:
        left_out["repeated records"] = totals.records - int(np.count_nonzero(plan.keep)) - left_out["test records"]
    sides = Sides.load(tasks[0].folder)
    size, seconds = sum(path.stat().st_size for path in sources.paths), time.monotonic() - begun
    small = len(totals.composition) <= SMALL_VOCABULARY
    report = {
        "split": sides.described if sides else plan.described,
        "windows": counts,
        "window_tokens": window,
        "overlap": modality.overlap,
        "sources": sources.described,
        "files": len(sources.paths),
        "bytes": size,
        "records": totals.records,
        "tokens": totals.tokens,
        "composition": {
            token: int(times)
            for token, times in zip(modality.vocabulary.tokens, totals.composition, strict=True)
            if times and small
        },
        "counts": dict(totals.counts),
        "skipped": dict(totals.skipped),
        "examples": totals.examples,
        "left_out": dict(left_out),
        "shards_reused": reused,
        "seconds": round(seconds, 3),
        "mb_per_s": round(size / 1e6 / seconds, 3),
        "mtokens_per_s": round(totals.tokens / 1e6 / seconds, 3),
    }
    index = {"format": FORMAT, "key": key, "dtype": dtype.name, "files": sources.labels(), "report": report}
    index |= {"tokens": totals.tokens, "records": totals.records, "windows": counts}
    index |= {"width": None if modality.frame is None else modality.frame.width, "bounds": totals.bounds}
    shutil.copytree(tasks[0].folder / "tokenizer", folder / "tokenizer")
    seal(folder, INDEX, index)


def join(tasks: list[Task], folder: Path) -> Totals:
    """Append the shards of all files to the store's files."""
    totals = Totals(len(tasks[0].modality.vocabulary))
    written = dict.fromkeys(BLOBS, 0)
    with ExitStack() as stack:
        out = {name: stack.enter_context(open(folder / "records" / f"{name}.bin", "wb")) for name in COLUMNS}
        values = stack.enter_context(open(folder / "values.bin", "wb"))
        for task in tasks:
            for shard in finished_shards(task):
                with open(shard.values, "rb") as file:
                    shutil.copyfileobj(file, values, COPY)
                notes, arrays = shard.notes, shard.arrays
                totals.tokens += notes["tokens"]
                totals.records += notes["records"]
                totals.counts.update(notes["counts"])
                totals.skipped.update(notes["skipped"])
                totals.examples = (totals.examples + notes["examples"])[:EXAMPLES]
                totals.composition += arrays["composition"]
                for blob, ends in BLOBS.items():
                    arrays[ends] = arrays[ends] + written[blob]
                    written[blob] += len(arrays[blob])
                for name in COLUMNS:
                    out[name].write(np.ascontiguousarray(arrays[name]).data)
    totals.bounds = written["bounds"]
    return totals


def read_table(folder: Path, records: int) -> split.RecordTable:
    """What the split looks at, memory-mapped."""
    columns = (("lengths", np.int64, ()), ("digests", np.uint64, (2,)), ("given", np.uint8, ()))
    return split.RecordTable(
        *(
            np.memmap(folder / "records" / f"{name}.bin", dtype=dtype, mode="r", shape=(records, *shape))
            for name, dtype, shape in columns
        )
    )


def no_records(sources: Sources, totals: Totals, min_tokens: int) -> str:
    """The message for an input without a usable record."""
    skipped = sum(totals.skipped.values())
    why = f"{totals.counts[SHORT]} shorter than data.min_tokens={min_tokens}, {skipped} skipped"
    first = f" (first: {totals.examples[0]})" if totals.examples else ""
    return f"{sources.described}: holds no usable record: {why}{first}; give longer ones, or lower data.min_tokens."


def empty_split(
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
