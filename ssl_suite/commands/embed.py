"""Turn your own files into vectors, one a record.

examples:
  ssl_suite embed encoder=runs/first input=my.fasta output=my.parquet
  ssl_suite embed encoder=runs/first input=genomes/ output=all.parquet pooling=cls
  ssl_suite embed encoder=runs/first input="reads/*.fq.gz" output=reads.parquet layer=-2 on_error=skip
  ssl_suite embed encoder=runs/first input=yeast data.root=/data output=yeast.parquet

settings:
  encoder=RUN         a run folder, or RUN@STEP for one of its checkpoints
  input=PATH          a file, a folder, or a glob, in any format that the run's modality reads; also hf:NAME, and a
                      NAME of `ssl_suite data list`
  data.root=, data.cache=  where data sets known by name are, as for `ssl_suite data`
  output=FILE         .parquet, with columns id, source, embedding, n_tokens and occurrence;
                      occurrence counts the records of one id in a file: 1, 2, …
  checkpoint=best     best (lowest validation loss), last, or a step
  pooling=mean        mean over the record's tokens, or cls, the state of [CLS]
  layer=-1            0 is the embedding, 1 the first layer, -1 the last
  batch_tokens=8192   positions of a forward pass: speed and memory, never the result
  column=, id_column= of a table, when they are not called sequence and id
  on_error=stop       stop at a bad record, or skip and count it
  max_record_mb=256   a larger record is a fault

Records longer than the model's window are cut into windows; their vector is the windows' mean, weighted by length.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count as counted

if TYPE_CHECKING:
    from ssl_suite.core.records import Record
    from ssl_suite.data.sources import Sources
    from ssl_suite.evaluation.embedding import Embedded
    from ssl_suite.modalities.base import Fault, Modality

KEYS = {
    "encoder": Key(example="runs/first"),
    "input": Key(example="my.fasta"),
    "output": Key(example="my.parquet"),
    "checkpoint": Key("best"),
    "pooling": Key("mean", choices=("mean", "cls")),
    "layer": Key(-1, int),
    "batch_tokens": Key(8192, int, least=1),
    "column": Key(None),
    "id_column": Key(None),
    "on_error": Key("stop", choices=("stop", "skip")),
    "max_record_mb": Key(None, int, least=1, example="1024"),
    "data.root": Key(None, example="/data"),
    "data.cache": Key(None, example="/big/cache"),
}
READERS = {"data.path": "input", **{f"data.{key}": key for key in ("column", "id_column", "on_error", "max_record_mb")}}
EVERY = 10.0  # seconds between lines where there is no terminal
ROWS = 1024  # records written at a time: 3 MB at 768 numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")


def main(args: argparse.Namespace) -> int:
    settings = parse_words(args.words, KEYS)
    try:
        print(run(settings), file=sys.stderr)
    except SuiteError as error:  # the readers speak of the keys of `run`
        message = str(error).replace(f"data={settings['input']}", f"input={settings['input']}")
        for key, own in READERS.items():
            message = message.replace(key, own)
        raise SuiteError(message) from error
    return 0


def run(settings: dict[str, Any]) -> str:
    """Embed and write. Returns what was done, in one line."""
    from ssl_suite.core.faults import FaultCounter
    from ssl_suite.evaluation.embedding import embed
    from ssl_suite.training import restore

    output = check(settings["output"])
    loaded = restore.load_run(settings["encoder"], settings["checkpoint"], device())
    sources, columns = _sources(loaded.modality, settings)
    faults = FaultCounter(settings["on_error"])
    how = (settings["pooling"], settings["layer"], settings["batch_tokens"])
    facts = {key: settings[key] for key in ("encoder", "pooling", "layer")} | {"step": loaded.step}
    start, count, tokens, cut = time.monotonic(), 0, 0, 0
    with writing(output, facts) as add, counting(sys.stderr.isatty()) as passed:
        records = _read(loaded.modality, sources, faults, columns)
        results = embed(records, loaded.encoder, loaded.modality, faults, *how, passed)
        while some := list(itertools.islice(results, ROWS)):
            add(some)
            count += len(some)
            tokens += sum(one.tokens for one in some)
            cut += sum(one.windows > 1 for one in some)
        if not count:
            raise SuiteError(f"input={settings['input']}: no record was left to embed ({_skipped(faults)}).")
    text = f"{output}: {counted(count, 'record')}, {counted(tokens, 'token')} in {time.monotonic() - start:.1f} s"
    if cut:
        text += f"; {cut:,} longer than {loaded.modality.max_length - 2} tokens, cut into windows and averaged"
    return text + (f"; {_skipped(faults)}" if faults.counts else "")


def check(output: str) -> Path:
    """The output path; its folder is made. Raises SuiteError: it is no place for a parquet file."""
    path = Path(output).expanduser()
    if path.suffix != ".parquet":
        raise SuiteError(f"output={output} should end in .parquet, which NumPy, pandas and Arrow read.")
    if path.is_dir():
        raise SuiteError(f"output={output} is a folder: name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SuiteError(f"output={output}: the folder cannot be made ({error.strerror}).") from error
    return path


@contextlib.contextmanager
def writing(path: Path, facts: dict[str, Any]) -> Iterator[Callable[[list[Embedded]], None]]:
    """A function that appends embeddings to a parquet file, which appears, synced, when the block ends without error.
    ``facts`` stand as JSON in its metadata. Raises SuiteError: the disk is full or the file cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ssl_suite.core import atomic

    types = {"id": pa.string(), "source": pa.string(), "embedding": pa.list_(pa.float32())}
    types |= {"n_tokens": pa.int64(), "occurrence": pa.int64()}
    schema = pa.schema(list(types.items()), metadata={"ssl_suite": json.dumps(facts)})

    def add(some: list[Embedded]) -> None:
        rows = [(one.name, one.source, one.vector_D, one.tokens, one.occurrence) for one in some]
        writer.write_table(pa.table(dict(zip(types, zip(*rows, strict=True), strict=True)), schema))

    try:
        with atomic.replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            yield add
    except OSError as error:
        raise SuiteError(f"output={path} cannot be written ({error.strerror or error}): nothing was kept.") from error


@contextlib.contextmanager
def counting(terminal: bool) -> Iterator[Callable[[int], None]]:
    """Gives what takes the tokens of each forward pass: a live line on a terminal, one every ten seconds elsewhere."""
    from rich.console import Console

    status = Console(stderr=True).status("embedding …") if terminal else None
    begun = last = time.monotonic()
    done = 0

    def passed(tokens: int) -> None:
        nonlocal done, last
        done, now = done + tokens, time.monotonic()
        text = f"embedding: {done:,} tokens, {done / max(now - begun, 1e-9):,.0f} tokens/s"
        if status is not None:
            status.update(text)
        elif now - last > EVERY:
            last = now
            print(text, file=sys.stderr, flush=True)

    with status or contextlib.nullcontext():
        yield passed


def device() -> str:
    """Where the commands run a model: the first GPU, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _sources(modality: Modality, settings: dict[str, Any]) -> tuple[Sources, dict[str, str]]:
    """The files, and the columns to read of tables: those of a catalogue entry unless others are given."""
    from ssl_suite.core import resources
    from ssl_suite.data.sources import is_there, resolve_entry, resolve_path
    from ssl_suite.settings import config

    name, columns = settings["input"], {key: settings[key] for key in ("column", "id_column", "max_record_mb")}
    place = {"root": settings["data.root"], "cache": settings["data.cache"]}
    known = {path.stem for path in (resources.folder("conf") / "data").glob("*.yaml")}
    section = config.compose([f"data={name}"])["data"] if name in known and not is_there(Path(name)) else {}
    if section.get("source") is not None:
        sources = resolve_entry(modality, section | place)
        columns = {key: given or section.get(key) for key, given in columns.items()}
    else:
        sources = resolve_path(name, modality.suffixes, place["cache"], root=place["root"])
    return sources, {key: column for key, column in columns.items() if column is not None}


def _read(modality: Any, sources: Sources, fault: Fault, columns: dict[str, str]) -> Iterator[Record]:
    """The records of all files; ``source`` becomes the file's short name."""
    from dataclasses import replace

    for path, label in zip(sources.paths, sources.labels(), strict=True):
        try:
            for record in modality.read(Path(path), fault, **columns):
                yield replace(record, source=label)
        except SuiteError as error:  # the file as a whole
            fault(error)


def _skipped(faults: Any) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in faults.counts.items())
    return f"skipped: {reasons}; the first: {faults.examples[0]}" if reasons else "the input is empty"
