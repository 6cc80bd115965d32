"""Tokenisers are trained on the training side alone: no token of theirs can have come from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import SPECIAL_TOKENS, Record
from ssl_suite.data import split
from ssl_suite.data.prepare import prepare
from ssl_suite.data.sides import Sides, assign_sides
from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.music import Music
from ssl_suite.modalities.protein import Protein
from ssl_suite.modalities.text import Text
from tests.modalities.made_music import piece

LENGTH = 10  # of a word
SPLITS = ("train", "train", "train", "valid", "test")


def words(letters: str, count: int = 240) -> list[str]:
    draw = np.random.default_rng(0)
    return ["".join(draw.choice(list(letters), LENGTH)) for _ in range(count)]


def texts(letters: str, between: str) -> list[str]:
    """Records of a word of their own each, often enough to be learnt as one token, with other letters between."""
    draw = np.random.default_rng(1)
    gaps = ["".join(draw.choice(list(between), 3)) for _ in range(9973)]
    return ["".join(word + gaps[(30 * i + j) % 9973] for j in range(30)) for i, word in enumerate(words(letters))]


def table(path: Path, column: str, texts: list[str], splits: bool) -> None:
    rows = [f"r{i},{text}" + f",{SPLITS[i % 5]}" * splits for i, text in enumerate(texts)]
    path.write_text(f"id,{column}" + ",split" * splits + "\n" + "\n".join(rows) + "\n")


Make = Callable[[], Modality]
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
CASES: dict[str, tuple[Make, str, str, str]] = {  # the letters of words, and those between
    "dna": (lambda: DNA(tokenizer="bpe", vocab_size=6000, max_length=34), "sequence", "ACGT", "ACGT"),
    "protein": (
        lambda: Protein(tokenizer="bpe", vocab_size=4000, max_length=34),
        "sequence",
        "EFIKLPQRSVWY",
        "EFIKLPQ",
    ),
    "bpe": (lambda: Text(tokenizer="bpe", vocab_size=3000, max_length=34), "text", ALPHABET, " "),
    "unigram": (lambda: Text(tokenizer="unigram", vocab_size=3000, max_length=34), "text", ALPHABET, " "),
}


def given(store: Store) -> np.ndarray:
    return np.fromfile(store.folder / "records" / "given.bin", np.uint8)


def sides_of(store: Store, modality: Modality) -> tuple[str, str]:
    """The text of the training records, and of all others, without white space."""
    texts: dict[bool, list[str]] = {True: [], False: []}
    for i, (start, length) in enumerate(zip(store.record_starts, store.record_lengths, strict=True)):
        spelt = modality.decode(store.values[start : start + length])
        texts[bool(given(store)[i] == split.TRAIN)].append("".join(spelt.split()))
    return "|".join(texts[True]), "|".join(texts[False])


def check(store: Store, modality: Modality, letters: str) -> None:
    """Every token is spelt in the training records, and there were others to learn."""
    train, others = sides_of(store, modality)
    tokens = [token for token in modality.vocabulary.tokens if token not in SPECIAL_TOKENS]
    learnt = [token.strip("▁").removeprefix("##") for token in tokens]
    assert [token for token in learnt if len(token) > 1 and token not in train] == []
    assert sum(len(token) >= 4 for token in learnt) > 10
    assert sum(word in others and word not in train for word in words(letters)) > 5


@pytest.mark.parametrize("splits", [True, False], ids=["column", "records"])
@pytest.mark.parametrize("name", CASES)
def test_no_token_comes_from_a_record_that_is_held_back(tmp_path: Path, name: str, splits: bool) -> None:
    make, column, letters, between = CASES[name]
    table(tmp_path / "x.csv", column, texts(letters, between), splits)
    modality = make()
    data = {"path": str(tmp_path), "cache": str(tmp_path / "cache"), "valid_fraction": 0.1}
    store = prepare(modality, data, report=lambda line: None)
    check(store, modality, letters)
    assert store.report["split"] == ("given split column" if splits else "whole records")
    windows = {name: np.unique(store.split(name).records_S) for name in ("train", "valid")}
    assert {name: {*given(store)[at].tolist()} for name, at in windows.items()} == {
        "train": {split.TRAIN},
        "valid": {split.VALID},
    }
    assert store.report["left_out"]["test records"] == (48 if splits else 0)


@pytest.mark.parametrize("name", ["dna", "bpe"])
def test_no_token_comes_from_a_block_that_is_held_back(tmp_path: Path, name: str) -> None:
    """One long record: the words of a stretch of it occur nowhere else."""
    make, _, letters, between = CASES[name]
    text = "".join(texts(letters, between))
    path = tmp_path / ("x.txt" if name == "bpe" else "x.fa")
    path.write_text(text if name == "bpe" else f">r\n{text}\n")
    modality = make()
    data = {"path": str(path), "cache": str(tmp_path / "cache"), "valid_fraction": 0.1}
    store = prepare(modality, data, report=lambda line: None)
    check(store, modality, letters)
    assert "letters, each a record" in store.report["split"]
    whole = "".join(modality.decode(store.values).split())
    assert whole == "".join(text.split())  # nothing is lost between the blocks
    train, others = map(len, sides_of(store, modality))
    assert 0.05 < others / (train + others) < 0.15
    again = make()
    assert prepare(again, data, report=lambda line: None).folder == store.folder
    assert again.vocabulary == modality.vocabulary


def test_pieces_of_music_are_held_back_whole(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i}.mid").write_bytes(piece(seed=i, notes=200))
    base, music = Music(), Music(vocab_size=1200)
    data = {"path": str(tmp_path), "cache": str(tmp_path / "cache"), "valid_fraction": 0.2}
    store = prepare(music, data, report=lambda line: None)
    assert store.report["split"] == "whole records"
    train = ""
    for i in np.flatnonzero(given(store) == split.TRAIN).tolist():
        name = store.record_name(i).partition(":")[0]
        ids = base.encode(Record(name, (tmp_path / name).read_bytes(), name)).values
        train += f",{','.join(map(str, ids))}, "
    assert 1 <= np.count_nonzero(given(store) == split.VALID) <= 3
    bpe = music._bpe
    assert bpe is not None
    merged = [bpe.parts[at : at + size] for at, size in zip(bpe.starts, bpe.sizes, strict=True) if size > 1]
    assert len(merged) > 400
    assert all(f",{','.join(map(str, ids))}," in train for ids in merged)
    for path in list(tmp_path.glob("*.mid"))[1:]:
        path.unlink()
    with pytest.raises(SuiteError, match="there is only one to divide; give more, or use a tokeniser that is not"):
        prepare(Music(vocab_size=1200), data, report=lambda line: None)


def test_copies_are_on_one_side_and_of_a_cut_record_on_none() -> None:
    dna = DNA(tokenizer="bpe", max_length=34)
    long = ["".join(np.random.default_rng(i).choice(list("ACGT"), 4000)) for i in range(6)]
    turned = long[2].translate(str.maketrans("ACGT", "TGCA"))[::-1]
    records = [Record(str(i), text, "x") for i, text in enumerate([*long, turned, long[0].lower()])]
    sides = assign_sides(dna, lambda file: iter(records), 1, 0.1, "x")
    assert sides.counts_R[6:].tolist() == [1, 1] and sides.sides_P[-2:].tolist() == [split.COPY] * 2
    for i, record in enumerate(records[:6]):
        assert "".join(part.data for part, _ in sides.parts(dna, 0, i, record)) == long[i]
    seen = "".join(part.data for part in sides.training(dna, lambda file: iter(records)))
    assert 0.8 < len(seen) / 24_000 < 0.95


def test_sides_survive_a_file(tmp_path: Path) -> None:
    assert Sides.load(tmp_path) is None
    sides = Sides("so", 7, np.array([0, 2]), np.array([1, 1, 2]), np.array([1, 2, 1, 2], np.uint8))
    sides.save(tmp_path)
    found = Sides.load(tmp_path)
    assert found is not None and (found.described, found.block) == ("so", 7)
    parts = [side for _, side in found.parts(DNA(), 1, 0, Record("r", "ACGTACGTAC", "x"))]
    assert parts == [1, 2]
