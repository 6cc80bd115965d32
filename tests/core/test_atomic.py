"""Files and folders that appear whole, litter of killed processes, and folders that are somebody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(folder: Path, content: str = "new") -> None:
    with atomic.replacing_folder(folder, "output") as unfinished:
        (unfinished / "deep").mkdir()
        (unfinished / "deep/a.txt").write_text(content)


def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "made/a.txt"
    atomic.write(path, "old")

    def interrupted() -> None:
        with atomic.replacing(path) as unfinished:
            unfinished.write_text("half")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert everything(tmp_path) == {"made/a.txt": b"old"}
    (tmp_path / "link").symlink_to(path)
    atomic.write_json(tmp_path / "link", {"ü": 1})
    assert (tmp_path / "link").is_symlink()
    assert json.loads(path.read_text("utf-8")) == {"ü": 1}


def test_a_folder_of_ones_own_is_replaced(tmp_path: Path) -> None:
    put(tmp_path / "x", "old")
    put(tmp_path / "x")
    assert set(everything(tmp_path)) == {"x/deep/a.txt", f"x/{atomic.MARKER}"}
    assert (tmp_path / "x/deep/a.txt").read_text() == "new"
    (tmp_path / "empty").mkdir()
    put(tmp_path / "empty")


def foreign_model(folder: Path) -> None:
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")


def unknown_file(folder: Path) -> None:
    put(folder, "old")
    (folder / "deep/notes.txt").write_text("mine")


def changed_file(folder: Path) -> None:
    put(folder, "old")
    (folder / "deep/a.txt").write_text("trained on")


def link(folder: Path) -> None:
    put(folder, "old")
    (folder / "link").symlink_to("nowhere")


def damaged_marker(folder: Path) -> None:
    put(folder, "old")
    (folder / atomic.MARKER).write_text("[]")


def nested_marker(folder: Path) -> None:
    put(folder, "old")
    (folder / "deep" / atomic.MARKER).write_text("{}")


def a_file(folder: Path) -> None:
    folder.write_text("a file")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (foreign_model, "ssl_suite has not written it"),
        (unknown_file, "it holds deep/notes.txt, which"),
        (changed_file, "its deep/a.txt has been changed"),
        (link, "it holds link, which"),
        (damaged_marker, "ssl_suite has not written it"),
        (nested_marker, "it holds deep/.ssl_suite.json"),
        (a_file, "it is a file"),
    ],
)
def test_what_somebody_else_has_written_survives(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    before = everything(tmp_path)
    with pytest.raises(SuiteError, match=rf"^output=.*/x would be replaced, but {words}.*: name a new folder"):
        put(tmp_path / "x")
    assert everything(tmp_path) == before


def test_a_failure_between_the_two_renames_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    put(tmp_path / "x", "old")
    real = os.replace

    def broken(source: Path, target: Path) -> None:
        if source.name.endswith(atomic.UNFINISHED) and target.name == "x":
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="Input/output"):
        put(tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]
    # A process killed there leaves it to the next one.
    (tmp_path / "x").rename(tmp_path / f".x.{atomic.HOST}.{gone}-2{atomic.REPLACED}")
    atomic._swept.clear()
    atomic.sweep(tmp_path)
    assert (tmp_path / "x/deep/a.txt").read_text() == "old"


def test_only_what_dead_processes_have_left_is_removed(tmp_path: Path, gone: int) -> None:
    own = [f".a.txt.{atomic.HOST}.{gone}-1.writing", f".set.{atomic.HOST}.{gone}-12.writing"]
    kept = [
        f".a.txt.{atomic.HOST}.{os.getppid()}-1.writing",  # alive
        f".a.txt.another-machine.{gone}-1.writing",
        f"a.txt.{atomic.HOST}.{gone}-1.writing",
        f".a.txt.{gone}.writing",
        f".{atomic.HOST}.{gone}-1.writing",
        f".a.txt.{atomic.HOST}.{gone}-1.writing.bak",
    ]
    (tmp_path / own[1]).mkdir()
    (tmp_path / own[1] / "inner").write_text("half")
    for name in [own[0], *kept]:
        (tmp_path / name).write_text("x")
    atomic.write(tmp_path / "b.txt", "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "b.txt"])


def test_a_writer_killed_half_way(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ssl_suite.core import atomic\n"
        "with atomic.replacing(Path(sys.argv[1])) as file:\n"
        "    file.write_text('half'); print('ready', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "a.txt"
    atomic.write(path, "old")
    atomic._swept.clear()
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        atomic.sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2  # it is alive
        process.send_signal(signal.SIGKILL)
    atomic._swept.clear()
    atomic.write(tmp_path / "b.txt", "b")
    assert everything(tmp_path) == {"a.txt": b"old", "b.txt": b"b"}
