"""Rows of the leaderboard: one JSON file a measurement, and beside it the predictions that its numbers follow from.

``rows/BENCHMARK/RUN_ID.json`` and ``predictions/BENCHMARK/RUN_ID.parquet`` below the leaderboards folder (``root``).
Rows are only ever added. A row's file is written last, so predictions without a row, which a kill may leave, count for
nothing. Shapes: I items of the test set, S seeds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_suite import resources
from ssl_suite.core import atomic
from ssl_suite.core.atomic import UNFINISHED
from ssl_suite.errors import SuiteError, nearest
from ssl_suite.leaderboard.schema import SCHEMA_VERSION, validate

ARMS = (  # in the order of a table; others go last
    *("specific-SSL", "specific-scratch", "specific-CNN", "BERT", "re-emb", "rand"),
    *("probe-random", "k-mer linear", "majority"),
)
FEWEST = 300  # items of a test set; a score of fewer is shown by its interval alone

Row = dict[str, Any]


class Predictions(NamedTuple):
    """What a row's numbers follow from, in the values that the file holds."""

    labels_I: np.ndarray  # int64 class numbers, or float64 values where there are no classes
    by_seed: dict[int, np.ndarray]  # seed -> (I,) int64 class numbers, or float64 (float32 values)
    items_I: np.ndarray  # int32: each item's position among the full split's rows
    classes: tuple[str, ...]  # the names of the class numbers; () for values

    def stacked(self) -> np.ndarray:
        """(S, I), the seeds in their stored order."""
        return np.stack(list(self.by_seed.values()))


def default_root() -> Path:
    """``leaderboards/`` of the checkout; for an installed package that of the working folder."""
    found = resources.folder("leaderboards")
    return Path("leaderboards") if found.is_relative_to(resources.PACKAGE) else found


def make_run_id(task: str, arm: str, protocol: str, budget: str, config_sha256: str) -> str:
    """``TASK--ARM--PROTOCOL--BUDGET--1a2b3c4d``, in the letters that a file name may have."""
    parts = (task, arm, protocol, budget, config_sha256[:8])
    return "--".join(re.sub(r"[^A-Za-z0-9@+._-]+", "-", part) for part in parts)


# Predictions


def stored(
    labels_I: np.ndarray, by_seed: Mapping[int, np.ndarray], items_I: np.ndarray, classes: Sequence[str]
) -> Predictions:
    """The values that the file will hold: predicted numbers are rounded to float32. Score these.

    Raises:
        SuiteError: a number is NaN or infinite, or there are too many classes to store.
        ValueError: lengths differ, an item comes twice, or a class number has no class (a defect of the caller).
    """
    labels_I, items_I = np.asarray(labels_I), np.asarray(items_I)
    if any(np.shape(x_I) != items_I.shape for x_I in (labels_I, *by_seed.values())) or items_I.ndim != 1:
        raise ValueError("labels, items and every seed's predictions should be of one shape (items,)")
    if len(np.unique(items_I)) != len(items_I):
        raise ValueError("an item has two predictions")
    if len(classes) > np.iinfo(np.int16).max:
        raise SuiteError(f"{len(classes):,} classes are more than predictions are stored for (32,767).")
    seeds = {
        int(seed): _values(np.asarray(x_I), classes, f"predictions of seed {seed}") for seed, x_I in by_seed.items()
    }
    if classes:
        labels_I = _values(labels_I.astype(np.int64), classes, "labels")
    else:
        labels_I = labels_I.astype(np.float64)
        _finite(labels_I, "labels")
    return Predictions(labels_I, seeds, items_I.astype(np.int32), tuple(classes))


def _values(x_I: np.ndarray, classes: Sequence[str], what: str) -> np.ndarray:
    if classes and x_I.dtype.kind in "iu":
        if x_I.size and not (x_I.min() >= 0 and x_I.max() < len(classes)):
            raise ValueError(f"{what}: a class number is not one of the {len(classes)} classes")
        return x_I.astype(np.int64)
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        x_I = x_I.astype(np.float32).astype(np.float64)
    _finite(x_I, what)
    return x_I


def _finite(x_I: np.ndarray, what: str) -> None:
    if bad := int((~np.isfinite(x_I)).sum()):
        raise SuiteError(f"{bad} of the {x_I.size:,} {what} are NaN or infinite: no row is written for them.")


def _encode(predictions: Predictions) -> bytes:
    """A parquet file. It holds no time and no name of a machine: the same input gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = np.uint8 if len(predictions.classes) <= 256 else np.int16
    columns: dict[str, np.ndarray] = {
        "item": predictions.items_I,
        "label": predictions.labels_I.astype(np.int16 if predictions.classes else np.float64),
    }
    for seed, x_I in predictions.by_seed.items():
        columns[f"seed_{seed}"] = x_I.astype(number if x_I.dtype.kind == "i" else np.float32)
    table = pa.table(columns).replace_schema_metadata({"classes": json.dumps(list(predictions.classes))})
    out = pa.BufferOutputStream()
    # 27,000 items, 3 seeds: classes 39 kB instead of 141 kB with the defaults, numbers 516 kB instead of 824 kB.
    small = {"use_dictionary": False, "write_statistics": False, "column_encoding": {"item": "DELTA_BINARY_PACKED"}}
    pq.write_table(table, out, compression="zstd", compression_level=19, **small)
    return out.getvalue().to_pybytes()


def _decode(content: bytes) -> Predictions:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    classes = json.loads((table.schema.metadata or {})[b"classes"])
    labels_I, items_I = columns.pop("label"), columns.pop("item")
    return stored(labels_I, {int(name.removeprefix("seed_")): x_I for name, x_I in columns.items()}, items_I, classes)


def read_predictions(root: Path, row: Mapping[str, Any]) -> Predictions:
    """The predictions of a row: (labels_I, {seed: predictions_I}, items_I, classes).

    Raises:
        SuiteError: the file is missing, outside ``root``, not the one the row was written with, or cannot be read.
    """
    name, said = row["run_id"], row["predictions"]
    path = Path(root) / said["path"]
    inside = not Path(said["path"]).is_absolute() and path.resolve().is_relative_to(Path(root).resolve())
    if not inside:
        raise SuiteError(f"row {name}: its predictions {said['path']} lie outside {root}: the path must stay inside.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SuiteError(
            f"row {name}: its predictions {path} cannot be read ({error.strerror}): restore them."
        ) from None
    if len(content) != said["bytes"] or hashlib.sha256(content).hexdigest() != said["sha256"]:
        raise SuiteError(
            f"row {name}: its predictions {path} are not those it was written with (SHA-256): restore them."
        )
    import pyarrow as pa

    try:
        return _decode(content)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, SuiteError) as error:
        raise SuiteError(f"row {name}: its predictions {path} are not a table of predictions ({error}).") from None


# Files


def write(root: Path, row: Mapping[str, Any], predictions: Sequence[Any]) -> Path:
    """Add a row: first its predictions, then the row's file; each appears whole or not at all.

    Args:
        row: without ``predictions``; ``schema_version`` and ``created`` are added when they are missing.
        predictions: (labels_I, {seed: predictions_I}, items_I, classes), as ``stored`` returns them.

    Returns:
        the row's file.

    Raises:
        SuiteError: the run_id is taken, the row is not valid, or the disk refuses.
        ValueError: seeds or counts are not those of the row, or the predictions were not rounded before scoring.
    """
    whole = stored(*predictions)
    for seed, x_I in predictions[1].items():
        if not np.array_equal(np.asarray(x_I), whole.by_seed[int(seed)]):
            raise ValueError(f"the predictions of seed {seed} are not float32 values: score what rows.stored returns")
    content = _encode(whole)
    place = {"path": f"predictions/{row.get('benchmark')}/{row.get('run_id')}.parquet"}
    place |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}  # type: ignore[dict-item]
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    row = {"schema_version": SCHEMA_VERSION, "created": now, **row, "predictions": place}
    validate(row)
    if row["seeds"] != list(whole.by_seed) or row["task"]["n_test"] != len(whole.items_I):
        raise ValueError(f"row {row['run_id']}: its seeds or n_test are not those of its predictions")
    final = Path(root) / "rows" / row["benchmark"] / f"{row['run_id']}.json"
    predicted = Path(root) / place["path"]
    text = json.dumps(row, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        for folder in (final.parent, predicted.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with _alone(final.parent) as held:
            if held:  # so every unfinished file is of a process that died, here or on another machine
                for folder in (final.parent, predicted.parent):
                    for left in folder.glob(f".*{UNFINISHED}"):
                        left.unlink()
            if final.exists():
                raise SuiteError(f"row {row['run_id']} is already there ({final}): rows are only ever added.")
            atomic.write(predicted, content)
            atomic.write(final, text.encode("utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise SuiteError(f"row {row['run_id']} cannot be written below {root} ({reason}): no row was added.") from error
    return final


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """One writer at a time; the lock is on the folder itself and goes with the process. False: no locks here."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        held = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # some network file systems
            held = False
        yield held
    finally:
        os.close(handle)


def benchmarks(root: Path) -> list[str]:
    """The benchmarks that have rows."""
    return sorted({path.parent.name for path in Path(root).glob("rows/*/*.json")})


def row_files(root: Path, benchmark: str | None = None) -> list[Path]:
    """The files of all rows, or of one benchmark's, in order.

    Raises:
        SuiteError: no row is of this benchmark.
    """
    known = benchmarks(root)
    if benchmark is not None and benchmark not in known:
        there = nearest(benchmark, known) or f" There are no rows below {root}."
        raise SuiteError(f"No row is of the benchmark '{benchmark}'.{there}")
    return sorted(Path(root).glob(f"rows/{benchmark or '*'}/*.json"))


def read(path: Path) -> Row:
    """One row, validated.

    Raises:
        SuiteError: it cannot be read, is not JSON or not a row, or lies under another name than its own.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{path}: is not JSON ({error}): restore it, or remove it with its predictions.") from None
    validate(row, path)
    if (row["benchmark"], row["run_id"]) != (path.parent.name, path.stem):
        raise SuiteError(f"{path}: holds the row {row['benchmark']}/{row['run_id']}: restore its name.")
    return row


def read_all(root: Path, benchmark: str | None = None) -> list[Row]:
    """All rows, or those of one benchmark, in the order of their files. Raises as ``read`` and ``row_files``."""
    return [read(path) for path in row_files(root, benchmark)]
