"""Small files that would take all memory, and paths that are no files: one line each, and little memory."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image as Pillow

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.core.limits import Limit
from ssl_suite.core.records import Record
from ssl_suite.data import shards
from ssl_suite.data.sources import resolve_path
from ssl_suite.modalities import image_files, music_files, sequence_files, speech_files, text_read
from ssl_suite.modalities.image import Image
from ssl_suite.modalities.speech import Speech
from tests.data.fasta import random_bases, run

SIZE = 24 << 20  # bytes that a bomb unpacks to
READERS = (sequence_files.read, text_read.read, music_files.read, speech_files.read, image_files.read)
MEASURE = """
import resource, sys
from pathlib import Path
from ssl_suite.core.faults import FaultCounter
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities import image_files, music_files, sequence_files, text_read

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

import pyarrow.compute, pyarrow.parquet  # before the first measure
readers = {"dna": sequence_files, "text": text_read, "music": music_files, "image": image_files}
for path in map(Path, sys.argv[1:]):
    before = peak()
    faults = FaultCounter("skip")
    try:
        count = sum(1 for _ in readers[path.parent.name].read(path, faults, max_record_mb=1))
        said = f"{count} records {faults.examples[:1]}"
    except SuiteError as error:
        said = str(error)
    print(f"{peak() - before}\\t{path.name}\\t{said}")
"""


def packed(path: Path, begin: bytes, unit: bytes, end: bytes = b"") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(begin + unit * (SIZE // len(unit)) + end, 1))
    return path


def table(path: Path, name: str, values: pa.Array) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({name: values}), path, compression="zstd")
    return path


def test_small_files_that_unpack_to_much(tmp_path: Path) -> None:
    dna, text, music, image = (tmp_path / name for name in ("dna", "text", "music", "image"))
    large = b"A" * (3 << 20)
    made = {
        packed(dna / "nul.fa.gz", b"", b"\0"): "so it is no text",
        packed(dna / "line.fa.gz", b">a\n", b"A"): "begins at line 1 has more MB than data.max_record_mb=1;",
        packed(
            dna / "lines.fa.gz", b">b\nAC\n>a\n", b"AC\n"
        ): "begins at line 3 has more MB than data.max_record_mb=1;",
        packed(dna / "x.fq.gz", b"@a\n", b"A"): "begins at line 1 has more MB than data.max_record_mb=1;",
        packed(
            dna / "x.gb.gz", b"LOCUS       A 1 bp DNA\nORIGIN\n", b"        1 acgtacgtac\n"
        ): "data.max_record_mb=1;",
        packed(
            text / "quote.csv.gz", b'text\n"a"\n"', b"all, work\n"
        ): "line 3 has more MB than 0.25, 1/4 of data.max_re",
        packed(text / "x.jsonl.gz", b'{"text":"a"}\n[', b"[],", b"1]\n"): "1 records ['",
        packed(text / "deep.jsonl.gz", b'{"text":"a"}\n', b'{"a":'): "1 records ['",
        packed(text / "plain.txt.gz", b"", b"a"): "3 records []",  # documents of 8 million letters
        table(
            dna / "x.parquet", "seq", pa.array([large.decode()] * 30)
        ): "row 1 has 3 MB, more than data.max_record_mb=1;",
        table(image / "x.parquet", "image", pa.array([{"bytes": large, "path": ""}] * 30)): "row 1 has 3 MB",
        table(text / "x.parquet", "text", pa.array([[large[: 3 << 19].decode()]] * 30)): "row 1 has 1.5 MB",
        table(
            music / "x.parquet", "midi", pa.array([large[: 1 << 17]] * 300)
        ): "row 1 has 0.125 MB, more than 0.0625, 1/16",
    }
    assert max(path.stat().st_size for path in made) < 1 << 19
    command = [sys.executable, "-c", MEASURE, *map(str, made)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    for (growth, name, said), wanted in zip(lines, made.values(), strict=True):
        assert wanted in said, (name, said)
        assert int(growth) < 30, (name, growth)  # MB; read to their ends, they take 60 to 800
    assert {name for _, name, said in lines if "raise data.max_record_mb" not in said} == {"nul.fa.gz", "plain.txt.gz"}


def test_the_key_lets_a_larger_record_pass(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\n" + random_bases(5 << 18, 0))
    with pytest.raises(
        BadRecord, match=r"x\.fa: the record that begins at line 1 has more MB than data\.max_record_mb=1"
    ):
        run(path, max_record_mb=1)
    assert run(path, max_record_mb=2)[0].report["tokens"] == 5 << 18
    assert Limit(None).bytes == 256 << 20 and Limit(8, "row").bytes == 2 << 20


def test_a_page_of_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"seq": ["A" * (1 << 20)] * 30}), path, compression="zstd", use_dictionary=False)
    reading = {"max_record_mb": 2}
    with pytest.raises(
        BadRecord, match=r"row group 1 with pages of 30 MB has more MB than data\.max_record_mb=2; write it"
    ):
        list(sequence_files.read(path, FaultCounter("skip"), **reading))
    pq.write_table(pq.read_table(path), tmp_path / "y.parquet", row_group_size=4)
    assert len(list(sequence_files.read(tmp_path / "y.parquet", FaultCounter(), **reading))) == 30


def test_small_files_of_a_folder_are_not_held_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "HELD", 1000)
    (tmp_path / "in").mkdir()
    for name in "ab":
        text = "".join(f">{name}{i}\n{random_bases(400, 10 * i + ord(name))}\n" for i in range(9)) + ">empty\n>x\nAC\n"
        (tmp_path / "in" / f"{name}.fa").write_text(text)
    store, _ = run(tmp_path / "in", on_error="skip")
    assert store.records == 18 and store.report["skipped"] == {"no sequence": 2}


def test_pictures_and_recordings_have_limits_of_their_own() -> None:
    out = io.BytesIO()
    Pillow.new("1", (9000, 9000)).save(out, "PNG")
    assert len(out.getvalue()) < 20_000
    with pytest.raises(BadRecord, match=r"81,?000,?000|9000 × 9000 pixels.* raise modality\.max_pixels=1000000"):
        Image(max_pixels=10**6).encode(Record("x", out.getvalue(), "x.png"))
    out = io.BytesIO()
    soundfile.write(out, np.tile(np.int16([0, 9]), 16_000 * 40), 16_000, format="FLAC")
    with pytest.raises(
        BadRecord, match=r"has more hours than modality\.max_hours=0\.01; cut it into parts, or raise the key"
    ):
        Speech(max_hours=0.01).encode(Record("x", out.getvalue(), "x.flac"))
    assert Speech(max_hours=0.03).encode(Record("x", out.getvalue(), "x.flac")).counts["samples"] == 16_000 * 80


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe.fa", tmp_path / "folder.fa"
    os.mkfifo(pipe)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.fa"))
    kinds = {pipe: "a named pipe", tmp_path / "s.fa": "a socket", Path("/dev/zero"): "a device", folder: "a folder"}
    for path, what in kinds.items():
        for read in READERS:
            with pytest.raises(BadRecord, match=f"{path}: is {what}, not a file; "):
                list(read(path, FaultCounter()))
        if path != folder:
            with pytest.raises(SuiteError, match=f"data.path={path}: is {what}, not a file; "):
                resolve_path(str(path), (".fa",))
