"""What a pre-training set shares with the dev and test splits of tasks: planted copies and speakers are found."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_suite import cli
from ssl_suite.core.registry import MODALITIES, build
from ssl_suite.evaluation import benchmark, overlap, tasks
from ssl_suite.settings.config import compose

TASK = """
name: {name}
title: planted
version: 1
modality: {{name: speech}}
data: file:{data}
inputs: {inputs}
label: label
splits: {{column: split, train: train, dev: dev, test: test}}
head: {head}
metrics: [{metric}]
select: {metric}
"""


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def task(folder: Path, name: str, rows: list[dict], more: str = "", **changes: Any) -> tasks.Task:
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    facts = {"name": f"{name}@x", "data": f"{name}.parquet", "inputs": "audio", "head": "classification"}
    path = folder / f"{name}@x.yaml"
    path.write_text(TASK.format(**facts | {"metric": "accuracy"} | changes) + more)
    return tasks.load(path)


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """A pre-training set: one row is marked as test, so no run reads it; one is made of another recording."""
    columns = ("id", "audio", "speaker", "split", "recordings", "speakers")
    rows = [
        ("a", b"a", "ann", "train", [], []),
        ("b", b"b", "bob", "valid", [], []),
        ("c", b"c", "cid", "test", [], []),
        ("d", b"mixture", None, "train", [sha(b"e")], ["eve"]),
    ]
    table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows])
    pq.write_table(table, tmp_path / "own.parquet")
    return {"path": str(tmp_path / "own.parquet"), "column": "audio", "id_column": "id"}


def counts(own: dict[str, Any], some: tasks.Task) -> dict[str, tuple[int, int, int, int]]:
    """By split records, those shared, speakers, those shared."""
    keys = ("records", "shared_records", "speakers", "shared_speakers")
    speech = build(MODALITIES, "modality", {"name": "speech"})
    return {row["split"]: tuple(row[key] for key in keys) for row in overlap.compare(speech, own, [some])}  # type: ignore


def test_copies_and_speakers_are_counted_by_split(tmp_path: Path, own: dict[str, Any]) -> None:
    rows = [("b", "zoe", "train"), ("a", "zoe", "dev"), ("c", "ann", "dev"), ("e", "cid", "test"), ("f", "eve", "test")]
    made = [{"audio": x.encode(), "speaker": s, "split": part, "label": x} for x, s, part in rows]
    assert counts(own, task(tmp_path, "plain", made)) == {"dev": (2, 1, 2, 1), "test": (2, 1, 2, 1)}


def test_what_a_mixture_is_made_of_counts(tmp_path: Path, own: dict[str, Any]) -> None:
    """A task's mixture of a recording of train and one that nobody has, with both speakers."""
    lists = {"recordings": [sha(b"a"), sha(b"x")], "speakers": ["ann", "xen"]}
    made = [
        {"audio": part.encode(), "split": part, "label": str(i % 2), **lists}
        for i, part in enumerate(("train", "dev", "test"))
    ]
    assert counts(own, task(tmp_path, "mixed", made))["test"] == (3, 1, 2, 1)


def test_trials_are_followed_to_their_recordings(tmp_path: Path, own: dict[str, Any]) -> None:
    sounds = [{"id": x, "audio": x.encode(), "speaker": s} for x, s in (("a", "ann"), ("p", "pat"), ("q", "bob"))]
    pq.write_table(pa.Table.from_pylist(sounds), tmp_path / "sounds.parquet")
    trials = [("p", "", "pat", "train"), ("q", "", "bob", "train"), ("p", "q", "0", "dev"), ("p", "a", "0", "test")]
    made = [dict(zip(("enrol", "test", "label", "split"), row, strict=True)) for row in trials]
    some = {"inputs": "[enrol, test]", "head": "verification", "metric": "eer"}
    found = task(tmp_path, "pairs", made, "lookup: {data: file:sounds.parquet, key: id, column: audio}\n", **some)
    assert counts(own, found) == {"dev": (2, 0, 2, 1), "test": (2, 1, 2, 1)}


def test_an_unknown_benchmark_is_told_before_anything_is_prepared(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "verify", "modality=speech", "tasks=superp"]) == 2
    assert "There is no benchmark 'superp'. Did you mean 'superb'?" in capsys.readouterr().err


@pytest.mark.shared
def test_the_clean_mix_has_nothing_of_superb_and_transfer_nothing_of_its_tasks() -> None:
    columns = benchmark.tasks_of(benchmark.load("superb"), None, tasks.task_folders())
    speech, found = build(MODALITIES, "modality", {"name": "speech"}), {}
    for name in ("speech_mix_clean", "fsdd"):
        data = compose(["modality=speech", f"data={name}", f"data.root={os.environ['SSL_DATA_DIR']}"])["data"]
        found[name] = overlap.compare(speech, data, columns)
    assert all(row["shared_records"] == row["shared_speakers"] == 0 for row in found["speech_mix_clean"])
    assert all(row["records"] for row in found["speech_mix_clean"])
    old = {(row["task"], row["split"]): row["shared_records"] for row in found["fsdd"]}
    assert old["ks@fsdd_speakers", "test"] == 900  # its own official split holds out takes, not speakers
    transfer = benchmark.load("transfer")
    words = ["modality=speech", *transfer.pretrain["speech"], f"data.root={os.environ['SSL_DATA_DIR']}"]
    used = benchmark.tasks_of(transfer, None, tasks.task_folders())
    rows = overlap.compare(speech, compose(words)["data"], [task for task in used if task.modality["name"] == "speech"])
    assert len(rows) == 4 and all(row["shared_records"] == row["shared_speakers"] == 0 for row in rows)
