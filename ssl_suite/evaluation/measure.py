"""One encoder on one task under one protocol: what is tried, what is chosen on dev, and then the test predictions.

    finetune    every weight, from the encoder's own       probe     a head on the frozen encoder's layers
    scratch     the same shape from random weights         linear    scikit-learn on frozen features, or on k-mers
    majority    the training set's commonest answer        knn       nearest neighbours on frozen features

The first three try every learning rate of the budget with the first seed, choose on dev, and train the other seeds at
that rate: as many trials for every encoder. Test is opened after that, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.errors import SuiteError, nearest
from ssl_suite.evaluation import encoders, features, metrics, references, simple, trial
from ssl_suite.evaluation.task_data import TaskData, symbols
from ssl_suite.evaluation.tasks import Task
from ssl_suite.evaluation.trial import Plan
from ssl_suite.modalities.base import Modality

Say = Callable[[str], None]
NEIGHBOURS, TEMPERATURE = 200, 0.1


@dataclass
class Measurement:
    """What came out.

    Attributes:
        task, modality, data: what it was measured on.
        predictions: by seed, (I,) of the test items in the order of ``data.parts["test"]``.
        protocol, selection: as a row has them.
        encoder: ``weights_sha256``, ``params``, ``pretrain_step`` and ``note``.
        trials, steps, tokens, seconds: what it took.
        curves: by seed the training loss over steps, of what is trained.
    """

    task: Task
    modality: Modality
    data: TaskData
    predictions: dict[int, np.ndarray]
    protocol: dict[str, Any]
    selection: dict[str, Any] | None = None
    encoder: dict[str, Any] = field(default_factory=dict)
    trials: int = 1
    steps: int | None = None
    tokens: int | None = None
    seconds: float = 0.0
    curves: dict[int, dict[str, list[float]]] = field(default_factory=dict)


def measure(plan: Plan, out: Path, say: Say, threads: int | None = None) -> Measurement:
    """Measure ``plan``; its ``seed`` and ``lr`` are set here, from the budget.

    Args:
        out: folder of the trials.
        say: takes a line after each.

    Raises:
        SuiteError: an encoder that does not fit, bad data, no trial with a defined score.
    """
    if plan.protocol not in PROTOCOLS:
        raise SuiteError(f"protocol={plan.protocol} does not exist.{nearest(plan.protocol, PROTOCOLS)}")
    kind = references.parse(plan.encoder).kind
    takes = {"kmer": ("linear",), "none": ("majority",), "cnn": ("scratch",), "fbank": ("probe", *FROZEN)}
    takes["random"] = ("finetune", "probe", *FROZEN)
    if plan.protocol not in takes.get(kind, PROTOCOLS):
        allowed = " or ".join(f"protocol={name}" for name in takes[kind])
        raise SuiteError(f"encoder={kind} is for {allowed}, not protocol={plan.protocol}.")
    began = time.monotonic()
    found = PROTOCOLS[plan.protocol](plan, out, say, threads)
    found.seconds = found.seconds or time.monotonic() - began
    return found


def _trained(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    task, modality, data = trial.opened_data(plan)
    rates, seeds = plan.budget["lr"], plan.budget["seeds"]
    done: dict[tuple[float, int], dict[str, Any]] = {}
    folders: dict[tuple[float, int], Path] = {}

    def run(lr: float, seed: int) -> None:
        one = replace(plan, lr=lr, seed=seed)
        folder = out / f"{task.base}-{plan.protocol}-lr{lr:g}-seed{seed}-{one.key}"
        done[lr, seed], folders[lr, seed] = trial.run(one, folder, threads), folder
        score = done[lr, seed]["dev"].get(task.select)
        shown = "undefined" if score is None else f"{score:.4f}"
        say(f"  lr {lr:g}, seed {seed}: dev {task.select} {shown}, {done[lr, seed]['seconds']:.0f} s")
        if "lost" in done[lr, seed]:
            say(f"    lost at {done[lr, seed]['lost']}")

    for lr in rates:
        run(lr, seeds[0])
    per_lr = {lr: done[lr, seeds[0]]["dev"].get(task.select) for lr in rates}
    chosen = best_rate(per_lr, metrics.find(task.select).higher_is_better)
    if chosen is None:
        raise SuiteError(
            f"task {task.name}: {task.select} on dev is undefined for every learning rate: all answers are alike, or "
            f"the loss was lost. Train longer (epochs, tokens of the budget), or at lower rates (lr)."
        )
    for lr in set(rates) - {chosen}:
        trial.discard(folders[lr, seeds[0]])
    for seed in seeds[1:]:
        run(chosen, seed)
        if not done[chosen, seed]["best_step"]:
            lost = done[chosen, seed].get("lost", "no dev score was defined.")
            raise SuiteError(f"task {task.name}: seed {seed} has nothing to test at the rate {chosen:g}: {lost}")
    predictions = {
        seed: trial.predict_test(replace(plan, lr=chosen, seed=seed), folders[chosen, seed], threads) for seed in seeds
    }
    results, budget = list(done.values()), plan.budget
    dev = [done[chosen, seed]["dev"].get(task.select) for seed in seeds]
    known = [value for value in dev if value is not None]  # one seed without a score, and there is no mean
    return Measurement(
        task,
        modality,
        data,
        predictions,
        protocol={
            "name": plan.protocol,
            "lr": chosen,
            "lr_grid": list(rates),
            "steps": results[0]["steps"],
            **{key: budget[key] for key in ("batch", "epochs", "schedule", "warmup", "weight_decay", "dropout")},
            "pooling": budget["pooling"],
            **{key: budget[key] for key in ("head", "layer_decay") if key in budget},
            "evaluations": budget["evaluations"],
            **({"keep_special": plan.keep_special} if references.parse(plan.encoder).map else {}),
        },
        selection={
            "split": "dev",
            "metric": task.select,
            "value": float(np.mean(known)) if len(known) == len(dev) else None,
            "per_lr": {f"{lr:g}": value for lr, value in per_lr.items()},
        },
        encoder=done[chosen, seeds[0]]["encoder"],
        trials=len(results),
        steps=sum(result["steps"] for result in results),
        tokens=sum(result["tokens"] for result in results),
        seconds=sum(result["seconds"] for result in results),
        curves={seed: done[chosen, seed]["curve"] for seed in seeds},
    )


def best_rate(per_lr: Mapping[float, float | None], higher_is_better: bool) -> float | None:
    """The rate with the best score; of equals the smallest. None where no score is defined."""
    known = [(value if higher_is_better else -value, -lr) for lr, value in per_lr.items() if value is not None]
    return -max(known)[1] if known else None


def _majority(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    task, modality, data = trial.opened_data(plan)
    answer = simple.majority(data.parts["train"].labels_I, len(data.parts["test"]), not data.classes)
    return Measurement(task, modality, data, {plan.budget["seeds"][0]: answer}, {"name": "majority"})


def _linear(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    if references.parse(plan.encoder).kind == "kmer":
        return _kmer(plan)

    def judge(vectors: dict[str, np.ndarray], data: TaskData, task: Task) -> tuple[np.ndarray, dict, dict]:
        train, dev = data.parts["train"], data.parts["dev"]
        parts = (vectors["train"], train.labels_I, vectors["dev"], dev.labels_I, vectors["test"])
        found = simple.linear_probe(*parts, not data.classes, select=task.select)
        return found.test_predictions, {"name": "linear"}, found.chosen

    return _frozen(plan, judge)


def _kmer(plan: Plan) -> Measurement:
    """n-grams, or the symbol at each position where sequences are aligned: what does better on dev."""
    task, modality, data = trial.opened_data(plan)
    texts = {split: symbols(data, modality, split) for split in data.parts}
    train, dev = data.parts["train"].labels_I, data.parts["dev"].labels_I
    tried = {}
    for kind in ("ngrams", "positions"):
        tried[kind] = simple.kmer(
            texts["train"],
            train,
            texts["dev"],
            dev,
            texts["test"],
            regression=not data.classes,
            features=kind,
            select=task.select,
        )
    scores = {kind: dev_score(found.chosen) for kind, found in tried.items()}
    sign = 1 if metrics.find(task.select).higher_is_better else -1
    best = max(scores, key=lambda kind: sign * scores[kind])
    selection = {"split": "dev", "metric": task.select, "value": scores[best], "per_features": scores}
    protocol = {"name": "linear", "features": best, tried[best].chosen["name"]: tried[best].chosen["value"]}
    predictions = {plan.budget["seeds"][0]: tried[best].test_predictions}
    return Measurement(task, modality, data, predictions, protocol, selection, trials=2)


def _knn(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    def judge(vectors: dict[str, np.ndarray], data: TaskData, task: Task) -> tuple[np.ndarray, dict, dict]:
        labels = data.parts["train"].labels_I
        found = simple.knn(
            vectors["train"], labels, vectors["test"], NEIGHBOURS, TEMPERATURE, regression=not data.classes
        )
        return found.predictions, {"name": "knn", "k": found.k, "temperature": TEMPERATURE}, {}

    return _frozen(plan, judge)


def _frozen(plan: Plan, judge: Callable[[dict[str, np.ndarray], TaskData, Task], tuple[np.ndarray, dict, dict]]) -> Any:
    """Vectors of the last layer, and what a model that needs no steps makes of them, for every seed that matters."""
    import torch

    task, modality, data = trial.opened_data(plan)
    reference = references.parse(plan.encoder)
    varies = reference.kind == "random" or reference.reembed or (reference.map and reference.map_seed is None)
    seeds = plan.budget["seeds"] if varies else plan.budget["seeds"][:1]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictions: dict[int, np.ndarray] = {}
    protocol: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for seed in seeds:
        opened = encoders.open_encoder(reference, modality, seed, keep_special=plan.keep_special)
        before = encoders.digest(opened.encoder)
        encoder = opened.encoder.to(device)
        vectors = {}
        for split, part in data.parts.items():
            states_SLD = features.pooled(encoder, data, modality, split)
            vectors[split] = item_means(states_SLD[:, -1], part.windows.records_S, part.windows.lengths_S)
        if encoders.digest(opened.encoder) != before:
            raise SuiteError(f"encoder={reference.short} moved while it was frozen; this is a fault of the suite.")
        predictions[seed], protocol, chosen = judge(vectors, data, task)
    facts = {key: value for key, value in vars(opened).items() if key != "encoder"}
    selection = {"split": "dev", "metric": task.select, "value": dev_score(chosen)} if chosen else None
    return Measurement(task, modality, data, predictions, protocol, selection, facts)


def dev_score(chosen: Mapping[str, Any]) -> float:
    """What a control's chosen strength reached on dev."""
    return float(chosen["per_value"][f"{chosen['value']:g}"])


def item_means(vectors_SD: np.ndarray, items_S: np.ndarray, lengths_S: np.ndarray) -> np.ndarray:
    """(I, D): the mean of an item's sequences, by their lengths."""
    sums_ID = np.zeros((int(items_S.max()) + 1, vectors_SD.shape[1]))
    np.add.at(sums_ID, items_S, vectors_SD * lengths_S[:, None].astype(np.float64))
    return (sums_ID / np.bincount(items_S, lengths_S)[:, None]).astype(np.float32)


FROZEN = ("linear", "knn")
PROTOCOLS: dict[str, Callable[[Plan, Path, Say, int | None], Measurement]] = {
    "finetune": _trained,
    "scratch": _trained,
    "probe": _trained,
    "majority": _majority,
    "linear": _linear,
    "knn": _knn,
}
