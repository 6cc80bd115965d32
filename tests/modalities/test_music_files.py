"""Reading MIDI: files and tables, what must not be seen, what cannot be played, and damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.modalities import music_files
from ssl_suite.modalities.music import Music
from tests.modalities.fuzz import stop, survive
from tests.modalities.made_music import SCALE, meta, midi, note, number, piece, record, tempo

LATE = midi(note(0, 60, 10) + note(1 << 27, 62, 10), division=96)


def test_a_midi_file_is_one_record(tmp_path: Path) -> None:
    for name in ("song.mid", "other.midi"):
        path = tmp_path / name
        path.write_bytes(piece())
        (found,) = Music().read(path, stop)
        assert (found.name, found.data, found.source) == (path.stem, piece(), str(path))


@pytest.mark.parametrize("column", ["midi", "bytes", "file"])
def test_a_table_of_midi_bytes(tmp_path: Path, column: str) -> None:
    path = tmp_path / "some.parquet"
    data = [piece(1), piece(2)]
    held = [{"bytes": one, "path": None} for one in data] if column == "file" else data
    pq.write_table(pa.table({"id": ["a", "b"], column: held, "split": ["train", "test"], "label": ["x", "y"]}), path)
    found = list(Music().read(path, stop))
    assert [(one.name, one.data) for one in found] == [("a", data[0]), ("b", data[1])]
    assert found[1].tags == {"split": "test", "label": "y"}


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "empty file", "is empty; remove it or give one"),
        (b">seq\nACGT", "not MIDI", r"is not a MIDI file \(it begins with b'>seq', not b'MThd'\)"),
    ],
)
def test_files_that_are_no_midi(tmp_path: Path, data: bytes, reason: str, message: str) -> None:
    path = tmp_path / "song.mid"
    path.write_bytes(data)
    with pytest.raises(BadRecord, match=message) as caught:
        list(Music().read(path, stop))
    assert caught.value.reason == reason
    assert str(caught.value).startswith(str(path))
    with pytest.raises(BadRecord, match="No such file"):
        list(Music().read(tmp_path / "missing.mid", stop))


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"junk" * 9, "not MIDI", "is not a MIDI file"),
        (midi(), "no notes", "has no notes that begin and end; remove it"),
        (midi(tempo(500_000)), "no notes", "has no notes"),
        (midi(b"\0\x90\x3c\x40"), "no notes", "has no notes"),  # begins and never ends
        (midi(SCALE, division=0), "wrong time map", "has 0 ticks to a quarter note"),
        (
            midi(SCALE, division=-25 * 256 + 40),
            "SMPTE time",
            r"counts time in SMPTE frames \(25 a second, 40 ticks each\), not in beats: .* ticks per quarter note",
        ),
        (LATE, "wrong time map", r"a note after 1,398,101 quarter notes .* \(96 ticks to a quarter note\)"),
        (midi(SCALE)[:40], "damaged", "is a damaged MIDI file"),
        (midi(b"\0\x90\x3c\xc0" + SCALE), "damaged", "is a damaged MIDI file"),
        (midi(SCALE, form=9), "damaged", "is a damaged MIDI file"),
    ],
    ids=["junk", "no track", "no notes", "stuck", "tpq 0", "SMPTE", "late", "cut", "velocity", "format"],
)
def test_records_that_cannot_be_played(data: bytes, reason: str, message: str) -> None:
    for tokenizer in ("remi", "pitch"):
        with pytest.raises(BadRecord, match=message) as caught:
            Music(tokenizer=tokenizer).encode(record(data))  # type: ignore[arg-type]
        assert caught.value.reason == reason
        assert str(caught.value).startswith("x.mid: record 'r' ") or reason == "not MIDI"
        assert "\n" not in str(caught.value)


def test_only_percussion() -> None:
    drums = midi(b"".join(note(0, 36, 240, channel=9) for _ in range(12)))
    for settings in ({"tokenizer": "pitch"}, {"programs": "none"}):
        with pytest.raises(BadRecord, match=r"only percussion, .* use modality\.tokenizer=remi") as caught:
            Music(**settings).encode(record(drums))  # type: ignore[arg-type]
        assert caught.value.reason == "only percussion"
    assert "Program_-1 PitchDrum_36" in Music().decode(Music().encode(record(drums)).values)
    both = Music(programs="none").encode(record(piece(drums=True)))
    assert both.counts["percussion left out"] > 20


def test_a_wrong_map_of_tempos() -> None:
    music = Music()
    plain = music.encode(record(midi(tempo(500_000), SCALE)))
    counted = music.encode(record(midi(tempo(0) + tempo(500_000), SCALE)))
    assert counted.counts["tempos left out"] == 1
    assert np.array_equal(counted.values, plain.values)
    # Two tracks whose changes interleave, one of them after the last note.
    mixed = midi(tempo(600_000, 480) + tempo(250_000, 1 << 20), tempo(300_000), SCALE)
    assert music_files.parse(record(mixed)).tempos.tolist() == [[0, 300_000], [480, 600_000]]
    # Beyond any tempo that is played: the nearest level.
    assert "Tempo_250.0" in music.decode(music.encode(record(midi(tempo(1), SCALE))).values)
    assert "Tempo_20.0" in music.decode(music.encode(record(midi(tempo(0xFFFFFF), SCALE))).values)


def test_thousands_of_tempos_take_no_time() -> None:
    import time

    many = b"".join(tempo(300_000 + (i * 7919) % 400_000, 1) for i in range(30_000))
    begun = time.monotonic()
    music = Music()
    music.encode(record(midi(many, b"".join(note(400, 60 + i % 9, 80) for i in range(70)), division=120)))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("above", "power", "expected"),
    [
        (3, 2, (3, 4)), (2, 1, (4, 4)), (3, 1, (6, 4)), (1, 0, (4, 4)), (6, 3, (6, 8)), (4, 3, (2, 4)), (6, 4, (3, 8)),
        (12, 4, (6, 8)), (24, 4, (12, 8)), (0, 2, None), (0, 0, None), (0, 5, None), (13, 2, None), (3, 4, None),
        (255, 7, None), (4, 255, None),
    ],
)  # fmt: skip
def test_metres_are_kept_by_the_length_of_their_bars(above: int, power: int, expected: tuple[int, int] | None) -> None:
    found = music_files.parse(record(midi(meta(0x58, bytes([above, power, 24, 8])), SCALE)))
    assert found.metres.tolist() == ([[0, *expected]] if expected else [])
    assert found.counts["metres left out"] == (expected is None)
    assert len(Music().encode(record(midi(meta(0x58, bytes([above, power, 24, 8])), SCALE))).values) > 12


def test_too_many_metres() -> None:
    many = b"".join(meta(0x58, bytes([3 + i % 2, 2, 24, 8]), wait=1) for i in range(5000))
    with pytest.raises(BadRecord, match="changes its metre 5,000 times"):
        Music().encode(record(midi(many, note(0, 60, 9) + note(9000, 60, 9))))


@pytest.mark.parametrize("tokenizer", ["remi", "tsd", "pitch"])
def test_no_text_reaches_the_model(tokenizer: str) -> None:
    """Kinds 1 to 15 are text: composer, copyright, track and instrument name, lyrics, markers, cues."""
    music = Music(tokenizer=tokenizer)  # type: ignore[arg-type]
    text = b"".join(meta(kind, "Johann Sebastian Bach, né à Eisenach".encode("latin-1")) for kind in range(1, 16))
    plain = music.encode(record(midi(tempo(500_000), SCALE, SCALE)))
    named = music.encode(record(midi(text + tempo(500_000), text + SCALE, text + SCALE + text)))
    assert np.array_equal(named.values, plain.values)
    assert named.counts == plain.counts
    score = music.score(named.values)
    assert b"Bach" not in score.dumps_midi()


def test_a_wrapped_file_and_pedantry() -> None:
    music = Music()
    data = midi(tempo(500_000), SCALE)
    wrapped = b"RIFF" + (len(data) + 12).to_bytes(4, "little") + b"RMIDdata" + len(data).to_bytes(4, "little") + data
    assert np.array_equal(music.encode(record(wrapped)).values, music.encode(record(data)).values)
    assert number(0x0FFFFFFF) == b"\xff\xff\xff\x7f"


VALID = [piece(i, notes=20, programs=(0, 40)[: 1 + i % 2], drums=i % 3 == 0) for i in range(8)]


def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    seen = survive(Music(), ".mid", [*VALID, midi(tempo(500_000) + meta(3, b"name"), SCALE)], tmp_path)
    assert seen["loaded"] > 300
    assert seen["damaged"] > 300


@pytest.mark.parametrize("tokenizer", ["tsd", "pitch"])
def test_damaged_files_of_other_tokenisers(tmp_path: Path, tokenizer: str) -> None:
    seen = survive(Music(tokenizer=tokenizer), ".mid", VALID, tmp_path, count=300)  # type: ignore[arg-type]
    assert seen["loaded"] > 50


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"midi": [piece(1), b"", midi(), piece(2)]}), path)
    faults = FaultCounter("skip")
    found = list(Music().read(path, faults))
    assert [one.name for one in found] == ["row1", "row3", "row4"]
    assert faults.counts == {"no MIDI file": 1}
    pq.write_table(pa.table({"midi": ["text"]}), path)
    with pytest.raises(SuiteError, match="holds string, not encoded files"):
        list(Music().read(path, stop))
