"""Token ids back to a score that can be played, and the intervals that identify a piece in any key."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_suite.modalities.music_files import LONGEST
from ssl_suite.modalities.music_tokens import FIRST, Ids

STEP, LOUDNESS = 240, 80  # ticks (an eighth at 480 to a quarter) and velocity where tokens say neither


def score(values: np.ndarray, ids: Ids, chosen: Any) -> Any:
    """The ``symusic.Score`` of base ids (BPE undone); what makes no note, such as a note cut in two, is passed over.

    Args:
        values: (length,) ids; special tokens are skipped.
        ids: of the tokeniser.
        chosen: the miditok tokeniser; None for pitches alone, which say no rhythm: they become even eighths.
    """
    from miditok import TokSequence

    values = values[values >= FIRST]
    if chosen is None or not len(values):
        return even(values - FIRST)
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
        events.filter(lambda event: 0 <= event.time <= LONGEST * result.tpq, inplace=True)
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


def intervals(values: np.ndarray, ids: Ids) -> np.ndarray:
    """(n,) int64 semitones between successive notes, by onset, then pitch; percussion and unisons are left out.

    The same in any key, at any tempo and loudness, for any instruments.
    """
    at = np.flatnonzero(ids.has("Pitch", values))
    pitch = values[at] - ids["Pitch"]
    if "Duration" not in ids.ranges:  # pitches alone
        return np.diff(pitch)
    opens = ids.has("TimeShift", values) | ids.has("Position", values) | ids.has("Bar", values)
    onset = np.cumsum(opens)[at]
    order = np.lexsort((pitch, onset))
    pitch, onset = pitch[order], onset[order]
    new = np.insert((np.diff(pitch) != 0) | (np.diff(onset) != 0), 0, True)[: len(pitch)]
    return np.diff(pitch[new])
