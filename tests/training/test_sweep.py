"""Sweeps: each job in its own folder and process; one that fails does not take the others with it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ssl_suite import cli
from ssl_suite.training.sweep import folder_name
from tests.training.test_launch import ENDLESS, TINY, after_a_checkpoint, begin, place, saved

__all__ = ["place"]


def test_a_failing_job_loses_no_other_and_a_signal_ends_the_sweep_with_its_run_saved(place: Path) -> None:
    (place / "more.fa").write_text((place / "in.fa").read_text())
    process = begin(place, "-m", *TINY[1:], *ENDLESS, "data.path=none.fa,in.fa,more.fa", "out=s")
    after_a_checkpoint(place / "s" / "data.path=in.fa", lambda: process.send_signal(signal.SIGTERM))
    out, err = process.communicate(timeout=150)
    assert process.returncode == 2
    assert "1 of 3 runs succeeded, in s" in out
    assert "error: data.path=none.fa" in err
    assert "failed with exit code 2: s/data.path=none.fa" in err
    assert "stopped before the last 1; the same command goes on" in err
    assert {folder.name for folder in (place / "s").iterdir()} == {"data.path=in.fa"}
    assert saved(place / "s" / "data.path=in.fa")


def test_every_job_is_checked_before_the_first_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "-m", "train.steps=1,0", f"out={tmp_path / 's'}"]) == 2
    assert capsys.readouterr().err == "error: train.steps=0 should be greater than or equal to 1.\n"
    assert not (tmp_path / "s").exists()


def test_shows_the_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "-m", "model=tiny,mini", "seed=range(0,2)", "--cfg", "job", "out=s"]) == 0
    shown = capsys.readouterr().out
    heads = [line for line in shown.splitlines() if line.startswith("# ")]
    assert heads == [f"# s/model={model},seed={seed}" for model in ("tiny", "mini") for seed in (0, 1)]
    assert shown.count("name: mini\n") == 2


def test_one_out_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "-m", "out=a,b"]) == 2
    assert "out= takes one folder in a sweep" in capsys.readouterr().err


def test_folder_name() -> None:
    typed = ["model=tiny", "data.path=a/b c.fa,d.fa", "seed=1,2", "out=s"]
    assert folder_name(["model=tiny", "data.path=a/b c.fa", "seed=1", "out=s"], typed) == "data.path=a_b_c.fa,seed=1"
    assert folder_name(["model=tiny"], ["model=tiny"]) == "run"
