"""From ticks to a tokeniser's grid: miditok rounds notes, tempos and metres, NumPy sorts them.

``miditok.preprocess_score`` decides where everything falls, so that the tokens of ``music_tokens`` are miditok's own;
its conversion of events to tokens, one Python object a token, is what is replaced: ten times as fast in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ssl_suite.modalities.music_files import DENOMINATORS, DRUMS, NUMERATORS, Piece

Programs = Literal["change", "note", "none"]
TEMPO_RANGE = (20, 250)  # quarter notes a minute
CLASSES = {"remi": "REMI", "tsd": "TSD"}  # of miditok
COARSE = 4  # steps of a beat for durations and shifts of 4 to 12 beats


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


@dataclass(frozen=True)
class Grid:
    """A piece on a tokeniser's grid.

    Shapes: n notes by time, then track, pitch, duration; m tempos, k metres by time, the first of each at 0.

    Attributes:
        time, pitch, program, velocity, duration: (n,) int64; ``velocity`` is a level and ``duration`` a place in
            ``tokenizer.durations``.
        tempo_time, tempo: (m,) int64, tick and place in ``tokenizer.tempos``; empty where there are no such tokens.
        metre_time, metre: (k,) int64, tick and place in ``tokenizer.time_signatures``.
        bar: (k,) int64, bars before each metre.
        per_bar, per_beat, per_position: (k,) int64, ticks.
        repeated: notes left out because the same track has one of the same pitch at the same place.
    """

    time: np.ndarray
    pitch: np.ndarray
    program: np.ndarray
    velocity: np.ndarray
    duration: np.ndarray
    tempo_time: np.ndarray
    tempo: np.ndarray
    metre_time: np.ndarray
    metre: np.ndarray
    bar: np.ndarray
    per_bar: np.ndarray
    per_beat: np.ndarray
    per_position: np.ndarray
    repeated: int

    def section(self, time: np.ndarray) -> np.ndarray:
        """Which metre is in force at each tick."""
        return np.searchsorted(self.metre_time, time, "right") - 1

    def bars(self, time: np.ndarray) -> np.ndarray:
        """The bar each tick lies in, from 0."""
        at = self.section(time)
        return self.bar[at] + (time - self.metre_time[at]) // self.per_bar[at]

    def bar_ticks(self, bars: np.ndarray) -> np.ndarray:
        """Where bars begin."""
        at = np.searchsorted(self.bar, bars, "right") - 1
        return self.metre_time[at] + (bars - self.bar[at]) * self.per_bar[at]


def snap(piece: Piece, chosen: Any, merge: bool) -> Grid:
    """Round a piece to the grid of a miditok tokeniser."""
    score = chosen.preprocess_score(cleaned(piece, chosen, merge))
    tpq, config = score.ticks_per_quarter, chosen.config

    soa = score.time_signatures.numpy()
    numerator, denominator = soa["numerator"].astype(np.int64), soa["denominator"].astype(np.int64)
    metre_time = soa["time"].astype(np.int64)
    numbers = {metre: i for i, metre in enumerate(chosen.time_signatures)}
    metre = np.array([numbers[pair] for pair in zip(numerator.tolist(), denominator.tolist(), strict=True)])
    per_beat = tpq * 4 // denominator
    per_bar = per_beat * numerator
    bar = np.concatenate([[0], np.cumsum(np.diff(metre_time) // per_bar[:-1])])

    parts = [track.notes.numpy() for track in score.tracks]
    sizes = [len(part["time"]) for part in parts]
    notes = {
        key: np.concatenate([part[key] for part in parts]).astype(np.int64)
        for key in ("time", "pitch", "velocity", "duration")
    }
    track = np.repeat(np.arange(len(parts)), sizes)
    program = np.repeat([DRUMS if part.is_drum else part.program for part in score.tracks], sizes)
    order = np.lexsort((notes["velocity"], notes["duration"], notes["pitch"], track, notes["time"]))
    same = np.ones(max(0, len(order) - 1), bool)
    for key in (notes["time"], track, notes["pitch"]):
        same &= np.diff(key[order]) == 0
    order = order[np.insert(~same, 0, True)]
    time, pitch, velocity, ticks = (notes[key][order] for key in ("time", "pitch", "velocity", "duration"))

    at = np.searchsorted(metre_time, time, "right") - 1
    duration = np.zeros(len(time), np.int64)
    for beat in set(per_beat.tolist()):
        here = per_beat[at] == beat
        duration[here] = nearest(lengths(chosen, beat), ticks[here])
    levels = nearest(chosen.velocities, velocity) if config.use_velocities else np.zeros(len(time), np.int64)
    tempo_time = tempo = np.zeros(0, np.int64)
    if config.use_tempos:
        soa = score.tempos.numpy()
        tempo_time, tempo = soa["time"].astype(np.int64), nearest(chosen.tempos, 6e7 / soa["mspq"])
    return Grid(
        time, pitch, program[order], levels, duration, tempo_time, tempo, metre_time, metre, bar, per_bar, per_beat,
        np.maximum(1, per_beat // config.max_num_pos_per_beat), sum(sizes) - len(order),
    )  # fmt: skip


def lengths(chosen: Any, beat: int) -> np.ndarray:
    """(d,) increasing ticks of a tokeniser's durations where a beat has ``beat`` ticks."""
    beats, steps, of = np.array(chosen.durations).T
    return (beats * of + steps) * beat // of


def nearest(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n,) the place of the nearest of increasing ``levels`` to each value."""
    middles = (np.asarray(levels[:-1], np.float64) + levels[1:]) / 2
    return np.searchsorted(middles, values, "right")
