"""What a row of the leaderboard may hold: keys, types, and the facts that must agree with each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.schema import parse

SCHEMA_VERSION = 2  # 2: the configuration itself stands in the row, and the head with its version in the protocol
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@+._-]{0,199}")  # of a run_id and a benchmark: both become file names


def _zoned(value: str) -> str:
    try:
        zoned = datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        zoned = False
    if not zoned:
        raise ValueError("should be a time with its zone, such as 2026-11-23T04:00:00Z")
    return value


Text = Annotated[str, Field(pattern=r"\S")]
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Count = Annotated[int, Field(ge=0)]


class _Block(BaseModel):
    """Further keys are allowed: a row may say more than this."""

    model_config = ConfigDict(strict=True, extra="allow")


class TaskBlock(_Block):
    name: Text
    title: Text
    version: Count
    modality: Text
    data: Text
    reference: str | None = None
    caveat: str | None = None
    data_sha256: Sha256
    split_sha256: Sha256
    n_train: Count
    n_train_full: Count
    n_dev: Count
    n_dev_full: Count
    n_test: Annotated[int, Field(ge=1)]
    n_test_full: Count
    n_truncated: Count
    n_skipped: Count
    n_classes: Count | None = None
    leakage: dict[str, Count]


class EncoderBlock(_Block):
    ref: str | None = None
    weights_sha256: Sha256 | None = None
    params: Count | None = None
    pretrain_step: Count | None = None
    note: str | None = None


class ProtocolBlock(_Block):
    name: Text


class BudgetBlock(_Block):
    name: Text
    trials: Count
    steps: Count | None = None
    tokens: Count | None = None
    seconds: FiniteFloat
    device: Text
    precision: Text | None = None


class EnvBlock(_Block):
    python: Text
    ssl_suite: Text
    platform: str | None = None


class FileBlock(_Block):
    path: Text
    sha256: Sha256
    bytes: Count


class MetricBlock(_Block):
    name: Text
    value: FiniteFloat
    higher_is_better: bool
    ci95: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]
    per_seed: Annotated[list[FiniteFloat], Field(min_length=1)]
    sd: FiniteFloat | None = None


class SelectionBlock(_Block):
    split: Text
    metric: Text
    value: FiniteFloat | None = None


class FurtherBlock(_Block):
    """A further part, such as test_mm."""

    part: Name
    n: Annotated[int, Field(ge=1)]
    metrics: Annotated[list[MetricBlock], Field(min_length=1)]
    predictions: FileBlock


class RowModel(_Block):
    schema_version: Count
    run_id: Name
    benchmark: Name
    arm: Text
    config_sha256: Sha256
    config: dict[str, Any] | None = None
    created: Annotated[str, AfterValidator(_zoned)]
    git_commit: Commit | None = None
    git_dirty: bool | None = None
    seeds: Annotated[list[Count], Field(min_length=1)]
    metrics: Annotated[list[MetricBlock], Field(min_length=1)]
    task: TaskBlock
    encoder: EncoderBlock
    protocol: ProtocolBlock
    budget: BudgetBlock
    env: EnvBlock
    predictions: FileBlock
    selection: SelectionBlock | None = None
    further: list[FurtherBlock] = Field(default_factory=list)


def validate(row: Any, where: str | Path | None = None) -> None:
    """Check a row's keys, types and the facts that must agree with each other.

    Args:
        where: named in the error; default: the row's run_id.

    Raises SuiteError: the first fault, in one line.
    """
    where = str(where or f"row {row.get('run_id', '?') if isinstance(row, dict) else '?'}")
    if not isinstance(row, Mapping):
        raise SuiteError(f"{where}: it should be an object of names and values.")
    version = row.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise SuiteError(f"{where}: schema_version {version} is newer than this ssl_suite reads: update ssl_suite.")
    found, task = parse(RowModel, dict(row), where), row["task"]
    count = len(found.seeds)
    rules = [
        (len(set(found.seeds)) == count, "seeds are not different whole numbers"),
        (found.schema_version < 2 or found.config is not None, "config is missing"),
        (found.selection is None or found.selection.split != "test", "selection.split is 'test': choose on dev"),
    ]
    for metrics in (found.metrics, *(part.metrics for part in found.further)):
        rules.append((len({metric.name for metric in metrics}) == len(metrics), "metrics names one metric twice"))
        for metric in metrics:
            each = f"per_seed of {metric.name} should be a number for each of the {count} seeds"
            rules.append((metric.ci95[0] <= metric.ci95[1], f"ci95 of {metric.name} is not [low, high]"))
            rules.append((len(metric.per_seed) == count, each))
    for part in ("train", "dev", "test"):
        used, full = task[f"n_{part}"], task[f"n_{part}_full"]
        rules.append((used <= full, f"task.n_{part}={used} is more than n_{part}_full={full}"))
    if broken := [fault for holds, fault in rules if not holds]:
        raise SuiteError(f"{where}: {broken[0]}.")
