"""Token ids of a piece, all by NumPy: REMI and TSD as miditok 3.1 writes them, and one token a note.

REMI: Huang, Yang 2020 (arXiv:2002.00212); TSD: Fradet et al. 2023 (arXiv:2301.11975); pitches alone: Kao, Lee 2021
(arXiv:2103.07162).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_suite.core.records import SPECIAL_TOKENS
from ssl_suite.modalities.music_files import DRUMS, Piece
from ssl_suite.modalities.music_grid import Grid, Programs, lengths

FIRST = len(SPECIAL_TOKENS)
PITCHES = 128


@dataclass(frozen=True)
class Ids:
    """Where the ids of each kind of token begin, as half-open ranges; an absent kind is empty.

    Attributes:
        tokens: the text of each id.
        ranges: by miditok's name of the kind: ``Pitch``, ``PitchDrum``, ``Velocity`` ….
        programs: (129,) the id of each program from ``DRUMS`` on, which miditok does not keep in order; else empty.
    """

    tokens: tuple[str, ...]
    ranges: dict[str, tuple[int, int]]
    programs: np.ndarray

    @classmethod
    def of(cls, tokens: list[str]) -> Ids:
        """From token texts ``Kind_value``, those of a kind next to each other."""
        ranges: dict[str, tuple[int, int]] = {}
        for i, token in enumerate(tokens, start=FIRST):
            kind = token.rsplit("_", 1)[0]
            ranges[kind] = (ranges.get(kind, (i, i))[0], i + 1)
        places = {token: i for i, token in enumerate(tokens, start=FIRST)}
        known = range(DRUMS, 128) if "Program" in ranges else ()
        return cls((*SPECIAL_TOKENS, *tokens), ranges, np.array([places[f"Program_{i}"] for i in known], np.int64))

    def __getitem__(self, kind: str) -> int:
        return self.ranges[kind][0]

    def range(self, kind: str) -> tuple[int, int]:
        """``(low, high)``; equal where there is no such token."""
        return self.ranges.get(kind, (0, 0))

    def has(self, kind: str, values: np.ndarray) -> np.ndarray:
        """Which ids are of a kind."""
        low, high = self.range(kind)
        return (values >= low) & (values < high)


def ids_of(chosen: Any) -> Ids:
    """The ids of a miditok tokeniser; ``None`` for pitches alone."""
    if chosen is None:
        return Ids.of([f"Pitch_{pitch}" for pitch in range(PITCHES)])
    return Ids.of(sorted(chosen.vocab, key=chosen.vocab.__getitem__)[FIRST:])


def pitches(piece: Piece) -> np.ndarray:
    """A token for every note that is not percussion, by onset, then pitch."""
    pitched = piece.program != DRUMS
    time, pitch = piece.time[pitched], piece.pitch[pitched]
    return FIRST + pitch[np.lexsort((pitch, time))]


def remi(grid: Grid, ids: Ids, chosen: Any, programs: Programs) -> tuple[np.ndarray, np.ndarray]:
    """Bar and metre for every bar, Position for every onset, then its tempo and notes.

    Returns:
        values, and the tokens at which bars begin.
    """
    events = np.concatenate([grid.tempo_time, grid.time])
    count = int(grid.bars(np.append(events, grid.metre_time)).max()) + 1
    bars = np.arange(count)
    starts = grid.bar_ticks(bars)
    onsets = distinct(events)
    at = grid.section(onsets)
    positions = (onsets - grid.bar_ticks(grid.bars(onsets))) // grid.per_position[at]
    notes, times = note_tokens(grid, ids, programs)
    blocks = [
        (starts, np.full(count, ids["Bar"])),
        (starts, ids["TimeSig"] + grid.metre[grid.section(starts)]),
        (onsets, ids["Position"] + positions),
        (grid.tempo_time, ids.range("Tempo")[0] + grid.tempo),
        (times, notes),
    ]
    values, _ = merged(blocks)
    return values, np.flatnonzero(values == ids["Bar"])


def tsd(grid: Grid, ids: Ids, chosen: Any, programs: Programs) -> tuple[np.ndarray, np.ndarray]:
    """Time shifts between onsets, which carry metres, tempos and notes; see ``remi``."""
    onsets = distinct(np.concatenate([grid.metre_time, grid.tempo_time, grid.time]))
    owner, shift, begins = shifts(grid, onsets, chosen)
    notes, times = note_tokens(grid, ids, programs)
    blocks = [
        (onsets[owner], ids["TimeShift"] + shift),
        (grid.metre_time, ids["TimeSig"] + grid.metre),
        (grid.tempo_time, ids.range("Tempo")[0] + grid.tempo),
        (times, notes),
    ]
    values, order = merged(blocks)
    ticks = np.concatenate([begins, *(block[0] for block in blocks[1:])])[order]
    bars = grid.bars(ticks)
    return values, np.flatnonzero(np.diff(bars, prepend=-1) > 0)


def pitch_tokens(grid: Grid, ids: Ids) -> np.ndarray:
    """(n,) the pitch of each note, of its own kind for percussion."""
    return np.where(grid.program == DRUMS, ids.range("PitchDrum")[0], ids["Pitch"]) + grid.pitch


def note_tokens(grid: Grid, ids: Ids, programs: Programs) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all notes, [Program] Pitch [Velocity] Duration, and their ticks."""
    columns = [pitch_tokens(grid, ids)]
    keep = np.ones(len(grid.time), bool)
    if programs != "none":
        columns.insert(0, ids.programs[grid.program - DRUMS])
        if programs == "change":
            keep = np.diff(grid.program, prepend=DRUMS - 1) != 0
    if "Velocity" in ids.ranges:
        columns.append(ids["Velocity"] + grid.velocity)
    columns.append(ids["Duration"] + grid.duration)
    table = np.stack(columns, axis=1)
    kept = np.ones(table.shape, bool)
    kept[:, 0] = keep
    return table[kept], np.repeat(grid.time, kept.sum(1))


def distinct(ticks: np.ndarray) -> np.ndarray:
    """The ticks in order, each once; of a few sorted runs, where this is five times as fast as ``np.unique``."""
    ticks = np.sort(ticks, kind="stable")
    return ticks[np.insert(np.diff(ticks) != 0, 0, True)]


def merged(blocks: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of (ticks, ids) blocks by tick, at equal ticks in the order of the blocks; and the order."""
    order = np.argsort(np.concatenate([ticks for ticks, _ in blocks]), kind="stable")
    return np.concatenate([values for _, values in blocks])[order], order


def shifts(grid: Grid, onsets: np.ndarray, chosen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spell the gaps between onsets as time shifts, the longest that fits first.

    Returns:
        For each shift the onset it leads to, its place in ``chosen.durations``, and the tick it begins at.
    """
    gaps, before = np.diff(onsets), onsets[:-1].copy()
    beat = grid.per_beat[grid.section(before)] if len(before) else before
    owners, places, begins = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for ticks in set(beat.tolist()):
        known = lengths(chosen, ticks)
        left_at = np.flatnonzero(beat == ticks)
        while len(left_at := left_at[gaps[left_at] >= known[0]]):
            place = np.searchsorted(known, gaps[left_at], "right") - 1
            owners.append(left_at + 1)
            places.append(place)
            begins.append(before[left_at])
            gaps[left_at] -= known[place]
            before[left_at] += known[place]
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return owner[order], np.concatenate(places)[order], np.concatenate(begins)[order]
