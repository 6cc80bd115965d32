"""``board show``, ``verify``, ``diff`` and ``render`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl_suite import cli
from ssl_suite.evaluation import rows
from tests.leaderboard import add, classified, valued

BERT = "splice@kao100--BERT--finetune--small--1a2b3c4d"
RAND = "splice@kao100--rand--finetune--small--1a2b3c4d"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("show", "verify", "diff", "render"):
        monkeypatch.setitem(cli.COMMANDS, f"board {name}", f"ssl_suite.commands.board:{name}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two arms of a large task and of a small one, and a row of another benchmark."""
    add(tmp_path, classified(items=400, right=0.9))
    add(tmp_path, classified(items=400, right=0.5, draw=1), arm="rand", budget__steps=1500)
    add(tmp_path, valued(), task="stability@mutations", metrics=("mae",))
    add(tmp_path, valued(seeds=(100,)), task="stability@mutations", metrics=("mae",), arm="own arm", git_dirty=True)
    add(tmp_path, classified(), task="qnli@proxy", benchmark="glue")
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = cli.main(["board", *map(str, words)])
    return code, *capsys.readouterr()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]


def test_show(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    code, out, _ = call(capsys, "show", "cross_domain", f"root={root}")
    assert code == 0
    assert "glue" not in out and "qnli" not in out
    lines = [cells(line) for line in out.splitlines() if line[:1] in "│┃"]
    assert lines[:7] == [
        ["", "stability", ""],
        ["", "stability", "splice"],
        ["", "@mutations v1", "splice"],
        ["", "mae", "@kao100 v1"],
        ["", "lower is better", "accuracy"],
        ["", "60 test items", "400 test items"],
        ["arm", "earlier heads", "earlier heads"],
    ]
    by_run = {row["run_id"]: row for row in rows.read_all(root)}
    bert, small = (
        by_run[BERT]["metrics"][0],
        by_run["stability@mutations--BERT--finetune--small--1a2b3c4d"]["metrics"][0],
    )
    # Of the small task, of 60 items, the interval alone.
    assert lines[7:10] == [
        ["BERT", "[{:.3f}, {:.3f}]".format(*small["ci95"]), f"{bert['value']:.3f}"],
        ["", "3 seeds", "[{:.3f}, {:.3f}]".format(*bert["ci95"])],
        ["", "", "3 seeds"],
    ]
    arms = [line[0] for line in lines[7:] if line[0]]
    assert arms == ["BERT", "rand", "own arm"]  # the benchmark's order, others last
    assert lines[13:] == [["own arm", lines[13][1], ""], ["", "1 seed", ""], ["", "dirty", ""]]


def test_show_all_as_json_and_narrow(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = call(capsys, "show", f"root={root}", "--json")
    assert (code, json.loads(out)) == (0, rows.read_all(root))
    _, wide, _ = call(capsys, "show", f"root={root}")
    assert max(map(len, wide.splitlines())) <= 100
    monkeypatch.setattr("ssl_suite.commands.board.WIDTH", 40)
    _, narrow, _ = call(capsys, "show", f"root={root}")
    assert max(map(len, narrow.splitlines())) <= 40
    assert (wide.count("┏"), narrow.count("┏")) == (2, 3)
    assert sorted(cell for line in narrow.splitlines() for cell in cells(line) if cell.endswith("seeds")) == sorted(
        cell for line in wide.splitlines() for cell in cells(line) if cell.endswith("seeds")
    )


def test_the_row_is_shown_that_the_page_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    big = {"items": 300, "seeds": (1,)}
    add(tmp_path, classified(right=0.2, **big), run_id="a", created="2026-11-23T04:00:00Z")
    add(tmp_path, classified(right=1.0, **big), run_id="b", created="2026-11-23T06:00:00+03:00")  # an hour before
    _, out, _ = call(capsys, "show", f"root={tmp_path}")
    value = rows.read(tmp_path / "rows/cross_domain/a.json")["metrics"][0]["value"]
    assert f"{value:.3f}" in out and "1.000" not in out
    assert out.splitlines()[-1] == "cross_domain: 1 row in no table; the page says why."
    add(tmp_path, classified(right=1.0, **big), run_id="c", encoder__ref="runs/[one]")
    _, out, _ = call(capsys, "show", f"root={tmp_path}")
    found = [cells(line) for line in out.splitlines() if line[:1] == "│"]
    assert (found[0], found[1][0]) == (["BERT", "1.000"], "[one]")  # a line an encoder
    assert (found[3], found[4][0]) == (["BERT", f"{value:.3f}"], "random")


def test_empty(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call(capsys, "show", f"root={tmp_path}") == (0, f"There are no rows below {tmp_path}.\n", "")
    code, out, _ = call(capsys, "verify", f"root={tmp_path}")
    assert (code, out) == (0, f"{tmp_path}: 0 rows, 0 hold, 0 fail; 0 marks, 0 warnings.\n")


def test_verify(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    code, out, err = call(capsys, "verify", f"root={root}")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"{root}: 5 rows, 5 hold, 0 fail; 11 marks, 0 warnings."
    assert f"mark: {BERT}: its commit 000000000000 is not known to git here." in out.splitlines()
    path = root / f"predictions/cross_domain/{RAND}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, out, err = call(capsys, "verify", "cross_domain", f"root={root}")
    assert (code, err) == (2, f"error: 1 of 4 rows do not hold: {RAND}.\n")
    assert [line for line in out.splitlines() if line.startswith("fail: ")] == [
        f"fail: {RAND}: its predictions {path} are not those it was written with (SHA-256): restore them."
    ]
    code, out, err = call(capsys, "verify", f"root={root}", "--json")
    assert code == 2
    (fault,) = [finding for finding in json.loads(out) if finding["level"] == "fail"]
    assert fault["row"] == RAND
    assert call(capsys, "verify", "glue", f"root={root}")[0] == 0


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_broken_row_is_one_line(capsys: pytest.CaptureFixture[str], root: Path, command: str) -> None:
    path = root / f"rows/cross_domain/{BERT}.json"
    path.write_text("{")
    code, _, err = call(capsys, command, f"root={root}")
    assert (code, err.count("\n")) == (2, 1)
    assert BERT in err


def test_diff(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    words = ("diff", "splice@kao100--B", root / f"rows/cross_domain/{RAND}.json", f"root={root}")
    code, out, _ = call(capsys, *words, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["a"], found["b"], found["n"]) == (BERT, RAND, 400)
    code, out, _ = call(capsys, *words)
    lines = out.splitlines()
    assert lines[0] == "splice@kao100: accuracy (higher is better), 400 test items"
    assert lines[1] == f"  A {BERT}: {found['value_a']:.4f} (3 seeds)"
    interval = f"[{found['low']:+.4f}, {found['high']:+.4f}]"
    assert lines[3].startswith(f"A - B: {found['difference']:+.4f}, 95 % interval {interval}, p = 0.001")
    assert [line.split(":")[0] for line in lines[4:]] == ["seed 100", "seed 101", "seed 102", "note"]
    assert lines[-1] == "note: different training steps: 300 and 1500."


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["show", "cross_domian"], "No row is of the benchmark 'cross_domian'. Did you mean 'cross_domain'?"),
        (["show", "a", "b"], "board show takes one benchmark at most, not a b."),
        (["show", "rot=x"], "rot= is not a setting of this command. Did you mean 'root'?"),
        (["verify", "cross_domian"], "Did you mean 'cross_domain'?"),
        (["diff", BERT], "board diff takes two rows"),
        (["diff", BERT, "splice@kao100--BERT"], "are the same row: splice@kao100--BERT"),
        (["diff", BERT, "splice@kao100--rnd"], f"Did you mean '{RAND}'?"),
        (["diff", BERT, RAND, "metric=acuracy"], "Did you mean 'accuracy'?"),
        (["diff", BERT, "stability@mutations--BERT"], "their task's name differs"),
        (["render", "a", "b"], "board render takes one benchmark at most"),
    ],
)
def test_faults_are_one_line(capsys: pytest.CaptureFixture[str], root: Path, words: list[str], fault: str) -> None:
    code, out, err = call(capsys, *words, f"root={root}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert fault in err


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = call(capsys, "show", f"root={tmp_path}/no")
    assert (code, err) == (2, f"error: root={tmp_path}/no: there is no such folder.\n")


def test_render_names_its_files(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    code, out, err = call(capsys, "render", "cross_domain", f"root={root}")
    assert (code, err) == (0, "")
    paths = [Path(line) for line in out.splitlines()]
    assert {path.name for path in paths} >= {"cross_domain.md", "cross_domain.html", "cross_domain.png"}
    assert all(path.is_file() and path.is_relative_to(root) for path in paths)
    code, out, _ = call(capsys, "render", "cross_domain", f"root={root}", "--json")
    assert [Path(path) for path in json.loads(out)] == paths
