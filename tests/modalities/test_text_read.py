"""Text files: every kind, every cut, and every fault in one line."""

from __future__ import annotations

import gzip
import io
import json
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_suite.core import limits
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.core.records import Record
from ssl_suite.data.prepare import prepare
from ssl_suite.modalities import text_read
from ssl_suite.modalities.text import Text
from tests.modalities.fuzz import survive
from tests.modalities.made_text import OTHERS, fitted

PLAIN = "Title\n\nFirst words.\nMore words.\n \nLast words.\n"


def stop(error: SuiteError) -> None:
    raise error


def read(path: Path, fault=stop, column: str | None = None, id_column: str | None = None, **settings) -> list[Record]:
    return list(Text(**settings).read(path, fault, column, id_column))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    data = content.encode("utf-8") if isinstance(content, str) else content
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def pairs(records: list[Record]) -> list[tuple[str, str]]:
    return [(record.name, record.data) for record in records]


@pytest.mark.parametrize("name", ["book.one.txt", "book.one.txt.gz", "book.one.md", "book.one.log"])
def test_a_plain_file_is_a_document(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, "\ufeff" + PLAIN.replace("\n", "\r\n"))
    (record,) = read(path)
    assert (record.name, record.data, record.source, record.tags) == ("book.one", PLAIN, str(path), {})


def test_a_plain_file_cut_at_blank_lines_or_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", PLAIN)
    wanted = [("line1", "Title\n"), ("line3", "First words.\nMore words.\n"), ("line6", "Last words.\n")]
    assert pairs(read(path, documents="blank")) == wanted
    lines = [(f"line{n}", line) for n, line in enumerate(PLAIN.splitlines(True), start=1) if line.strip()]
    assert pairs(read(path, documents="line")) == lines


@pytest.mark.parametrize("documents", ["file", "blank", "line"])
def test_a_long_document_is_read_in_parts(tmp_path: Path, documents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_read, "LONGEST", 1000)
    monkeypatch.setattr(text_read, "BLOCK", 100)
    words = " ".join(f"word{i}" for i in range(700))
    path = write(tmp_path, "a.txt", words + "\n\n" + "end.\n")
    records = read(path, documents=documents)
    names = [record.name for record in records]
    assert len(set(names)) == len(names) > 5
    assert all(len(record.data) <= 1100 for record in records)
    assert "".join("".join(record.data for record in records).split()) == "".join(words.split()) + "end."
    if documents == "file":
        assert names[:2] == ["a", "a:2"]
        assert " ".join("".join(record.data for record in records).split()) == words + " end."  # cut at white space
    else:
        assert names[:2] == ["line1", "line1:2"] and records[-1].name == "line3"


def test_a_line_of_200_mb_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    with open(path, "wb") as file:
        for _ in range(200):
            file.write(b"all work and no play makes a dull boy " * 26_000 + b"the" * 4_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes = [len(record.data) for record in Text().read(path, stop)]
    assert sum(sizes) == path.stat().st_size and max(sizes) <= text_read.LONGEST + text_read.BLOCK
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kB


@pytest.mark.parametrize("documents", ["file", "blank", "line"])
def test_nul_bytes_are_a_fault_of_the_file(tmp_path: Path, documents) -> None:
    path = write(tmp_path, "a.txt", b"some text\nand a \0 \0\n")
    with pytest.raises(
        BadRecord, match=r"a\.txt: holds NUL bytes \(line 2, byte 7 \(0x00\)\), so it is no text"
    ) as caught:
        read(path, FaultCounter("skip"), documents=documents)
    assert caught.value.reason == "NUL bytes"


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("content", [b"", b" \n\n ", b"caf\xe9\n"])
def test_files_without_text(tmp_path: Path, name: str, content: bytes) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(BadRecord, match=f"{name}: (is empty|holds no text|line 1, byte 4)"):
        read(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson", "a.json"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    rows = [
        {"id": 7, "text": "One. Two.", "language": "en", "split": "valid", "other": [1]},
        {"text": ["Eins.", None, "Zwei."], "id": "b\nc", "language": None, "title": "x"},
    ]
    path = write(tmp_path, name, "\n\n".join(map(json.dumps, rows)) + "\n")
    one, two = read(path)
    assert (one.name, one.data, one.tags) == ("7", "One. Two.", {"language": "en", "split": "valid"})
    assert (two.name, two.data, two.tags) == ("b c", ["Eins.", "Zwei."], {})
    assert [record.tags["language"] for record in read(path, language="de")] == ["en", "de"]
    assert [record.tags["language"] for record in read(path, language="file")] == ["en", "a"]
    path = write(tmp_path, name, '{"content": "A", "body": "B"}\n{"body": "C"}')
    assert pairs(read(path, column="body")) == [("row1", "B"), ("row2", "C")]
    with pytest.raises(BadRecord, match="row 2 has no text"):
        read(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "is not JSON"),
        ('["a"]', "is not a JSON object"),
        ("[" * 100_000, "is not JSON .too deep"),
        ('{"text": ' + "1" * 5000 + "}", "is not JSON .too deep or too long a number"),
        ('{"text": 5}', "'text' holds a number"),
        ('{"text": {"a": 1}}', "'text' holds an object"),
        ('{"text": ["a", 5]}', "'text' holds a list of other things"),
        ('{"text": " "}', "has no text"),
        ('{"texts": "a"}', "has no text"),
    ],
)
def test_bad_json_lines_are_faults_of_a_record(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "good", "id": "good"}\n' + line + '\n{"text": "last", "id": "last"}\n')
    with pytest.raises(BadRecord, match=f"a.jsonl: (line|row) 2.*{reason}") as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    skipping = FaultCounter("skip")
    assert [record.name for record in read(path, skipping)] == ["good", "last"]
    assert sum(skipping.counts.values()) == 1


def test_a_file_of_a_folder_without_the_column_is_a_fault_of_that_file(tmp_path: Path) -> None:
    table = pa.table({"titel": ["a"]})
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "b.parquet")
    write(tmp_path, "c.csv", "titel\na\n")
    for name in ("a.parquet", "b.parquet", "c.csv"):
        with pytest.raises(BadRecord) as caught:
            read(tmp_path / name)
        assert caught.value.reason == "no text column"
    good = "He came in. She went out of the house. "
    write(tmp_path, "d.csv", "text\n" + "".join(f"{i} {good * 40}\n" for i in range(20)))
    lines: list[str] = []
    data = {"path": str(tmp_path), "cache": str(tmp_path / "cache")}
    with pytest.raises(BadRecord, match=r"a\.parquet: has no column 'text'"):
        prepare(Text(vocab_size=100), data)
    store = prepare(Text(vocab_size=100), data | {"on_error": "skip"}, report=lines.append)
    assert store.report["skipped"] == {"file: no text column": 3} and store.report["records"] == 60  # three blocks each
    assert "3 file: no text column" in lines[-1]


def test_json_that_is_no_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.json", '[\n {"text": "a"},\n {"text": "b"}\n]\n')
    with pytest.raises(BadRecord, match=r"write its items one a line \(jq"):
        read(path)
    with pytest.raises(BadRecord, match=r"has no column 'text' or 'content'; set data\.column to one of titel"):
        read(write(tmp_path, "b.jsonl", '{"titel": "a"}\n'))
    monkeypatch.setitem(limits.SHARES, "json", limits.RECORD_MB << 14)  # 64 letters
    path = write(tmp_path, "c.jsonl", '{"text": "good"}\n{"text": "' + "x" * 200 + '"}\n{"text": "last"}\n')
    skipping = FaultCounter("skip")
    assert [record.data for record in read(path, skipping)] == ["good", "last"]
    assert "line 2 has more MB than" in skipping.examples[0] and "raise data.max_record_mb" in skipping.examples[0]


@pytest.mark.parametrize("column", ["text", "content", "document", "sentence", "sentences"])
def test_tables(tmp_path: Path, column: str) -> None:
    data = [["One.", "Two."], ["Three."]] if column == "sentences" else ["One. Two.", "Three."]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"doc_id": ["x", "y"], "lang": ["en", "de"], column: data}), path)
    records = read(path)
    assert [(r.name, r.data, r.tags) for r in records] == [
        ("x", data[0], {"language": "en"}),
        ("y", data[1], {"language": "de"}),
    ]
    if column != "sentences":
        rows = [f"{r.name},{r.tags['language']},{r.data}" for r in records]
        path = write(tmp_path, "a.csv.gz", f"id,language,{column}\n" + "\n".join(rows))
        assert [(r.name, r.data, r.tags) for r in read(path)] == [(r.name, r.data, r.tags) for r in records]


def lines(rows: list[dict]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode("utf-8")


ROWS = [{"id": key, "language": key, "text": value[:40]} for key, value in OTHERS.items()]


def test_damaged_json_lines(tmp_path: Path) -> None:
    sentences = [{"sentences": ["A b.", "C d."], "n": 1.5}, {"sentences": ["E \\u00e9 \ud83d\ude00"], "n": None}]
    valid = [
        lines(ROWS),
        json.dumps(sentences[0]).encode() + b"\n" + json.dumps(sentences[1]).encode(),
        lines(ROWS[:1]),
    ]
    seen = survive(fitted("bpe"), ".jsonl", valid, tmp_path)
    assert seen["loaded"] > 50 and seen["broken record"] > 200, seen


def test_damaged_parquet(tmp_path: Path) -> None:
    valid = []
    for table in (pa.Table.from_pylist(ROWS[:4]), pa.table({"sentences": [["A b.", "C d."], ["E."]]})):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        valid.append(buffer.getvalue())
    seen = survive(fitted("wordpiece"), ".parquet", valid, tmp_path)
    assert seen["loaded"] > 50 and seen["damaged"] > 500


def test_damaged_plain_text(tmp_path: Path) -> None:
    valid = ["\n\n".join(OTHERS.values()).encode("utf-8"), PLAIN.encode("utf-8"), gzip.compress(PLAIN.encode("utf-8"))]
    seen = survive(fitted("unigram"), ".txt", valid, tmp_path, 600)
    assert seen["loaded"] > 100 and seen["not UTF-8"] > 50
