"""Token ids back to a score that can be played, and the intervals that identify a piece in any key."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_suite.modalities.music_files import DRUMS
from ssl_suite.modalities.music_files import LONGEST as LATEST
from ssl_suite.modalities.music_grid import BARS
from ssl_suite.modalities.music_tokens import FIRST, OCTUPLE, Ids

STEP, LOUDNESS = 240, 80  # ticks (an eighth at 480 to a quarter) and velocity where tokens say neither


def score(values: np.ndarray, ids: Ids, chosen: Any, kind: str) -> Any:
    """The ``symusic.Score`` of base ids (BPE undone); what makes no note, such as a note cut in two, is passed over.

    Args:
        values: (length,) ids; special tokens are skipped.
        ids: of the tokeniser.
        chosen: the miditok tokeniser; None for ``pitch``.
        kind: remi, tsd, octuple or pitch. Pitches alone say no rhythm: they become even eighths.
    """
    from miditok import TokSequence

    values = values[values >= FIRST]
    if kind == "pitch":
        return even(values - FIRST)
    if kind == "octuple":
        return ordered(octuples(whole_notes(values, ids), ids, chosen))
    if not len(values):
        return even(values)
    sequence = TokSequence(tokens=[ids.tokens[i] for i in values.tolist()])
    return ordered(chosen.decode(sequence if chosen.one_token_stream else [sequence]))


def ordered(result: Any) -> Any:
    """A score that can be written: MIDI counts time from one event to the next, and a step back becomes 2^28 ticks.

    What a model has placed before the beginning, or hours after it, is left out. symusic puts the events of all lists
    in order when it writes them, but only where there is a track.
    """
    from symusic import Track

    if not result.tracks:
        result.tracks.append(Track())
    for events in (result.tempos, result.time_signatures, *(track.notes for track in result.tracks)):
        events.filter(lambda event: 0 <= event.time <= LATEST * result.tpq, inplace=True)
    return result


def even(pitches: np.ndarray) -> Any:
    """Pitches one after the other."""
    from symusic import Note, Score, Tempo, Track

    result: Any = Score(2 * STEP)
    track: Any = Track("", 0, False)
    times = np.arange(len(pitches), dtype=np.int32) * STEP
    full = np.ones(len(pitches), np.int8)
    track.notes = Note.from_numpy(
        times, np.full(len(pitches), STEP, np.int32), pitches.astype(np.int8), full * LOUDNESS
    )
    result.tracks.append(track)
    result.tempos.append(Tempo(0, 120.0))
    return result


def whole_notes(values: np.ndarray, ids: Ids) -> dict[str, np.ndarray]:
    """The notes of flat octuple ids that have all their features: ids by kind, each (n,)."""
    kinds = [kind for kind in OCTUPLE if kind in ids.ranges]
    starts = np.flatnonzero(ids.has("Pitch", values) | ids.has("PitchDrum", values))
    starts = starts[starts + len(kinds) <= len(values)]
    table = values[starts[:, None] + np.arange(len(kinds))]
    whole = np.ones(len(table), bool)
    for column, kind in enumerate(kinds[1:], start=1):
        whole &= ids.has(kind, table[:, column])
    return dict(zip(kinds, table[whole].T, strict=True))


def octuples(notes: dict[str, np.ndarray], ids: Ids, chosen: Any) -> Any:
    """The score of whole notes; their first bar becomes bar 0. A metre holds until a note says another.

    Not ``miditok.Octuple.decode``: it puts the first note of a new metre on the grid of the old one.
    """
    from symusic import Score, Tempo, TimeSignature

    result: Any = Score(chosen.time_division)
    if not len(notes["Pitch"]):
        return result
    bar = notes["Bar"] - ids["Bar"]
    bar = bar + BARS * np.cumsum(np.diff(bar, prepend=bar[0]) < -BARS // 2)  # numbers go round
    bar -= bar.min()
    metres = np.array(chosen.time_signatures)[notes["TimeSig"] - ids["TimeSig"]]
    owner = np.zeros(int(bar.max()) + 1, np.int64)  # of each bar: the first note in it, or in the last bar that has one
    owner[bar[::-1]] = np.arange(len(bar))[::-1]
    owner = np.maximum.accumulate(owner)
    per_beat = chosen.time_division * 4 // metres[:, 1]
    starts = np.concatenate([[0], np.cumsum((per_beat * metres[:, 0])[owner])])
    per_position = np.maximum(1, per_beat // chosen.config.max_num_pos_per_beat)
    time = starts[bar] + (notes["Position"] - ids["Position"]) * per_position
    beats, steps, of = np.array(chosen.durations)[notes["Duration"] - ids["Duration"]].T
    result.tracks = tracks(notes, ids, chosen, time, (beats * of + steps) * per_beat // of)
    for place, metre in zip(starts.tolist(), metres[owner].tolist(), strict=False):
        if not place or metre != [result.time_signatures[-1].numerator, result.time_signatures[-1].denominator]:
            result.time_signatures.append(TimeSignature(place, *metre))
    tempo = chosen.tempos[notes["Tempo"] - ids["Tempo"]] if "Tempo" in notes else np.full(len(time), 120.0)
    for i in np.flatnonzero(np.diff(tempo, prepend=-1.0) != 0).tolist():
        result.tempos.append(Tempo(int(time[i]) if i else 0, float(tempo[i])))
    return result


def tracks(notes: dict[str, np.ndarray], ids: Ids, chosen: Any, time: np.ndarray, duration: np.ndarray) -> list[Any]:
    """A track a program of whole octuple notes, with their ticks."""
    from symusic import Note, Track

    drum = ids.has("PitchDrum", notes["Pitch"])
    pitch = notes["Pitch"] - np.where(drum, ids.range("PitchDrum")[0], ids["Pitch"])
    velocity = np.full(len(time), LOUDNESS)
    if "Velocity" in notes:
        velocity = chosen.velocities[notes["Velocity"] - ids["Velocity"]]
    program = np.zeros(len(time), np.int64)
    if "Program" in notes:
        program = np.argsort(ids.programs)[notes["Program"] - ids.programs.min()] + DRUMS
    program[drum] = DRUMS
    result = []
    for number in dict.fromkeys(program.tolist()):
        mine = program == number
        track: Any = Track("", max(number, 0), number == DRUMS)
        times, durations = (array[mine].astype(np.int32) for array in (time, duration))
        track.notes = Note.from_numpy(times, durations, *(array[mine].astype(np.int8) for array in (pitch, velocity)))
        result.append(track)
    return result


def intervals(values: np.ndarray, ids: Ids, kind: str) -> np.ndarray:
    """(n,) int64 semitones between successive notes, by onset, then pitch; percussion and unisons are left out.

    The same in any key, at any tempo and loudness, for any instruments.
    """
    at = np.flatnonzero(ids.has("Pitch", values))
    pitch = values[at] - ids["Pitch"]
    if kind == "pitch":
        return np.diff(pitch)
    if kind == "octuple":
        place = values[np.minimum(at[:, None] + np.arange(1, 3), len(values) - 1)]
        onset = np.cumsum((np.diff(place, axis=0, prepend=place[:1]) != 0).any(1))
    else:
        opens = ids.has("TimeShift" if kind == "tsd" else "Position", values)
        if kind == "remi":
            opens |= ids.has("Bar", values)
        onset = np.cumsum(opens)[at]
    order = np.lexsort((pitch, onset))
    pitch, onset = pitch[order], onset[order]
    new = np.insert((np.diff(pitch) != 0) | (np.diff(onset) != 0), 0, True)[: len(pitch)]
    return np.diff(pitch[new])
