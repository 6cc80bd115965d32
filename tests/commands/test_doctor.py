"""doctor: what it says agrees with independent sources."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

from ssl_suite import cli
from ssl_suite.commands import doctor


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setenv("SSL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path / "cache"))
    return doctor.examine()


def test_json_is_one_object(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path))
    assert cli.main(["doctor", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(printed) == set(doctor.examine())


def test_cores_memory_and_space_are_the_systems(facts: dict, tmp_path: Path) -> None:
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert facts["threads"] == torch.get_num_threads()
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert facts["devices"][-1]["memory"] == pytest.approx(int(meminfo["MemTotal"].split()[0]) * 1024, rel=0.01)
    assert facts["folders"]["data"]["free"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert facts["folders"]["data"]["path"] == str(tmp_path)


def test_packages_are_those_of_the_project(facts: dict) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = {line.split(">")[0] for line in project["dependencies"]}
    assert set(facts["packages"]) == {"ssl_suite", *named}
    assert set(facts["optional"]) <= set(project["optional-dependencies"])


def test_what_is_missing_comes_with_its_remedy(facts: dict) -> None:
    facts["optional"]["wandb"] = {"wandb": None}
    facts["compiler"] = None
    facts["folders"]["data"] = None
    facts["folders"]["cache"] = {"fault": "/x: the cache folder cannot be made (Permission denied)"}
    text = "\n".join(doctor.lines(facts))
    assert "wandb (train.wandb=true): pip install 'ssl_suite[wandb]'" in text
    assert "install g++ or set CXX" in text
    assert "set SSL_DATA_DIR" in text
    assert "Permission denied" in text
    assert "nothing is missing" not in text


def test_nothing_missing_is_said(facts: dict) -> None:
    facts |= {"optional": {}, "compiler": "/usr/bin/g++"}
    assert doctor.lines(facts)[-1] == "nothing is missing"
