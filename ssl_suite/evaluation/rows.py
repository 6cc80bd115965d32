"""Rows of the leaderboard: one JSON file a measurement, and beside it the predictions that its numbers follow from.

``rows/BENCHMARK/RUN_ID.json`` and ``predictions/BENCHMARK/RUN_ID.parquet`` below the leaderboards folder (``root``),
and ``manifest.jsonl``, a chain of the rows' SHA-256. Rows are only ever added. A row's file is written last, so
predictions without a row, which a kill may leave, count for nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ssl_suite.core import atomic, resources
from ssl_suite.core.atomic import UNFINISHED
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.evaluation import predictions as stored
from ssl_suite.evaluation.predictions import Predictions
from ssl_suite.evaluation.row_schema import SCHEMA_VERSION, validate

FEWEST = 300  # items of a test set; a score of fewer is shown by its interval alone
MANIFEST = "manifest.jsonl"

Row = dict[str, Any]


def default_root() -> Path:
    """``leaderboards/`` of the checkout; for an installed package that of the working folder."""
    found = resources.folder("leaderboards")
    return Path("leaderboards") if found.is_relative_to(resources.PACKAGE) else found


def make_run_id(task: str, arm: str, protocol: str, budget: str, config_sha256: str) -> str:
    """``TASK--ARM--PROTOCOL--BUDGET--1a2b3c4d``, in the letters that a file name may have."""
    parts = (task, arm, protocol, budget, config_sha256[:8])
    return "--".join(map(slug, parts))


def slug(text: str) -> str:
    """Text in the letters that a file name may have."""
    return re.sub(r"[^A-Za-z0-9@+._-]+", "-", text)


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of a row's configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def read_predictions(root: Path, row: Mapping[str, Any], said: Mapping[str, Any] | None = None) -> Predictions:
    """The predictions of a row.

    Args:
        said: the block that names the file; default the row's ``predictions``.

    Raises SuiteError: the file is missing, outside ``root``, not the one the row was written with, or cannot be read.
    """
    name, said = row["run_id"], said or row["predictions"]
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
        return stored.decode(content)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, SuiteError) as error:
        raise SuiteError(f"row {name}: its predictions {path} are not a table of predictions ({error}).") from None


def write(root: Path, row: Mapping[str, Any], predictions: Mapping[str, Predictions]) -> Path:
    """Add a row: first its predictions, then the manifest's line, then the row's file; each whole or not at all.

    Args:
        row: without ``predictions``; ``schema_version`` and ``created`` are added when they are missing.
        predictions: as ``predictions.stored`` gives them, of ``test`` and of each of the row's further parts.

    Returns the row's file.

    Raises SuiteError: the run_id is taken, the row is not valid, or the disk refuses. Raises ValueError: seeds or
    counts are not those of the row (a defect of the caller).
    """
    root = Path(root)
    files: dict[str, tuple[dict[str, Any], bytes]] = {}
    for part, made in predictions.items():
        ending = ".parquet" if part == "test" else f".{part}.parquet"
        content = stored.encode(made)
        path = f"predictions/{row.get('benchmark')}/{row.get('run_id')}{ending}"
        files[part] = ({"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}, content)
    further = [{**part, "predictions": files[part["part"]][0]} for part in row.get("further", ())]
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    row = {"schema_version": SCHEMA_VERSION, "created": now, **row, "predictions": files["test"][0]}
    row |= {"further": further} if further else {}
    validate(row)
    for part, made in predictions.items():
        n = row["task"]["n_test"] if part == "test" else next(p["n"] for p in further if p["part"] == part)
        if row["seeds"] != list(made.by_seed) or n != len(made.items_I):
            raise ValueError(f"row {row['run_id']}: its seeds or items of {part} are not those of its predictions")
    final = root / "rows" / row["benchmark"] / f"{row['run_id']}.json"
    text = json.dumps(row, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        folder = root / "predictions" / row["benchmark"]
        for each in (final.parent, folder):
            each.mkdir(parents=True, exist_ok=True)
        with _locked(root) as held:
            if held:  # so every unfinished file is of a process that died
                for left in (*final.parent.glob(f".*{UNFINISHED}"), *folder.glob(f".*{UNFINISHED}")):
                    left.unlink()
            if final.exists():
                raise SuiteError(f"row {row['run_id']} is already there ({final}): rows are only ever added.")
            for place, content in files.values():
                atomic.write(root / place["path"], content)
            chain = [*read_manifest(root), entry(root, final, text.encode("utf-8"))]
            atomic.write(final, text.encode("utf-8"))
            write_manifest(root, chain)
    except OSError as error:
        reason = error.strerror or error
        raise SuiteError(f"row {row['run_id']} cannot be written below {root} ({reason}): no row was added.") from error
    return final


def read_manifest(root: Path) -> list[dict[str, str]]:
    """The rows that were ever added, in order: ``row`` (its file) and ``sha256``; [] where there is no manifest. Raises
    SuiteError: a line is damaged, or the chain of their digests is broken: a line was changed, moved or taken out."""
    path = Path(root) / MANIFEST
    if not path.is_file():
        return []
    before, found = "", []
    for i, line in enumerate(path.read_text("utf-8").splitlines()):
        try:
            one = json.loads(line)
            whole = one["chain"] == link(before, one)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise SuiteError(f"{path}: line {i + 1} is not what was written there: restore the manifest from git.")
        before = one["chain"]
        found.append({"row": one["row"], "sha256": one["sha256"]})
    return found


def link(before: str, one: Mapping[str, str]) -> str:
    """The digest that ties a line of the manifest to all lines before it."""
    return hashlib.sha256(f"{before} {one['row']} {one['sha256']}".encode()).hexdigest()


def entry(root: Path, path: Path, content: bytes) -> dict[str, str]:
    """A row's line of the manifest."""
    return {"row": path.relative_to(root).as_posix(), "sha256": hashlib.sha256(content).hexdigest()}


def write_manifest(root: Path, entries: list[dict[str, str]]) -> None:
    """Replace the manifest by a chain of these."""
    before, lines = "", []
    for one in entries:
        before = link(before, one)
        lines.append(json.dumps({**one, "chain": before}) + "\n")
    atomic.write(Path(root) / MANIFEST, "".join(lines).encode())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
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
    """The files of all rows, or of one benchmark's, in order. Raises SuiteError: no row is of this benchmark."""
    known = benchmarks(root)
    if benchmark is not None and benchmark not in known:
        there = nearest(benchmark, known) or f" There are no rows below {root}."
        raise SuiteError(f"No row is of the benchmark '{benchmark}'.{there}")
    return sorted(Path(root).glob(f"rows/{benchmark or '*'}/*.json"))


def read(path: Path) -> Row:
    """One row, validated. Raises SuiteError: it cannot be read, is not JSON or not a row, or lies under another name
    than its own."""
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
