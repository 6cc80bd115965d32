"""The leakage report against sets of strings, on data with planted repeats."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from Bio.Seq import Seq
from rich.console import Console

from ssl_suite.core.records import Encoded, Frame, Record
from ssl_suite.data.near_copies import Index, near_copies
from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store, Windows
from ssl_suite.data.verify import merge_windows, quantiles, shared_tokens, table, verify
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.protein import Protein
from ssl_suite.modalities.signals import SignalModality
from tests.data.fasta import random_bases


def csv_store(tmp_path: Path, modality: Modality, rows: list[dict[str, str]]) -> Store:
    path = tmp_path / "x.csv"
    lines = [",".join(rows[0])] + [",".join(row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return prepare(modality, {"path": str(path), "cache": str(tmp_path / "c")}, report=lambda line: None)


def store_of(tmp_path: Path, rows: list[tuple[str, str]], **settings: object) -> tuple[Store, DNA]:
    dna = DNA(**{"max_length": 52, **settings})  # type: ignore[arg-type]
    return csv_store(tmp_path, dna, [{"sequence": text, "split": split} for text, split in rows]), dna


def shown(result: dict[str, Any]) -> dict[str, list[str]]:
    """The cells of the printed table, by the first of a line."""
    out = io.StringIO()
    Console(file=out, width=120).print(table(result))
    lines = ([cell.strip() for cell in line.split("│")[1:-1]] for line in out.getvalue().splitlines() if "│" in line)
    return {first: cells for first, *cells in lines}


def canonical(text: str) -> str:
    return min(text, str(Seq(text).reverse_complement()))


def test_planted_repeats_are_found(tmp_path: Path) -> None:
    rows = [(random_bases(n, n), "train") for n in (50, 60, 75, 120, 200)]
    rows += [(random_bases(n, n), "valid") for n in (51, 61, 44)]
    rows.append((rows[2][0], "train"))  # a repeat within a split
    rows.append((rows[0][0], "valid"))  # a leak
    rows.append((str(Seq(rows[1][0]).reverse_complement()), "valid"))  # a leak on the other strand
    rows.append((rows[4][0][50:100] + "ACGTACGTAA", "valid"))  # its first window is the second one of a record
    rows.append(("N" * 10 + random_bases(40, 1), "train"))
    store, dna = store_of(tmp_path, rows)
    result = verify(store, dna)

    texts = {name: [] for name in ("train", "valid")}
    for text, split in rows:
        texts[split] += [text[i : i + 50] for i in range(0, len(text), 50) if len(text) - i >= 8]
    keys = {name: [canonical(text) for text in found] for name, found in texts.items()}
    for name, found in texts.items():
        assert result[name]["windows"] == len(found)
        assert result[name]["tokens"] == sum(map(len, found))
        assert result[name]["duplicates"] == len(found) - len(set(keys[name]))
        assert result[name]["lengths"]["min"] == min(map(len, found))
    shared = [key in set(keys["train"]) for key in keys["valid"]]
    assert result["overlap"]["shared_windows"] == sum(shared) == 2
    assert result["overlap"]["shared_windows_share"] == sum(shared) / len(shared)
    assert result["overlap"]["shared_records"] == 2
    assert result["overlap"]["shared_tokens"] == 0
    assert result["duplicate_records"] == 3
    assert result["silent_rate"] == 10 / sum(len(text) for found in texts.values() for text in found)
    assert result["records"] == len(rows)


def test_blocks_share_no_token_even_with_overlapping_windows(tmp_path: Path) -> None:
    store, dna = store_of(tmp_path, [(random_bases(20_000, 3), "")], overlap=40)
    assert len(store.split("valid")) > 10
    overlap = verify(store, dna)["overlap"]
    assert (overlap["shared_tokens"], overlap["shared_windows"], overlap["shared_records"]) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_shared_tokens_against_a_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)

    def random_windows() -> Windows:
        return Windows(draw.integers(0, 300, 8), draw.integers(1, 30, 8), np.zeros(8, dtype=np.int32))

    covered = []
    pair = random_windows(), random_windows()
    for windows in pair:
        mask = np.zeros(400, dtype=bool)
        for start, length in zip(windows.starts_S, windows.lengths_S, strict=True):
            mask[start : start + length] = True
        covered.append(mask)
        starts, ends = merge_windows(windows)
        assert (ends - starts).sum() == mask.sum()
        assert (starts[1:] > ends[:-1]).all()
    assert shared_tokens(*pair) == (covered[0] & covered[1]).sum() > 0


def test_quantiles_are_lengths_that_occur() -> None:
    assert quantiles(np.array([5, 1, 9, 7])) == {"min": 1, "q25": 1, "median": 5, "q75": 7, "max": 9}


def test_the_table_shows_the_numbers(tmp_path: Path) -> None:
    store, dna = store_of(tmp_path, [(random_bases(5000, 3), "")])
    result = verify(store, dna)
    rows = shown(result)
    assert rows["tokens"] == ["5,000", *(f"{result[name]['tokens']:,}" for name in ("train", "valid"))]
    assert rows["tokens also in training"][-1] == "0"
    assert rows["near copies in training (shared 16-mers of either strand, 30%)"][-1] == "0 (0.00%)"


def jaccard(one: set[int], two: set[int]) -> float:
    return len(one & two) / len(one | two) if one | two else 0.0


@pytest.mark.parametrize("least", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("kinds", [3, 40, 10_000])
def test_near_copies_against_all_pairs(kinds: int, least: float) -> None:
    """Few kinds of features: nearly all windows are copies. Many: those that were made from one another."""
    draw = np.random.default_rng(kinds)

    def window() -> set[int]:
        return set(draw.integers(0, kinds, draw.integers(0, 30)).tolist())

    valid = [window() for _ in range(60)] + [set()]
    train = [window() for _ in range(150)] + [set()]
    for one in valid[:30]:  # another copy of each, with some features changed
        train.append({value if draw.random() < 0.8 else int(draw.integers(kinds)) for value in one})
    index = Index([np.array(sorted(one), np.uint64) for one in valid], least)
    for first in range(0, len(train), 50):  # more than one call, with the index as the earlier ones left it
        some = [np.array(list(one), np.uint64) for one in train[first : first + 50]]
        index.look_up(some, list(range(first, first + len(some))))
    expected = [max((jaccard(one, other) for other in train), default=0) >= least for one in valid]
    assert 0 < sum(expected) < len(valid)
    assert (index.partner_V >= 0).tolist() == expected
    for one, similar, partner in zip(valid, index.similar_V, index.partner_V.tolist(), strict=True):
        if partner >= 0:
            assert similar == jaccard(one, train[partner]) >= least


def changed(text: str, share: float, letters: str, seed: int) -> str:
    draw = np.random.default_rng(seed)
    hit = draw.random(len(text)) < share
    return "".join(str(draw.choice(list(letters))) if hit[i] else letter for i, letter in enumerate(text))


def test_planted_homologs_are_found(tmp_path: Path) -> None:
    letters = "ACDEFGHIKLMNPQRSTVWY"
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list(letters), 100)) for _ in range(20)]
    rows = [{"id": f"t{i}", "sequence": text, "split": "train"} for i, text in enumerate(texts)]
    near = [changed(texts[i], 0.04, letters, i) for i in range(5)]
    far = [changed(texts[i], 0.5, letters, i) for i in range(5, 10)]
    rows += [{"id": f"v{i}", "sequence": text, "split": "valid"} for i, text in enumerate(near + far)]
    protein = Protein(max_length=128)
    result = near_copies(csv_store(tmp_path, protein, rows), protein)
    assert result is not None

    def words(text: str) -> set[str]:
        return {text[i : i + 6] for i in range(len(text) - 5)}

    similar = [max(len(words(v) & words(t)) / len(words(v) | words(t)) for t in texts) for v in near + far]
    assert result["windows"] == sum(value >= 0.5 for value in similar) == 5
    assert result["looked_at"] == 10
    assert result["share"] == 0.5
    assert result["kinship"] == "shared 6-mers"
    names = [(example["valid"], example["train"]) for example in result["examples"]]
    assert names == [(f"x.csv:v{i}", f"x.csv:t{i}") for i in range(5)]
    assert [example["similarity"] for example in result["examples"]] == pytest.approx(similar[:5], abs=0.001)


def test_the_other_strand_cut_at_another_place_is_found(tmp_path: Path) -> None:
    genome = random_bases(5000, 1)
    copy = str(Seq(genome[333:1333]).reverse_complement())
    rows = [(genome, "train"), (copy, "valid"), (random_bases(1000, 2), "valid")]
    store, dna = store_of(tmp_path, rows, max_length=202)
    result = verify(store, dna)["overlap"]
    assert result["shared_windows"] == 0
    assert result["near_copies"]["windows"] == 5
    assert result["near_copies"]["looked_at"] == 10


def test_unknown_tokens_are_counted(tmp_path: Path) -> None:
    rows = [("ACGT" * 20 + "N" + "ACGT" * 20, "train"), (random_bases(100, 1), "valid")]
    store, dna = store_of(tmp_path, rows, tokenizer="kmer", k=4, overlap=20)
    result = verify(store, dna)
    assert result["unknown_rate"] * sum(result[name]["tokens"] for name in ("train", "valid")) == pytest.approx(4)
    assert result["silent_rate"] >= result["unknown_rate"]


def test_speakers_of_both_splits(tmp_path: Path) -> None:
    people = {"train": "aabbccdd", "valid": "cddxy"}
    rows = [
        {"sequence": random_bases(40, 10 * len(split) + i), "split": split, "speaker": name}
        for split, names in people.items()
        for i, name in enumerate(names)
    ]
    dna = DNA(max_length=52)
    result = verify(csv_store(tmp_path, dna, rows), dna)
    assert result["overlap"]["speakers"] == {"train": 4, "valid": 4, "shared": 2, "shared_records": 3}
    assert shown(result)["speakers also in training"][-1] == "2"


class Beats(SignalModality):
    """Bytes of a file as frames of four."""

    name, suffixes = "beats", (".beat",)

    def __init__(self) -> None:
        self.frame, self.max_length = Frame("uint8", 4, 4), 34
        self.codes, self.units = 4, "signal"

    def read(self, path: Path, fault: Any, column: Any = None, id_column: Any = None) -> Iterator[Record]:
        yield Record(path.stem, path.read_bytes(), str(path), {"split": path.stem.split("_")[0]})

    def encode(self, record: Record) -> Encoded:
        return Encoded(np.frombuffer(record.data, np.uint8).reshape(-1, 4))

    def fingerprint(self) -> dict[str, Any]:
        return {"name": self.name}


def test_signals_have_no_unknown_tokens(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    data = [draw.integers(0, 256, 4 * 32, np.uint8).tobytes() for _ in range(6)]
    for i, one in enumerate(data):
        (tmp_path / f"train_{i}.beat").write_bytes(one)
    (tmp_path / "valid_0.beat").write_bytes(data[0])
    (tmp_path / "valid_1.beat").write_bytes(data[1][::-1])
    beats = Beats()
    store = prepare(beats, {"path": str(tmp_path), "cache": str(tmp_path / "c")}, report=lambda line: None)
    result = verify(store, beats)
    assert "silent_rate" not in result
    assert (result["tokens"], result["overlap"]["shared_windows"]) == (8 * 32, 1)
    assert result["overlap"]["near_copies"] is None
    table(result)
