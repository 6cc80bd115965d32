"""Readers of sequence files against Biopython's own, and one line for each kind of bad file."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from Bio import SeqIO, bgzf
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.modalities.names import SeenNames
from ssl_suite.modalities.sequence_files import read

SEQUENCES = {"one": "ACGTACGTTTGACCA", "two": "GGGTTTAAANNRYacgtu", "three": "A"}
FASTA = "".join(f">{name} about {name}\n{text[:7]}\n{text[7:]}\n" for name, text in SEQUENCES.items())


def stop(error: SuiteError) -> None:
    raise error


def contents(path: Path, **columns: str) -> dict[str, str]:
    return {record.name: record.data for record in read(path, stop, **columns)}


def fault(path: Path, **columns: str) -> str:
    with pytest.raises(SuiteError) as caught:
        list(read(path, stop, **columns))
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def records() -> list[SeqRecord]:
    return [
        SeqRecord(Seq(text), id=name, annotations={"molecule_type": "DNA"}, letter_annotations=quality(text))
        for name, text in SEQUENCES.items()
    ]


def quality(text: str) -> dict[str, list[int]]:
    return {"phred_quality": [31] * len(text)}  # 31 is '@', the character that also opens a FASTQ header


@pytest.mark.parametrize(("form", "suffix"), [("fasta", ".fa"), ("fastq", ".fq"), ("genbank", ".gbk")])
@pytest.mark.parametrize("packed", ["plain", "gzip", "bgzip"])
def test_formats_agree_with_biopython(tmp_path: Path, form: str, suffix: str, packed: str) -> None:
    plain = tmp_path / f"plain{suffix}"
    SeqIO.write(records(), plain, form)
    path = tmp_path / "named.like.nothing"  # found by content, not by name
    if packed == "plain":
        path.write_bytes(plain.read_bytes())
    else:
        with (gzip.open if packed == "gzip" else bgzf.open)(path, "wb") as out:
            out.write(plain.read_bytes())
    assert contents(path) == {record.id: str(record.seq) for record in SeqIO.parse(plain, form)}


def test_fasta_with_windows_line_ends_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(b"\xef\xbb\xbf\r\n>a first\r\nAC GT\r\n\r\nAC\r\n>b\r\nTT\r\n")
    assert contents(path) == {"a": "ACGTAC", "b": "TT"}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "x.parquet"
    n = 1000  # several batches and row groups
    letters = np.random.default_rng(0).choice(list("ACGT"), (n, 9))
    texts = ["".join(row) for row in letters]
    splits = ["valid" if i % 7 == 0 else "train" for i in range(n)]
    names = [f"r{i}" for i in range(n)]
    columns = {"Seq": pa.array([text.encode() for text in texts]).cast(kind), "accession": names, "split": splits}
    pq.write_table(pa.table(columns), path, row_group_size=300)
    found = list(read(path, stop))
    assert [(r.name, r.data, r.tags) for r in found] == [
        (name, text, {"split": split}) for name, text, split in zip(names, texts, splits, strict=True)
    ]
    assert list(contents(path, id_column="row"))[:2] == ["row1", "row2"]


@pytest.mark.parametrize(("suffix", "comma"), [(".csv", ","), (".tsv", "\t"), (".csv.gz", ",")])
def test_csv(tmp_path: Path, suffix: str, comma: str) -> None:
    path = tmp_path / f"x{suffix}"
    long = "ACGT" * 50_000  # longer than the 131,072 characters that Python's csv allows a field by default
    text = f"name{comma}letters{comma}split\na{comma}{long}{comma}train\n\nb{comma}GG{comma}test\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    assert contents(path, column="letters") == {"a": long, "b": "GG"}
    assert [r.tags["split"] for r in read(path, stop, "letters")] == ["train", "test"]
    assert "set data.column to one of name, letters, split" in fault(path)
    assert "Did you mean 'letters'?" in fault(path, column="leters")


def test_one_column_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("sequence\nACGT\nGGTT\n")
    assert contents(path) == {"row1": "ACGT", "row2": "GGTT"}


def test_mates_of_a_fastq_keep_their_full_names(tmp_path: Path) -> None:
    path = tmp_path / "x.fq"
    path.write_text("@r 1:N\nAC\n+\nII\n@r 2:N\nGT\n+\nII\n")
    assert contents(path) == {"r": "AC", "r 2:N": "GT"}


def test_repeated_names_are_numbered_in_every_format(tmp_path: Path) -> None:
    fasta, fastq, table = tmp_path / "x.fa", tmp_path / "x.fq", tmp_path / "x.csv"
    fasta.write_text("\n>a\nACGT\nACGT\n>b\nAC\n>a again\nTTTT\n>a\nGG\n")
    fastq.write_text("@r\nAC\n+\n@@\n@s\nAC\n+\nII\n@r\nGT\n+\nII\n")
    table.write_text("id,seq\na,ACGT\nb,AC\na,GG\n")
    genbank = tmp_path / "x.gb"
    SeqIO.write([*records(), records()[0]], genbank, "genbank")
    first = records()[0].id
    for path, repeated, times in ((fasta, "a", 3), (fastq, "r", 2), (table, "a", 2), (genbank, first, 2)):
        found = [record.occurrence for record in read(path, FaultCounter()) if record.name == repeated]
        assert found == list(range(1, times + 1)), path


def test_empty_files(tmp_path: Path) -> None:
    for name, content in (("a.fa", b""), ("b.fa", b"\n \n"), ("c.fa.gz", gzip.compress(b""))):
        path = tmp_path / name
        path.write_bytes(content)
        assert "is empty" in fault(path)


def test_no_header(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("\nACGTACGT\n>a\nACGT\n")
    assert "line 2 starts with 'ACGTACGT', which is no header" in fault(path)


def test_header_without_name_or_sequence(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">\nACGT\n>a\n>b\nAC\n")
    assert "line 1: header without a name" in fault(path)
    counter = FaultCounter("skip")
    assert [r.name for r in read(path, counter)] == ["b"]
    assert counter.counts == {"no name": 1, "no sequence": 1}


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_truncated_gzip(tmp_path: Path, share: float) -> None:
    path = tmp_path / "x.fa.gz"
    letters = "".join(np.random.default_rng(1).choice(list("ACGT"), 20_000))
    content = gzip.compress(f">a\n{letters}\n".encode())
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in fault(path)


def test_bgzip_cut_between_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.fa.gz"
    with bgzf.open(path, "wb") as out:
        out.write(b">a\n" + b"ACGTTGCA\n" * 30_000)  # several blocks of 64 kB
    content = path.read_bytes()
    blocks = [block[0] for block in bgzf.BgzfBlocks(open(path, "rb"))]  # noqa: SIM115
    assert len(blocks) > 3
    for cut in (blocks[-1], blocks[2]):
        path.write_bytes(content[:cut])
        assert len(gzip.decompress(content[:cut])) > 60_000  # gzip itself sees nothing wrong
        assert "bgzip file is truncated" in fault(path)


def test_damaged_gzip_and_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.fa.gz"
    content = bytearray(gzip.compress(b">a\n" + b"ACGT" * 1000))
    content[-6] ^= 0xFF  # in the check sum
    path.write_bytes(bytes(content))
    assert "gzip file is damaged" in fault(path)
    table = tmp_path / "x.parquet"
    pq.write_table(pa.table({"seq": ["ACGT"]}), table)
    table.write_bytes(table.read_bytes()[:-20])
    assert "parquet file is damaged" in fault(table)


def test_other_packings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.fa.bz2"
    path.write_bytes(b"BZh91AY&SY")
    assert "unpack it with bunzip2" in fault(path)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    body = b">a\nACGT\n>b\nAC\xffGT\n"
    path.write_bytes(body)
    assert "line 4, byte 3 (0xff) is not UTF-8" in fault(path)
    packed = tmp_path / "x.fa.gz"
    packed.write_bytes(gzip.compress(b">a\n" + b"ACGT\n" * 5000 + b"\xe9\n"))
    assert "line 5002, byte 1 (0xe9) is not UTF-8" in fault(packed)


def test_broken_fastq_and_csv(tmp_path: Path) -> None:
    fastq = tmp_path / "x.fq"
    fastq.write_text("@a\nACGT\n+\nIIII\n@b\nACGT\n+\nII\n")
    assert "ends at line 8 is broken" in fault(fastq)
    table = tmp_path / "x.csv"
    table.write_text("id,seq\na,ACGT\nb\n")
    assert "row 2 has 1 field, the header 2" in fault(table)
    numbers = tmp_path / "x.parquet"
    pq.write_table(pa.table({"seq": [1, 2]}), numbers)
    assert "holds int64, not text" in fault(numbers)


def test_unreadable_paths(tmp_path: Path) -> None:
    folder = tmp_path / "folder.fa"
    folder.mkdir()
    assert "is a folder, not a file; name a file." in fault(folder)
    loop = tmp_path / "loop.fa"
    loop.symlink_to(loop)
    assert "cannot be read" in fault(loop)
    assert "cannot be read (No such file" in fault(tmp_path / "nothing.fa")


def test_file_without_read_permission() -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        path = Path(name) / "secret.fa"
        path.write_text(">a\nACGT\n")
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(nobody)  # permissions do not bind root
        try:
            assert "cannot be read (Permission denied)" in fault(path)
        finally:
            if user == 0:
                os.seteuid(user)


def test_faults_cross_processes_with_their_reason() -> None:
    import pickle

    copy = pickle.loads(pickle.dumps(BadRecord("file: fault.", "kind")))
    assert (str(copy), copy.reason) == ("file: fault.", "kind")


def test_seen_names_against_a_dict() -> None:
    seen, reference = SeenNames(), Counter()
    for number in np.random.default_rng(2).integers(0, 6000, 9000).tolist():  # grows three times
        reference[number] += 1
        assert seen.add(f"name{number}") == reference[number]


MEASURE = """
import resource, sys
from pathlib import Path
from ssl_suite.modalities.sequence_files import read
for name in sys.argv[1:]:
    total = sum(len(record.data) for record in read(Path(name), print))
    print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = "ACGTTGCA" * 12_500 + "\n"
    for count in (60, 600):
        (tmp_path / f"{count}.fa").write_text("".join(f">{i}\n{line}" for i in range(count)))
    command = [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in ("60.fa", "600.fa"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (small, before), (large, after) = (map(int, text.split()) for text in done.stdout.splitlines())
    assert (small, large) == (6_000_000, 60_000_000)
    assert (after - before) * 1024 < 8e6  # the high-water mark in kB; the second file is 54 MB larger
