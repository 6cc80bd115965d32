"""Recordings that are put together for the local SUPERB tasks: two speakers at once, and digits in a row.

Sound is decoded by libsndfile and stored as FLAC of 16 bits; draws are those of ``random.Random(0)``. Another build of
the Opus decoder may differ in the last bit of a sample. ``recordings`` of a row are the SHA-256 of the files that it is
made of and ``speakers`` their speakers, so that ``ssl_suite data verify … tasks=superb`` can look for them elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from ssl_suite.data.recipes import superb

LISTS = {"recordings": pa.list_(pa.string()), "speakers": pa.list_(pa.string())}
FRAME = 0.01  # seconds of the energy that finds where a word begins and ends
FLOOR = 25.0  # dB below the loudest frame: there a word ends
QUIETEST = -50.0  # dB of full scale of the loudest frame: below, a clip is silence
MIXTURES = {"train": 320, "dev": 60, "test": 180}
LEAST = 2  # recordings of a speaker: one alone would be a loop
SECONDS, PAUSE = 8.0, 1.5  # of a mixture, and the longest pause of a speaker between two words
LOUDNESS = (-33.0, -25.0)  # dB of a speaker's words, as LibriMix draws it
QUERIES, CANDIDATES, DIGITS, GAP = 10, {"train": 60, "dev": 100, "test": 200}, 4, 0.15


def decode(sound: bytes) -> tuple[np.ndarray, int]:
    """(S,) float32 samples and their rate."""
    x_S, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    return x_S, rate


def encode(x_S: np.ndarray, rate: int) -> bytes:
    """FLAC of 16 bits."""
    out = io.BytesIO()
    soundfile.write(out, np.clip(x_S, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def digest(sound: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(sound).hexdigest()


def trimmed(x_S: np.ndarray, rate: int) -> np.ndarray:
    """From the first to the last frame that is at most ``FLOOR`` below the loudest; empty where all is silence."""
    size = round(FRAME * rate)
    whole_FS = x_S[: len(x_S) // size * size].reshape(-1, size)
    level_F = 10 * np.log10(np.maximum(np.square(whole_FS, dtype=np.float64).mean(1), 1e-12))
    loud = np.flatnonzero(level_F > max(level_F.max(initial=-120) - FLOOR, QUIETEST))
    return x_S[loud[0] * size : (loud[-1] + 1) * size] if len(loud) else x_S[:0]


def mixtures(paths: list[Path]) -> pa.Table:
    """Two speakers of Speech Commands, each saying words with pauses, added: ``segments`` has who speaks when.

    The speakers of train, dev and test are those of the official lists, which share none. A speaker's words have one
    loudness, and nobody waits for the other: a quarter of the time with speech is of both.
    """
    words: dict[str, dict[str, list[tuple[np.ndarray, str]]]] = {}
    for row in superb.read(paths[0], ("speaker", "split", "audio")):
        x_S, rate = decode(row["audio"])
        assert rate == 16_000
        word_S, part = trimmed(x_S, rate), "dev" if row["split"] == "valid" else row["split"]
        if len(word_S):
            words.setdefault(part, {}).setdefault(row["speaker"], []).append((word_S, digest(row["audio"])))
    draw, rows = random.Random(0), []
    for part, count in MIXTURES.items():
        some = {speaker: mine for speaker, mine in words[part].items() if len(mine) >= LEAST}
        for i in range(count):
            rows.append({"id": f"{part}-{i}", "split": part} | _mixture(some, draw))
    return superb.table(rows, **LISTS)


def _mixture(words: dict[str, list[tuple[np.ndarray, str]]], draw: random.Random) -> dict:
    """One mixture of two speakers."""
    speakers = _some(sorted(words), 2, draw)
    mixed_S, segments, used, rate = np.zeros(round(SECONDS * 16_000), np.float32), [], [], 16_000
    for speaker in speakers:
        level, at = 10 ** (_between(*LOUDNESS, draw) / 20), round(_between(0, PAUSE, draw) * rate)
        queue: list[tuple[np.ndarray, str]] = []
        while True:
            queue = queue or _some(words[speaker], len(words[speaker]), draw)
            word_S, name = queue.pop()
            if at + len(word_S) > len(mixed_S):
                break
            mixed_S[at : at + len(word_S)] += level * word_S / np.sqrt(np.square(word_S, dtype=np.float64).mean())
            segments.append((round(at / rate, 4), round(len(word_S) / rate, 4), speaker))
            used.append(name)
            at += len(word_S) + round(_between(0, PAUSE, draw) * rate)
    return {
        "segments": json.dumps(sorted(segments)),
        "pair": " ".join(sorted(speakers)),
        "speakers": sorted(speakers),
        "recordings": sorted(set(used)),
        "audio": encode(mixed_S, rate),
    }


def queries(paths: list[Path]) -> pa.Table:
    """Single spoken digits, and four digits of one speaker in a row in which they are looked for.

    ``digits`` are those of a row, ``role`` is query or candidate. Queries are of takes 0 to 4 and candidates of the
    others, so no recording is both. Every other candidate of test is of another speaker than a query; dev has one.
    """
    spoken: dict[str, dict[str, list[dict]]] = {}
    for row in superb.read(paths[0], ("digit", "speaker", "take", "audio")):
        spoken.setdefault(superb.FSDD[row["speaker"]], {}).setdefault(row["speaker"], []).append(row)
    draw, rows = random.Random(0), []
    for part, count in CANDIDATES.items():
        speakers = sorted(spoken[part])
        for digit in range(10):
            some = [row for speaker in speakers for row in spoken[part][speaker] if row["digit"] == digit]
            for row in _some([row for row in some if row["take"] < 5], QUERIES, draw):
                rows.append(_in_a_row([row], part, "query"))
        for i in range(count):
            mine = [row for row in spoken[part][speakers[i % len(speakers)]] if row["take"] >= 5]
            rows.append(_in_a_row([_some(mine, 1, draw)[0] for _ in range(DIGITS)], part, "candidate"))
    return superb.table(
        [{"id": f"{row['split']}-{i}"} | row for i, row in enumerate(rows)],
        **LISTS,
        digits=pa.list_(pa.string()),
    )


def _in_a_row(some: Sequence[dict], part: str, role: str) -> dict:
    """Digits one after the other, with a gap between."""
    sounds = [decode(row["audio"]) for row in some]
    rate = sounds[0][1]
    gap_S = np.zeros(round(GAP * rate), np.float32)
    whole_S = np.concatenate([piece for x_S, _ in sounds for piece in (gap_S, x_S)][1:])
    return {
        "split": part,
        "role": role,
        "digits": sorted({str(row["digit"]) for row in some}),
        "speakers": sorted({row["speaker"] for row in some}),
        "recordings": sorted({digest(row["audio"]) for row in some}),
        "audio": encode(whole_S, rate),
    }


def _between(low: float, high: float, draw: random.Random) -> float:
    return low + (high - low) * draw.random()


def _some(values: Sequence, count: int, draw: random.Random) -> list:
    """``count`` different ones in a drawn order; of ``random`` only ``random()`` is the same in every version."""
    left, found = list(values), list[object]()
    while left and len(found) < count:
        found.append(left.pop(int(draw.random() * len(left))))
    return found
