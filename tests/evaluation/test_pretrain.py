"""Encoders that a benchmark makes for itself: trained once, gone on with, and a fault in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import benchmark, budget, pretrain, tasks


def test_what_is_missing_is_made_and_what_was_stopped_goes_on(tmp_path: Path) -> None:
    found = benchmark.load("transfer").model_copy(update={"pretrain": {"dna": ["objective=mlm", "model=tiny"]}})
    spent = replace(budget.load("smoke"), pretrain_steps=2)
    (source,) = pretrain.sources(found, spent, tmp_path, {}, {"root": None, "cache": str(tmp_path / "cache")})
    assert pretrain.sources(found, spent, tmp_path, {"dna": "runs/mine"}, {}) == []
    said: list[str] = []
    assert pretrain.run([source], 2, said.append) == {"dna": str(tmp_path / "encoders" / "dna-2")}
    summary = source.folder / "summary.json"
    assert (tmp_path / "cache").is_dir()
    assert source.done and json.loads(summary.read_text())["steps"] == 2 and len(said) == 1
    pretrain.run([source], 1, said.append)
    assert len(said) == 1  # nothing was started
    before = (source.folder / "encoder" / "model.safetensors").read_bytes()
    summary.unlink()
    pretrain.run([source], 1, said.append)
    assert source.done and (source.folder / "encoder" / "model.safetensors").read_bytes() == before


def test_a_second_iteration_waits_for_the_first(tmp_path: Path) -> None:
    """Units of a layer of another source; of one that is given the run that was given."""
    words = ["modality=speech", "objective=mlm", "model=tiny", "modality.codes=16"]
    both = {"first": words, "second": [*words, "modality.units=run:{ssl.first}@1"]}
    found = benchmark.load("transfer").model_copy(update={"pretrain": both})
    spent = replace(budget.load("smoke"), pretrain_steps=2)
    wanted, said = pretrain.sources(found, spent, tmp_path, {}, {}), []
    assert [source.after for source in wanted] == [(), ("first",)]
    assert pretrain.needed(wanted, {"second"}) == wanted and pretrain.needed(wanted, {"first"}) == wanted[:1]
    (alone,) = pretrain.sources(found, spent, tmp_path, {"first": "runs/mine"}, {})
    assert "modality.units=run:runs/mine@1" in alone.words and alone.after == ()
    pretrain.run(wanted, 2, said.append)
    assert [line.split()[1] for line in said] == ["first:", "second:"]
    begun = [min(path.stat().st_mtime_ns for path in source.folder.glob("config.yaml")) for source in wanted]
    assert begun[1] > (wanted[0].folder / "summary.json").stat().st_mtime_ns
    assert f"run:{wanted[0].folder}@1" in (wanted[1].folder / "config.yaml").read_text()
    wrong = found.model_copy(update={"pretrain": {"second": both["second"]}})
    with pytest.raises(SuiteError, match=r"pretrain\.second: {ssl\.first} is no encoder before it"):
        pretrain.sources(wrong, spent, tmp_path, {}, {})


def test_a_share_of_the_steps_is_that_encoders_own(tmp_path: Path) -> None:
    found, spent = benchmark.load("glue"), replace(budget.load("glue_small"), pretrain_steps=1000)
    made = {source.name: source for source in pretrain.sources(found, spent, tmp_path, {}, {})}
    steps = {
        name: [word for word in source.words if word.startswith(("train.steps", "steps"))]
        for name, source in made.items()
    }
    assert steps["mlm"] == ["train.steps=1000"] and steps["cbow"] == ["train.steps=570"]
    assert made["sop"].folder == tmp_path / "encoders" / "sop-1300" and "modality=text" in made["sop"].words


def test_a_run_that_fails_is_one_line_and_ends_those_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, start = [], pretrain._start
    monkeypatch.setattr(pretrain, "_start", lambda source: begun.append(start(source)) or begun[-1])
    wrong = pretrain.Source("dna", tmp_path / "a" / "dna-2", ("modality=dna", "objective=mml", f"out={tmp_path / 'x'}"))
    slow = ("modality=dna", "objective=mlm", "model=tiny", "train.steps=100000", f"out={tmp_path / 'a' / 'music'}")
    with pytest.raises(SuiteError, match=r"pre-training dna ended with 2: objective=mml does not exist.*mlm.*log\)$"):
        pretrain.run([wrong, pretrain.Source("music", tmp_path / "a" / "music", slow)], 2, lambda line: None)
    assert len(begun) == 2 and all(process.returncode is not None for process in begun)


def test_the_sources_of_transfer_are_its_arms_and_see_no_test_data() -> None:
    found = benchmark.load("transfer")
    assert found.matrix is not None and list(found.pretrain) == found.matrix.arms
    used = {word for words in found.pretrain.values() for word in words if word.startswith("data=")}
    tested = {f"data={task.data}" for task in benchmark.tasks_of(found, None, tasks.task_folders(None))}
    assert used & tested == {"data=cifar10_60k_jpeg"}  # whose training part alone is trained on
    gc = tasks.find("sample", "gc")
    assert benchmark.encoder_of(found.arms["text"], gc, None, {"text": "T", "dna": "D"}) == "T+reembed"
    assert benchmark.encoder_of(found.arms["moments"], gc, None, {"text": "T"}) == "T+reembed+moments"
    assert benchmark.encoder_of(found.arms["native"], gc, None, {"text": "T", "dna": "D"}) == "D"
    assert benchmark.encoder_of(found.arms["native"], gc, None, {"text": "T"}) is None
