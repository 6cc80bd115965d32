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
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> dict:
    monkeypatch.setenv("SSL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path / "cache"))
    assert cli.main(["doctor", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_cores_memory_space_and_packages_are_the_systems(facts: dict, tmp_path: Path) -> None:
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert facts["threads"] == torch.get_num_threads()
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert facts["devices"][-1]["memory"] == pytest.approx(int(meminfo["MemTotal"].split()[0]) * 1024, rel=0.01)
    assert facts["folders"]["data"]["free"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert facts["folders"]["data"]["path"] == str(tmp_path)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(facts["packages"]) == {"ssl_suite", *(line.split(">")[0] for line in project["dependencies"])}
    assert facts["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_what_is_missing_comes_with_its_remedy(facts: dict) -> None:
    assert doctor.missing(facts | {"compiler": "/usr/bin/g++"}) == ["nothing is missing"]
    facts["compiler"] = facts["folders"]["data"] = facts["packages"]["torch"] = None
    facts["folders"]["cache"] = {"fault": "/x: the cache folder cannot be made (Permission denied)"}
    text = "\n".join(doctor.missing(facts))
    for said in ("torch: pip install", "install g++ or set CXX", "set SSL_DATA_DIR", "Permission denied"):
        assert said in text
