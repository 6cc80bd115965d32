"""A benchmark of one's own, made here from nothing: six tasks, one a modality, measured, verified and rendered."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import symusic
import yaml
from PIL import Image

from ssl_suite import cli
from ssl_suite.evaluation import rows
from tests.evaluation.heads.planted import sentence

ITEMS = 60
DRAW = np.random.default_rng(0)


def pair(i: int) -> dict[str, Any]:
    draw = random.Random(i)
    a = sentence(draw)
    return {
        "premise": " ".join(a),
        "hypothesis": " ".join(a if i % 2 else sentence(draw)),
        "label": ["no", "yes"][i % 2],
    }


def residues(i: int) -> dict[str, Any]:
    letters = "".join(random.Random(i).choices("ACDEFGHIKLMNPQRSTVWY", k=20))
    return {"sequence": letters, "label": ["helix" if letter in "AELM" else "other" for letter in letters]}


def bases(i: int) -> dict[str, Any]:
    letters = "".join(random.Random(i).choices("ACGT", k=30))
    return {"sequence": letters, "label": (letters.count("G") + letters.count("C")) / 30}


def tune(i: int) -> dict[str, Any]:
    score, step = symusic.Score(480), 2 * (i % 2) - 1
    notes = [symusic.Note(240 * n, 240, 60 + step * n + i % 7, 80) for n in range(8)]
    score.tracks.append(symusic.Track("tune", notes=notes))
    return {"midi": score.dumps_midi(), "label": ["down", "up"][i % 2]}


def picture(i: int) -> dict[str, Any]:
    file, bright = io.BytesIO(), 150 * (i % 2)
    Image.fromarray(DRAW.integers(bright, bright + 100, (32, 32, 3)).astype(np.uint8)).save(file, "png")
    return {"image": file.getvalue(), "label": ["dark", "light"][i % 2]}


def tone(i: int) -> dict[str, Any]:
    file, pitch = io.BytesIO(), 200 + 600 * (i % 2)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(6400) / 16000) + 0.01 * DRAW.normal(size=6400)
    soundfile.write(file, wave, 16000, format="wav")
    return {"audio": file.getvalue(), "label": ["low", "high"][i % 2]}


SPLITS = {"column": "split", "train": "train", "dev": "dev", "test": "test"}
CLASSES = {"head": "classification", "metrics": ["accuracy"]}
TASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "entails": (
        pair,
        {
            "modality": {"name": "text", "tokenizer": "wordpiece", "vocab_size": 200, "max_length": 32},
            "inputs": ["premise", "hypothesis"],
            **CLASSES,
        },
    ),
    "structure": (
        residues,
        {
            "modality": {"name": "protein", "max_length": 24},
            "inputs": "sequence",
            "head": "tagging",
            "metrics": ["tag_accuracy"],
        },
    ),
    "gc": (
        bases,
        {
            "modality": {"name": "dna", "max_length": 32},
            "inputs": "sequence",
            "head": "regression",
            "metrics": ["spearman"],
        },
    ),
    "tune": (tune, {"modality": {"name": "music", "max_length": 64}, "inputs": "midi", **CLASSES}),
    "light": (picture, {"modality": {"name": "image", "size": 16}, "inputs": "image", **CLASSES}),
    "pitch": (tone, {"modality": {"name": "speech", "max_length": 32}, "inputs": "audio", **CLASSES}),
}


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark and its tasks, each a table and a YAML."""
    mine = tmp_path_factory.mktemp("mine")
    (mine / "mine").mkdir()
    for name, (make, facts) in TASKS.items():
        table = [make(i) | {"split": "train" if i < 40 else "dev" if i < 50 else "test"} for i in range(ITEMS)]
        pq.write_table(pa.Table.from_pylist(table), mine / "mine" / f"{name}.parquet")
        content = {"name": f"{name}@made", "title": name, "version": 1, "data": f"file:{name}.parquet"}
        content |= {"label": "label", "splits": SPLITS, "select": facts["metrics"][0], **facts}
        text = yaml.safe_dump(content, default_flow_style=True, width=1000)
        (mine / "mine" / f"{name}@made.yaml").write_text(text)
    arms = {
        "random": {"encoder": "random:tiny", "protocol": "finetune"},
        "majority": {"encoder": "none", "protocol": "majority", "role": "control"},
    }
    page = {"title": "Mine", "tasks": list(TASKS), "arms": arms, "controls": ["majority"]}
    page["contrasts"] = [{"a": "random", "b": "majority", "main": True}]
    page["aggregates"] = [{"name": "mean"}]
    (mine / "mine.yaml").write_text(yaml.safe_dump(page))
    return mine


def test_the_table_is_measured_verified_and_rendered(mine: Path, capsys: pytest.CaptureFixture) -> None:
    words = [f"tasks.path={mine}", f"bench.path={mine}", "encoder=random:tiny", "budget=smoke"]
    words += ["seeds=100,101", "threads=1"]
    assert cli.main(["bench", "mine", *words, f"out={mine / 'out'}"]) == 0
    capsys.readouterr()
    root = mine / "leaderboards"
    found = {(row["task"]["title"], row["arm"]): row["metrics"][0]["value"] for row in rows.read_all(root)}
    # The majority of a regression is a constant, which has no rank correlation: no row, rather than a zero.
    assert set(found) == {(task, arm) for task in TASKS for arm in ("random", "majority")} - {("gc", "majority")}
    assert min(found[task, "random"] for task in ("gc", "light", "pitch")) > 0.7 and found["light", "majority"] == 0.5
    tags = [tag for i in range(50, ITEMS) for tag in residues(i)["label"]]
    assert found["structure", "majority"] > max(map(tags.count, set(tags))) / len(tags)  # by letter
    assert cli.main(["board", "verify", f"root={root}"]) == 0
    assert "11 rows, 11 hold, 0 fail" in capsys.readouterr().out
    assert cli.main(["board", "render", f"root={root}", f"bench.path={mine}"]) == 0
    page = (root / "mine.html").read_text()
    assert "<h1>Mine</h1>" in page and all(name in page for name in TASKS)
