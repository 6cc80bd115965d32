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


def contrasts(board: table.Board, first: str, second: str) -> list[table.Contrast]:
    (section,) = board.sections
    pairs = [(pair.a, pair.b) for pair in board.benchmark.contrasts]
    return section.contrasts[pairs.index((first, second))]


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
    (column,) = board.sections[0].columns
    found = {line.arm: board.sections[0].cells[line, column] for line in board.sections[0].lines}
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
    found = contrasts(board, "BERT", "rand")
    by_id = {row["run_id"]: row for row in rows.read_all(tmp_path)}
    raw = []
    for each in found:
        task = each.column.task["name"]
        wanted = diff.compare(by_id[names[task, "BERT"]], by_id[names[task, "rand"]], tmp_path)
        assert (each.gain, each.low, each.high, each.p) == (wanted.difference, wanted.low, wanted.high, wanted.p)
        raw.append(wanted.p)
    assert [each.holm for each in found] == pytest.approx(holm(raw))
    assert {each.outcome for each in found} == {"open", "better"}
    assert not contrasts(board, "re-emb", "rand")


def test_a_small_test_set_has_no_rank(tmp_path: Path) -> None:
    for draw, arm in enumerate(("BERT", "rand")):
        put(tmp_path, arm, 0.9 - 0.3 * draw, items=rows.FEWEST - 1, draw=draw)
        put(tmp_path, arm, 0.9 - 0.3 * draw, items=rows.FEWEST, draw=draw, task="h4@gue20")
    board = build(tmp_path)
    ranks = {
        column.task["name"]: board.sections[0].cells[Line("BERT"), column].rank for column in board.sections[0].columns
    }
    assert ranks == {"h3@gue20": None, "h4@gue20": 1}
    assert len(contrasts(board, "BERT", "rand")) == 2  # the test needs no minimum


def test_of_errors_the_lower_is_better(tmp_path: Path) -> None:
    for arm, noise in (("BERT", 0.3), ("rand", 0.9)):
        add(tmp_path, valued(400, noise), arm=arm, task="stability@tape", metrics=("rmse",))
    board = build(tmp_path)
    (column,) = board.sections[0].columns
    assert [board.sections[0].cells[Line(arm), column].rank for arm in ("BERT", "rand")] == [1, 2]
    (found,) = contrasts(board, "BERT", "rand")
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
    shown = {section.budget: {cell.row["run_id"] for cell in section.cells.values()} for section in board.sections}
    assert shown == {"small": {"h3@gue20--BERT--0", "h3@gue20--rand--1", "full", "dna"}, "paper": {"paper"}}
    assert list(shown) == ["small", "paper"]  # the one that answers the question comes first
    assert {row["run_id"] for row, _ in board.left_out} == {"old", "smoke", "dev"}
    assert not board.smoke and len(board.sections[0].columns) == 3


def test_versions_of_a_head_do_not_share_a_column(tmp_path: Path) -> None:
    """What trains no head stands beside each; the contrast is never between two versions."""
    put(tmp_path, "BERT", 0.8, protocol__name="finetune")
    put(tmp_path, "rand", 0.7, draw=1, protocol__name="scratch")
    newer = {"name": "finetune", "head": {"name": "classification", "version": 2}}
    put(tmp_path, "BERT", 0.9, draw=2, protocol=newer, run_id="newer")
    put(tmp_path, "majority", 0.4, draw=3, protocol__name="majority", run_id="none")
    board = build(tmp_path)
    (section,) = board.sections
    assert [column.head for column in section.columns] == [2, 1]
    by_column = [{c.row["run_id"] for (_, where), c in section.cells.items() if where is x} for x in section.columns]
    assert by_column == [{"newer", "none"}, {"h3@gue20--BERT--0", "h3@gue20--rand--1", "none"}]
    (found,) = contrasts(board, "BERT", "rand")
    assert found.column.head == 1 and not board.left_out


def test_more_seeds_stand_before_a_newer_row(tmp_path: Path) -> None:
    put(tmp_path, "BERT", 0.8, run_id="three")
    add(
        tmp_path,
        classified(400, 0.9, seeds=(100,), draw=1),
        arm="BERT",
        task="h3@gue20",
        run_id="one",
        created="2026-11-25T04:00:00Z",
    )
    board = build(tmp_path)
    (cell,) = board.sections[0].cells.values()
    assert cell.row["run_id"] == "three" and board.left_out[0][0]["run_id"] == "one"


def test_clusters_are_resampled_whole(tmp_path: Path) -> None:
    """Of ten clusters that are all right or all wrong the interval is that of ten items, as in `board diff`."""
    labels_I, clusters_I = np.zeros(400, np.int64), np.arange(400) // 40
    right_I = np.where(clusters_I < 5, 0, 1)
    for arm, answers_I in (("BERT", right_I), ("rand", 1 - right_I)):
        made = stored(labels_I, {100: answers_I}, np.arange(400), ("a", "b"), clusters_I=clusters_I)
        add(tmp_path, made, arm=arm, task="h3@gue20", run_id=arm)
    board = build(tmp_path)
    (column,) = board.sections[0].columns
    cell = board.sections[0].cells[Line("BERT"), column]
    assert column.clustered and (cell.low, cell.high) == pytest.approx((0.2, 0.8))
    (found,) = contrasts(board, "BERT", "rand")
    by_id = {row["run_id"]: row for row in rows.read_all(tmp_path)}
    wanted = diff.compare(by_id["BERT"], by_id["rand"], tmp_path)
    assert (found.low, found.high, found.p) == (wanted.low, wanted.high, wanted.p)


def test_evidence_is_being_above_the_majority(tmp_path: Path) -> None:
    for arm, right in (("BERT", 0.8), ("rand", 0.36)):
        put(tmp_path, arm, right, draw=len(arm))
    put(tmp_path, "majority", 0.34, draw=9, protocol__name="majority")
    (section,) = build(tmp_path).sections
    found = {line.arm: section.cells[line, section.columns[0]].evidence for line in section.lines}
    assert found == {"BERT": True, "rand": False, "majority": None}


def test_a_cleaner_then_a_newer_row_is_shown(tmp_path: Path) -> None:
    put(tmp_path, "BERT", 0.8, run_id="first")
    put(tmp_path, "BERT", 0.6, draw=1, run_id="newer", created="2026-11-24T04:00:00Z")
    put(tmp_path, "BERT", 0.9, draw=2, run_id="newest", created="2026-11-25T04:00:00Z")
    board = build(tmp_path, marks={"newest": ["dirty"]})
    (cell,) = board.sections[0].cells.values()
    assert cell.row["run_id"] == "newer"
    assert {row["run_id"]: "newer is shown" in why for row, why in board.left_out} == {"first": True, "newest": True}


def test_arms_with_two_encoders_have_a_line_each_and_meet_their_own_kind(tmp_path: Path) -> None:
    for k, name in enumerate(("MiniLM", "MPNet")):
        for j, arm in enumerate(("BERT", "rand")):
            words = {"encoder__ref": f"hf:models/{name}+map", "run_id": f"{name}-{arm}"}
            put(tmp_path, arm, 0.8 - 0.1 * j, draw=10 * k + j, **words)
    put(tmp_path, "majority", 0.4, draw=99)
    board = build(tmp_path)
    assert [line.label for line in board.sections[0].lines] == [
        *("BERT (MPNet)", "BERT (MiniLM)", "rand (MPNet)", "rand (MiniLM)", "majority"),
    ]
    pairs = {(each.first.label, each.second.label) for each in contrasts(board, "BERT", "rand")}
    assert pairs == {("BERT (MPNet)", "rand (MPNet)"), ("BERT (MiniLM)", "rand (MiniLM)")}


def test_rows_on_other_test_items_are_taken_out(tmp_path: Path) -> None:
    put(tmp_path, "BERT", 0.8)
    put(tmp_path, "re-emb", 0.8, draw=1)
    strange = classified(400, 0.7, draw=2)
    other = stored(strange.labels_I, strange.by_seed, strange.items_I + 1, strange.classes)
    add(tmp_path, other, arm="rand", task="h3@gue20", task__n_test_full=802)
    board = build(tmp_path)
    assert [line.arm for line in board.sections[0].lines] == ["BERT", "re-emb"]
    ((row, why),) = board.left_out
    assert row["arm"] == "rand" and "its test items are not those" in why
    assert not contrasts(board, "BERT", "rand")


def test_the_references_travel_and_say_how_alike_the_data_are(tmp_path: Path) -> None:
    refs = published.references(tmp_path, "cross_domain")
    assert refs.points["BERT", "splice"] == 97.5 and refs.points["rand", "H4"] == 66.5
    assert refs.points["specific-SSL", "stability"] == 76.0  # PLUS is pre-trained, Hilbert-CNN is not
    assert refs.points["specific-CNN", "H3"] == 87.3 and len(refs.points) == 31
    assert refs.difference(["bert", "rand"], "H4") == pytest.approx(86.2 - 66.5)
    assert refs.difference(["bert", "rand"], "none") is refs.difference(None, "H4") is None
    assert set(refs.data) == {task for _, task in refs.points} == {each.task for each in refs.others}
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
    assert not published.references(tmp_path, "nothing").points


def test_references_of_the_folder_come_first(tmp_path: Path) -> None:
    (tmp_path / "references").mkdir()
    text = "arm,beside,modality,task,metric,value_x100,source\nBERT,BERT,dna,splice,accuracy,12.5,me\n"
    (tmp_path / "references" / "cross_domain_lecture_table.csv").write_text(text)
    assert published.references(tmp_path, "cross_domain").points == {("BERT", "splice"): 12.5}
