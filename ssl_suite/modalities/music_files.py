"""MIDI files to arrays: notes, tempos and metres, and nothing else. Names, lyrics and other text are never looked at.

symusic reads the bytes. It refuses damaged files by an exception (20,000 mutated files: no crash, none slow); what it
accepts but cannot be played (no ticks, notes hours apart) is refused here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.limits import Limit
from ssl_suite.core.records import Record
from ssl_suite.modalities.base import Fault
from ssl_suite.modalities.tables import Wanted, read_encoded

SUFFIXES = (".mid", ".midi", ".parquet")
MIDI_BYTES = Wanted(("midi", "bytes", "file"), "MIDI file", "bytes")
MAGIC, RIFF = b"MThd", b"RIFF"  # a RIFF file wraps a MIDI file (.rmi, often renamed)
LONGEST = 1 << 16  # quarter notes up to the last onset, 9 hours at 120 a minute; a note behind a wrong gap lies further
METRES = 4096  # changes of metre; miditok's cost grows with their square
DRUMS = -1  # the part of all percussion, as miditok numbers it
DENOMINATORS = (4, 8)  # of the metres kept: others are the same bars counted in other notes (2/2 is 4/4, 6/16 is 3/8)
NUMERATORS = {4: tuple(range(1, 13)), 8: (1, 3, 5, 6, 7, 9, 11, 12)}


@dataclass(frozen=True)
class Piece:
    """What a MIDI file plays.

    Shapes: n notes in the order of the file's tracks, m tempos and k metres in order of time.

    Attributes:
        tpq: ticks of a quarter note.
        time, duration: (n,) int64, ticks.
        pitch, velocity: (n,) int64, 0 to 127.
        program: (n,) int64, General MIDI program 0 to 127, ``DRUMS`` for percussion.
        tempos: (m, 2) int64, tick and microseconds of a quarter note; neighbours differ.
        metres: (k, 3) int64, tick, numerator, denominator, all of ``NUMERATORS``; neighbours differ.
        counts: ``notes``, ``tempos left out`` (of length 0) and ``metres left out`` (not in ``NUMERATORS``).
    """

    tpq: int
    time: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    program: np.ndarray
    tempos: np.ndarray
    metres: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)


def read(
    path: Path,
    fault: Fault,
    column: str | None = None,
    id_column: str | None = None,
    max_record_mb: int | None = None,
) -> Iterator[Record]:
    """The records of one file: a MIDI file is one, named by its stem; parquet holds one a row. Bytes are not decoded.

    Raises:
        BadRecord: the file cannot be read, or is neither.
    """
    return read_encoded(path, fault, MIDI_BYTES, column, id_column, Limit(max_record_mb, "midi"), check_magic)


def check_magic(head: bytes, where: str) -> None:
    """Refuse what does not begin like a MIDI file."""
    if head[:4] != MAGIC and not (head[:4] == RIFF and head[8:12] == b"RMID"):
        raise BadRecord(
            f"{where}: is not a MIDI file (it begins with {bytes(head[:4])!r}, not {MAGIC!r}); remove or convert it.",
            "not MIDI",
        )


def parse(record: Record) -> Piece:
    """The notes, tempos and metres of a record's bytes.

    Raises:
        BadRecord: not MIDI, damaged, without a note, or with a map of time that nothing can be played by.
    """
    where = f"{record.source}: record '{record.name}'"
    score = load(record, where)
    if score.tpq <= 0:
        raise BadRecord(f"{where} has {score.tpq} ticks to a quarter note; export it again.", "wrong time map")
    parts = [track.notes.numpy() for track in score.tracks]
    sizes = [len(part["time"]) for part in parts]
    if not sum(sizes):
        raise without_notes(score, where)
    time, duration, pitch, velocity = (
        np.concatenate([part[key] for part in parts]).astype(np.int64)
        for key in ("time", "duration", "pitch", "velocity")
    )
    last = int(time.max())
    if time.min() < 0 or last > LONGEST * score.tpq:
        quarters = last / score.tpq
        raise BadRecord(
            f"{where} has a note after {quarters:,.0f} quarter notes (the limit is {LONGEST:,}), so its times are "
            f"wrong ({score.tpq} ticks to a quarter note); export it again.",
            "wrong time map",
        )
    programs = [DRUMS if track.is_drum else track.program for track in score.tracks]
    tempos, silent = tempo_map(score, last)
    metres, odd = metre_map(score, last, where)
    counts = {"notes": len(time), "tempos left out": silent, "metres left out": odd}
    duration = duration.clip(1, 64 * score.tpq)  # no token holds more than 12 beats
    return Piece(score.tpq, time, duration, pitch, velocity, np.repeat(programs, sizes), tempos, metres, counts)


def without_notes(score: Any, where: str) -> BadRecord:
    """The fault of a file in which no note begins and ends, with what it holds instead."""
    tempos, metres = len(score.tempos), len(score.time_signatures)
    last = max((abs(event.time) for events in (score.tempos, score.time_signatures) for event in events), default=0)
    if last > LONGEST * score.tpq:
        held = f"{last / score.tpq:,.0f} quarter notes between its events, which were written out of order"
        return BadRecord(f"{where} has no notes, and {held}; make it again.", "no notes")
    held = f" (tempos: {tempos}, metres: {metres})" if tempos or metres else ""
    return BadRecord(f"{where} has no notes that begin and end{held}; remove it.", "no notes")


def load(record: Record, where: str) -> Any:
    """The ``symusic.Score`` of a record's bytes."""
    from symusic import Score

    data = record.data
    check_magic(data[:12], where)
    if data[:4] == RIFF:
        data = data[max(0, data.find(MAGIC)) :]
    if len(data) > 13 and data[12] > 127:
        timing = f"{256 - data[12]} a second, {data[13]} ticks each"
        raise BadRecord(
            f"{where} counts time in SMPTE frames ({timing}), not in beats: it has no bars; export it with ticks per "
            "quarter note in a sequencer.",
            "SMPTE time",
        )
    try:
        return Score.from_midi(data)
    except (RuntimeError, ValueError, IndexError, OverflowError) as error:
        why = (str(error).splitlines() or [""])[0].removeprefix("MiniMidi: ").split("!")[0][:100]
        raise BadRecord(f"{where} is a damaged MIDI file ({why}); export or copy it again.", "damaged") from None


def tempo_map(score: Any, last: int) -> tuple[np.ndarray, int]:
    """(m, 2) the changes of tempo up to the last note, and how many of length 0 were left out."""
    soa = score.tempos.numpy()
    table = np.stack([soa["time"], soa["mspq"]], axis=1).astype(np.int64)
    played = table[(table[:, 0] >= 0) & (table[:, 0] <= last)]
    right = played[played[:, 1] > 0]
    return changes(right), len(played) - len(right)


def metre_map(score: Any, last: int, where: str) -> tuple[np.ndarray, int]:
    """(k, 3) the changes of metre up to the last note, and how many of an unknown kind were left out.

    Raises:
        BadRecord: more than ``METRES`` changes.
    """
    soa = score.time_signatures.numpy()
    rows = zip(*(soa[key].tolist() for key in ("time", "numerator", "denominator")), strict=True)
    played = [(tick, metre(above, below)) for tick, above, below in rows if 0 <= tick <= last]
    known = [(tick, *pair) for tick, pair in played if pair is not None]
    metres = changes(np.array(known, np.int64).reshape(-1, 3))
    if len(metres) > METRES:
        message = f"{where} changes its metre {len(metres):,} times (the limit is {METRES:,}); export it again."
        raise BadRecord(message, "wrong time map")
    return metres, len(played) - len(known)


@functools.cache  # of at most 2**16 pairs
def metre(above: int, below: int) -> tuple[int, int] | None:
    """A metre as one of ``NUMERATORS`` with bars of the same length, or None."""
    while 0 < below < 4 and above:
        above, below = 2 * above, 2 * below
    while above % 2 == 0 and above and (below > 8 or (below == 8 and above not in NUMERATORS[8])):
        above, below = above // 2, below // 2
    return (above, below) if above in NUMERATORS.get(below, ()) else None


def changes(table: np.ndarray) -> np.ndarray:
    """Rows (tick, value…) in order of time: the last of each tick, without those that change nothing."""
    table = table[np.argsort(table[:, 0], kind="stable")]
    table = table[np.append(table[1:, 0] != table[:-1, 0], True)[: len(table)]]
    return table[np.insert((table[1:, 1:] != table[:-1, 1:]).any(1), 0, True)[: len(table)]]
