"""Files of embeddings, written as they come: parquet or npz. Nothing appears under the final name until it is whole."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.evaluation.embedding import Embedded

Add = Callable[[list[Embedded]], None]


@contextmanager
def _parquet(path: Path, facts: Mapping[str, Any]) -> Iterator[Add]:
    """Columns id, source, embedding (floats), n_tokens and occurrence; ``facts`` as JSON in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [
        ("id", pa.string()),
        ("source", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("n_tokens", pa.int64()),
        ("occurrence", pa.int64()),
    ]
    schema = pa.schema(fields, metadata={"ssl_suite": json.dumps(dict(facts))})

    def add(some: list[Embedded]) -> None:
        width = len(some[0].vector_D)
        flat = pa.array(np.concatenate([one.vector_D for one in some]))
        offsets = pa.array(np.arange(len(some) + 1, dtype=np.int32) * width)
        columns = [
            pa.array([one.name for one in some]),
            pa.array([one.source for one in some]),
            pa.ListArray.from_arrays(offsets, flat),
            pa.array([one.tokens for one in some], pa.int64()),
            pa.array([one.occurrence for one in some], pa.int64()),
        ]
        writer.write_table(pa.Table.from_arrays(columns, schema=schema))

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield add


@contextmanager
def _npz(path: Path, facts: Mapping[str, Any]) -> Iterator[Add]:
    """Arrays id, source, embedding (records, D), n_tokens and occurrence. Vectors wait in a file beside."""
    names: list[str] = []
    sources: list[str] = []
    tokens: list[int] = []
    occurrences: list[int] = []
    width = 0
    rows = path.with_name(path.name + ".rows")

    def add(some: list[Embedded]) -> None:
        nonlocal width
        width = len(some[0].vector_D)
        for one in some:
            one.vector_D.astype("<f4").tofile(raw)
            names.append(one.name)
            sources.append(one.source)
            tokens.append(one.tokens)
            occurrences.append(one.occurrence)

    try:
        with rows.open("wb+") as raw:
            yield add
            raw.seek(0)
            with zipfile.ZipFile(path, "w") as archive:
                columns = {"id": names, "source": sources, "n_tokens": tokens, "occurrence": occurrences}
                for name, values in columns.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, np.array(values), allow_pickle=False)
                with archive.open("embedding.npy", "w", force_zip64=True) as entry:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), width)}
                    np.lib.format.write_array_header_2_0(entry, header)
                    shutil.copyfileobj(raw, entry)
    finally:
        rows.unlink(missing_ok=True)


FORMATS: dict[str, Callable[[Path, Mapping[str, Any]], AbstractContextManager[Add]]] = {
    ".parquet": _parquet,
    ".npz": _npz,
}


def check(output: str) -> Path:
    """The output path.

    Raises:
        SuiteError: a suffix that is neither .parquet nor .npz, a folder, or a place where nothing can be written.
    """
    path = Path(output).expanduser()
    if path.suffix not in FORMATS:
        raise SuiteError(f"output={output} should end in .parquet or .npz.{nearest(path.suffix, FORMATS)}")
    if path.is_dir():
        raise SuiteError(f"output={output} is a folder: name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SuiteError(f"output={output}: the folder cannot be made ({error.strerror}).") from error
    if not os.access(path.parent, os.W_OK):
        raise SuiteError(f"output={output} cannot be written (permission denied): choose another folder.")
    return path


@contextmanager
def writing(path: Path, facts: Mapping[str, Any]) -> Iterator[Add]:
    """A function that appends embeddings to ``path``; the file appears, synced, when the block ends without error.

    Raises:
        SuiteError: the disk is full or the file cannot be written.
    """
    try:
        with atomic.replacing(path) as unfinished, FORMATS[path.suffix](unfinished, facts) as add:
            yield add
    except OSError as error:
        raise SuiteError(f"output={path} cannot be written ({error.strerror or error}): nothing was kept.") from error
