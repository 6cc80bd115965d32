"""Streaming readers of sequence files: FASTA, FASTQ, GenBank (plain, gzip, bgzip), parquet, CSV and TSV.

Nothing here knows an alphabet, so DNA and protein share it. The format is found by content; names only decide which
files of a folder are looked at. Memory holds one record (one batch of rows for parquet) and the table of names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from Bio.GenBank.Scanner import GenBankScanner
from Bio.SeqIO.QualityIO import FastqGeneralIterator

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.limits import Limit
from ssl_suite.core.records import Record
from ssl_suite.modalities.base import Fault
from ssl_suite.modalities.names import SeenNames
from ssl_suite.modalities.tables import DELIMITERS, SEQUENCES, read_delimited, read_parquet
from ssl_suite.modalities.text_files import Lines, empty, open_lines, packing

FASTA = (".fa", ".fasta", ".fas", ".fna", ".ffn", ".frn")
FASTQ = (".fq", ".fastq")
GENBANK = (".gb", ".gbk", ".gbff", ".genbank")
TABLES = (".parquet", ".csv", ".tsv")
PACKED = ("", ".gz", ".bgz")
COMMENT = (";", "#")  # how a comment line of FASTA begins
JOIN = 1024  # lines of a sequence held apart


def suffixes(*names: str) -> tuple[str, ...]:
    """Each name with and without the suffixes of gzip and bgzip."""
    return tuple(name + packed for name in names for packed in PACKED)


SUFFIXES = suffixes(*FASTA, *FASTQ, *GENBANK, *TABLES)


def read(
    path: Path,
    fault: Fault,
    column: str | None = None,
    id_column: str | None = None,
    max_record_mb: int | None = None,
) -> Iterator[Record]:
    """Stream the records of one file.

    Args:
        path: FASTA, FASTQ, GenBank, parquet, CSV or TSV.
        fault: called with each bad record; it raises, or returns and the record is left out.
        column: the sequence column of a table; by default ``sequence`` or ``seq``.
        id_column: the name column of a table; by default ``id``, ``name``, ``accession`` or ``chrom``, else row
            numbers, which ``row`` asks for.
        max_record_mb: the largest record, see ``core.limits``.

    Yields:
        Records whose ``data`` is the sequence as text; a table's ``split`` column is ``tags["split"]``.

    Raises:
        BadRecord: the file as a whole cannot be read.
    """
    packed = packing(path)
    if packed == "parquet":
        yield from read_parquet(path, fault, SEQUENCES, column, id_column, max_record_mb)
        return
    table = any(path.name.lower().endswith(end) for end in suffixes(".csv", ".tsv"))
    with open_lines(path, packed, Limit(max_record_mb, "row" if table else "record")) as lines:
        first = lines.peek_text()
        while first.startswith(COMMENT) and not looks_delimited(path, first, column):
            lines.readline()
            lines.comments += 1
            first = lines.peek_text()
        if not first:
            raise empty(path)
        parse = PARSERS.get(first[0]) or (parse_genbank if first.startswith("LOCUS") else None)
        if parse is not None:
            yield from named(path, lines, parse(path, lines), fault, keep_title=parse is parse_fastq)
        elif looks_delimited(path, first, column):
            yield from read_delimited(path, lines, fault, SEQUENCES, column, id_column)
        else:
            raise no_header(path, lines.number + 1, first)


def looks_delimited(path: Path, first: str, column: str | None) -> bool:
    """Whether a file is CSV or TSV: by its name, or by a first line that names a sequence column."""
    if any(path.name.lower().endswith(end) for end in suffixes(".csv", ".tsv")):
        return True
    names = {field.strip(' "\n') for mark in DELIMITERS for field in first.split(mark)}
    return column in names or any(name.lower() in SEQUENCES.columns for name in names)


def no_header(path: Path, number: int, line: str) -> BadRecord:
    """The fault of a file that no reader knows."""
    shown = line.strip()[:20]
    return BadRecord(
        f"{path}: line {number} starts with '{shown}', which is no header of FASTA (>name), FASTQ (@name), GenBank "
        "(LOCUS) or a table; put a line '>name' before each sequence.",
        "no header",
    )


Titled = Iterator[tuple[int, str, str]]
"""(line of the header, header text, sequence) of each record."""


def parse_fasta(path: Path, lines: Lines) -> Titled:
    """FASTA, with comment lines (``;`` or ``#``) anywhere.

    Biopython's parser knows none, and holds a record as a list of its lines: of two letters, thirty times the file.
    """
    number, title = 0, ""
    joined: list[str] = []
    parts: list[str] = []
    for line in lines:
        if line[0] == ">":
            if number:
                yield number, title, sequence_of(joined, parts)
            lines.begin(lines.number)
            number, title, joined, parts = lines.number, line[1:].strip(), [], []
        elif line[0] in COMMENT:
            lines.comments += 1
        else:
            parts.append(line.rstrip())
            if len(parts) == JOIN:
                joined.append("".join(parts))
                parts.clear()
    if number:
        yield number, title, sequence_of(joined, parts)


def sequence_of(joined: list[str], parts: list[str]) -> str:
    """The letters of a record's lines, without the blanks and tabs between them."""
    return "".join((*joined, *parts)).replace(" ", "").replace("\t", "")


def parse_fastq(path: Path, lines: Lines) -> Titled:
    """FASTQ through Biopython's fast parser; qualities are dropped."""
    number = lines.number + 1
    try:
        # It only iterates and calls readline and read.
        for title, sequence, _ in FastqGeneralIterator(lines):  # type: ignore[arg-type]
            yield number, title, sequence
            number = lines.number  # the parser has just read the next header
            lines.begin(number)
    except ValueError as error:
        if isinstance(error, UnicodeError):
            raise
        message = f"{path}: FASTQ record that ends at line {lines.number} is broken ({error}); repair or remove it."
        raise BadRecord(message, "broken record") from None


def parse_genbank(path: Path, lines: Lines) -> Titled:
    """GenBank through Biopython's scanner, without the feature table."""
    records = GenBankScanner().parse_records(lines, do_features=False)
    number = lines.number + 1
    try:
        for record in records:
            sequence = str(record.seq) if record.seq is not None and record.seq.defined else ""
            yield number, record.id or record.name, sequence
            number = lines.number + 1
            lines.begin(number)
    except (ValueError, AssertionError) as error:
        if isinstance(error, UnicodeError):
            raise
        message = f"{path}: GenBank record from line {number} is broken ({error}); repair or remove it."
        raise BadRecord(message.replace("\n", " "), "broken record") from None


PARSERS: dict[str, Callable[[Path, Lines], Titled]] = {
    ">": parse_fasta,
    "@": parse_fastq,
}


def named(path: Path, lines: Lines, titled: Titled, fault: Fault, keep_title: bool = False) -> Iterator[Record]:
    """Records under the first word of the header, those that repeat a name numbered.

    Args:
        path: for messages.
        lines: of the file, for the comments passed over.
        titled: what a parser gives.
        fault: told of empty names and of empty sequences.
        keep_title: fall back to the whole header where first words repeat (both mates of a read pair in one FASTQ).
    """
    seen, source = SeenNames(), str(path)
    for number, title, sequence in titled:
        name = title.split(None, 1)[0] if title and not title.isspace() else ""
        if not name:
            fault(
                BadRecord(
                    f"{path}: line {number}: header without a name; write one after it.",
                    "no name",
                )
            )
            continue
        if not sequence:
            fault(
                BadRecord(
                    f"{path}: record '{name}' (line {number}) has no sequence; remove it.",
                    "no sequence",
                )
            )
        else:
            times = seen.add(name)
            if times > 1 and keep_title and title != name:
                name, times = title, seen.add(title)
            yield Record(name, sequence, source, counts=lines.counts(), occurrence=times)
