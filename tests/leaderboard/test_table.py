"""Columns, ranks and contrasts: nothing unlike is compared, and every p is that of ``board diff``."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_suite.evaluation import rows, significance
from ssl_suite.evaluation.predictions import stored
from ssl_suite.leaderboard import diff, published, table
from ssl_suite.leaderboard.table import Line
from tests.leaderboard import add, classified, valued


def build(root: Path, marks: dict[str, list[str]] | None = None) -> table.Board:
    return table.build(root, "cross_domain", rows.read_all(root), marks=marks)


def put(root: Path, arm: str, right: float, items: int = 400, draw: int = 0, **words: Any) -> str:
    words.setdefault("run_id", f"{words.get('task', 'h3@gue20')}--{arm.replace(' ', '-')}--{draw}")
    return add(root, classified(items, right, draw=draw), **{"arm": arm, "task": "h3@gue20", **words}).stem


def holm(values: list[float]) -> list[float]:
    """Holm's procedure as Holm wrote it: the k-th smallest of M times (M - k + 1), never below the one before."""
    found, least = [0.0] * len(values), 0.0
    for k, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        least = max(least, min(1.0, values[place] * (len(values) - k)))
        found[place] = least
    return found


def test_ranks_count_the_arms_that_are_better_by_a_test(tmp_path: Path) -> None:
    rights = {
        "BERT": 0.8,
        "re-emb": 0.79,
        "majority": 0.4,
        "specific-CNN": 0.72,
    }  # p of BERT and the CNN is .027, after Holm .081
    for draw, (arm, right) in enumerate(rights.items()):
        put(tmp_path, arm, right, draw=draw)
    board = build(tmp_path)
    (column,) = board.main.columns
    found = {line.arm: board.main.cells[line, column] for line in board.main.lines}
    assert list(found) == ["specific-CNN", "BERT", "re-emb", "majority"]  # the order of the arms, not of scores

    stacks = {arm: rows.read_predictions(tmp_path, cell.row) for arm, cell in found.items()}
    pairs = list(itertools.combinations(found, 2))
    labels_I = stacks["BERT"].labels_I
    tests = [
        significance.paired_bootstrap("accuracy", labels_I, stacks[a].stacked(), stacks[b].stacked()) for a, b in pairs
    ]
    ahead = dict.fromkeys(found, 0)
    for (a, b), test, p in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        if p < 0.05:
            ahead[b if test.difference > 0 else a] += 1
    assert {arm: cell.rank for arm, cell in found.items()} == {arm: 1 + count for arm, count in ahead.items()}
    assert found["BERT"].rank == found["re-emb"].rank == 1 and found["BERT"].shared
    assert found["majority"].rank == 4 and not found["majority"].shared


def test_contrasts_are_those_of_board_diff_with_holm_over_the_columns(tmp_path: Path) -> None:
    names: dict[tuple[str, str], str] = {}
    for k, task in enumerate(("h3@gue20", "h4@gue20", "splice@kao100")):
        for j, (arm, right) in enumerate((("BERT", 0.8), ("rand", 0.8 - 0.04 * k))):
            names[task, arm] = put(tmp_path, arm, right, task=task, draw=10 * k + j)
    board = build(tmp_path)
    found = board.main.contrasts["BERT", "rand"]
    by_id = {row["run_id"]: row for row in rows.read_all(tmp_path)}
    raw = []
    for each in found:
        task = each.column.task["name"]
        wanted = diff.compare(by_id[names[task, "BERT"]], by_id[names[task, "rand"]], tmp_path)
        assert (each.gain, each.low, each.high, each.p) == (wanted.difference, wanted.low, wanted.high, wanted.p)
        raw.append(wanted.p)
    assert [each.holm for each in found] == pytest.approx(holm(raw))
    assert {each.outcome for each in found} == {"open", "better"}
    assert not board.main.contrasts["re-emb", "rand"]


def test_a_small_test_set_has_no_rank(tmp_path: Path) -> None:
    for draw, arm in enumerate(("BERT", "rand")):
        put(tmp_path, arm, 0.9 - 0.3 * draw, items=rows.FEWEST - 1, draw=draw)
        put(tmp_path, arm, 0.9 - 0.3 * draw, items=rows.FEWEST, draw=draw, task="h4@gue20")
    board = build(tmp_path)
    ranks = {column.task["name"]: board.main.cells[Line("BERT"), column].rank for column in board.main.columns}
    assert ranks == {"h3@gue20": None, "h4@gue20": 1}
    assert len(board.main.contrasts["BERT", "rand"]) == 2  # the test needs no minimum


def test_of_errors_the_lower_is_better(tmp_path: Path) -> None:
    for arm, noise in (("BERT", 0.3), ("rand", 0.9)):
        add(tmp_path, valued(400, noise), arm=arm, task="stability@tape", metrics=("rmse",))
    board = build(tmp_path)
    (column,) = board.main.columns
    assert [board.main.cells[Line(arm), column].rank for arm in ("BERT", "rand")] == [1, 2]
    (found,) = board.main.contrasts["BERT", "rand"]
    assert found.outcome == "better" and 0 < found.low < found.gain < found.high


def test_settings_do_not_share_a_column(tmp_path: Path) -> None:
    put(tmp_path, "BERT", 0.8)
    put(tmp_path, "rand", 0.7, draw=1)
    put(tmp_path, "BERT", 0.9, draw=2, run_id="full", task__n_train=2871)  # one arm alone, though on more data
    put(tmp_path, "BERT", 0.9, draw=3, run_id="paper", budget__name="paper")
    put(tmp_path, "BERT", 0.9, draw=4, run_id="old", task__version=0)
    put(tmp_path, "BERT", 0.9, draw=5, run_id="smoke", budget__name="smoke")
    put(tmp_path, "BERT", 0.9, draw=6, run_id="dev", split="dev")
    put(tmp_path, "BERT", 0.9, draw=7, run_id="dna", task__data_sha256="c" * 64)
    board = build(tmp_path)
    shown = [{cell.row["run_id"] for cell in each.cells.values()} for each in (board.main, board.other)]
    assert shown == [{"h3@gue20--BERT--0", "h3@gue20--rand--1"}, {"full", "paper", "dna"}]
    assert {row["run_id"] for row, _ in board.left_out} == {"old", "smoke", "dev"}
    assert not board.smoke and len(board.other.columns) == 3


def test_smoke_rows_are_shown_where_there_are_no_others(tmp_path: Path) -> None:
    put(tmp_path, "BERT", 0.8, budget__name="smoke")
    board = build(tmp_path)
    assert board.smoke and len(board.main.cells) == 1


def test_a_cleaner_then_a_newer_row_is_shown(tmp_path: Path) -> None:
    put(tmp_path, "BERT", 0.8, run_id="first")
    put(tmp_path, "BERT", 0.6, draw=1, run_id="newer", created="2026-11-24T04:00:00Z")
    put(tmp_path, "BERT", 0.9, draw=2, run_id="newest", created="2026-11-25T04:00:00Z")
    board = build(tmp_path, marks={"newest": ["dirty"]})
    (cell,) = board.main.cells.values()
    assert cell.row["run_id"] == "newer"
    assert {row["run_id"]: "newer is shown" in why for row, why in board.left_out} == {"first": True, "newest": True}


def test_arms_with_two_encoders_have_a_line_each_and_meet_their_own_kind(tmp_path: Path) -> None:
    for k, name in enumerate(("MiniLM", "MPNet")):
        for j, arm in enumerate(("BERT", "rand")):
            words = {"encoder__ref": f"hf:models/{name}+map", "run_id": f"{name}-{arm}"}
            put(tmp_path, arm, 0.8 - 0.1 * j, draw=10 * k + j, **words)
    put(tmp_path, "majority", 0.4, draw=99)
    board = build(tmp_path)
    assert [line.label for line in board.main.lines] == [
        *("BERT (MPNet)", "BERT (MiniLM)", "rand (MPNet)", "rand (MiniLM)", "majority"),
    ]
    pairs = {(each.first.label, each.second.label) for each in board.main.contrasts["BERT", "rand"]}
    assert pairs == {("BERT (MPNet)", "rand (MPNet)"), ("BERT (MiniLM)", "rand (MiniLM)")}


def test_rows_on_other_test_items_are_taken_out(tmp_path: Path) -> None:
    put(tmp_path, "BERT", 0.8)
    put(tmp_path, "re-emb", 0.8, draw=1)
    strange = classified(400, 0.7, draw=2)
    other = stored(strange.labels_I, strange.by_seed, strange.items_I + 1, strange.classes)
    add(tmp_path, other, arm="rand", task="h3@gue20", task__n_test_full=802)
    board = build(tmp_path)
    assert [line.arm for line in board.main.lines] == ["BERT", "re-emb"]
    ((row, why),) = board.left_out
    assert row["arm"] == "rand" and "its test items are not those" in why
    assert not board.main.contrasts["BERT", "rand"]


def test_the_order_of_items_in_a_file_does_not_matter(tmp_path: Path) -> None:
    predictions = classified(400, 0.8)
    order_I = np.random.default_rng(0).permutation(400)
    shuffled = stored(
        predictions.labels_I[order_I],
        {seed: x_I[order_I] for seed, x_I in predictions.by_seed.items()},
        predictions.items_I[order_I],
        predictions.classes,
    )
    add(tmp_path, predictions, arm="BERT", task="h3@gue20")
    add(tmp_path, shuffled, arm="rand", task="h3@gue20")
    (found,) = build(tmp_path).main.contrasts["BERT", "rand"]
    assert found.gain == 0 and found.p == 1 and found.low <= 0 <= found.high


def test_the_references_travel_and_say_how_alike_the_data_are(tmp_path: Path) -> None:
    refs = published.references(tmp_path, "cross_domain")
    assert refs.order == ["localization", "stability", "fluorescence", "H3", "H4", "H3K9ac", "splice", "composer"]
    assert refs.lecture["BERT", "splice"] == (97.5, "BERT") and refs.lecture["rand", "H4"] == (66.5, "rand")
    assert refs.lecture["specific-SSL", "stability"] == (76.0, "specific")  # PLUS is pre-trained, Hilbert-CNN is not
    assert refs.lecture["specific-CNN", "H3"] == (87.3, "specific") and len(refs.lecture) == 31
    assert set(refs.data) == set(refs.order) == {each.task for each in refs.others}
    assert all(0 < each.points < 100 and each.citation and each.status for each in refs.others)
    task = {
        "name": "splice@kao100",
        "reference": "splice",
        "n_train": 9,
        "n_train_full": 9,
        "n_test": 5,
        "n_test_full": 5,
    }
    assert refs.likeness(task) == "same split"
    assert refs.likeness(task | {"n_train": 8}) == "same split, in part"
    assert refs.likeness(task | {"name": "splice@other"}) == refs.likeness(task | {"reference": None}) == "other data"
    assert not published.references(tmp_path, "nothing").lecture


def test_references_of_the_folder_come_first(tmp_path: Path) -> None:
    (tmp_path / "references").mkdir()
    text = "arm,beside,modality,task,metric,value_x100,source\nBERT,BERT,dna,splice,accuracy,12.5,me\n"
    (tmp_path / "references" / "cross_domain_lecture_table.csv").write_text(text)
    assert published.references(tmp_path, "cross_domain").lecture == {("BERT", "splice"): (12.5, "BERT")}
