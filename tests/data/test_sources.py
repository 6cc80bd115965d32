"""What ``data.path`` stands for, and what is said when it stands for nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import cache, sources
from ssl_suite.data.sources import resolve
from ssl_suite.modalities.dna import DNA


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("b.fa", "a.fasta.gz", "deep/er/c.GBK", "deep/notes.txt", ".hidden/d.fa", "deep/.e.fa", "genome.fna"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(">x\nACGT\n")
    return tmp_path


def found(**data: object) -> list[Path]:
    return resolve(DNA(), data).paths


def test_a_file_a_folder_and_a_glob(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(path=str(files / "deep/notes.txt")) == [files / "deep/notes.txt"]  # a file is taken at its word
    names = ["a.fasta.gz", "b.fa", "deep/er/c.GBK", "genome.fna"]
    assert found(path=str(files)) == [files / name for name in names]
    assert resolve(DNA(), {"path": str(files)}).labels() == names
    assert resolve(DNA(), {"path": str(files / "b.fa")}).labels() == ["b.fa"]
    assert found(path=str(files / "*.f*a")) == [files / "b.fa", files / "genome.fna"]
    assert found(path=str(files / "**" / "*.GBK")) == [files / "deep/er/c.GBK"]
    monkeypatch.chdir(files)
    assert found(path="b.fa") == [files / "b.fa"]
    odd = files / "x[1].fa"
    odd.write_text(">x\nACGT\n")
    assert found(path=str(odd)) == [odd]  # a name with the letters of a glob


def test_the_built_in_sample_is_what_its_page_says() -> None:
    sample = resolve(DNA(), {"path": None})
    assert sample.described == f"the built-in dna sample ({sample.paths[0].name})"
    content = sample.paths[0].read_bytes()
    assert len(content) < 200_000
    page = (sample.paths[0].parent.parent / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in page
    text = "".join(record.data for record in DNA().read(sample.paths[0], print))
    for base in "ACGT":
        assert f"{base} {text.count(base):,}" in page


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("genom.fna", "Did you mean '{}/genome.fna'?"),
        ("dep/er/c.GBK", "Did you mean '{}/deep'?"),
        ("*.fastq", "Did you mean '{}/a.fasta.gz'?"),
        ("zzzz", "'{}' exists, 'zzzz' in it does not."),
    ],
)
def test_a_path_that_matches_nothing(files: Path, path: str, hint: str) -> None:
    with pytest.raises(SuiteError) as caught:
        found(path=str(files / path))
    assert str(caught.value) == f"data.path={files / path}: no such file or folder. {hint.format(files)}"


def test_a_folder_is_described_with_what_is_left_alone(files: Path) -> None:
    assert resolve(DNA(), {"path": str(files)}).described == f"4 files in {files}; 1 of other kinds left alone"
    (files / "deep/notes.txt").unlink()
    assert resolve(DNA(), {"path": str(files)}).described == f"4 files in {files}"
    assert resolve(DNA(), {"path": str(files / "deep")}).described == f"1 file in {files}/deep"


def test_a_folder_without_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SuiteError) as caught:
        found(path=str(tmp_path))
    assert str(caught.value).startswith(f"data.path={tmp_path}: the folder holds no file that ends in .fa, .")
    assert ".gz" not in str(caught.value)
    assert set(str(caught.value).split("ends in ")[1].rstrip(".").split(", ")) >= {".fa", ".fasta", ".parquet"}
    for name in ("a.mid", "b.mid", "c.zzz", "d.txt"):
        (tmp_path / name).write_text("nothing")
    ends = {"text": (".txt",), "music": (".mid", ".midi"), "dna": (".fa",), "protein": (".fa",)}
    monkeypatch.setattr(sources, "readers", lambda: ends)
    with pytest.raises(SuiteError, match=r" 2 of its 4 files can be read with modality=music\.$"):
        found(path=str(tmp_path))
    (tmp_path / "e.txt").write_text("nothing")
    with pytest.raises(SuiteError, match=r" 2 of its 5 files can be read with modality=text or modality=music\.$"):
        found(path=str(tmp_path))


def entry(path: Path, *more: dict, **changes: object) -> dict:
    content = path.read_bytes()
    item = {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    source = {"official": "https://a.example/b.fa", "title": "a title", "modality": "dna", "use": "task"}
    source |= {"columns": {}, "splits": {}, "licence": "none", "citation": "nobody"}
    source["files"] = [item | {name: value for name, value in changes.items() if name in item}, *more]
    source |= {name: value for name, value in changes.items() if name not in item}
    return {"name": "known", "path": None, "root": str(path.parent), "source": source}


def test_a_catalogue_entry(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = entry(files / "b.fa")
    assert found(**data) == [files / "b.fa"]
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    with pytest.raises(
        SuiteError, match=r"data=known: b\.fa is not here; this prepared copy is published nowhere: place"
    ):
        found(**{**data, "root": None})
    monkeypatch.setenv("SSL_DATA_DIR", str(files))
    assert found(**{**data, "root": None}) == [files / "b.fa"]
    assert found(**{**data, "path": str(files / "genome.fna")}) == [files / "genome.fna"]


def test_an_entry_of_several_files_and_their_tags(files: Path) -> None:
    content = (files / "genome.fna").read_bytes()
    item = {"file": "genome.fna", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    result = resolve(DNA(), entry(files / "b.fa", item | {"tags": {"language": "en", "split": "train"}}))
    assert result.paths == [files / "b.fa", files / "genome.fna"]
    assert result.tags == {files / "genome.fna": {"language": "en", "split": "train"}}
    assert result.described == "known: a title"
    with pytest.raises(SuiteError, match=r"data=known: none\.fna is not here"):
        resolve(DNA(), entry(files / "b.fa", item | {"file": "none.fna"}))


def test_an_entry_of_unpacked_files(files: Path) -> None:
    item = {"file": "deep/*/*.GBK", "count": 1}
    unpacked = {"url": "https://a.example/x", "file": "x", "bytes": 1, "sha256": None, "unpack": "deep"}
    data = entry(files / "b.fa", item, downloads=[unpacked])
    assert found(**data) == [files / "b.fa", files / "deep/er/c.GBK"]
    item["count"] = 2
    with pytest.raises(
        SuiteError, match=r"finds 1 file instead of 2; remove what is there and run `ssl_suite data fetch"
    ):
        found(**data)
    item |= {"count": 1, "file": "deep/*.txt"}
    with pytest.raises(SuiteError, match=r"notes\.txt is of a kind that modality=dna does not read"):
        found(**data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bytes": 3}, r"is not the catalogued file \(its size differs\); move it away and get it again"),
        ({"sha256": "0" * 64}, r"is not the catalogued file \(its SHA-256 differs\)"),
        ({"file": "c.fa"}, r"get the official data at https://a\.example/b\.fa and name your files by data\.path"),
        ({"modality": "protein"}, "is for modality=protein, not dna"),
        ({"licence": None}, r"data=known: source\.licence=None should be a valid string"),
    ],
)
def test_a_catalogue_entry_that_is_not_what_it_should_be(files: Path, changes: dict, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        found(**entry(files / "b.fa", **changes))


def test_content_hashes_are_remembered_until_a_file_changes(tmp_path: Path) -> None:
    path, folder = tmp_path / "x", str(tmp_path / "cache")
    path.write_bytes(b"one")
    first = cache.content_hash(path, folder)
    assert first == hashlib.sha256(b"one").hexdigest()
    time.sleep(0.03)  # a change in the same tick of the clock would leave no trace: what is so young is not remembered
    cache.content_hash(path, folder)
    [note] = (tmp_path / "cache/hashes").iterdir()
    note.write_text("f" * 64)
    assert cache.content_hash(path, folder) == "f" * 64  # it was not read again
    note.write_text("torn")
    assert cache.content_hash(path, folder) == first


@pytest.mark.parametrize("kept", ["inode", "name"])
def test_another_file_of_the_same_size_and_time_is_noticed(tmp_path: Path, kept: str) -> None:
    """As ``cp -p`` (the inode stays) and ``rsync -t`` (a new file is renamed) leave it; it differs in the middle."""
    path, other, folder = tmp_path / "x", tmp_path / "y", str(tmp_path / "cache")
    path.write_bytes(b"A" * 50_000)
    other.write_bytes(b"A" * 20_000 + b"C" + b"A" * 29_999)
    os.utime(other, ns=(1, path.stat().st_mtime_ns))
    time.sleep(0.03)
    cache.content_hash(path, folder)
    if kept == "inode":
        subprocess.run(["cp", "-p", other, path], check=True)
    else:
        other.rename(path)
    assert cache.content_hash(path, folder) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_sample_tells_files_apart_where_times_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "stamp", lambda path: [path.stat().st_size, 0, 0, 0])
    path, folder = tmp_path / "x", str(tmp_path / "cache")
    for text in (b"A" * 9000, b"C" + b"A" * 8999, b"A" * 8999 + b"C", b"A" * 4500 + b"C" + b"A" * 4499):
        path.write_bytes(text)
        assert cache.content_hash(path, folder) == hashlib.sha256(text).hexdigest()


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="the cache folder cannot be made"):
        cache.cache_folder(str(tmp_path / "file" / "below"))


def test_a_cache_in_the_folder_is_no_data(files: Path) -> None:
    (files / "cache" / "made").mkdir(parents=True)
    (files / "cache" / "made" / "other.fa").write_text(">x\nACGT\n")
    names = ["a.fasta.gz", "b.fa", "deep/er/c.GBK", "genome.fna"]
    assert found(path=str(files), cache=str(files / "cache")) == [files / name for name in names]
    assert found(path=str(files / "cache"), cache=str(files / "cache")) == [files / "cache/made/other.fa"]
