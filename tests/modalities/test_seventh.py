"""The walk-through of CONTRIBUTING.md, run as it stands there: a modality from outside the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_suite import cli
from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from tests import walkthroughs

ROOT = Path(__file__).resolve().parent.parent.parent
HEADING = "a seventh modality"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, installed into ``site`` below it, and with ``readings``."""
    home = tmp_path_factory.mktemp("sensor")
    walkthroughs.write(HEADING, home)
    walkthroughs.install(home)
    draw = np.random.default_rng(0)
    (home / "readings").mkdir()
    for number in range(3):
        walks = np.cumsum(draw.normal(size=(600, 4)), axis=0).round(3).astype(str)
        walks[7, 1] = "nan"
        text = "a,b,c,d\n" + "\n".join(map(",".join, walks)) + "\n"
        (home / "readings" / f"{number}.csv").write_text(text)
    return home


@pytest.fixture
def inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process finds the package, as if it were installed."""
    walkthroughs.find_installed(home, monkeypatch)
    return home


def test_it_runs_in_two_processes(home: Path) -> None:
    """The parent composes; the workers have only the frozen configuration, and find the class by its name."""
    command = walkthroughs.blocks(HEADING)["bash"].split()
    assert command[:2] == ["ssl_suite", "run"]
    small = ["model.layers=1", "model.width=32", "model.heads=2", "model.mlp_width=48", "train.eval_tokens=512"]
    small += ["train.steps=5", "train.tokens_per_batch=1024", "train.tokens_per_row=512", "launch.processes=2", "out=r"]
    done = subprocess.run(
        [sys.executable, "-m", "ssl_suite", *command[1:], *small],
        capture_output=True,
        text=True,
        cwd=home,
        env=os.environ | {"PYTHONPATH": f"{home / 'site'}{os.pathsep}{ROOT}"},
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((home / "r" / "summary.json").read_text())
    assert summary["steps"] == 5
    assert 0 < summary["valid_loss"] < 2 * np.log(32)
    assert "Sensor" not in (home / "r" / "config.yaml").read_text()  # a run folder names no code


def test_other_commands_know_it(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config-dir", "conf", "modality=sensor", "data.path=readings/"]
    assert cli.main(["data", "verify", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["records"], result["tokens"]) == (12, 7200)
    assert result["unknown_rate"] == pytest.approx(3 / 7200, rel=0.2)  # some fall into gaps between the splits
    for word, expected in (("bins=1", "modality.bins=1 should be"), ("bin=9", "Did you mean 'modality.bins'?")):
        assert cli.main(["run", *words, f"modality.{word}"]) == 2
        assert expected in capsys.readouterr().err
    (inside / "ragged.csv").write_text("a,b\n1,2\n3\n")
    assert cli.main(["run", *words[:-1], "data.path=ragged.csv"]) == 2
    assert "ragged.csv: is no table of readings" in capsys.readouterr().err


def test_readings_become_quantiles(inside: Path) -> None:
    sensor = registry.build(registry.MODALITIES, "modality", {"name": "sensor", "bins": 4})
    draw = np.random.default_rng(1)
    readings = 300 + 7 * draw.standard_normal(4000)
    record = Record("a", [*map(str, readings), "nan"], "x.csv")
    sensor.fit(iter([record]))
    values = sensor.encode(record).values
    assert np.bincount(values).tolist() == [0, 1, 0, 0, 0, 1000, 1000, 1000, 1000]
    assert (values[:-1] - 5).tolist() == (np.argsort(np.argsort(readings)) // 1000).tolist()


def test_entries_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def package(name: str, line: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[ssl_suite.modalities]\n{line}\n")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "outside", registry.outside.__wrapped__)  # what is installed changes under the test
    assert "rain" not in registry.MODALITIES
    before = list(registry.MODALITIES)
    package("one", "rain = one:Rain\ndna = one:Other")
    assert registry.MODALITIES["rain"] == "one:Rain"
    assert registry.MODALITIES["dna"] == "ssl_suite.modalities.dna:DNA"  # the suite's own cannot be replaced
    assert list(registry.MODALITIES) == [*before, "rain"]
    assert len(registry.MODALITIES) == len(before) + 1
    package("two", "rain = two:Rain")
    with pytest.raises(SuiteError, match=r"one and two both add 'rain' to ssl_suite\.modalities; uninstall one"):
        _ = registry.MODALITIES["rain"]
    assert registry.MODALITIES["dna"].startswith("ssl_suite.")
