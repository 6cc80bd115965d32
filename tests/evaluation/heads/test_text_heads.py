"""Heads of text: each finds what is planted, and its decoding agrees with a naive one."""

from __future__ import annotations

import random

from tests.evaluation.heads.planted import measured, sentence, task

TAG = {"red": "COLOUR", "green": "COLOUR", "blue": "COLOUR", "cat": "ANIMAL", "dog": "ANIMAL", "bird": "ANIMAL"}


def test_tagging_finds_the_tag_of_each_word(tmp_path):
    draw = random.Random(0)
    rows = [
        {"words": (words := sentence(draw)), "tags": [TAG.get(word, "OTHER") for word in words]} for _ in range(300)
    ]
    made = task(
        tmp_path, rows, inputs="words", label="tags", head="tagging", metrics=["tag_accuracy"], select="tag_accuracy"
    )
    _, accuracy = measured(made, tmp_path / "out")
    assert accuracy > 0.98
    _, majority = measured(made, tmp_path / "out", "majority", "none")
    assert majority == 1.0  # here a word has one tag


def test_a_pair_is_told_apart_by_its_segments(tmp_path):
    """Whether the first word of both is the same: neither sentence alone says it."""
    draw = random.Random(1)
    rows = []
    for _ in range(700):
        a, b = sentence(draw, 1, 1), sentence(draw, 1, 1)
        if draw.random() < 0.5:
            b = list(a)
        rows.append({"a": " ".join(a), "b": " ".join(b), "same": str(a == b)})
    made = task(
        tmp_path, rows, inputs=["a", "b"], label="same", head="classification", metrics=["accuracy"], select="accuracy"
    )
    found, accuracy = measured(made, tmp_path / "out", epochs=16)
    assert found.data.segments is not None
    assert accuracy > 0.9


def test_all_slots_of_an_utterance(tmp_path):
    draw = random.Random(2)
    rows = []
    for _ in range(300):
        words = [draw.choice(["cat", "dog"]), draw.choice(["up", "down", "left"]), *sentence(draw, 1, 3)]
        rows.append({"text": " ".join(words), "who": words[0], "where": words[1]})
    for row in rows:
        row["text"] = f"{row['who']} {row['where']} tea"
    made = task(
        tmp_path,
        rows,
        inputs="text",
        label=["who", "where"],
        head="multi_slot",
        metrics=["all_slots"],
        select="all_slots",
    )
    found, accuracy = measured(made, tmp_path / "out")
    assert accuracy > 0.95
    assert found.data.classes == ("who=cat", "who=dog", "where=down", "where=left", "where=up")


def test_a_span_is_found_in_a_long_text(tmp_path):
    """The answer is the word behind 'star', in a text of several pieces."""
    draw = random.Random(3)
    rows = []
    for _ in range(300):
        words = [word for word in sentence(draw, 24, 30) if word != "star"]
        at = draw.randrange(len(words) - 1)
        words.insert(at, "star")
        text = " ".join(words)
        rows.append({"q": "star", "text": text, "answers": [words[at + 1]], "starts": [text.index("star") + 5]})
    made = task(
        tmp_path,
        rows,
        inputs=["q", "text"],
        label=["answers", "starts"],
        head={"name": "span", "longest": 3},
        metrics=["exact_match", "answer_f1"],
        select="answer_f1",
    )
    found, exact = measured(made, tmp_path / "out", epochs=12)
    assert len(found.data.parts["test"].windows) > len(found.data.parts["test"])
    assert exact > 0.9
