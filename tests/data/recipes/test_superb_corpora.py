"""The official corpora of SUPERB in miniature: folders laid out as published, through the catalogue and into tasks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.registry import MODALITIES, build
from ssl_suite.data.sources import resolve_entry
from ssl_suite.evaluation import task_data, tasks

counter = itertools.count(200)


def write(path: Path, seconds: float = 0.3) -> bytes:
    """A tone that no other file has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone_S = 0.3 * np.sin(2 * np.pi * next(counter) * np.arange(round(16_000 * seconds)) / 16_000)
    soundfile.write(path, tone_S, 16_000, subtype="PCM_16")
    return path.read_bytes()


def made(root: Path, name: str) -> list[dict[str, Any]]:
    section = {**(tasks.entry(name) or {}), "root": str(root)}
    (path,) = resolve_entry(build(MODALITIES, "modality", {"name": "speech"}), section).paths
    return pq.read_table(path).to_pylist()


def load(root: Path, name: str) -> task_data.TaskData:
    task = tasks.find("superb", name)
    return task_data.load(task, tasks.build_modality(task), {"root": str(root)}, {})


def test_speech_commands_has_twelve_classes_and_its_own_test_set(tmp_path: Path) -> None:
    base = tmp_path / "SpeechCommands" / "speech_commands_v0.01"
    clips: dict[str, bytes] = {}
    for word, k in itertools.product(("yes", "no", "bed", "zero"), range(6)):
        place = f"{word}/{k:08x}_nohash_0.wav"
        clips[place] = write(base / place)
    write(base / "_background_noise_" / "pink.wav", 7.5)
    (base / "validation_list.txt").write_text(
        "".join(f"{w}/0000000{k}_nohash_0.wav\n" for w in ("yes", "no", "bed") for k in (3,))
    )
    (base / "testing_list.txt").write_text("zero/00000005_nohash_0.wav\nyes/00000005_nohash_0.wav\n")
    test = tmp_path / "SpeechCommands" / "speech_commands_test_set_v0.01"
    for word, file in (("yes", "aa_nohash_0.wav"), ("_unknown_", "bb_nohash_1.wav"), ("_silence_", "0.wav")):
        write(test / word / file)
    rows = made(tmp_path, "speech_commands_v1")
    part = {name: [row for row in rows if row["split"] == name] for name in ("train", "dev", "test")}
    assert {row["word"] for row in part["train"]} == {"yes", "no", "_unknown_", "_silence_"}
    assert sorted(row["word"] for row in part["dev"]) == ["_silence_"] * 2 + ["_unknown_", "no", "yes"]
    assert sorted(row["word"] for row in part["test"]) == ["_silence_", "_unknown_", "yes"]
    assert len(part["train"]) == 24 - 3 - 2 + 5  # without both lists; five of the noise's seven whole seconds
    heard = {row["id"].partition("/")[2]: row["audio"] for row in part["train"] if not row["id"].startswith("_")}
    assert all(clips[place] == audio for place, audio in heard.items())
    found = load(tmp_path, "ks@speech_commands_v1")
    assert {name: len(found.parts[name]) for name in found.parts} == {"train": 24, "dev": 5, "test": 3}


def test_fluent_speech_commands_has_three_slots(tmp_path: Path) -> None:
    base = tmp_path / "fluent_speech_commands_dataset"
    (base / "data").mkdir(parents=True)
    spoken = [("activate", "lights", "kitchen"), ("deactivate", "music", "none")]
    for part in ("train", "valid", "test"):
        lines = [",path,speakerId,transcription,action,object,location"]
        for i, slots in enumerate(spoken):
            write(base / "wavs" / "speakers" / part / f"{part}{i}.wav")
            lines.append(f'{i},wavs/speakers/{part}/{part}{i}.wav,{part},"Turn it, please",{",".join(slots)}')
        (base / "data" / f"{part}_data.csv").write_text("\n".join(lines) + "\n")
    rows = made(tmp_path, "fluent_speech_commands")
    assert [(row["split"], row["action"], row["object"], row["location"]) for row in rows] == [
        (part, *slots) for part in ("train", "dev", "test") for slots in spoken
    ]
    assert rows[2]["audio"] == (base / "wavs/speakers/valid/valid0.wav").read_bytes()
    assert load(tmp_path, "ic@fluent_speech_commands").classes[:2] == ("action=activate", "action=deactivate")


def test_iemocap_holds_out_a_session_a_fold(tmp_path: Path) -> None:
    base = tmp_path / "Session of mine" / "IEMOCAP"  # the word Session in the path above
    sounds = {}
    for session, sex in itertools.product(range(1, 6), "FM"):
        dialog = f"Ses0{session}{sex}_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"]
        for i, label in enumerate(("neu", "exc", "hap", "ang", "sad", "fru", "xxx")):
            name = f"{dialog}_{sex}{i:03d}"
            sounds[name] = write(base / f"Session{session}" / "sentences" / "wav" / dialog / f"{name}.wav")
            lines.append(f"[{i}.0 - {i}.9]\t{name}\t{label}\t[2.5, 2.5, 2.5]")
        file = base / f"Session{session}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
    rows = made(base.parent, "iemocap")
    assert len(rows) == 5 * 2 * 5 and {row["emotion"] for row in rows} == {"neutral", "happy", "angry", "sad"}
    assert all(row["audio"] == sounds[row["id"]] for row in rows)
    for fold in range(1, 6):
        test = [row for row in rows if row[f"fold{fold}"] == "test"]
        assert {row["speaker"] for row in test} == {f"{fold}F", f"{fold}M"} and len(test) == 10
    found = load(base.parent, "er@iemocap_fold2")
    assert {name: len(found.parts[name]) for name in found.parts} == {"train": 32, "dev": 8, "test": 10}


@pytest.mark.parametrize("fetched", [True, False])
def test_librispeech_in_one_folder_or_as_it_is_fetched(tmp_path: Path, fetched: bool) -> None:
    for k, part in enumerate(("train-clean-100", "dev-clean", "test-clean")):
        base = tmp_path / (f"librispeech/{part}/LibriSpeech" if fetched else "LibriSpeech") / part / f"{k + 1}9" / "198"
        for i in range(2):
            write(base / f"{k + 1}9-198-{i:04d}.flac", seconds=1)
        (base / f"{k + 1}9-198.trans.txt").write_text(f"{k + 1}9-198-0000 NORTHANGER ABBEY\n{k + 1}9-198-0001 A BEE\n")
    rows = made(tmp_path, "librispeech_100")
    assert [(row["id"], row["speaker"], row["split"], row["text"]) for row in rows] == [
        (f"{k + 1}9-198-{i:04d}", f"{k + 1}9", part, text)
        for k, part in enumerate(("train", "dev", "test"))
        for i, text in enumerate(("NORTHANGER ABBEY", "A BEE"))
    ]
    found = load(tmp_path, "asr@librispeech_100")
    assert [len(found.parts[name]) for name in ("train", "dev", "test")] == [2, 2, 2] and " " in found.classes


def test_a_corpus_that_is_not_here_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        SuiteError, match=r"get the corpus at https://sail\.usc\.edu/iemocap/ and unpack it so that .*wav"
    ):
        made(tmp_path, "iemocap")
