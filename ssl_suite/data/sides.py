"""Which records train, decided before there are tokens: for tokenisers trained on the input, on that side alone.

Elsewhere the split is made of tokens (``data.split``). Here it is made of letters, by the same rules, and what is cut
into blocks becomes a record a block, so that no token reaches from one side into the other.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import Record
from ssl_suite.data import split
from ssl_suite.data.split import COPY, TEST, TRAIN, VALID, RecordTable
from ssl_suite.modalities.base import Modality

LETTERS = 4  # of a token, about; it decides how long a block is, nothing else
FILE = "sides.npz"
Read = Callable[[int], Iterator[Record]]
"""The records of the n-th input file, with all their tags, in the order in which they will be tokenised."""


@dataclass(frozen=True)
class Sides:
    """The side of each part of each record, in the order in which they are read.

    Attributes:
        described: how the split was made, for a user.
        block: letters of a part.
        firsts_F: the first record of each file.
        counts_R: parts of each record.
        sides_P: uint8, ``split.TRAIN``, ``VALID``, ``TEST`` or ``COPY`` (of an earlier one, on no side) of each part.
    """

    described: str
    block: int
    firsts_F: np.ndarray
    counts_R: np.ndarray
    sides_P: np.ndarray

    @cached_property
    def _starts_R(self) -> np.ndarray:
        return np.cumsum(self.counts_R) - self.counts_R

    def parts(self, modality: Modality, file: int, place: int, record: Record) -> Iterator[tuple[Record, int]]:
        """The parts of the ``place``-th record of a file, and their sides."""
        at = int(self.firsts_F[file]) + place
        count, start = int(self.counts_R[at]), int(self._starts_R[at])
        data = [record.data] if count == 1 else modality.divide(record.data, count, self.block)
        for i, part in enumerate(data):
            name = record.name if count == 1 else f"{record.name}/{i + 1}"
            yield replace(record, name=name, data=part, counts={} if i else record.counts), int(self.sides_P[start + i])

    def training(self, modality: Modality, read: Read) -> Iterator[Record]:
        """What a tokeniser may be trained on."""
        for file in range(len(self.firsts_F)):
            for place, record in enumerate(read(file)):
                yield from (part for part, side in self.parts(modality, file, place, record) if side == TRAIN)

    def save(self, folder: Path) -> None:
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items() if name[0] != "_"}
        np.savez(folder / FILE, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Sides | None:
        """Those of a preparation; None where its tokeniser was not trained on the input."""
        if not (folder / FILE).is_file():
            return None
        with np.load(folder / FILE) as file:
            found: Mapping[str, Any] = {name: file[name] for name in file.files}
        return cls(**{**found, "described": str(found["described"]), "block": int(found["block"])})


def assign_sides(modality: Modality, read: Read, files: int, fraction: float, described: str) -> Sides:
    """Look at all records and give each a side.

    Args:
        modality: its ``content`` tells records apart, its ``divide`` cuts them.
        read: the records of a file.
        files: how many there are.
        fraction: of the letters that goes to validation.
        described: the input, for messages.

    Raises:
        SuiteError: the input cannot be parted.
    """
    firsts, lengths, digests, given = array("q"), array("q"), bytearray(), array("B")
    for file in range(files):
        firsts.append(len(lengths))
        for record in read(file):
            digest, length, word = b"", 0, TEST  # of a bad record, which is told of when it is encoded
            try:
                word = split.given_split(record)
                digest, length = modality.content(record)
            except BadRecord:
                pass
            lengths.append(length)
            digests += digest.ljust(16, b"\0")
            given.append(word)
    table = RecordTable(
        np.frombuffer(lengths, np.int64),
        np.frombuffer(digests, np.uint64).reshape(-1, 2),
        np.frombuffer(given, np.uint8),
    )
    window = LETTERS * (modality.max_length - 2)
    plan = split.plan(table, fraction, window, 0, 1)
    sides = np.where(table.given == TEST, TEST, np.where(table.given == VALID, VALID, TRAIN)).astype(np.uint8)
    counts, how, usable = np.ones(len(sides), np.int64), plan.described, table.given != TEST
    if plan.mode == "records":
        sides[usable & (table.digests[:, 0] < np.uint64(plan.valid_below))] = VALID
    elif plan.mode == "blocks" and modality.divisible:
        assert plan.keep is not None
        assert plan.valid_blocks is not None
        blocks = split.blocks_per_record(table.lengths, plan.keep, plan.block)
        counts, how = np.maximum(1, blocks), f"blocks of {plan.block:,} letters, each a record"
        kept = np.repeat(blocks > 0, counts)
        sides = np.repeat(np.where(usable, COPY, TEST).astype(np.uint8), counts)
        sides[kept] = np.where(plan.valid_blocks, VALID, TRAIN)
    elif plan.mode == "blocks":
        sides[usable & np.isin(table.digests[:, 0], draw_records(table, usable, fraction, described))] = VALID
        how = "whole records"
    if not (np.any(sides == VALID) and np.any(sides == TRAIN)):
        remedy = f"give more, or lower modality.max_length={modality.max_length}"
        raise SuiteError(
            f"{described}: {int(table.lengths.sum()):,} letters are too few for a training side, on which the "
            f"tokeniser is trained, and one for validation; {remedy}."
        )
    return Sides(how, plan.block, np.frombuffer(firsts, np.int64), counts, sides)


def draw_records(table: RecordTable, usable: np.ndarray, fraction: float, described: str) -> np.ndarray:
    """The identities of a few whole records for validation: the smallest, up to ``fraction`` of all, at least one."""
    found, first = np.unique(table.digests[usable, 0], return_index=True)
    if len(found) < 2:
        raise SuiteError(
            f"{described}: a tokeniser is trained on the training records alone, and there is only one to divide; give "
            "more, or use a tokeniser that is not trained."
        )
    share = np.cumsum(table.lengths[usable][first]) / max(1, int(table.lengths[usable][first].sum()))
    return found[: min(max(1, int(np.searchsorted(share, fraction, side="right"))), len(found) - 1)]
