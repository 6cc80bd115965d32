"""Alignment: ranks beside a naive loop, planted spaces, words found in sentences, and the command on the samples."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.__main__ import main
from ssl_suite.analysis import alignment
from ssl_suite.data.recipes import bilingual


def space(words: list[str], seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {word: draw.normal(size=(2, 6)) for word in words}


def naive(source: dict, target: dict, pairs: list[tuple[str, str]], layer: int) -> float:
    """Each pair by itself, its target among the targets of all pairs but the word's other translations."""
    scores = []
    for one, two in pairs:
        rivals = {b for _, b in pairs} - {b for a, b in pairs if a == one} | {two}
        x = source[one][layer] / np.linalg.norm(source[one][layer])
        cosines = {b: float(x @ target[b][layer] / np.linalg.norm(target[b][layer])) for b in rivals}
        scores.append(1 / (1 + sum(value > cosines[two] for b, value in cosines.items() if b != two)))
    return sum(scores) / len(scores)


def test_ranks_are_those_of_a_loop() -> None:
    en, other = [f"e{i}" for i in range(30)], [f"o{i}" for i in range(30)]
    source, target = space(en, 1), space(other, 2)
    pairs = [*zip(en, other, strict=True), ("e0", "o3"), ("e5", "o0"), ("e5", "o9")]
    rows = alignment.ranked(source, target, pairs, 0)
    for layer in (0, 1):
        assert rows[layer]["score"] == pytest.approx(naive(source, target, pairs, layer))
        assert rows[layer]["low"] <= rows[layer]["score"] <= rows[layer]["high"]


def test_equal_spaces_give_one_and_random_ones_chance() -> None:
    words = [f"w{i}" for i in range(400)]
    pairs = [(word, word) for word in words]
    same = space(words, 0)
    assert all(row["score"] == 1 for row in alignment.ranked(same, same, pairs, 0))
    row = alignment.ranked(same, space(words, 1), pairs, 0)[0]
    assert row["chance"] == pytest.approx((1 / np.arange(1, 401)).sum() / 400)
    assert row["score"] == pytest.approx(row["chance"], abs=0.02)


def test_ties_share_their_ranks() -> None:
    same = {f"w{i}": np.ones((1, 3)) for i in range(9)}
    row = alignment.ranked(same, same, [(word, word) for word in same], 0)[0]
    assert row["score"] == pytest.approx(1 / 5)


def test_words_are_found_whole_and_in_scripts_without_spaces() -> None:
    look = alignment._finder({"cat", "猫咪", "猫", "咪"})
    assert look("a cat, concatenated") == [("cat", 2, 5)]
    look = alignment._finder({"苹果", "苹果公司", "果"})
    assert look("他在苹果公司吃苹果") == [("苹果公司", 2, 6), ("苹果", 7, 9)]


def test_the_copy_shares_no_letter_and_has_every_word() -> None:
    text = "It's 9 o'clock: the Fox jumps."
    assert bilingual.letters(text) == "it s o clock the fox jumps"
    fake = bilingual.copied(text)
    assert len(fake) == len(bilingual.letters(text)) and not set(fake) & set("abcdefghijklmnopqrstuvwxyz")
    assert fake == fake.lower() and fake.isascii() is False


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["encoder=random:tiny", "budget=smoke", "sentences=40", f"out={tmp_path}", "threads=1"]
    assert main(["analyse", "alignment", *words]) == 0
    rows = list(csv.DictReader((tmp_path / "alignment-en-fake.csv").open(encoding="utf-8")))
    assert {row["contexts"] for row in rows if row["what"] == "words"} == {"disjoint", "parallel"}
    # A copy has the units of its pair only by chance: an untrained network finds nothing.
    assert all(float(row["low"]) < 4 * float(row["chance"]) for row in rows if row["what"] == "words")
    assert (tmp_path / "alignment-en-fake-layers.dark.png").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["analyse", "alignment", "pair=en-zh", f"out={tmp_path}"]) == 2
    assert "encoder= is missing" in capsys.readouterr().err
