"""The language vector: means and scores beside naive loops, and the command on the samples."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.__main__ import main
from ssl_suite.analysis import language_vector


def test_tokens_belong_to_the_language_that_has_them_more_often() -> None:
    source, target = [np.array([1, 1, 2, 3])], [np.array([3, 3, 4, 2, 5, 6, 7, 8])]
    assert language_vector.belongs(source, target, 10).tolist() == [i in (4, 5, 6, 7, 8) for i in range(10)]


def test_scores_of_a_translation_and_of_its_half() -> None:
    tokens = ["a", "b", "c", "d", "x", "y"]
    own_V = np.array([False, False, True, True, False, False])
    wanted = [np.array([2, 3, 2, 3]), np.array([4, 5, 4])]
    found = language_vector.scores(wanted, wanted, own_V, tokens)
    assert found == {"target share": 4 / 7, "BLEU-1": pytest.approx(100), "of another sentence": 0.0}
    half = language_vector.scores([np.array([2, 0, 1, 3])], wanted[:1], own_V, tokens)
    assert half == {"target share": 0.5, "BLEU-1": pytest.approx(50), "of another sentence": pytest.approx(50)}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["budget=smoke", "tokens=8000", "sentences=20", "alphas=0,4", f"out={tmp_path}", "threads=1"]
    assert main(["analyse", "language_vector", *words]) == 0
    rows = list(csv.DictReader((tmp_path / "language_vector-en-fake.csv").open(encoding="utf-8")))
    # A layer at a time: nothing added changes nothing, whichever it is.
    assert len({(row["target share"], row["BLEU-1"]) for row in rows if row["alpha"] == "0.0"}) == 1
    assert {row["vector"] for row in rows if row["alpha"] == "4.0"} == {"language", "random"}
    capsys.readouterr()
    assert main(["analyse", "language_vector", "pair=en-de", f"out={tmp_path}"]) == 2
    assert "encoder= is missing" in capsys.readouterr().err
