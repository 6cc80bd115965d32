"""Silence, a recording of one position and one of ten minutes through every head of speech, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from tests.evaluation.heads.planted import measured, task
from tests.modalities.made_speech import sound_file, tone

MINUTES_10 = 30_002  # positions with [CLS] and [SEP]
HEADS: dict[str, tuple[dict[str, Any], str, str, list[str]]] = {  # head, protocol, label, metrics
    "class": ({"name": "classification", "projection": 4}, "probe", "kind", ["accuracy", "uar"]),
    "slots": ({"name": "multi_slot"}, "probe", "kind", ["all_slots"]),
    "phones": ({"name": "ctc", "units": "words", "projection": 4}, "probe", "text", ["per"]),
    "letters": ({"name": "ctc", "projection": 4, "half": True, "layers": 1, "hidden": 3}, "probe", "text", ["cer"]),
    "speakers": ({"name": "frame_multilabel", "hidden": 3}, "probe", "who", ["der"]),
    "trials": ({"name": "verification", "hidden": 8, "dim": 4}, "probe", "trial", ["eer"]),
    "queries": ({"name": "retrieval", "shortest": 5}, "zero_shot", "kind", ["pair_auc", "mtwv"]),
}


@pytest.fixture(scope="module")
def sounds() -> dict[str, bytes]:
    long = np.tile(tone(10.0, rate=8000), 60)
    made = {"silence": np.eye(1, 8000)[0] / 9000, "position": tone(0.02)[:100], "long": long}
    made |= {f"tone{i}": tone(0.5 + 0.1 * i, hertz=200.0 * (1 + i % 3)) for i in range(6)}
    return {name: sound_file(x, 8000 if name == "long" else 16_000, "FLAC") for name, x in made.items()}


def rows_of(sounds: dict[str, bytes], long: bool) -> list[dict[str, Any]]:
    """Of train 32 rows, of dev and test 4 each; every part has silence and a single position."""
    usual = [name for name in sounds if name.startswith("tone")]
    names = [usual[i % 6] for i in range(40)]
    for begin in (0, 32, 36):
        names[begin : begin + 3] = ["silence", "position", "long" if long and begin != 32 else "tone5"]
    kinds = ["a" if i % 2 else "b" for i in range(40)]
    others = [*[""] * 32, *("tone1", "tone2", "tone2", "tone4") * 2]
    return [
        {
            "audio": sounds[name],
            "kind": kinds[i],
            "text": "b" if name == "position" else "a b",
            "who": [] if name == "silence" else [[0.0, 0.4, "x"], [0.1, 0.3, "y"]],
            "other": sounds.get(others[i], b""),
            "trial": kinds[i] if i < 32 else str(i % 2),
        }
        for i, name in enumerate(names)
    ]


def measured_on(head: str, rows: list[dict[str, Any]], folder: Path, encoder: str, length: int) -> Any:
    settings, protocol, label, metrics = HEADS[head]
    kept = [{**row, "who": str(row["who"]).replace("'", '"')} for row in rows]
    inputs = ["audio", "other"] if head == "trials" else "audio"
    facts = {"modality": {"name": "speech", "max_length": length, "codes": 8}, "inputs": inputs, "label": label}
    made = task(folder, kept, head=settings, metrics=metrics, select=metrics[0], **facts)
    return measured(made, folder / "out", protocol, encoder, batch=2, probe_steps=3, lr=[1e-2])[0]


@pytest.mark.parametrize("head", HEADS)
def test_what_is_strange_is_measured_as_everything_else(head: str, sounds: dict[str, bytes], tmp_path: Path) -> None:
    """Ten minutes whole under the filter bank."""
    found = measured_on(head, rows_of(sounds, long=head != "trials"), tmp_path, "fbank", MINUTES_10)
    answers = found.predictions["test"][1]
    assert len(answers) == 4 and all(part.truncated == 0 for part in found.data.parts.values())
    assert head == "trials" or int(found.data.split("test").lengths_S.max()) == MINUTES_10 - 2
    assert found.protocol["head"]["version"] == 2
    if head == "queries":
        assert found.protocol["head"]["queries_left_out"] == {"train": 1, "dev": 1, "test": 1}
        assert all(np.isfinite(x).all() for x in answers)


@pytest.mark.parametrize("head", ["class", "letters", "trials"])
def test_a_transformer_reads_the_beginning_and_counts_the_cut(
    head: str, sounds: dict[str, bytes], tmp_path: Path
) -> None:
    found = measured_on(head, rows_of(sounds, long=True), tmp_path, "random:tiny", 62)
    assert found.data.parts["test"].truncated >= 1 and len(found.predictions["test"][1]) == 4


@pytest.mark.parametrize("head", ["class", "trials", "queries"])
def test_digital_silence_is_one_line(head: str, sounds: dict[str, bytes], tmp_path: Path) -> None:
    rows = rows_of(sounds, long=False)
    rows[37]["audio"] = sound_file(np.zeros(8000), kind="FLAC")
    with pytest.raises(SuiteError, match=r"record 'row38' is digital silence .*; remove it") as caught:
        measured_on(head, rows, tmp_path, "fbank", 62)
    assert "\n" not in str(caught.value)


def test_a_letter_that_train_lacks_is_one_line(sounds: dict[str, bytes], tmp_path: Path) -> None:
    rows = rows_of(sounds, long=False)
    rows[-1]["text"] = "a z"
    with pytest.raises(SuiteError, match=r"row 40 has 'z', which no transcript of train has; correct it") as caught:
        measured_on("letters", rows, tmp_path, "fbank", 62)
    assert "\n" not in str(caught.value)
