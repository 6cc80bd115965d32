"""``predict``: a kept trial says of a file's lines what it said of the same items in its test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ssl_suite import cli
from ssl_suite.evaluation import predictions, trial
from tests.evaluation import text_models
from tests.evaluation.heads.planted import kept_trial


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["predict", *words])
    caught = capsys.readouterr()
    return code, caught.out, caught.err


@pytest.mark.parametrize("kind", ["classes", "pairs", "values", "tags", "answers"])
def test_lines_of_a_file_get_the_answers_of_the_test(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, folder = kept_trial(tmp_path, kind)
    rows = pq.read_table(tmp_path / kind / "data.parquet").to_pylist()
    rows = [row for row in rows if row["split"] == "test"]
    cells = [[row[name] for name in plan.task.inputs] for row in rows]
    texts = ["\t".join(" ".join(cell) if isinstance(cell, list) else cell for cell in each) for each in cells]
    (tmp_path / "lines.txt").write_text("\n\n".join(texts), "utf-8")  # blank lines are nothing
    code, out, err = said(capsys, f"encoder={folder}", f"input={tmp_path / 'lines.txt'}", "task=planted", "--json")
    assert code == 0, err
    found = json.loads(out)
    stored = predictions.decode((folder / "test.parquet").read_bytes())
    for row, answer in zip(found, stored.by_seed[1], strict=True):
        if kind in ("classes", "pairs"):
            assert row["prediction"] == stored.classes[answer] and 0.5 <= row["probability"] <= 1
        elif kind == "values":
            assert row["prediction"] == pytest.approx(answer, abs=1e-5) and row["probability"] is None
        elif kind == "tags":
            assert row["prediction"] == [stored.classes[tag] for tag in answer]
            assert np.all(np.array(row["probability"]) >= 1 / len(stored.classes))
        else:
            begin, end = row["place"]
            assert row["prediction"] == answer == row["text"][begin:end] and 0 < row["probability"] <= 1
    assert not (folder / "checkpoints").exists()  # weights lie there once


def test_the_answer_is_marked_in_its_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a text of several pieces; the encoder is one of transformers."""
    text_models.save(tmp_path / "bert", "bert")
    _, folder = kept_trial(tmp_path, "answers", f"hf:{tmp_path / 'bert'}")
    text = "red cat sees the green dog " * 12
    (tmp_path / "story.txt").write_text(text, "utf-8")
    words = [f"encoder={folder}", "question=star", f"document={tmp_path / 'story.txt'}"]
    code, out, err = said(capsys, *words)
    assert code == 0, err
    first, _, rest = out.partition("\n")
    answer = first.split("\t")[0]
    assert f"[[{answer}]]" in rest and rest.replace("[[", "").replace("]]", "").strip() == text.strip()


def test_faults_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = kept_trial(tmp_path, "pairs")
    (tmp_path / "bad.tsv").write_text("one\ttwo\nalone\n", "utf-8")
    (tmp_path / "empty.tsv").write_text("\n", "utf-8")
    lines = f"input={tmp_path / 'bad.tsv'}"
    for words, expected in (
        ([f"encoder={folder}", lines], "line 2 has 1 fields between tabs; the task takes a and b."),
        ([f"encoder={folder}", lines, "task=squad"], "was trained on planted@made."),
        ([f"encoder={folder}"], "Give input=FILE, or question=TEXT and document=FILE."),
        ([f"encoder={folder}", "question=x", lines], "Give input=FILE, or question=TEXT and document=FILE."),
        ([f"encoder={folder}", f"input={tmp_path / 'none'}"], "cannot be read: No such file"),
        ([f"encoder={folder}", f"input={tmp_path / 'empty.tsv'}"], "has no line with text."),
        ([f"encoder={tmp_path}", lines], "holds no trained trial"),
    ):
        code, _, err = said(capsys, *words)
        assert code == 2 and expected in err and err.count("\n") == 1


def test_keeping_changes_no_trial(tmp_path: Path) -> None:
    plan, folder = kept_trial(tmp_path, "classes")
    other = trial.Plan(**{**vars(plan), "keep": False})
    assert other.key == plan.key and (folder / "model" / "model.safetensors").is_file()
