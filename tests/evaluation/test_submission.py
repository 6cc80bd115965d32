"""Answers to items without labels: the right ones in the right order, in the form of GLUE's site; scores unmoved."""

from __future__ import annotations

import csv
import json
import random
import zipfile
from pathlib import Path

import pytest

from ssl_suite import cli
from tests.data.recipes import mini_glue

WORDS = ("plain", "old", "green", "tall")


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GLUE's folder with STS-B and MNLI as they come, and a CoLA in which "good" tells a label."""
    root = tmp_path_factory.mktemp("glue")
    mini_glue.write_tsv(root, "STS-B")
    mini_glue.write_tsv(root, "MNLI")
    draw = random.Random(0)
    (root / "CoLA").mkdir()
    for part, size in (("train", 150), ("dev", 40), ("test", 50)):
        lines = ["index\tsentence"] * (part == "test")
        for i in range(size):
            label = draw.randrange(2)
            words = [*draw.choices(WORDS, k=4), "good" if label else "bad", str(i)]
            draw.shuffle(words)
            lines.append(
                "\t".join([str(i), " ".join(words)] if part == "test" else ["x", str(label), "", " ".join(words)])
            )
        (root / "CoLA" / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["bench", "glue", *words, "budget=smoke", "budget.limits={train: null, dev: null, test: null}"])
    return code, *capsys.readouterr()


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines(), delimiter="\t"))


def test_a_submission_has_the_answers_in_order(glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (f"data.root={glue}", "task=cola@glue,stsb@glue,mnli@glue", "arms=n-grams")
    code, out, _ = bench(capsys, *words, "submission=true", f"out={tmp_path}")
    packed = tmp_path / "submission" / "n-grams.zip"
    assert code == 0 and f"{packed}\n" in out
    with zipfile.ZipFile(packed) as file:
        assert sorted(file.namelist()) == ["AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "STS-B.tsv"]
        file.extractall(tmp_path / "x")
    head, *rows = read(tmp_path / "x" / "CoLA.tsv")
    sentences = [line[1] for line in read(glue / "CoLA" / "test.tsv")[1:]]
    assert head == ["index", "prediction"]
    assert [index for index, _ in rows] == [str(i) for i in range(50)]
    assert sum(row[1] == str(int("good" in text.split())) for row, text in zip(rows, sentences, strict=True)) >= 45
    _, *rows = read(tmp_path / "x" / "MNLI-mm.tsv")
    assert len(rows) == 12 and {label for _, label in rows} <= {*mini_glue.NLI}
    _, *rows = read(tmp_path / "x" / "STS-B.tsv")
    assert len(rows) == 12 and all(0 <= float(value) <= 5 for _, value in rows)
    assert len(read(tmp_path / "x" / "AX.tsv")) == 3

    # The rows are those that are measured without a submission, but for when and how long.
    bench(capsys, *words, f"out={tmp_path / 'plain'}")
    kinds = [sorted((place / "leaderboards").glob("rows/glue/*.json")) for place in (tmp_path, tmp_path / "plain")]
    assert [path.name for path in kinds[0]] == [path.name for path in kinds[1]] and len(kinds[0]) == 3
    for path, other in zip(*kinds, strict=True):
        a, b = (json.loads(one.read_text()) for one in (path, other))
        for key in ("task", "metrics", "config_sha256", "predictions", "selection"):
            assert a[key] == b[key], key

    # What was measured without them cannot be submitted; what was, can be packed again.
    code, out, _ = bench(capsys, *words, "submission=true", f"out={tmp_path}")
    assert code == 0 and "measured before" in out
    bare = f"root={tmp_path / 'plain' / 'leaderboards'}"
    code, _, error = bench(capsys, *words, "submission=true", f"out={tmp_path / 'later'}", bare)
    assert code == 2 and "was measured without the items that have no labels" in error


def test_a_trained_head_answers_too(glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (f"data.root={glue}", "task=cola@glue", "encoder=random:tiny", "seeds=100", "budget.tokens=60000")
    code, out, _ = bench(capsys, *words, "budget.epochs=12", "submission=true", f"out={tmp_path}")
    rows = read(tmp_path / "submission" / "random-tiny-finetune" / "CoLA.tsv")[1:]
    sentences = [line[1] for line in read(glue / "CoLA" / "test.tsv")[1:]]
    right = [label == str(int("good" in text.split())) for (_, label), text in zip(rows, sentences, strict=True)]
    assert code == 0 and sum(right) >= 45, out


def test_what_cannot_be_submitted_is_one_line(glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (glue / "CoLA").glob("[td][re]*.tsv"):
        target = tmp_path / "data" / "CoLA" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    (tmp_path / "data" / "CoLA" / "test.tsv").unlink()
    words = (f"data.root={tmp_path / 'data'}", "task=cola@glue", "arms=majority", "submission=true")
    code, _, error = bench(capsys, *words, f"out={tmp_path}")
    assert code == 2 and "items without labels (test.tsv) are not here" in error and len(error.splitlines()) <= 3
    code = cli.main(["bench", "cross_domain", "submission=true", "budget=smoke", f"out={tmp_path}"])
    assert code == 2 and "cross_domain has no items without labels" in capsys.readouterr().err
