"""MIDI files made for the tests: byte by byte where they are to be wrong, through symusic where they are right."""

from __future__ import annotations

import struct

import numpy as np
from symusic import Note, Score, Tempo, TimeSignature, Track

from ssl_suite.core.records import Record

END = b"\0\xff\x2f\0"


def number(value: int) -> bytes:
    """A variable-length number."""
    out = [value & 127]
    while value := value >> 7:
        out.append(128 | (value & 127))
    return bytes(reversed(out))


def note(wait: int, pitch: int, length: int, channel: int = 0) -> bytes:
    return number(wait) + bytes([0x90 | channel, pitch, 64]) + number(length) + bytes([0x80 | channel, pitch, 0])


def meta(kind: int, data: bytes, wait: int = 0) -> bytes:
    return number(wait) + bytes([0xFF, kind]) + number(len(data)) + data


def tempo(microseconds: int, wait: int = 0) -> bytes:
    return meta(0x51, microseconds.to_bytes(3, "big"), wait)


def midi(*tracks: bytes, division: int = 480, form: int = 1) -> bytes:
    chunks = [b"MTrk" + struct.pack(">I", len(events + END)) + events + END for events in tracks]
    return b"MThd" + struct.pack(">IHHh", 6, form, len(tracks), division) + b"".join(chunks)


SCALE = b"".join(note(0, pitch, 240) for pitch in (60, 62, 64, 65, 67, 69, 71, 72, 71, 69, 67, 65))


def record(data: bytes, name: str = "r") -> Record:
    return Record(name, data, "x.mid")


def piece(
    seed: int = 0, notes: int = 60, programs: tuple[int, ...] = (0,), drums: bool = False, low: int = 40
) -> bytes:
    """Random music on a grid of twelfths of a quarter, with changes of metre and tempo."""
    draw = np.random.default_rng(seed)
    score = Score(12)
    for program in (*programs, *((-1,) if drums else ())):
        track = Track("", max(program, 0), program == -1)
        ends: dict[int, int] = {}
        for time in np.sort(draw.integers(0, 3 * notes, notes)).tolist():
            pitch = int(draw.integers(low, low + 40))
            if time >= ends.get(pitch, 0):  # MIDI cannot end one of two equal notes
                ends[pitch] = time + int(draw.choice([1, 3, 4, 6, 12, 18, 24]))
                track.notes.append(Note(time, ends[pitch] - time, pitch, int(draw.integers(1, 128))))
        score.tracks.append(track)
    score.time_signatures = [TimeSignature(0, 3, 4), TimeSignature(36, 6, 8), TimeSignature(72, 4, 4)]  # at bar lines
    score.tempos = [Tempo(0, 100.0), Tempo(24, 140.0), Tempo(30, 60.0)]
    return score.dumps_midi()
