"""Recipes of reading and tagging: what is joined, what is left out, and what counts as unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ssl_suite.data.recipes import glue, reading, treebanks


def written(folder: Path, **tables: list[dict[str, Any]]) -> list[Path]:
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return [folder / f"{name}.parquet" for name in tables]


def squad(folder: Path) -> list[Path]:
    contexts = [{"context_id": i, "context": f"text {i} says {i}", "in_xquad": i == 2} for i in range(4)]
    questions = [
        {"id": f"q{i}", "context_id": i % 4, "question": f"what {i}?", "answers": [str(i % 4), "x"]}
        | {"answer_start": [5, 0], "title": f"t{i % 4}", "in_xquad": i % 4 == 2}
        | {"proxy_split": "eval" if i % 4 == 3 else "train"}
        for i in range(8)
    ]
    return written(folder, contexts=contexts, questions=questions)


def test_questions_meet_their_texts_and_paragraphs_of_xquad_are_left_out(tmp_path: Path) -> None:
    rows = reading.squad_proxy(squad(tmp_path)).to_pylist()
    assert [(row["id"], row["split"]) for row in rows] == [
        *(("q0", "train"), ("q1", "train"), ("q3", "test")),
        *(("q4", "train"), ("q5", "train"), ("q7", "test")),
    ]
    assert all(row["context"][row["answer_start"][0]] == row["answers"][0] for row in rows)
    assert {row["title"] for row in rows if row["split"] == "train"}.isdisjoint({"t3"})


def test_languages_are_parts_with_the_same_questions(tmp_path: Path) -> None:
    langs = ("en", "zh")
    contexts = [{"lang": lang, "context_id": 0, "title": "t", "context": f"{lang} seven"} for lang in langs]
    questions = [
        {"lang": lang, "id": "a", "context_id": 0, "question": f"{lang}?", "answer": "seven", "answer_start": 3}
        for lang in langs
    ]
    cmrc = [
        {"split": split, "title": "c", "context": "七", "id": split, "question": "?", "answers": ["七", "7"]}
        | {"answer_start": [0, -1]}
        for split in ("trial", "dev")
    ]
    paths = [*squad(tmp_path), *written(tmp_path, xc=contexts, xq=questions, cmrc=cmrc)]
    rows = reading.cross_lingual(paths).to_pylist()
    found = {row["split"]: row for row in rows if row["split"] not in ("train", "test")}
    assert set(found) == {"en", "zh", "cmrc"} and found["en"]["id"] == found["zh"]["id"] == "a"
    assert found["zh"]["context"] == "zh seven" and found["zh"]["answers"] == ["seven"]
    assert found["cmrc"]["id"] == "dev" and found["cmrc"]["answers"] == ["七", "7"]


def test_words_that_train_lacks_are_a_part_of_their_own(tmp_path: Path) -> None:
    def sentence(name: str, *words: str) -> dict[str, Any]:
        return {"sent_id": name, "tokens": list(words), "upos": [word.upper() for word in words], "head": [0]}

    paths = written(
        tmp_path,
        x_train=[sentence("1", "the", "cat")],
        x_test=[sentence("2", "the", "dog"), sentence("3", "cat")],
        y_test=[sentence("4", "der", "hund")],
    )
    rows = treebanks.tags(paths).to_pylist()
    assert [(row["split"], row["sent_id"]) for row in rows] == [
        *(("x_train", "1"), ("x_test", "2"), ("x_test", "3"), ("y_test", "4"), ("unseen", "2")),
    ]
    assert rows[-1]["tokens"] == ["the", "dog"] and rows[-1]["upos"] == ["_", "DOG"]


def test_no_premise_of_snli_is_in_both_parts(tmp_path: Path) -> None:
    rows = [
        {"idx": i, "sentence1": f"premise {i // 3}", "sentence2": "A man is outside.", "label": "neutral"}
        for i in range(90)
    ]
    made = glue.snli(written(tmp_path, extra_snli_dev=rows)).to_pylist()
    parts = {split: {row["sentence1"] for row in made if row["split"] == split} for split in ("train", "eval")}
    assert parts["train"].isdisjoint(parts["eval"]) and len(parts["eval"]) == 6
    assert len({(row["split"], row["group"]) for row in made}) == 30  # a group a premise
