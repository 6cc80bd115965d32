"""The benchmark superb: its columns, the words of its command line, and its smoke tasks from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl_suite import cli
from ssl_suite.evaluation import bench_plan, benchmark, budget, pretrain, tasks, trial
from ssl_suite.evaluation.bench import Cell, Settings

FOUND = benchmark.load("superb")


def test_the_columns_are_the_ten_tasks_and_their_budget_knows_them() -> None:
    columns = benchmark.tasks_of(FOUND, None, tasks.task_folders())
    assert [task.base for task in columns] == ["pr", "asr", "ks", "qbe", "sid", "asv", "sd", "er", "ic", "sf"]
    spent = budget.load(FOUND.budgets["small"])
    assert set(spent.tasks) <= {task.base for task in columns}
    for task in columns:
        of_cell = spent.of_cell(task.base, "fbank")
        assert of_cell.lr == [1e-1, 1e-2, 1e-3, 1e-4, 1e-5] and len(of_cell.seeds) == 3


def test_a_probe_of_a_head_without_weights_is_zero_shot() -> None:
    columns = {task.base: task for task in benchmark.tasks_of(FOUND, None, tasks.task_folders())}
    assert benchmark.protocol_of("probe", columns["qbe"]) == "zero_shot"
    assert benchmark.protocol_of("probe", columns["ks"]) == "probe"
    assert benchmark.protocol_of("majority", columns["qbe"]) == "majority"


def test_arms_are_named_by_words_of_their_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert benchmark.given_names(FOUND) == ["whisper", "mlm", "hubert", "hubert2", "frames", "apc", "cpc", "data2vec"]
    voice = tasks.find("superb", "voice@samples")
    whisper = FOUND.arms["whisper"]
    assert benchmark.words_of(whisper, voice) == ["ssl.whisper"]
    assert benchmark.encoder_of(whisper, voice, None, {"whisper": "hf:x", "speech": "runs/a"}) == "hf:x"
    assert benchmark.encoder_of(whisper, voice, None, {"speech": "runs/a"}) is None
    words = ["task=voice@samples", "arms=whisper,majority", "budget=smoke", f"out={tmp_path}"]
    assert cli.main(["bench", "superb", *words]) == 0
    assert "voice@samples, whisper: left out, give ssl.whisper=REF." in capsys.readouterr().out
    assert cli.main(["bench", "cross_domain", "ssl.whisper=hf:x"]) == 2  # it has no such arm
    assert "ssl.whisper= is not a setting" in capsys.readouterr().err


def test_encoders_are_made_by_name(tmp_path: Path) -> None:
    spent = budget.load("smoke")
    made = pretrain.sources(FOUND, spent, tmp_path, {"mlm": "runs/mine"}, {})
    assert [source.name for source in made] == ["hubert", "hubert2", "frames", "apc", "cpc", "data2vec"]
    assert made[2].words[:3] == ("modality=speech", "objective=frames", "model=tiny")
    assert not any(word.startswith("data=") for word in made[2].words)  # smoke: built-in samples
    made = pretrain.sources(FOUND, budget.load("superb_small"), tmp_path, {}, {})
    assert all("data=speech_mix_clean" in source.words for source in made)


def test_smoke_measures_an_encoder_without_any_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    words = ["encoder=fbank", "budget=smoke", "seeds=100", "arms=majority", f"out={tmp_path}"]
    assert (
        cli.main(["bench", "superb", *words, "budget.probe_steps=10", "budget.limits={train: 40, dev: 25, test: 40}"])
        == 0
    )
    rows = {
        (row["task"]["name"], row["arm"]): row
        for row in map(json.loads, (path.read_text() for path in (tmp_path / "leaderboards").rglob("rows/**/*.json")))
    }
    assert {task for task, arm in rows if arm == "fbank"} == set(FOUND.smoke)
    assert rows["find@samples", "fbank"]["protocol"]["name"] == "zero_shot"
    assert rows["letters@samples", "fbank"]["protocol"]["name"] == "probe"
    value = {key: row["metrics"][0]["value"] for key, row in rows.items()}
    assert value["voice@samples", "fbank"] > value["voice@samples", "majority"]  # four voices, two of them 8 of 20


def test_a_word_for_no_arm_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "superb", "ssl.wisper=hf:x"]) == 2
    assert "ssl.wisper= is not a setting of this command. Did you mean 'ssl.whisper'?" in capsys.readouterr().err


def test_a_plan_counts_the_steps_of_heads_of_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A linear head on means costs nothing beside the encoder's one pass; that of CTC costs its steps."""
    monkeypatch.setattr(bench_plan, "PROBE_SECONDS", 1e-3)
    words = ["encoder=fbank", "arms=fbank", "task=letters@samples,voice@samples", "budget=smoke", f"out={tmp_path}"]
    assert cli.main(["bench", "superb", *words, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "probed fbank on letters@samples" in printed and "probed the head of letters@samples on fbank" in printed
    assert "the head of voice@samples" not in printed and not list(tmp_path.iterdir())
    tokens = {
        line.split()[0]: int(line.split()[3].replace(",", "")) for line in printed.splitlines() if "@samples  " in line
    }
    plan = Cell(tasks.find("superb", "letters@samples"), "fbank", "fbank", "probe").plan(
        Settings("superb", budget.load("smoke"), {"root": None, "cache": None}, tmp_path, tmp_path)
    )
    modality, data = trial.load_data(plan)
    passed = sum(int(data.sizes(part).sum()) for part in data.parts)
    steps = trial.settings(plan, data, modality)
    assert tokens["letters@samples"] == passed + 3 * steps["steps"] * steps["tokens_per_batch"]
    assert tokens["voice@samples"] == passed  # the same recordings, and no steps that count
