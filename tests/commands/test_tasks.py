"""``tasks list``, ``tasks show`` and ``tasks validate`` from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ssl_suite import cli
from ssl_suite.evaluation import tasks
from tests.evaluation.test_task_data import dna
from tests.evaluation.test_tasks import write


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["tasks", *words])
    return code, *capsys.readouterr()


def test_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    dna(tmp_path)
    code, out, _ = call(capsys, "list", f"tasks.path={tmp_path}")
    assert code == 0
    for task in [*tasks.all_tasks(), tasks.load(tmp_path / "bio/mine@first.yaml")]:
        (row,) = [line for line in out.splitlines() if line.startswith(f" {task.name} ")]
        assert f"  {task.data} " in row and row.rstrip().endswith(task.title)
        assert re.search(r"  here  " if task.data.startswith("file:") else r"  (absent|fetch)  ", row)
    code, out, _ = call(capsys, "list", "sample", "--json")
    names = [row["name"] for row in json.loads(out)]
    assert names == sorted(names) and {"gc@ecoli536", "tile@photographs", "voice@bach"} <= {*names}


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "show", "splice")
    assert code == 0 and "name:       splice@kao100\n" in out and "here:       absent\n" in out
    assert tasks.find("cross_domain", "splice").caveat in out
    code, out, _ = call(capsys, "show", "splice", "--json")
    assert json.loads(out)["modality"] == {"name": "dna", "max_length": 62}


def test_validate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    task, columns = dna(tmp_path, modality={"name": "dna", "max_length": 23})
    code, out, _ = call(capsys, "validate", "splice", str(task.path))
    assert code == 0
    first, second = out.splitlines()
    assert first == "splice@kao100: the file is right; its data are not here"
    cut = sum(
        len(text) > 21 for text, split in zip(columns["sequence"], columns["split"], strict=True) if split != "other"
    )
    assert second.startswith(f"mine@first: 4 / 2 / 3 items, 2 classes, {cut} cut to the window; copies: none; read in ")
    code, out, _ = call(capsys, "validate", "sample", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    sizes = {"gc@ecoli536": 180, "tile@photographs": 192, "voice@bach": 240}
    assert code == 0 and {name: rows[name]["items"]["train"] for name in sizes} == sizes
    assert rows["voice@bach"]["classes"] == ["alto", "bass", "soprano", "tenor"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show"], "takes the name of one task"),
        (["show", "splcie"], "Did you mean 'splice'?"),
        (["show", "cross_domian"], "Did you mean 'cross_domain'?"),
        (["list", "tasks.pth=x"], "Did you mean 'tasks.path'?"),
        (["list", "tasks.path=/none"], "is not a folder"),
        (["validate", "none.yaml"], "none.yaml: cannot be read"),
        (["validate", "{tmp}/bio/odd@one.yaml"], "head=regresion does not exist. Did you mean 'regression'?"),
        (["validate", "{tmp}/bio/mine@first.yaml"], "modality.k=1 should be greater than or equal to 2"),
    ],
)
def test_faults_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], expected: str
) -> None:
    write(tmp_path, "odd@one", head="regresion")
    write(tmp_path, modality={"name": "dna", "k": 1})
    code, _, err = call(capsys, *(word.format(tmp=tmp_path) for word in words))
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err


def test_all_faults_are_told_and_what_is_right_goes_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write(tmp_path, "odd@one", head="regresion", title="x" * 31)
    write(tmp_path, "odd@other", head="regresion")
    (tmp_path / "bio" / "odd@other.yaml").rename(tmp_path / "bio" / "odd@two.yaml")
    (tmp_path / "bio" / "odd@three.yaml").write_text("name: [")
    dna(tmp_path)
    code, out, err = call(capsys, "validate", "bio", f"tasks.path={tmp_path}")
    assert code == 2 and err.count("\n") == 3 and out.startswith("mine@first: 4 / 2 / 3 items")
    for said in ("odd@one.yaml: ", "odd@three.yaml: is not YAML", "should be the file's own, odd@two", "'regression'"):
        assert said in err
    code, out, err = call(capsys, "list", "bio", f"tasks.path={tmp_path}")
    assert code == 0 and "mine@first" in out and err.count("left out: ") == 3
