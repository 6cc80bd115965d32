"""The benchmarks start and measure: what they print is not a matter of tests, that they print is."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_a_contestant_of_the_throughput_benchmark_takes_a_step() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py"), "--serve", "varied", "ours"]
    done = subprocess.run(command, input="1\n", capture_output=True, text=True, cwd=ROOT, check=True)
    ready, line = done.stdout.splitlines()
    facts = json.loads(line)
    assert ready == "ready"
    assert 3500 < facts["tokens"] <= 4096 and facts["flops"] > 1e9 and facts["seconds"] > 0


@pytest.mark.parametrize("name", ["objectives_learn", "prepare", "store_access", "throughput", "views"])
def test_the_other_benchmarks_explain_themselves(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
    assert stop.value.code == 0 and "usage" in capsys.readouterr().out


def test_the_vote_of_neighbours_is_the_naive_one() -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "objectives_learn.py"))
    draw = np.random.default_rng(0)
    labels, test = draw.integers(3, size=120), np.arange(120) % 4 == 0
    vectors = draw.normal(size=(120, 5)) + np.eye(5)[labels]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    right = 0
    for i in np.flatnonzero(test):
        distances = 1 - unit[~test] @ unit[i]
        near = np.argsort(distances)[: benchmark["NEIGHBOURS"]]
        votes = [sum(1 / distances[j] for j in near if labels[~test][j] == label) for label in range(3)]
        right += int(np.argmax(votes) == labels[i])
    assert 0.4 < right / 30 < 1
    assert benchmark["score"](vectors, labels, test) == right / 30
