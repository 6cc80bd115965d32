"""What ``data.path`` stands for, and what is said when it stands for nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ssl_suite.data import cache
from ssl_suite.data.sources import resolve
from ssl_suite.errors import SuiteError
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
    assert found(path=str(files)) == [files / n for n in ("a.fasta.gz", "b.fa", "deep/er/c.GBK", "genome.fna")]
    assert found(path=str(files / "*.f*a")) == [files / "b.fa", files / "genome.fna"]
    assert found(path=str(files / "**" / "*.GBK")) == [files / "deep/er/c.GBK"]
    monkeypatch.chdir(files)
    assert found(path="b.fa") == [files / "b.fa"]
    odd = files / "x[1].fa"
    odd.write_text(">x\nACGT\n")
    assert found(path=str(odd)) == [odd]  # a name with the letters of a glob


def test_labels_are_short_and_unique(files: Path) -> None:
    assert resolve(DNA(), {"path": str(files)}).labels() == ["a.fasta.gz", "b.fa", "deep/er/c.GBK", "genome.fna"]
    assert resolve(DNA(), {"path": str(files / "b.fa")}).labels() == ["b.fa"]


def test_the_built_in_sample_is_what_its_page_says() -> None:
    sources = resolve(DNA(), {"path": None})
    assert sources.builtin
    content = sources.paths[0].read_bytes()
    assert len(content) < 200_000
    page = (sources.paths[0].parent.parent / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in page
    text = "".join(record.data for record in DNA().read(sources.paths[0], print))
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


def test_a_folder_without_sequences(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(SuiteError, match=r"holds no file that ends in \.fa, \.fasta"):
        found(path=str(tmp_path))


def entry(path: Path, **changes: object) -> dict:
    content = path.read_bytes()
    source = {"file": path.name, "url": "https://a.example/b.fa", "title": "a title", "modality": "dna"}
    source |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"name": "known", "path": None, "root": str(path.parent), "source": source | changes}


def test_a_catalogue_entry(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = entry(files / "b.fa")
    assert found(**data) == [files / "b.fa"]
    monkeypatch.delenv("SSL_DATA_DIR", raising=False)
    with pytest.raises(SuiteError, match=r"data=known needs data.root=FOLDER or SSL_DATA_DIR"):
        found(**{**data, "root": None})
    monkeypatch.setenv("SSL_DATA_DIR", str(files))
    assert found(**{**data, "root": None}) == [files / "b.fa"]
    assert found(**{**data, "path": str(files / "genome.fna")}) == [files / "genome.fna"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bytes": 3}, "is not the catalogued file"),
        ({"sha256": "0" * 64}, "is not the catalogued file"),
        ({"file": "c.fa"}, "does not exist; it comes from https://a.example/b.fa"),
        ({"modality": "protein"}, "is for modality=protein, not dna"),
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
    [note] = (tmp_path / "cache/hashes").iterdir()
    note.write_text("f" * 64)
    assert cache.content_hash(path, folder) == "f" * 64  # it was not read again
    note.write_text("torn")
    assert cache.content_hash(path, folder) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert cache.content_hash(path, folder) == hashlib.sha256(b"two").hexdigest()


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="the cache folder cannot be made"):
        cache.cache_folder(str(tmp_path / "file" / "below"))
