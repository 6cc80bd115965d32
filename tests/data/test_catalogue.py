"""The catalogue: its entries are complete, composable, and true to the local files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.registry import MODALITIES, build
from ssl_suite.data import catalogue
from ssl_suite.data.cache import content_hash
from ssl_suite.data.catalogue import Entry, list_entries, places, read_source, state
from ssl_suite.data.sources import resolve_entry
from ssl_suite.settings.config import compose

GOOD: dict[str, Any] = {
    "title": "a title",
    "modality": "dna",
    "use": "task",
    "official": "https://a.example/",
    "columns": {},
    "splits": {"all": 1},
    "licence": "none",
    "citation": "nobody",
    "files": [{"file": "a/b.fa", "bytes": 1, "sha256": "0" * 64}],
}
OFFICIAL = ("librispeech", "speech_commands_v002", "cifar10", "squad11", "glue_", "mrpc", "tape_", "wikitext103")


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Entry]:
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path / "cache"))
    return {entry.name: entry for entry in list_entries()}


def test_every_entry_is_complete(entries: dict[str, Entry]) -> None:
    assert len(entries) >= 51
    assert {entry.state for entry in entries.values() if entry.source.files} == {"absent"}
    modalities = Counter(entry.source.modality for entry in entries.values())
    assert set(modalities) == set(MODALITIES)
    for entry in entries.values():
        source = entry.source
        content = yaml.safe_load((resources.folder("conf") / f"data/{entry.name}.yaml").read_text("utf-8"))
        assert content["name"] == entry.name
        assert len(source.title) <= 52
        assert source.citation and source.licence and source.official
        assert source.instead is None or entries[source.instead].source.downloads
        assert all(count > 0 for count in source.splits.values())
        if source.downloads:
            assert entry.shown == "fetch"
        else:
            assert source.bytes is not None or all(item.many for item in source.files)  # a corpus in folders
            assert set(content) - {"defaults", "name", "source", "id_column"} == {"column"}
            assert {content["column"], content["id_column"]} <= {*source.columns, "row"}
    fetched = {name for name, entry in entries.items() if entry.source.downloads}
    assert all(name.startswith(OFFICIAL) for name in fetched)
    assert {"tape_fluorescence", "librispeech_train_clean_100", "glue_mnli", "cifar10", "squad11"} <= fetched


def test_joint_entries_are_made_of_the_single_ones(entries: dict[str, Entry]) -> None:
    known = {
        item.file: (item.bytes, item.sha256)
        for entry in entries.values()
        for item in entry.source.files
        if len(entry.source.files) == 1 or entry.name == "debian_docs"
    }
    for name, count in (("en_core", 3), ("en_mix", 6), ("speech_mix_clean", 5)):
        files = entries[name].source.files
        assert len(files) == count
        assert all(known[item.file] == (item.bytes, item.sha256) for item in files)
    languages = {item.tags["language"] for item in entries["debian_docs"].source.files}
    assert languages == {"ar", "de", "en", "es", "fr", "ja", "ru", "zh"}


@pytest.mark.parametrize("name", ["debian_docs", "tape_stability", "wikitext103"])
def test_entries_compose_to_the_keys_of_data_files(name: str, entries: dict[str, Entry]) -> None:
    keys = set(compose(["modality=dna", "objective=mlm"])["data"])
    data = compose(["modality=dna", "objective=mlm", f"data={name}"])["data"]
    assert set(data) == keys | {"source"}
    assert data["name"] == name
    assert read_source(data["source"], name) == entries[name].source


def test_states(tmp_path: Path, entries: dict[str, Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    def put(place: Path, item: catalogue.File, size: int) -> None:
        path = place / item.file.replace("*", "x")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)

    def states(**more: Any) -> dict[str, str]:
        found = {entry.name: entry.state for entry in list_entries(**more) if entry.state != "absent"}
        return {name: state for name, state in found.items() if name.startswith(("en_", "librispeech_dev"))}

    first, second = entries["en_core"].source.files[:2]
    put(tmp_path, first, first.bytes or 0)
    put(tmp_path, second, 5)
    mixed = ("en_core", "en_mix")
    expected = {"en_books": "here", "en_brown": "wrong size"} | dict.fromkeys(mixed, "wrong size")
    assert states(root=tmp_path) == expected
    monkeypatch.setenv("SSL_DATA_DIR", str(tmp_path))
    assert states() == expected
    (tmp_path / second.file).unlink()
    assert states() == {"en_books": "here"} | dict.fromkeys(mixed, "partly")
    put(catalogue.fetched(), second, second.bytes or 0)  # where data fetch puts things
    put(catalogue.fetched(), entries["librispeech_dev_clean"].source.files[0], 1)
    assert states()["en_brown"] == states()["librispeech_dev_clean"] == "here"
    assert states(given_cache=str(tmp_path / "other")) == {"en_books": "here"} | dict.fromkeys(mixed, "partly")


def test_a_cache_that_cannot_be_made_hinders_no_list(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert places(tmp_path, str(tmp_path / "file/below")) == [tmp_path]
    assert list_entries(tmp_path, str(tmp_path / "file/below"))


def test_entries_of_ones_own_come_first(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("yeast", "mine"):
        text = yaml.safe_dump({"name": name, "source": GOOD})
        (tmp_path / f"data/{name}.yaml").write_text(text)
    found = {entry.name: entry for entry in list_entries(own=tmp_path)}
    assert found["mine"].source.title == found["yeast"].source.title == "a title"
    assert "ecoli536" in found
    with pytest.raises(SuiteError, match=r"'yeats' is not in the catalogue\. Did you mean 'yeast'\?"):
        catalogue.find(found.values(), "yeats")


FILE, URL = GOOD["files"][0], {"file": "x", "url": "https://a.example/x", "bytes": None, "sha256": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "x"}, "'source.licens' is not a known key"),
        ({"licence": 3}, r"source\.licence=3 should be a valid string"),
        ({"use": "fun"}, r"source\.use=fun should be 'pretraining' or 'task'"),
        ({"files": []}, r"source\.files: is empty"),
        ({"files": ["x"]}, r"source\.files\.0=x should be a valid dictionary"),
        ({"files": [FILE | {"sha256": "12"}]}, "64 hexadecimal digits"),
        ({"files": [FILE | {"sha256": None}]}, "a/b.fa needs bytes and sha256, or to be in downloads"),
        ({"files": [{"file": "a/*.fa"}]}, r"a/\*\.fa needs bytes and sha256, or to be in downloads"),
        ({"files": [FILE | {"file": "../b.fa"}]}, r"source\.files\.0\.file=../b\.fa should be a path below data.root"),
        ({"downloads": [URL | {"file": "/x"}]}, "should be a path below data.root"),
        ({"downloads": [URL | {"unpack": "/x"}]}, "should be a path below data.root"),
        ({"downloads": [{"file": "x", "url": "https://a.example/x"}]}, r"bytes, source\.downloads\.0\.sha256 missing"),
        ({"downloads": [URL | {"url": "ftp://a.example/x"}]}, "should begin with https:// or http://"),
        ({"downloads": [URL | {"hub": "a/b"}]}, "needs either url, or all of hub, revision and path"),
        ({"downloads": [URL | {"url": None, "hub": "a/b"}]}, "needs either url, or all of hub, revision and path"),
        ({"downloads": [URL | {"url": None}]}, "needs either url, or all of hub, revision and path"),
    ],
)
def test_a_faulty_entry_is_refused(changes: dict, message: str) -> None:
    read_source(GOOD, "a.yaml")
    with pytest.raises(SuiteError, match=rf"^a\.yaml: .*{message}"):
        read_source(GOOD | changes, "a.yaml")


def test_a_hash_may_be_unknown_only_of_a_download_and_the_list_says_so(entries: dict[str, Entry]) -> None:
    unknown = {name for name, entry in entries.items() if any(one.sha256 is None for one in entry.source.downloads)}
    assert unknown == {"tape_fluorescence", "tape_stability", "wikitext103"}
    rows = catalogue.table(entries.values())
    cells = list(zip(*(list(column.cells) for column in rows.columns), strict=True))
    assert {row[0].strip() for row in cells if "NO CHECKSUM" in row[3]} == unknown


@pytest.mark.shared
def test_entries_describe_the_local_files(tmp_path: Path) -> None:
    root = Path(os.environ["SSL_DATA_DIR"])
    local = [entry for entry in list_entries(root) if not entry.source.downloads and entry.source.bytes]
    for entry in local:
        assert state(entry.source, [root]) == "here"
        found: Counter[str] = Counter()
        paths = [root / item.file for item in entry.source.files]
        for path, item in zip(paths, entry.source.files, strict=True):
            assert content_hash(path) == item.sha256
        if entry.source.recipe:
            modality = build(MODALITIES, "modality", {"name": entry.source.modality})
            content = {"name": entry.name, "root": str(root), "cache": str(tmp_path)}
            paths = resolve_entry(modality, {**content, "source": entry.source.model_dump()}).paths
        for path in paths:
            names = pq.read_schema(path).names
            assert set(entry.source.columns) <= set(names)
            given = "split" in entry.source.splits or "all" not in entry.source.splits
            if given and "split" not in names:  # a file a part
                found[path.stem.rpartition("_")[2]] += pq.read_metadata(path).num_rows
                continue
            found.update(
                pq.read_table(path, columns=["split"])["split"].to_pylist()
                if given
                else {"all": pq.read_metadata(path).num_rows}
            )
        assert dict(found) == entry.source.splits, entry.name
