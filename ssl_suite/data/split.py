"""Which tokens are for training and which for validation: by a given column, by record, or by blocks of records.

The result is a list of segments; windows are cut inside segments and so never reach from one split into the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import Record
from ssl_suite.core.wording import count

GIVEN = {"train": 1, "training": 1, "valid": 2, "validation": 2, "val": 2, "dev": 2, "test": 3, "testing": 3}
NONE, TRAIN, VALID, TEST = 0, 1, 2, 3
COPY = 4  # of an earlier record, which could be on the other side: see ``data.sides``
ENOUGH_RECORDS = 200  # at the default 5 % that is ten records; with fewer, one odd record is the validation loss
BLOCKS = 8  # validation comes from at least so many places, so that no single gene is the validation loss
LARGEST_BLOCK = 64  # windows
CHUNK = 1 << 20  # records looked at together


@dataclass(frozen=True)
class RecordTable:
    """What the split looks at, one entry a record.

    Attributes:
        lengths: int64 tokens; records stand end to end.
        digests: (records, 2) uint64 identities.
        given: uint8, NONE, TRAIN, VALID, TEST or COPY.
    """

    lengths: np.ndarray
    digests: np.ndarray
    given: np.ndarray


@dataclass(frozen=True)
class Segments:
    """Stretches of tokens, each of one record and one split; ``valid`` is True for validation."""

    starts: np.ndarray
    lengths: np.ndarray
    records: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Plan:
    """How a store is split.

    Attributes:
        mode: ``column``, ``records`` or ``blocks``.
        described: the same for a user.
        valid_below: ``records``: identities below this number are validation.
        block: ``blocks``: tokens of a block; a record's last one takes what is left over.
        gap: ``blocks``: tokens left out between blocks (k - 1 where neighbouring tokens share letters).
        valid_blocks: ``blocks``: (blocks,) bool.
        keep: ``blocks``: (records,) bool, False for repeats of an earlier record, whose copy could be on the other
            side; None elsewhere.
    """

    mode: str
    described: str
    valid_below: int = 0
    block: int = 0
    gap: int = 0
    valid_blocks: np.ndarray | None = None
    keep: np.ndarray | None = None


def given_split(record: Record) -> int:
    """The number of ``record.tags["split"]``.

    Raises:
        BadRecord: a word that names no split.
    """
    word = record.tags.get("split", "").strip().lower()
    if not word:
        return NONE
    if word.startswith("test"):  # further test parts (test_hard, test_extra) are no training data either
        return TEST
    if word not in GIVEN:
        raise BadRecord(
            f"{record.source}: record '{record.name}': split '{word}' is unknown; use one of {', '.join(GIVEN)}.",
            "unknown split",
        )
    return GIVEN[word]


def plan(table: RecordTable, fraction: float, window: int, overlap: int, reach: int) -> Plan:
    """Decide how to split.

    A given column wins where it names validation records. Otherwise whole records are drawn by their identity, so
    that copies and reverse complements stay together, where at least ``ENOUGH_RECORDS`` differ and none is longer than
    the validation share. Otherwise records are cut into blocks, and evenly spaced ones are validation.

    Args:
        table: all records.
        fraction: of the data that goes to validation.
        window, overlap: tokens of a window, and tokens that neighbours share.
        reach: how many neighbouring tokens share a letter.
    """
    if np.any(table.given == VALID):
        return Plan("column", "given split column")
    usable = table.given != TEST
    total = int(table.lengths.sum(where=usable))
    places = np.flatnonzero(usable)
    first = places[np.unique(table.digests[usable, 0], return_index=True)[1]]  # of each identity
    longest = int(table.lengths.max(where=usable, initial=0))
    if len(first) >= ENOUGH_RECORDS and longest <= fraction * total:
        return Plan("records", "whole records", valid_below=min(int(fraction * 2**64), 2**64 - 1))
    step = window - overlap
    windows = int(np.clip(round(fraction * total / step / BLOCKS), 1, LARGEST_BLOCK))
    gap = reach - 1
    block = windows * step + overlap + gap
    keep = np.zeros(len(usable), dtype=bool)
    keep[first] = True
    blocks = int(blocks_per_record(table.lengths, keep, block).sum())
    wanted = min(max(1, round(fraction * blocks)), blocks - 1) if blocks > 1 else 0
    valid = np.zeros(blocks, dtype=bool)
    if wanted:
        valid[(2 * np.arange(wanted) + 1) * blocks // (2 * wanted)] = True
    return Plan("blocks", f"blocks of {count(windows, 'window')}", 0, block, gap, valid, keep)


def blocks_per_record(lengths: np.ndarray, keep: np.ndarray, block: int) -> np.ndarray:
    """(records,) blocks of each record: whole ones, the last with the remainder; none where it is not kept."""
    return np.where(keep, np.maximum(1, lengths // block), 0)


def segments(plan: Plan, table: RecordTable) -> Iterator[Segments]:
    """The segments in the order of the tokens, ``CHUNK`` records at a time."""
    start = block = 0
    for first in range(0, len(table.lengths), CHUNK):
        part = slice(first, first + CHUNK)
        lengths, given = np.asarray(table.lengths[part]), table.given[part]
        starts = start + np.cumsum(lengths) - lengths
        records = np.arange(first, first + len(lengths))
        start += int(lengths.sum())
        if plan.mode == "blocks":
            assert plan.keep is not None
            assert plan.valid_blocks is not None
            counts = blocks_per_record(lengths, plan.keep[part], plan.block)
            valid = plan.valid_blocks[block : block + int(counts.sum())]
            block += len(valid)
            yield cut(plan, Segments(starts, lengths, records, valid), counts)
            continue
        is_valid = given == VALID if plan.mode == "column" else table.digests[part, 0] < np.uint64(plan.valid_below)
        use = given < TEST
        yield Segments(starts[use], lengths[use], records[use], is_valid[use])


def cut(plan: Plan, whole: Segments, counts: np.ndarray) -> Segments:
    """Records into ``counts`` blocks each; ``whole.valid`` has one entry a block already."""
    owner = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = number * plan.block
    end = np.where(number + 1 == counts[owner], whole.lengths[owner], begin + plan.block)
    begin = begin + np.where(number > 0, plan.gap, 0)
    return Segments(whole.starts[owner] + begin, end - begin, whole.records[owner], whole.valid)
