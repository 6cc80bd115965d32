"""Scores over columns: official data and others under names of their own, and how they stand to people."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import benchmark, rows
from ssl_suite.leaderboard import relative, render
from ssl_suite.leaderboard.aggregates import glue, human_relative
from ssl_suite.leaderboard.table import Line
from tests.leaderboard import add, classified
from tests.leaderboard.test_render import Page

OWN = """title: Ours
tasks: [a@glue, b@part]
arms:
  big: {encoder: "{text}", protocol: finetune}
  small: {encoder: "{text}", protocol: probe}
aggregates:
  - {name: official, otherwise: local, split: glue, kind: glue, text: A word on it.}
  - name: to people
    otherwise: to people (local)
    split: glue
    kind: human_relative
    settings: {human: {a: {accuracy: 0.5}, b: {accuracy: 0.8}}}
"""


def value(root: Path, arm: str, task: str) -> float:
    return rows.read(next(root.glob(f"rows/own/{task}--{arm}*")))["metrics"][0]["value"]


def test_a_mean_with_another_split_has_another_name(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    root = tmp_path / "l"
    for arm, tasks in {"big": ("a@glue", "b@part", "b@glue", "a@other"), "small": ("a@glue", "b@part")}.items():
        for k, task in enumerate(tasks):
            add(root, classified(300, 0.6 + 0.1 * k, draw=k), arm=arm, task=task, benchmark="own")
    board = render.load(root, "own", str(tmp_path))
    found = {total.name: total for total in board.sections[0].aggregates if total.by_line}
    big, small = Line("big"), Line("small")
    # b@glue is no column of the benchmark, but of the official split, so it enters where an arm has it; a@other never.
    assert found["official"].by_line == {
        big: pytest.approx((value(root, "big", "a@glue") + value(root, "big", "b@glue")) / 2)
    }
    local = (value(root, "small", "a@glue") + value(root, "small", "b@part")) / 2
    assert found["local"].by_line == {small: pytest.approx(local)}
    shares = found["to people (local)"].shares[small]
    assert shares == pytest.approx(
        {"a": value(root, "small", "a@glue") / 0.5, "b": value(root, "small", "b@part") / 0.8}
    )
    assert found["to people (local)"].by_line[small] == pytest.approx(local / 0.65)
    html, markdown = render.html(board), render.markdown(board)
    assert not Page(html).open and "A word on it." in html
    assert f"| **small** | – | {100 * local:.1f} | – | {local / 0.65:.3f} |" in markdown


def test_the_picture_has_a_line_a_task_and_people_at_one(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    for arm in ("big", "small"):
        for k, task in enumerate(("a@glue", "b@part")):
            add(tmp_path / "l", classified(300, 0.5 + 0.2 * k, draw=len(arm)), arm=arm, task=task, benchmark="own")
    board = render.load(tmp_path / "l", "own", str(tmp_path))
    section = board.sections[0]
    total = next(each for each in section.aggregates if each.shares)
    drawn = relative.drawn(section, total)
    assert drawn is not None and [name for _, name in drawn.arms] == ["big", "small"]
    heights = {tick: y for y, tick in drawn.ticks}
    scale = (heights["0"] - heights["1"]) / 1.0  # pixels of a share of 1
    assert drawn.one == heights["1"]
    last = total.shares[Line("small")]
    for curve, task in zip(drawn.curves, sorted(last, key=lambda task: -last[task]), strict=True):
        points = [tuple(map(float, point.split(","))) for point in curve.points.split()]
        expected = [heights["0"] - scale * total.shares[line][task] for line in (Line("big"), Line("small"))]
        assert [y for _, y in points] == pytest.approx(expected, abs=0.11)
    html = render.html(board)
    assert html.count('<polyline class="curve heavy"') == 1
    assert relative.drawn(section, total._replace(shares={Line("big"): total.shares[Line("big")]})) is None


def published() -> dict[str, dict[str, dict[str, float]]]:
    scores: dict[str, dict[str, dict[str, float]]] = {}
    with (resources.folder("leaderboards") / "references" / "glue_published.csv").open() as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["model"], {}).setdefault(row["task"], {})[row["metric"]] = float(row["value_x100"])
    return scores


def test_published_rows_have_the_published_score() -> None:
    found = published()
    for model, score in (("people", 87.1), ("MT-DNN", 82.7), ("BERT-large", 80.5)):
        tasks = dict(found[model])
        assert tasks.pop("Score")["GLUE score"] == score
        assert len(tasks) == 9
        assert glue(tasks) == pytest.approx(score, abs=0.051)
    tasks, people = (
        {task: metrics for task, metrics in found[name].items() if task != "Score"} for name in ("BERT-large", "people")
    )
    assert round(human_relative(tasks, people), 3) == 0.925
    with pytest.raises(SuiteError, match="human has no rte"):
        human_relative({"rte": {"accuracy": 1.0}}, {})


def test_the_people_of_the_benchmark_are_the_published_ones() -> None:
    bench = benchmark.load("glue")
    titles = {title.lower().replace("-", ""): title for title in published()["MT-DNN"] if title != "Score"}
    people = published()["people"]
    (asked,) = [each for each in bench.aggregates if each.kind == "human_relative"]
    human = asked.settings["human"]
    assert set(human) == set(titles)
    for base, title in titles.items():
        assert sorted(human[base].values()) == pytest.approx(sorted(value / 100 for value in people[title].values()))
