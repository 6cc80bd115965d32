"""Small tasks with an answer in plain sight, which a head on a random encoder of two layers has to find."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ssl_suite.evaluation import protocols, tasks, trial
from ssl_suite.evaluation.budget import Budget

WORDS = [
    *("red", "green", "blue", "cat", "dog", "bird", "sun", "moon", "star", "one", "two"),
    *("three", "up", "down", "left", "right", "tea", "milk", "salt"),
]


def budget(**changes: Any) -> Budget:
    facts = {
        "name": "planted",
        "limits": {},
        "length": None,
        "chunks": None,
        "epochs": 12,
        "tokens": None,
        "batch": 32,
        "lr": [3e-3],
        "seeds": [1],
        "evaluations": 1,
        "schedule": "linear",
        "warmup": 0.1,
        "weight_decay": 0.0,
        "dropout": 0.0,
        "pooling": "mean",
        "probe_steps": 100,
    }
    return Budget(**{**facts, **changes})


def task(folder: Path, rows: list[dict[str, Any]], **facts: Any) -> tasks.Task:
    """A task on these rows, the first 80 % of them train, then 10 % dev and 10 % test."""
    size = len(rows)
    for i, row in enumerate(rows):
        row["split"] = "train" if i < 0.8 * size else "dev" if i < 0.9 * size else "test"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    content = {
        "name": "planted@made",
        "title": "Planted",
        "version": 1,
        "modality": {"name": "text", "tokenizer": "wordpiece", "vocab_size": 300, "max_length": 32},
        "data": "file:data.parquet",
        "splits": {"column": "split", "train": "train", "dev": "dev", "test": "test"},
        **facts,
    }
    path = folder / "planted@made.yaml"
    path.write_text(yaml.safe_dump(content, default_flow_style=True, width=1000), "utf-8")
    return tasks.load(path)


def measured(
    made: tasks.Task, out: Path, protocol: str = "finetune", encoder: str = "random:tiny", **changes: Any
) -> Any:
    """The measurement, and the main metric on test."""
    from ssl_suite.evaluation import metrics

    plan = trial.Plan(made, encoder, protocol, budget(**changes), 1, 0.0, {"root": None, "cache": None})
    found = protocols.measure(plan, out, lambda line: None, threads=1)
    answers = next(iter(found.predictions["test"].values()))
    return found, metrics.METRICS[made.metrics[0]].compute(found.data.parts["test"].labels_I, answers)


def sentence(draw: random.Random, least: int = 4, most: int = 8) -> list[str]:
    return [draw.choice(WORDS) for _ in range(draw.randint(least, most))]


def kept_trial(folder: Path, kind: str, encoder: str = "random:tiny", **changes: Any) -> tuple[trial.Plan, Path]:
    """The plan and the folder of a kept trial on sentences (``classes``, ``values``, ``tags``, ``pairs``) or on texts
    with an answer (``answers``)."""
    draw, rows = random.Random(4), []
    for _ in range(120):
        words = sentence(draw, 6, 9)
        row: dict[str, Any] = {"a": " ".join(words), "b": " ".join(words[::-1]), "words": words, "q": "star"}
        row |= {"long": words.index(max(words, key=len)), "answers": [words[2]], "starts": [row["a"].index(words[2])]}
        rows.append(row | {"class": str("cat" in words or "dog" in words), "tags": [word[0] for word in words]})
    kinds: dict[str, dict[str, Any]] = {
        "classes": {"inputs": "a", "label": "class", "head": "classification", "metrics": ["accuracy"]},
        "pairs": {"inputs": ["a", "b"], "label": "class", "head": "classification", "metrics": ["accuracy"]},
        "values": {"inputs": "a", "label": "long", "head": "regression", "metrics": ["spearman"]},
        "tags": {"inputs": "words", "label": "tags", "head": "tagging", "metrics": ["tag_accuracy"]},
        "answers": {"inputs": ["q", "a"], "label": ["answers", "starts"], "head": "span", "metrics": ["answer_f1"]},
    }
    facts = {"select": kinds[kind]["metrics"][0], **kinds[kind]}
    made = task(folder / kind, rows, **facts)
    place = {"root": None, "cache": None}
    facts = {"epochs": 2, "chunks": None, **changes}
    plan = trial.Plan(made, encoder, "finetune", budget(**facts), 1, 3e-3, place, keep=True)
    out = folder / kind / "trial"
    trial.run(plan, out, threads=1)
    trial.predict_parts(plan, out, threads=1)
    return plan, out
