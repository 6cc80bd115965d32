"""Tasks, benchmarks, heads and objectives from outside the package, exactly as CONTRIBUTING.md adds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ssl_suite import cli
from ssl_suite.evaluation import rows
from tests import walkthroughs


def measured(root: Path) -> dict[tuple[str, str], float]:
    return {(row["task"]["name"], row["arm"]): row["metrics"][0]["value"] for row in rows.read_all(root)}


def test_a_task_and_a_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    task, page = walkthroughs.write("a task", tmp_path), walkthroughs.write("a benchmark", tmp_path)
    walkthroughs.run(task["bash"], "seeds=100")
    found = measured(Path("mine/leaderboards"))
    assert len(found) == 3 and all(name == "boxes@made" for name, _ in found)
    assert found["boxes@made", "k-mer linear"] > 0.9
    capsys.readouterr()
    walkthroughs.run(page["bash"], "seeds=100")
    assert "9 rows, 9 hold, 0 fail" in capsys.readouterr().out  # three lines on two columns, three of the task alone
    assert {arm for name, arm in measured(Path("mine/leaderboards")) if name == "gc@ecoli536"} >= {"tuned", "frozen"}
    assert "<h1>Who finds a TATA box?</h1>" in Path("mine/leaderboards/promoters.html").read_text()


def test_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    task = walkthroughs.write("a task", tmp_path)
    walkthroughs.write("a head", tmp_path)
    words = ["bench", "cross_domain", "task=promoters/grade", "tasks.path=mine", "encoder=random:tiny", "budget=smoke"]
    monkeypatch.chdir(tmp_path)
    walkthroughs.run(task["bash"].splitlines()[0])
    assert cli.main(words) == 2 and "head=ordinal does not exist" in capsys.readouterr().err
    walkthroughs.install(tmp_path)
    walkthroughs.find_installed(tmp_path, monkeypatch)
    assert cli.main([*words, "arms=majority", "seeds=1", "budget.epochs=12", "budget.tokens=null"]) == 0
    (row,) = [row for row in rows.read_all(Path("mine/leaderboards")) if row["arm"] != "majority"]
    assert row["protocol"]["head"] == {"name": "ordinal", "version": 1, "pooling": "mean", "norm": True}
    assert row["metrics"][0]["value"] > 0.8
    assert cli.main(["board", "verify", "root=mine/leaderboards"]) == 0


def test_an_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = walkthroughs.write("an objective", tmp_path)
    walkthroughs.install(tmp_path)
    walkthroughs.find_installed(tmp_path, monkeypatch)
    small = ["model=tiny", "train.steps=60", "train.tokens_per_batch=1024", "train.tokens_per_row=512", "train.lr=3e-3"]
    walkthroughs.run(
        found["bash"], *small, "train.log_every=20", "train.eval_tokens=1024", "out=run", "objective.rate=0.3"
    )
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert cli.main(["run", "--config-dir", "conf", "objective=shuffled", "objective.rate=2", "modality=dna"]) == 2
