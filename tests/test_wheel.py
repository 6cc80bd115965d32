"""The built wheel, installed into an environment of its own and used from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from ssl_suite.core import resources

ROOT = Path(__file__).resolve().parent.parent


def call(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel; it borrows the dependencies of the tests' environment.

    A path in a ``.pth`` file is searched, but ``.pth`` files in that path are not read: an editable install of the
    checkout there stays out of sight.
    """
    home = tmp_path_factory.mktemp("env")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def test_the_folders_are_inside_and_whole(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("conf", "tasks", "samples"):
        files = {file.relative_to(ROOT).as_posix() for file in resources.folder(name).rglob("*") if file.is_file()}
        assert files
        assert {f"ssl_suite/_resources/{file}" for file in files} <= names
    assert "ssl_suite/_resources/leaderboards/references/README.md" in names
    assert {f"ssl_suite/leaderboard/templates/page.{ending}" for ending in ("html.j2", "md.j2", "css", "js")} <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "runs/")) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_runs_from_an_empty_folder(python: Path, tmp_path: Path) -> None:
    where = call(python, "-c", "import ssl_suite; print(ssl_suite.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(python.parent.parent)
    small = ["model.layers=1", "modality.max_length=128", "train.tokens_per_batch=1024", "train.eval_tokens=1024"]
    out = call(
        *(python.with_name("ssl_suite"), "run", "train.steps=2", *small, "out=r"),
        cwd=tmp_path,
        SSL_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert "2/2" in out
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["steps"] == 2
    assert {file.name for file in tmp_path.iterdir()} == {"r", "cache"}


@pytest.mark.parametrize("name", resources.FOLDERS)
def test_every_folder_is_found(python: Path, tmp_path: Path, name: str) -> None:
    code = f"from ssl_suite.core import resources; print(resources.folder('{name}'))"
    found = Path(call(python, "-c", code, cwd=tmp_path).strip())
    assert found.is_dir()
    assert found.is_relative_to(python.parent.parent)
