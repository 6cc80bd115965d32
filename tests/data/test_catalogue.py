"""The catalogue: its entries are complete, composable, and true to the local files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ssl_suite.config import compose
from ssl_suite.data import catalogue
from ssl_suite.data.cache import content_hash
from ssl_suite.data.catalogue import list_entries, read_entry
from ssl_suite.errors import SuiteError
from ssl_suite.modalities import sequence_files


def test_entries_are_listed_with_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    entries = {entry.name: entry for entry in list_entries()}
    assert {"yeast", "ecoli536", "swissprot2014_sample"} <= set(entries)
    assert "files" not in entries
    assert {entry.state for entry in entries.values()} == {"absent"}
    for name, size in (("yeast", entries["yeast"].bytes), ("ecoli536", 5)):
        path = tmp_path / entries[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
    states = {entry.name: entry.state for entry in list_entries(tmp_path)}
    assert (states["yeast"], states["ecoli536"], states["swissprot2014_sample"]) == ("present", "wrong size", "absent")
    monkeypatch.setenv("SSL_DATA_DIR", str(tmp_path))
    assert {entry.name: entry.state for entry in list_entries()} == states


def test_every_entry_composes_to_the_keys_of_data_files() -> None:
    keys = set(compose(["modality=dna", "objective=mlm"])["data"])
    for entry in list_entries():
        data = compose(["modality=dna", "objective=mlm", f"data={entry.name}"])["data"]
        assert set(data) == keys | {"source"}
        assert data["name"] == entry.name
        assert data["source"]["sha256"] == entry.sha256
        assert {data["column"], data["id_column"]} <= set(entry.columns)


def test_an_incomplete_entry_is_refused() -> None:
    source = dict.fromkeys(catalogue.REQUIRED, "x") | {"bytes": 1, "sha256": "0" * 64}
    read_entry(Path("a.yaml"), {"name": "a", "source": source}, None)
    broken = {("licens" if name == "licence" else name): value for name, value in source.items()}
    with pytest.raises(SuiteError, match=r"a\.yaml: source has missing or unknown keys licence, licens;"):
        read_entry(Path("a.yaml"), {"name": "a", "source": broken}, None)
    with pytest.raises(SuiteError, match="64 hexadecimal digits"):
        read_entry(Path("a.yaml"), {"name": "a", "source": source | {"sha256": "12"}}, None)


@pytest.mark.shared
def test_entries_describe_the_local_files() -> None:
    root = Path(os.environ["SSL_DATA_DIR"])

    def stop(error: SuiteError) -> None:
        raise error

    for entry in list_entries(root):
        assert entry.state == "present"
        path = root / entry.file
        assert content_hash(path) == entry.sha256
        splits: dict[str, int] = {}
        for record in sequence_files.read(path, stop, "sequence"):
            split = record.tags.get("split", "all")
            splits[split] = splits.get(split, 0) + 1
        assert splits == entry.splits
