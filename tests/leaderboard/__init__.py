"""Rows made from seeded predictions, through the functions that real rows go through."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.evaluation import predictions as files
from ssl_suite.evaluation import rows
from ssl_suite.evaluation.significance import score

CLASSES = ("EI", "IE", "N")
SEEDS = (100, 101, 102)


def classified(
    items: int = 60, right: float = 0.8, seeds: Sequence[int] = SEEDS, classes: Sequence[str] = CLASSES, draw: int = 0
) -> files.Predictions:
    """Labels of item i that depend on i alone; each seed is right on about a share ``right`` of the items."""
    rng = np.random.default_rng(draw)
    items_I = np.arange(items) * 2 + 1
    labels_I = np.random.default_rng(7).integers(0, len(classes), 1000)[items_I % 1000]
    by_seed = {
        seed: np.where(
            rng.random(items) < right, labels_I, (labels_I + rng.integers(1, len(classes), items)) % len(classes)
        )
        for seed in seeds
    }
    return files.stored(labels_I, by_seed, items_I, classes)


def valued(items: int = 60, noise: float = 0.5, seeds: Sequence[int] = SEEDS) -> files.Predictions:
    rng = np.random.default_rng(1)
    labels_I = rng.normal(size=items)
    by_seed = {seed: labels_I + noise * rng.normal(size=items) for seed in seeds}
    return files.stored(labels_I, by_seed, np.arange(items), ())


def make_row(
    predictions: files.Predictions,
    /,
    arm: str = "BERT",
    task: str = "splice@kao100",
    metrics: Sequence[str] = (),
    tag: str = "",
    **changes: Any,
) -> rows.Row:
    """A whole row but for its ``predictions``. ``changes``: ``task__n_test=3`` sets row["task"]["n_test"]. ``tag``
    stands for a configuration: rows that differ in nothing else need one."""
    items, classes = len(predictions.items_I), predictions.classes
    metrics = metrics or ("accuracy" if classes else "spearman",)
    full = int(predictions.items_I.max()) + 1
    counts = {"n_train": 287, "n_train_full": 2871, "n_dev": 50, "n_dev_full": 50, "n_test": items, "n_test_full": full}
    row: rows.Row = {
        "run_id": "",
        "benchmark": "cross_domain",
        "arm": arm,
        "git_commit": "0" * 40,
        "git_dirty": False,
        "schema_version": 1,
        "config_sha256": hashlib.sha256(tag.encode()).hexdigest() if tag else "1a2b3c4d" * 8,
        "task": {
            "name": task,
            "title": task.split("@")[0],
            "version": 1,
            "modality": "dna",
            "data": "splice",
            "reference": None,
            "caveat": "",
            "data_sha256": "a" * 64,
            "split_sha256": "b" * 64,
            **counts,
            "n_classes": len(classes) or None,
            "n_truncated": 0,
            "n_skipped": 0,
            "leakage": {"test_in_train": 12},
        },
        "encoder": {"ref": "random", "weights_sha256": None, "params": 1000, "pretrain_step": None, "note": ""},
        "protocol": {"name": "finetune", "lr": 1e-4},
        "seeds": list(predictions.by_seed),
        "budget": {
            "name": "small",
            "trials": 5,
            "steps": 300,
            "tokens": None,
            "seconds": 512.3,
            "device": "cpu, 2 cores",
            "precision": "fp32",
        },
        "metrics": [score(name, predictions) for name in metrics],
        "selection": {"split": "dev", "metric": "accuracy", "value": 0.96, "per_lr": {"1e-4": 0.96}},
        "env": {"python": "3.11.2", "torch": "2.11.0", "ssl_suite": "0.1.0", "platform": "Linux x86_64"},
        "created": "2026-11-23T04:00:00Z",
    }
    names = (
        changes.get(f"{block}__name", default) for block, default in (("protocol", "finetune"), ("budget", "small"))
    )
    row["run_id"] = rows.make_run_id(task, arm, *names, row["config_sha256"])
    return changed(row, **changes)


def changed(row: rows.Row, /, **changes: Any) -> rows.Row:
    row = copy.deepcopy(row)
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = row
        for parent in parents:
            place = place[parent]
        place[last] = value
    return row


def add(root: Path, predictions: files.Predictions | None = None, /, **words: Any) -> Path:
    predictions = predictions or classified()
    return rows.write(root, make_row(predictions, **words), {"test": predictions})
