"""Token ids of a piece: REMI and TSD as miditok writes them, and one token a note.

REMI: Huang, Yang 2020 (arXiv:2002.00212); TSD: Fradet et al. 2023 (arXiv:2301.11975); pitches alone: Kao, Lee 2021
(arXiv:2103.07162).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ssl_suite.core.records import SPECIAL_TOKENS
from ssl_suite.modalities.music_files import DENOMINATORS, DRUMS, NUMERATORS, Piece

Programs = Literal["change", "note", "none"]
FIRST = len(SPECIAL_TOKENS)
PITCHES = 128
TEMPO_RANGE = (20, 250)  # quarter notes a minute
CLASSES = {"remi": "REMI", "tsd": "TSD"}  # of miditok
COARSE = 4  # steps of a beat for durations and shifts of 4 to 12 beats


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


def tokenizer(kind: str, resolution: int, velocities: int, tempos: int, programs: Programs) -> Any:
    """The miditok tokeniser of these settings.

    Args:
        kind: remi or tsd.
        resolution: steps of a beat.
        velocities: levels; 0 for no Velocity tokens. ``tempos`` likewise.
        programs: a Program token where the instrument changes, for every note, or none.
    """
    import miditok

    config = miditok.TokenizerConfig(
        pitch_range=(0, 127),
        drums_pitch_range=(0, 127),
        beat_res={(0, 4): resolution, (4, 12): COARSE},
        special_tokens=["PAD", "UNK", "CLS", "SEP", "MASK"],
        use_velocities=velocities > 0,
        num_velocities=velocities or 32,
        use_programs=programs != "none",
        program_changes=programs == "change",
        use_pitchdrum_tokens=programs != "none",  # so that transposing leaves percussion alone
        use_tempos=tempos > 0,
        num_tempos=tempos or 32,
        tempo_range=TEMPO_RANGE,
        log_tempos=True,  # one step is the same ratio everywhere, so scaling a tempo is a shift of ids
        use_time_signatures=True,
        time_signature_range={below: list(NUMERATORS[below]) for below in DENOMINATORS},
        delete_equal_successive_tempo_changes=True,
        delete_equal_successive_time_sig_changes=True,
        remove_duplicated_notes=True,
    )
    return getattr(miditok, CLASSES[kind])(config)


def cleaned(piece: Piece, chosen: Any, merge: bool) -> Any:
    """A ``symusic.Score`` with one unnamed track a program, in the order of first appearance.

    Args:
        chosen: the miditok tokeniser; changes of tempo below its steps are left out (performances have thousands).
        merge: all instruments in one track of program 0; percussion is left out.
    """
    from symusic import Note, Score, Tempo, TimeSignature, Track

    score: Any = Score(piece.tpq)
    programs = np.where(piece.program == DRUMS, DRUMS, 0) if merge else piece.program
    for program in dict.fromkeys(programs.tolist()):
        if merge and program == DRUMS:
            continue
        mine = np.flatnonzero(programs == program)
        mine = mine[np.argsort(piece.time[mine], kind="stable")]
        time, duration = (values[mine].astype(np.int32) for values in (piece.time, piece.duration))
        pitch, velocity = (values[mine].astype(np.int8) for values in (piece.pitch, piece.velocity))
        track: Any = Track("", max(program, 0), program == DRUMS)
        track.notes = Note.from_numpy(time, duration, pitch, velocity)
        score.tracks.append(track)
    tempos, metres = piece.tempos.astype(np.int32), piece.metres.astype(np.int32)
    if len(tempos) and chosen.config.use_tempos:
        levels = nearest(6e7 / chosen.tempos[::-1], tempos[:, 1])
        tempos = tempos[np.insert(np.diff(levels) != 0, 0, True)]
        score.tempos = Tempo.from_numpy(*(np.ascontiguousarray(column) for column in tempos.T))
    if len(metres):
        first, *others = (np.ascontiguousarray(column) for column in metres.T)
        score.time_signatures = TimeSignature.from_numpy(first, *(column.astype(np.uint8) for column in others))
    return score


def encoded(piece: Piece, chosen: Any, merge: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids by a miditok tokeniser, 200,000 a second; a note that its track has twice at one place is written once.

    Args:
        piece, chosen, merge: as of ``cleaned``.

    Returns:
        values, and the tokens at which bars begin.
    """
    result = chosen(cleaned(piece, chosen, merge))
    sequence = result if chosen.one_token_stream else result[0]
    times = np.array([event.time for event in sequence.events])
    bars = np.searchsorted(sequence._ticks_bars, times, "right")
    return np.array(sequence.ids, np.int64), np.flatnonzero(np.diff(bars, prepend=0) > 0)


def nearest(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n,) the place of the nearest of increasing ``levels`` to each value."""
    middles = (np.asarray(levels[:-1], np.float64) + levels[1:]) / 2
    return np.searchsorted(middles, values, "right")
