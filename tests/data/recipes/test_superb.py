"""Tables of the local SUPERB tasks, made here of miniature sets: who is where, what is written, and what is heard."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from ssl_suite.data.recipes import superb, superb_sound


def sound(seconds: float, rate: int, hertz: float, silence: float = 0.0) -> bytes:
    """A tone between two silences, as FLAC."""
    tone_S = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    out, quiet_S = io.BytesIO(), np.zeros(round(silence * rate))
    soundfile.write(out, np.concatenate([quiet_S, tone_S, quiet_S]), rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def write(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def books(tmp_path: Path) -> Path:
    some = [("19", "198", "NORTHANGER ABBEY", None, "northanger"), ("26", "495", "O'ER A SEA", "AO R | AH | S IY", "")]
    some += [("27", "123349", "SEA", "S IY", ""), ("27", "124992", "A SEA", "AH | S IY", "")]
    keys = ("speaker", "chapter", "text", "phones", "oov")
    rows = [dict(zip(keys, row, strict=True)) | {"id": f"u{i}", "audio": b"%d" % i} for i, row in enumerate(some)]
    return write(tmp_path / "books.parquet", rows)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    said = [("a", "train", "Press the pound key."), ("b", "train", "Press 7."), ("c", "test", "Goodbye")]
    rows = [
        {"id": id, "lang": lang, "split": split, "text": text, "audio": f"{lang}{id}".encode()}
        for lang in ("en", "fr")
        for id, split, text in said
    ]
    return write(tmp_path / "prompts.parquet", rows)


def spoken(tmp_path: Path, takes: int) -> Path:
    """Digits of six speakers, of 8 kHz."""
    rows = [
        {
            "id": f"{digit}_{speaker}_{take}",
            "digit": digit,
            "speaker": speaker,
            "take": take,
            "audio": sound(0.2 + 0.01 * digit + 0.001 * take, 8000, 200 + 50 * s),
        }
        for (s, speaker), digit, take in itertools.product(enumerate(superb.FSDD), range(10), range(takes))
    ]
    return write(tmp_path / "digits.parquet", rows)


def test_phones_and_letters(books: Path, prompts: Path) -> None:
    rows = superb.phones([books]).to_pylist()
    assert [(row["speaker"], row["split"], row["phones"]) for row in rows] == [
        ("26", "train", "AO R AH S IY"),
        ("27", "dev", "S IY"),
        ("27", "test", "AH S IY"),
    ]
    rows = superb.letters([books, prompts]).to_pylist()
    assert [(row["id"], row["split"], row["text"]) for row in rows] == [
        ("u0", "train", "NORTHANGER ABBEY"),
        ("u1", "train", "O'ER A SEA"),
        ("u2", "dev", "SEA"),
        ("u3", "test", "A SEA"),
        ("en/a", "train", "PRESS THE POUND KEY"),  # no digit, English, of train
    ]


def test_values_are_written_in_the_order_of_their_slots(tmp_path: Path) -> None:
    slots = [{"size": "large", "coffeeDrink": "iced latte"}, {"sugarAmount": "some sugar", "milkAmount": "cream"}]
    rows = [
        {"id": str(i), "slots_json": json.dumps(one), "split": "valid", "audio": b""} for i, one in enumerate(slots)
    ]
    found = superb.values([write(tmp_path / "orders.parquet", rows)]).to_pylist()
    assert [row["slots"] for row in found] == ["Ciced latteSlarge", "McreamGsome sugar"]
    assert {row["split"] for row in found} == {"dev"}
    assert len(set(superb.MARKS.values())) == 6 and all(
        len(mark) == 1 and mark.isupper() for mark in superb.MARKS.values()
    )


def test_trials_of_dev_are_of_sentences_that_train_has_not(tmp_path: Path) -> None:
    rows = [
        {"id": f"{speaker}{sentence}{take}", "speaker": speaker, "sex": sex, "sentence": sentence, "split": split}
        for (speaker, sex, split), sentence, take in itertools.product(
            [
                ("03", "m", "train"),
                ("08", "f", "train"),
                ("10", "m", "train"),
                ("15", "m", "test"),
                ("16", "f", "test"),
            ],
            ["a01", "b09", "b10"],
            "ab",
        )
    ]
    emodb = write(tmp_path / "emodb.parquet", rows)
    lists = tmp_path / "trials.csv"
    lists.write_text("label,enrol,test\n1,15a01a,15b09b\n0,15a01a,16b09b\n")
    found = superb.trials([emodb, lists]).to_pylist()
    train, dev, test = ([row for row in found if row["split"] == part] for part in ("train", "dev", "test"))
    assert {(row["enrol"][2:5], row["label"], row["test"]) for row in train} == {
        ("a01", s, "") for s in ("03", "08", "10")
    }
    assert {row["enrol"][2:5] for row in dev} | {row["test"][2:5] for row in dev} == {"b09", "b10"}
    for row in dev:
        assert row["label"] == str(int(row["enrol"][:2] == row["test"][:2]))
    assert sum(row["label"] == "1" for row in dev) == 3 * 4  # of each speaker all pairs of the two sentences
    assert [(row["label"], row["enrol_speaker"], row["test_speaker"]) for row in test] == [
        ("1", "15", "15"),
        ("0", "15", "16"),
    ]
    assert [row["label"] for row in found if row["split"] == "test_same_sex"] == ["1"]


def test_mixtures_hold_the_words_where_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speakers of one part alone; a mixture is silent outside its segments, and sounds inside them."""
    pitch = itertools.count(150, 20)
    rows = [
        {
            "speaker": f"{split}{s}",
            "split": split,
            "audio": sound(0.3, 16_000, next(pitch), silence=0.2),
        }
        for split, s, k in itertools.product(("train", "valid", "test"), range(3), range(3))
    ]
    rows.append({"speaker": "test9", "split": "test", "audio": sound(0.3, 16_000, 700)})  # one recording: left out
    rows.append({"speaker": "test0", "split": "test", "audio": sound(0.3, 16_000, 0)})  # silence: no word
    path = write(tmp_path / "words.parquet", rows)
    monkeypatch.setattr(superb_sound, "MIXTURES", {"train": 6, "dev": 4, "test": 8})
    found = superb_sound.mixtures([path])
    assert found.equals(superb_sound.mixtures([path]))  # a pure function of the bytes
    digests = {hashlib.sha256(row["audio"]).hexdigest(): row["speaker"] for row in rows}
    count = {part: found["split"].to_pylist().count(part) for part in superb_sound.MIXTURES}
    assert count == superb_sound.MIXTURES
    for row in found.to_pylist():
        x_S, rate = superb_sound.decode(row["audio"])
        assert (rate, len(x_S)) == (16_000, 128_000)
        segments = json.loads(row["segments"])
        assert {speaker for _, _, speaker in segments} == set(row["speakers"]) == set(row["pair"].split())
        assert {digests[name] for name in row["recordings"]} == set(row["speakers"]) and "test9" not in row["speakers"]
        part = {"dev": "valid"}.get(row["split"], row["split"])
        assert all(speaker.startswith(part) for speaker in row["speakers"])
        inside_S = np.zeros(len(x_S), bool)
        for start, duration, speaker in segments:
            low, high = round(start * rate), round((start + duration) * rate)
            inside_S[max(low - 2, 0) : high + 2] = True
            others = [s for s in segments if s[2] != speaker and s[0] < start + duration and start < s[0] + s[1]]
            if not others:
                level = 10 * np.log10(np.square(x_S[low:high], dtype=np.float64).mean())
                assert -33.1 < level < -24.9  # of one word alone
        assert not x_S[~inside_S].any() and inside_S.any()


def test_rows_of_digits_hold_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spoken(tmp_path, 8)
    monkeypatch.setattr(superb_sound, "CANDIDATES", {"train": 3, "dev": 6, "test": 10})
    source = {hashlib.sha256(row["audio"]).hexdigest(): row for row in pq.read_table(path).to_pylist()}
    found = superb_sound.queries([path]).to_pylist()
    role = lambda part, name: [row for row in found if (row["split"], row["role"]) == (part, name)]  # noqa: E731
    assert {part: len(role(part, "candidate")) for part in superb_sound.CANDIDATES} == superb_sound.CANDIDATES
    used = {
        name: {one for row in found if row["role"] == name for one in row["recordings"]}
        for name in ("query", "candidate")
    }
    assert used["query"].isdisjoint(used["candidate"])
    for row in found:
        assert {superb.FSDD[speaker] for speaker in row["speakers"]} == {row["split"]}
        mine = [source[name] for name in row["recordings"]]
        assert {str(one["digit"]) for one in mine} == set(row["digits"])
        assert {one["speaker"] for one in mine} == set(row["speakers"]) and len(row["speakers"]) == 1
        whole_S, rate = superb_sound.decode(row["audio"])
        if row["role"] == "query":
            assert np.array_equal(whole_S, superb_sound.decode(mine[0]["audio"])[0])
        elif len(mine) == superb_sound.DIGITS:
            pieces = sum(len(superb_sound.decode(one["audio"])[0]) for one in mine)
            assert len(whole_S) == pieces + 3 * round(superb_sound.GAP * rate)


def test_the_mix_has_no_speaker_of_dev_or_test(tmp_path: Path, books: Path, prompts: Path) -> None:
    words = [{"id": s, "speaker": s, "split": s, "audio": s.encode()} for s in ("train", "valid", "test")]
    commands = write(tmp_path / "words.parquet", words)
    meetings = write(
        tmp_path / "ami.parquet", [{"id": s, "split": s, "audio": s.encode()} for s in ("train", "test_extra")]
    )
    mix = superb.mix_clean([books, spoken(tmp_path, 1), commands, prompts, meetings]).to_pylist()
    kept = {row["speaker"] for row in mix}
    assert kept == {"19", "26", "george", "jackson", "nicolas", "train", "Allison Smith", "June Wallack", None}
    assert [row["id"] for row in mix if row["id"].startswith(("asterisk", "ami"))] == [
        *("asterisk/en/a", "asterisk/en/b", "asterisk/fr/a", "asterisk/fr/b"),
        "ami/train",
    ]
