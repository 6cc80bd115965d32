"""A benchmark from the command line on the sample tasks: rows that verify, a second run that measures nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ssl_suite import cli
from ssl_suite.evaluation import bench, benchmark, rows, tasks
from ssl_suite.leaderboard import verify

WORDS = ["encoder=random:tiny", "budget=smoke", "threads=1", "task=sample"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench")
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={out}"]) == 0
    return out


def test_every_cell_is_a_row_that_verifies(measured: Path) -> None:
    root = measured / "leaderboards"
    found = {(row["task"]["name"], row["arm"]): row for row in rows.read_all(root)}
    # The majority of a regression is a constant, which has no rank correlation: no row, rather than a zero.
    assert set(found) == {
        *(("gc@ecoli536", arm) for arm in ("random:tiny finetune", "k-mer linear")),
        *(("voice@bach", arm) for arm in ("random:tiny finetune", "k-mer linear", "majority")),
    }
    assert not verify.failing(verify.verify(root))
    trained = found["voice@bach", "random:tiny finetune"]
    assert trained["seeds"] == [100, 101, 102] and trained["budget"]["trials"] == 3
    assert trained["task"]["n_train"] == 96 and trained["task"]["n_train_full"] > 96
    assert len(trained["curves"]) == 3 and trained["encoder"]["weights_sha256"] is None
    assert trained["metrics"][0]["value"] > 0.5
    assert str(measured) not in json.dumps(trained)


def test_a_second_run_measures_nothing_and_changes_nothing(
    measured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = {path: path.read_bytes() for path in measured.rglob("*.json")}
    monkeypatch.setattr(bench.trial, "run", None)
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={measured}"]) == 0
    assert capsys.readouterr().out.count("measured before") == 5
    assert before == {path: path.read_bytes() for path in measured.rglob("*.json")}


def test_a_row_from_the_same_trials_has_the_same_predictions(measured: Path, tmp_path: Path) -> None:
    shutil.copytree(measured / "trials", tmp_path / "trials")
    assert cli.main(["bench", "cross_domain", *WORDS, f"out={tmp_path}"]) == 0
    name = "predictions/cross_domain"
    first = {path.name: path.read_bytes() for path in (measured / "leaderboards" / name).iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "leaderboards" / name).iterdir()}


def test_one_changed_byte_is_found(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "leaderboards"
    shutil.copytree(measured / "leaderboards", root)
    victim = sorted((root / "predictions" / "cross_domain").iterdir())[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert cli.main(["board", "verify", f"root={root}"]) == 2
    printed = capsys.readouterr()
    assert victim.stem in printed.out + printed.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cros_domain"], "Did you mean 'cross_domain'"),
        (["cross_domain", "budget=smal"], "Did you mean 'small'"),
        (["cross_domain", "arms=BERD", "task=sample"], "Did you mean 'BERT'"),
        (["cross_domain", "task=splise"], "Did you mean 'splice'"),
        (["cross_domain", "encoder=random:tinny", "task=sample"], "Did you mean 'tiny'"),
        (["cross_domain", "encoder=cnn+map", "task=sample"], "+map is for text encoders"),
        (["cross_domain", "protocol=probe"], "protocol= is of encoder="),
        (["cross_domain", "seeds=1,x", "task=sample"], "seeds=x should be whole numbers"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert cli.main(["bench", *words, f"out={tmp_path / 'b'}"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "b").exists()


def test_arms_are_found_by_what_they_are() -> None:
    found = benchmark.load("cross_domain")
    names = {
        ("hf:some/bert+map=100", "finetune"): "BERT",
        ("hf:some/bert+map", "scratch"): "rand",
        ("hf:some/bert+reembed", "finetune"): "re-emb",
        ("cnn", "scratch"): "specific-CNN",
        ("random:mini", "probe"): "probe-random",
        ("random:tiny", "probe"): "random:tiny probe",
        ("hf:some/esm", "finetune"): "hf:some/esm finetune",
    }
    assert {pair: benchmark.arm_of(*pair, found) for pair in names} == names


def test_arms_without_an_encoder_are_left_out() -> None:
    gc, voice = tasks.find("sample", "gc"), tasks.find("sample", "voice")
    arms, ssl = benchmark.load("cross_domain").arms, {"dna": "runs/d"}
    assert benchmark.encoder_of(arms["specific-SSL"], gc, "hf:T", ssl) == "runs/d"
    assert benchmark.encoder_of(arms["specific-SSL"], voice, "hf:T", ssl) is None
    assert benchmark.encoder_of(arms["re-emb"], gc, "hf:T", ssl) == "hf:T+reembed"
    assert benchmark.encoder_of(arms["re-emb"], gc, None, ssl) is None
