"""All metrics of a column, and those of further test sets, stand on a page."""

from __future__ import annotations

from pathlib import Path

from ssl_suite.leaderboard import render, table, words
from tests.leaderboard import add, classified


def test_further_metrics_and_parts_are_told(tmp_path: Path) -> None:
    first, second = ({"name": name, "value": 0.5, "ci95": [0.4, 0.6]} for name in ("f1", "em"))
    row = {"metrics": [first], "further": [{"part": "zh", "metrics": [second]}]}
    assert table.metrics_of(row) == {"f1": first, "zh.em": second}
    assert words.unit("zh.em") == "em on zh × 100" and words.unit("dev2.accuracy") == "accuracy on dev2, %"
    add(tmp_path, classified(), metrics=("accuracy",))
    head = "All metrics and further test sets"
    board = render.load(tmp_path, "cross_domain")
    assert head not in render.html(board) and head not in render.markdown(board)
    add(tmp_path, classified(draw=1), arm="rand", metrics=("accuracy", "mcc"))
    board = render.load(tmp_path, "cross_domain")
    mcc = next(cell.row for cell in board.sections[0].cells.values() if cell.row["arm"] == "rand")["metrics"][1]
    text = render.markdown(board).split(head)[1].split("</details>")[0]
    assert "| rand |" in text
    assert f"{words.points(mcc['value'])}<br>{words.span(*mcc['ci95'])} |" in text
    assert "| BERT |" in text and "undefined |" in text  # its row has no mcc
    assert f'{words.points(mcc["value"])}<span class="ci">' in render.html(board)
