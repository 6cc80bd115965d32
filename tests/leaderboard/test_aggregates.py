"""Scores over columns: SUPERB's between two arms and between published numbers, and which tasks enter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.metrics import Undefined
from ssl_suite.evaluation.predictions import stored
from ssl_suite.leaderboard import aggregates, render
from ssl_suite.leaderboard.aggregates import Gain
from ssl_suite.leaderboard.table import Line, Total
from tests.leaderboard import add, classified, valued

BENCH = """title: Mine
tasks: [one@x, two@x, three@x, same@x]
arms:
  zero: {encoder: none, protocol: finetune}
  half: {encoder: none, protocol: finetune}
  whole: {encoder: none, protocol: finetune}
aggregates:
  - {name: score, kind: superb_s_local, settings: {zero: zero, whole: whole}, text: "Here, not there."}
  - {name: official, kind: superb_s_official, tasks: [pr@official], settings: {file: superb_official.csv}}
"""


def put(root: Path, arm: str, task: str, made: Any, **words: Any) -> None:
    add(root, made, arm=arm, task=task, benchmark="mine", **words)


@pytest.fixture
def board(tmp_path: Path) -> Any:
    (tmp_path / "mine.yaml").write_text(BENCH)
    for k, arm in enumerate(("zero", "half", "whole")):
        put(tmp_path, arm, "one@x", classified(400, 0.4 + 0.2 * k, draw=k))
        put(tmp_path, arm, "two@x", valued(400, 0.9 - 0.3 * k), metrics=("rmse",))  # an error
        put(tmp_path, arm, "three@x", classified(400, 0.8 - 0.2 * k, draw=10 + k))  # the whole is below the zero
        put(tmp_path, arm, "same@x", classified(400, 0.7, draw=20 + k))
    return render.load(tmp_path, "mine", str(tmp_path))


def value(board: Any, arm: str, column: int) -> float:
    (section,) = board.sections
    return section.cells[Line(arm), section.columns[column]].value


def test_the_ends_are_0_and_1000_and_errors_count_downwards(board: Any) -> None:
    total: Total = board.sections[0].aggregates[0]
    assert total.by_line[Line("zero")] == 0 and total.by_line[Line("whole")] == pytest.approx(1000)
    shares = []
    for column in (0, 1):
        zero, half, whole = (value(board, arm, column) for arm in ("zero", "half", "whole"))
        shares.append((half - zero) / (whole - zero))
    assert total.by_line[Line("half")] == pytest.approx(500 * sum(shares)) and 400 < 500 * sum(shares) < 600


def test_tasks_that_do_not_tell_the_ends_apart_are_named(board: Any) -> None:
    note = board.sections[0].aggregates[0].note
    assert note.startswith("Here, not there. Over one, two. Left out, because whole is not above zero")
    assert note.endswith(": three, same.")
    page = render.html(board)
    assert note in page.replace("&#39;", "'") and "1000.0" in page


def test_a_line_without_a_task_has_no_score(board: Any, tmp_path: Path) -> None:
    put(tmp_path, "other", "one@x", classified(400, 0.6, draw=30))
    put(tmp_path, "other", "same@x", classified(400, 0.6, draw=31))
    found = render.load(tmp_path, "mine", str(tmp_path)).sections[0].aggregates[0].by_line
    assert set(found) == {Line("zero"), Line("half"), Line("whole")}


def test_there_is_no_score_before_both_ends_are_measured_everywhere(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(BENCH.replace("same@x]", "same@x, late@x]"))
    for arm, right in (("zero", 0.4), ("whole", 0.8)):
        for name in ("one", "two", "three", "same"):
            put(tmp_path, arm, f"{name}@x", classified(400, right))
    put(tmp_path, "zero", "late@x", classified(400, 0.4))
    assert not render.load(tmp_path, "mine", str(tmp_path)).sections[0].aggregates[0].by_line
    put(tmp_path, "whole", "late@x", classified(400, 0.8))
    assert render.load(tmp_path, "mine", str(tmp_path)).sections[0].aggregates[0].by_line[Line("whole")] == 1000


def test_the_official_score_is_of_the_official_corpora_alone(board: Any, tmp_path: Path) -> None:
    """A task of the same name on other data is none of its columns."""
    assert not board.sections[0].aggregates[1].by_line
    for name, heard in (("pr@local", "a a a a"), ("pr@official", "a a x y")):
        made = stored(["a a a a"] * 40, {100: [heard] * 40}, range(40), kind="texts")
        put(tmp_path, "zero", name, made, metrics=("per",))
    found = render.load(tmp_path, "mine", str(tmp_path)).sections[0].aggregates[1].by_line
    assert found == {Line("zero"): pytest.approx(1000 * (0.5 - 0.8201) / (0.0306 - 0.8201))}


def test_published_ends_are_0_and_1000() -> None:
    sf = {"slot_type_f1": 0.6964, "slot_value_cer": 0.5294, "cer": 0.1}  # the third is in no table
    fbank, best = {"ks": {"accuracy": 0.0863}, "sf": sf}, {"ks": {"accuracy": 0.9786}}
    official = aggregates.AGGREGATES["superb_s_official"]
    assert official(fbank, file="superb_official.csv") == 0
    assert official(best, file="superb_official.csv") == pytest.approx(1000)
    with pytest.raises(SuiteError, match=r"no model 'WavLM Larg'.* Did you mean 'WavLM Large'"):
        official(best, file="superb_official.csv", sota="WavLM Larg")
    with pytest.raises(SuiteError, match=r"there is no .*nowhere\.csv"):
        official(best, file="nowhere.csv")
    with pytest.raises(SuiteError, match="same tasks and metrics"):
        official({"sf": {"slot_type_f1": 0.5}}, file="superb_official.csv")


def test_two_standard_errors_decide() -> None:
    gains = {"a": Gain(0.2, 0.09), "b": Gain(0.2, 0.11), "c": Gain(-0.5, 0.1)}
    assert aggregates.told_apart(gains) == ["a"]
    assert aggregates.superb_s_local({"a": 0.1, "b": 9.0, "c": 9.0}, gains) == pytest.approx(500)
    with pytest.raises(Undefined, match="told apart on no task"):
        aggregates.superb_s_local({"b": 0.1}, {"b": gains["b"]})
