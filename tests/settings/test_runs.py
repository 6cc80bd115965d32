"""Run folders: their names, which one goes on, what may change, and that two runs do not share one."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.settings import config, runs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return config.compose([])


@pytest.fixture
def started(default: dict[str, Any]) -> Callable[..., Path]:
    """Make the folder of a run that has saved, with the settings that the words choose."""

    def make(name: str, *words: str) -> Path:
        cfg = config.compose([*words, f"out=runs/{name}"])
        config.write(Path("runs") / name / "config.yaml", cfg)
        (Path("runs") / name / "checkpoints" / "step_00000002").mkdir(parents=True)
        return Path("runs") / name

    return make


def resolve(*words: str) -> tuple[dict[str, Any], Path]:
    return runs.resolve_run(config.compose(list(words)), words)


def test_default_folder(default: dict[str, Any]) -> None:
    cfg, out = runs.resolve_run(copy.deepcopy(default))
    assert out.match("runs/dna-mlm-2???????-??????")
    assert (cfg["out"], cfg["resume"]) == (str(out), False)
    out.mkdir(parents=True)
    names = {runs.default_folder(default) for _ in range(3)}
    assert out not in names


def test_newest_of_the_same_kind(started: Callable[..., Path]) -> None:
    for age, name in enumerate(["late", "early", "other"]):
        folder = started(name)
        os.utime(folder / "config.yaml", (1e9 - age, 1e9 - age))
    cfg = config.read(Path("runs/late/config.yaml"))
    config.write(Path("runs/other/config.yaml"), {**cfg, "objective": {**cfg["objective"], "name": "clm"}})  # newest
    assert resolve("resume=true")[1] == Path("runs/late")


def test_nothing_to_resume() -> None:
    with pytest.raises(SuiteError, match="no run of modality=dna objective=mlm under runs/"):
        resolve("resume=true")
    with pytest.raises(SuiteError, match=r"there is no runs/x/config\.yaml"):
        resolve("resume=true", "out=runs/x")


def test_out_is_a_file() -> None:
    Path("r").touch()
    with pytest.raises(SuiteError, match="out=r is a file"):
        resolve("out=r")


@pytest.mark.parametrize(
    "words",
    [
        ["train.steps=7", "train.log_every=3", "train.keep=5", "train.threads=1", "train.wandb=true"],
        ["train.eval_every=7", "train.checkpoint_every=3", "train.minutes=2"],
        ["launch.processes=2"],
        ["launch=slurm", "launch.time=01:00:00"],
        ["data.workers=2", "data.root=/elsewhere", "data.cache=/elsewhere"],
    ],
)
def test_what_may_change(started: Callable[..., Path], words: list[str]) -> None:
    out = started("r")
    cfg, same = resolve(*words, f"out={out}")
    assert same == out
    assert cfg == {**config.compose(words), "out": str(out), "resume": False}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train.lr=1"], "train.lr=0.001 (now 1)"),
        (["seed=1"], "seed=0 (now 1)"),
        (["model.width=64", "model.heads=1"], "model.width=128 (now 64), model.heads=2 (now 1)"),
        (["data.path=other.fa"], "data.path=null (now other.fa)"),
        (["objective.static=true"], "objective.static=false (now true)"),
        (["model=large"], "model.name=tiny (now large)"),
    ],
)
def test_what_may_not_change(started: Callable[..., Path], words: list[str], expected: str) -> None:
    out = started("r")
    for more, offered in (([], True), (["resume=true"], False)):
        with pytest.raises(SuiteError) as caught:
            resolve(*words, *more, f"out={out}")
        assert expected in str(caught.value)
        assert ("add resume=true" in str(caught.value)) is offered


def test_many_differences_are_summed_up(started: Callable[..., Path]) -> None:
    out = started("r", "model=large", "train.lr=1", "seed=1", "objective.span=3")
    with pytest.raises(SuiteError, match=r"and \d+ more\. Restore them, add resume=true"):
        resolve(f"out={out}")


def test_resume_keeps_what_was_not_typed(started: Callable[..., Path]) -> None:
    out = started("r", "model=mini", "model.layers=3", "train.lr=2e-3", "modality.max_length=64", "launch.processes=2")
    cfg, _ = resolve(f"out={out}", "resume=true", "model=mini", "modality=dna", "train.steps=9", "launch=local")
    assert (cfg["model"]["layers"], cfg["train"]["lr"], cfg["modality"]["max_length"]) == (3, 2e-3, 64)
    assert (cfg["train"]["steps"], cfg["launch"]["processes"]) == (9, 2)
    cfg, _ = resolve(f"out={out}", "resume=true", "launch=slurm", "launch.processes=4")
    assert (cfg["launch"]["name"], cfg["launch"]["processes"]) == ("slurm", 4)


def test_resume_fits_the_processes_to_the_saved_batch(started: Callable[..., Path]) -> None:
    out = started("r", "train.tokens_per_batch=6144")  # three rows; the default's 8192 are four
    assert resolve(f"out={out}", "resume=true", "launch.processes=3")[0]["launch"]["processes"] == 3
    with pytest.raises(SuiteError, match="4 processes cannot share the 3 rows"):
        resolve(f"out={out}", "resume=true", "launch.processes=4")


def test_a_run_that_never_saved_protects_nothing(default: dict[str, Any]) -> None:
    config.write(Path("r/config.yaml"), default)
    cfg, _ = resolve("out=r", "train.lr=1")
    assert cfg["train"]["lr"] == 1


def test_a_key_that_the_saved_configuration_lacks_is_a_newer_one(started: Callable[..., Path]) -> None:
    out = started("r")
    saved = config.read(out / "config.yaml")
    del saved["train"]["final_lr"]
    config.write(out / "config.yaml", saved)
    assert resolve(f"out={out}")[0]["train"]["final_lr"] == 0.1


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "encoder/model.safetensors", "checkpoints/a.pt"])
def test_a_folder_of_other_things_is_not_written_into(name: str) -> None:
    path = Path("mine") / name
    path.parent.mkdir(parents=True)
    path.write_text("lr: 3")
    with pytest.raises(SuiteError, match=f"out=mine holds a {name.split('/')[0]} that no readable run has written"):
        resolve("out=mine")
    assert path.read_text() == "lr: 3"


def test_lock_is_exclusive_and_let_go() -> None:
    message = "out=deep/r is in use by another run"
    with runs.lock(Path("deep/r")), pytest.raises(SuiteError, match=message), runs.lock(Path("deep/r")):
        raise AssertionError("two hold one lock")
    with runs.lock(Path("deep/r")):
        pass
    Path("file").touch()
    with pytest.raises(SuiteError, match="cannot be written"), runs.lock(Path("file/r")):
        raise AssertionError("a folder below a file")


def test_discard_removes_an_empty_run_only() -> None:
    for name in ("empty", "kept"):
        with runs.lock(Path(name)):
            config.write(Path(name) / "config.yaml", {})
    (Path("kept") / "metrics.jsonl").touch()
    for name in ("empty", "kept", "nowhere"):
        runs.discard(Path(name))
    assert not Path("empty").exists()
    assert len(list(Path("kept").iterdir())) == 3
