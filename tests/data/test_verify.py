"""The leakage report against sets of strings, on data with planted repeats."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from Bio.Seq import Seq

from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store, Windows
from ssl_suite.data.verify import merged, quantiles, shared_tokens, table, verify
from ssl_suite.modalities.dna import DNA


def random_bases(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def store_of(tmp_path: Path, rows: list[tuple[str, str]], **settings: object) -> tuple[Store, DNA]:
    path = tmp_path / "x.csv"
    path.write_text("sequence,split\n" + "".join(f"{text},{split}\n" for text, split in rows))
    dna = DNA(**{"max_length": 52, **settings})  # type: ignore[arg-type]
    return prepare(dna, {"path": str(path), "cache": str(tmp_path / "c")}, report=lambda line: None), dna


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
        starts, ends = merged(windows)
        assert (ends - starts).sum() == mask.sum()
        assert (starts[1:] > ends[:-1]).all()
    assert shared_tokens(*pair) == (covered[0] & covered[1]).sum() > 0


def test_quantiles_are_lengths_that_occur() -> None:
    assert quantiles(np.array([5, 1, 9, 7])) == {"min": 1, "q25": 1, "median": 5, "q75": 7, "max": 9}


def test_the_table_shows_the_numbers(tmp_path: Path) -> None:
    from rich.console import Console

    store, dna = store_of(tmp_path, [(random_bases(5000, 3), "")])
    result = verify(store, dna)
    out = io.StringIO()
    Console(file=out, width=120).print(table(result))
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in out.getvalue().splitlines() if "│" in line}
    assert [cell.strip() for cell in rows["tokens"]] == ["5,000"] + [
        f"{result[name]['tokens']:,}" for name in ("train", "valid")
    ]
    assert rows["tokens also in training"][-1].strip() == "0"
