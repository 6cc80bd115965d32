"""What a row may hold: names, kinds, and the facts that must agree with each other."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ssl_suite.errors import SuiteError, nearest

SCHEMA_VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@+._-]{0,199}")  # of a run_id and a benchmark: both become file names


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _time(value: Any) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        return datetime.fromisoformat(value).tzinfo is not None
    return False


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


# What a value must be, in words for the error, and the test of it. "?" after the kind: null, or not there at all.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("letters, digits and @ + . _ - (200 at most)", _matches(NAME.pattern)),
    "text": ("a text", _matches(r"(?s).*\S.*")),
    "note": ("a text", lambda value: isinstance(value, str)),
    "hash": ("a SHA-256 (64 hexadecimal digits)", _matches("[0-9a-f]{64}")),
    "commit": ("a git commit (40 or 64 hexadecimal digits)", _matches("[0-9a-f]{40}|[0-9a-f]{64}")),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
    "count": ("a whole number from 0", _whole),
    "number": ("a finite number", _number),
    "time": ("a time with its zone, such as 2026-11-23T04:00:00Z", _time),
    "counts": ("whole numbers by name", lambda value: isinstance(value, dict) and all(map(_whole, value.values()))),
    "list": ("a list that is not empty", lambda value: isinstance(value, list) and len(value) > 0),
}


def _keys(text: str) -> dict[str, str]:
    """``name:kind`` words as a dictionary."""
    return dict(word.split(":") for word in text.split())


# Further keys are allowed: a row may say more than this.
SCHEMA: dict[str, Any] = {
    **_keys("schema_version:count run_id:name benchmark:name arm:text config_sha256:hash created:time"),
    **_keys("git_commit:commit? git_dirty:flag? seeds:list metrics:list"),
    "task": {
        **_keys("name:text title:text version:count modality:text data:text reference:note? caveat:note?"),
        **_keys("data_sha256:hash split_sha256:hash n_train:count n_train_full:count n_dev:count n_dev_full:count"),
        **_keys("n_test:count n_test_full:count n_truncated:count n_skipped:count n_classes:count? leakage:counts"),
    },
    "encoder": _keys("ref:text? weights_sha256:hash? params:count? pretrain_step:count? note:note?"),
    "protocol": _keys("name:text"),
    "budget": _keys("name:text trials:count steps:count? tokens:count? seconds:number device:text precision:text?"),
    "env": _keys("python:text ssl_suite:text platform:note?"),
    "predictions": _keys("path:text sha256:hash bytes:count"),
}
METRIC = _keys("name:text value:number higher_is_better:flag ci95:list per_seed:list sd:number?")
SELECTION = _keys("split:text metric:text value:number?")


def validate(row: Any, where: str | Path | None = None) -> None:
    """Check a row's keys, types and the facts that must agree with each other.

    Args:
        where: named in the error; default: the row's run_id.

    Raises:
        SuiteError: the first fault, in one line.
    """
    where = where or f"row {row.get('run_id', '?') if isinstance(row, dict) else '?'}"
    version = row.get("schema_version") if isinstance(row, dict) else None
    if _whole(version) and version > SCHEMA_VERSION:  # type: ignore[operator]
        raise SuiteError(f"{where}: schema_version {version} is newer than this ssl_suite reads: update ssl_suite.")
    _fits(row, SCHEMA, where, "")
    if row.get("selection") is not None:
        _fits(row["selection"], SELECTION, where, "selection.")
        _require(row["selection"]["split"] != "test", where, "selection.split is 'test': choose on dev")
    seeds = row["seeds"]
    _require(all(map(_whole, seeds)) and len(set(seeds)) == len(seeds), where, "seeds are not different whole numbers")
    for k, metric in enumerate(row["metrics"]):
        _fits(metric, METRIC, where, f"metrics[{k}].")
        name, interval, per_seed = metric["name"], metric["ci95"], metric["per_seed"]
        ordered = len(interval) == 2 and all(map(_number, interval)) and interval[0] <= interval[1]
        _require(ordered, where, f"ci95 of {name} is not [low, high]")
        each = len(per_seed) == len(seeds) and all(map(_number, per_seed))
        _require(each, where, f"per_seed of {name} should be one number for each of the {len(seeds)} seeds")
    names = [metric["name"] for metric in row["metrics"]]
    _require(len(set(names)) == len(names), where, "metrics names one metric twice")
    task = row["task"]
    for part in ("train", "dev", "test"):
        used, full = task[f"n_{part}"], task[f"n_{part}_full"]
        _require(used <= full, where, f"task.n_{part}={used} is more than n_{part}_full={full}")
    _require(task["n_test"] > 0, where, "task.n_test is 0: nothing was scored")


def _require(holds: bool, where: str | Path, fault: str) -> None:
    if not holds:
        raise SuiteError(f"{where}: {fault}.")


def _fits(value: Any, schema: Mapping[str, Any], where: str | Path, prefix: str) -> None:
    _require(isinstance(value, dict), where, f"{prefix.rstrip('.') or 'it'} should be an object of names and values")
    for key, wanted in schema.items():
        if isinstance(wanted, dict):
            _fits(value.get(key), wanted, where, f"{prefix}{key}.")
            continue
        if wanted.endswith("?") and value.get(key) is None:
            continue
        if key not in value:
            others = set(value) - set(schema)
            hint = nearest(key, others).replace("Did you mean", "Is it") if others else ""
            raise SuiteError(f"{where}: {prefix}{key} is missing.{hint if 'Is it' in hint else ''}")
        words, test = KINDS[wanted.removesuffix("?")]
        _require(test(value[key]), where, f"{prefix}{key} is {str(value[key])[:60]!r} and should be {words}")
