"""A parquet file of embeddings, written as they come. Nothing appears under the final name until it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
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


def check(output: str) -> Path:
    """The output path. Raises SuiteError: a suffix that is not .parquet, a folder, or a place where nothing can be
    written."""
    path = Path(output).expanduser()
    if path.suffix != ".parquet":
        raise SuiteError(f"output={output} should end in .parquet, which NumPy, pandas and Arrow read.")
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
    Raises SuiteError: the disk is full or the file cannot be written."""
    try:
        with atomic.replacing(path) as unfinished, _parquet(unfinished, facts) as add:
            yield add
    except OSError as error:
        raise SuiteError(f"output={path} cannot be written ({error.strerror or error}): nothing was kept.") from error
