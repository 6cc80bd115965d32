"""Damaged sound files: whatever they hold, decoding gives samples or one clear line, quickly."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.modalities.speech import Speech
from tests.modalities.fuzz import survive
from tests.modalities.made_speech import FORMATS, sound_file, tone


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
def test_damaged_files(suffix: str, tmp_path: Path) -> None:
    kind, subtype = FORMATS[suffix]
    valid = [
        sound_file(tone(0.1), 16_000, kind, subtype),
        sound_file(tone(0.25, 8_000, 300), 8_000, kind, subtype),
        sound_file(np.stack([tone(0.1, 48_000), tone(0.1, 48_000, 500)], 1), 48_000, kind, subtype),
    ]
    valid += [sound_file(tone(0.1), 16_000, "WAV", "FLOAT")] if suffix == ".wav" else []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = survive(Speech(), suffix, valid, tmp_path)
    assert sum(count for reason, count in seen.items() if reason != "records") == 2000
    assert seen["damaged"] + seen["truncated"] > 500
    assert seen["records"] == seen["loaded"] and (suffix == ".flac" or seen["records"] > 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB: no header is believed
