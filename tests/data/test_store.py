"""The store: what it holds, against the input; damage is noticed."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import cache, seals
from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import WINDOW_FIELDS, Store
from ssl_suite.modalities.dna import DNA
from tests.data.fasta import random_bases, write

WORDS = dict(zip("ACGTN", range(5, 10), strict=True))


@pytest.fixture
def genome(tmp_path: Path) -> dict[str, str]:
    texts = {f"chr{i}": random_bases(n, i) for i, n in enumerate((5000, 3333, 90, 9))}
    texts["chr1"] = texts["chr1"][:1000] + "N" * 400 + texts["chr1"][1400:]
    for name, text in texts.items():
        write(tmp_path / "in" / f"{name}.fa", **{name: text})
    return texts


def built(tmp_path: Path, lines: list[str] | None = None, thorough: bool = False, **settings: object) -> Store:
    data = {"path": str(tmp_path / "in"), "cache": str(tmp_path / "cache"), "valid_fraction": 0.2}
    dna = DNA(**{"max_length": 102, **settings})  # type: ignore[arg-type]
    return prepare(dna, data, report=([] if lines is None else lines).append, thorough=thorough)


@pytest.mark.parametrize("overlap", [0, 30])
def test_values_windows_and_names(tmp_path: Path, genome: dict[str, str], overlap: int) -> None:
    store = built(tmp_path, overlap=overlap)
    assert store.values.dtype == np.uint8
    assert store.values.tolist() == [WORDS[letter] for text in genome.values() for letter in text]
    assert [store.record_name(i) for i in range(store.records)] == [f"{n}.fa:{n}" for n in genome]
    assert store.record_lengths.tolist() == [len(text) for text in genome.values()]
    bounds = np.concatenate([[0], np.cumsum(store.record_lengths)])
    covered = {}
    for name in ("train", "valid"):
        windows = store.split(name)
        assert [x.dtype for x in vars(windows).values()] == [np.int64, np.int32, np.int32]
        assert len(windows) == store.report["windows"][name] > 0
        assert windows.lengths_S.max() == 100
        assert windows.lengths_S.min() >= 8
        assert (bounds[windows.records_S] <= windows.starts_S).all()
        assert (windows.starts_S + windows.lengths_S <= bounds[windows.records_S + 1]).all()
        covered[name] = np.zeros(len(store.values), dtype=bool)
        for start, length in zip(windows.starts_S, windows.lengths_S, strict=True):
            covered[name][start : start + length] = True
            assert np.mean(store.values[start : start + length] == WORDS["N"]) <= 0.5
    assert not (covered["train"] & covered["valid"]).any()
    if overlap == 0:
        missing = ~(covered["train"] | covered["valid"])
        left_out = store.report["left_out"]
        assert missing.sum() == left_out["tokens in short tails"] + 100 * left_out["ambiguous windows"]
        assert left_out["ambiguous windows"] >= 3


def test_the_report_adds_up(tmp_path: Path, genome: dict[str, str]) -> None:
    report = built(tmp_path).report
    text = "".join(genome.values())
    assert report["composition"] == {base: text.count(base) for base in "ACGTN"}
    assert report["counts"] == {"bases": len(text), "ambiguous": 400}
    assert (report["records"], report["tokens"], report["files"]) == (4, len(text), 4)
    assert report["bytes"] == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    for amount, rate in (("bytes", "mb_per_s"), ("tokens", "mtokens_per_s")):
        # All three are rounded to a thousandth, each from the exact seconds: those must lie in both roundings.
        most, least = (report[amount] / 1e6 / (report[rate] + half) for half in (-0.0005, 0.0005))
        assert least - 0.0005 <= report["seconds"] <= most + 0.0005


@pytest.mark.parametrize(("k", "dtype"), [(3, np.uint8), (6, np.uint16), (8, np.int32)])
def test_the_smallest_type_that_holds_the_ids(tmp_path: Path, genome: dict[str, str], k: int, dtype: type) -> None:
    dna = DNA(tokenizer="kmer", k=k)
    store = built(tmp_path, tokenizer="kmer", k=k)
    assert store.values.dtype == dtype
    assert int(store.values.max()) < len(dna.vocabulary)
    assert store.record_lengths.tolist() == [n - k + 1 for n in (5000, 3333, 90)] + (
        [9 - k + 1] if 9 - k + 1 >= 8 else []
    )
    # Overlapping words share letters, so blocks of different splits stand k - 1 words apart.
    ends = {name: store.split(name).starts_S + store.split(name).lengths_S for name in ("train", "valid")}
    for start, record in zip(store.split("valid").starts_S, store.split("valid").records_S, strict=True):
        before = ends["train"][(store.split("train").records_S == record) & (ends["train"] <= start)]
        assert before.size == 0 or start - before.max() >= k - 1


def test_a_pickled_store_is_opened_again(tmp_path: Path, genome: dict[str, str]) -> None:
    store = built(tmp_path)
    content = pickle.dumps(store)
    assert len(content) < 500
    assert pickle.loads(content).values.tolist() == store.values.tolist()
    with pytest.raises(SuiteError, match=r"no split 'vald'\. Did you mean 'valid'\?"):
        store.split("vald")


def flip(path: Path, place: int, bit: int) -> None:
    """Turn one bit over, and leave the file's size, times of content and inode as they were."""
    status = path.stat()
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_one_bit_in_any_file_is_found_and_the_store_made_anew(tmp_path: Path, genome: dict[str, str]) -> None:
    store, draw = built(tmp_path), np.random.default_rng(0)
    time.sleep(0.03)
    built(tmp_path)  # notes that all is well
    files = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file() and path.stat().st_size}
    assert len(files) == 18  # two of the twenty are empty: no record has tags or bounds
    for path, content in files.items():
        for place in {0, len(content) - 1, int(draw.integers(len(content)))}:
            if content[place : place + 1] == b"\n":  # of a JSON file's end: no content
                continue
            flip(path, place, int(draw.integers(8)))
            with pytest.raises(SuiteError, match=f"{path.name}.*; prepare the data again"):
                seals.read(store.folder, "store.json")
            path.write_bytes(content)
    assert seals.read(store.folder, "store.json")["tokens"] == len(store.values)
    for name in ("values.bin", "train/lengths.bin", "store.json", "tokenizer/tokenizer.json"):
        flip(store.folder / name, 5, 0)
        lines: list[str] = []
        again = built(tmp_path, lines)
        assert again.folder == store.folder and (again.folder / name).stat().st_size
        assert sum(f"{name}: " in line and line.endswith("it is made anew") for line in lines) == 1, lines
        if name != "store.json":  # that one holds seconds
            assert (again.folder / name).read_bytes() == files[store.folder / name]
    with pytest.raises(IndexError):
        again.record_name(4)


def test_files_are_hashed_again_when_they_have_changed(
    tmp_path: Path, genome: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, hashed = built(tmp_path), []
    time.sleep(0.03)
    monkeypatch.setattr(cache, "sha256", lambda path, plain=cache.sha256: hashed.append(path) or plain(path))
    for thorough, touched, expected in ((False, False, 19), (False, False, 0), (True, False, 19), (False, True, 19)):
        if touched:
            (store.folder / "values.bin").touch()
        built(tmp_path, thorough=thorough)
        assert len([path for path in hashed if store.folder in path.parents]) == expected
        hashed.clear()


@pytest.mark.parametrize(
    ("name", "place", "value", "split"),
    [
        ("train/lengths", 3, 100 + (1 << 20), "train"),
        ("train/lengths", 3, 0, "train"),
        ("train/records", 3, 4, "train"),
        ("train/starts", -1, 8432, "train"),
        ("valid/starts", 1, 1 << 62, "valid"),
        ("valid/starts", 1, 0, "valid"),
        ("valid/starts", 0, 7, "train"),
    ],
)
def test_windows_that_lie_where_they_cannot(
    tmp_path: Path, genome: dict[str, str], name: str, place: int, value: int, split: str
) -> None:
    """Of a store that is opened without its hashes."""
    store = built(tmp_path)
    path = store.folder / f"{name}.bin"
    numbers = np.fromfile(path, WINDOW_FIELDS[name.partition("/")[2]])
    numbers[place] = value
    numbers.tofile(path)
    with pytest.raises(SuiteError, match=rf"{split}: window \d+ is damaged; prepare the data again"):
        Store(store.folder)


def test_a_file_of_another_size_and_an_index_of_other_entries(tmp_path: Path, genome: dict[str, str]) -> None:
    store = built(tmp_path)
    index = json.loads((store.folder / "store.json").read_text())
    for change in ({"dtype": "uint9"}, {"tokens": -1}, {"width": "x"}, {"windows": None}, {"report": {}}):
        (store.folder / "store.json").write_text(json.dumps(index | change))
        with pytest.raises(SuiteError, match="prepare the data again"):
            Store(store.folder)
    (store.folder / "store.json").write_text("{")
    with pytest.raises(SuiteError, match="is not JSON"):
        Store(store.folder)
