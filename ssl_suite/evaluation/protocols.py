"""One encoder on one task under one protocol: what is tried, what is chosen on dev, and then the test predictions.

    finetune    every weight, from the encoder's own       probe     a head on the frozen encoder's layers
    scratch     the same shape from random weights         linear    scikit-learn on frozen features, or on k-mers
    majority    what needs no input at all                 knn       nearest neighbours on frozen features
    zero_shot   a head with nothing to train

The first three try every learning rate of the budget with the first seed, choose on dev, and train the other seeds at
that rate: as many trials for every encoder. Test is opened after that, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.evaluation import baselines, encode, encoders, metrics, references, trial
from ssl_suite.evaluation.heads import head_class
from ssl_suite.evaluation.task_data import SYMBOLS, TaskData, symbols
from ssl_suite.evaluation.trial import Plan
from ssl_suite.modalities.base import Modality

Say = Callable[[str], None]
NEIGHBOURS, TEMPERATURE = 200, 0.1
LINEAR = {"classes": False, "values": True}  # kinds of predictions a linear model gives; whether it is a regression


@dataclass
class Measurement:
    """What came out.

    Attributes:
        plan: what was measured.
        modality, data: what it was measured on.
        predictions: by part (``test`` and further ones) and seed, (I,) of the part's items in their order.
        protocol, selection: as a row has them.
        encoder: ``weights_sha256``, ``params``, ``pretrain_step`` and ``note``.
        trials, steps, tokens, seconds: what it took.
        curves: by seed the training loss over steps, of what is trained.
    """

    plan: Plan
    modality: Modality
    data: TaskData
    predictions: dict[str, dict[int, np.ndarray]]
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

    Raises SuiteError: an encoder that does not fit, bad data, no trial with a defined score.
    """
    check(plan)
    began = time.monotonic()
    found = PROTOCOLS[plan.protocol](plan, out, say, threads)
    found.seconds = found.seconds or time.monotonic() - began
    return found


def check(plan: Plan) -> None:
    """Refuse a protocol that does not exist, or that encoder, head or task do not take."""
    if plan.protocol not in PROTOCOLS:
        raise SuiteError(f"protocol={plan.protocol} does not exist.{nearest(plan.protocol, PROTOCOLS)}")
    kind = references.parse(plan.encoder).kind
    takes = {"kmer": ("linear",), "none": ("majority",), "cnn": ("scratch",), "fbank": ("probe", "zero_shot", *FROZEN)}
    takes["random"] = ("finetune", "probe", "zero_shot", *FROZEN)
    if plan.protocol not in takes.get(kind, PROTOCOLS):
        allowed = " or ".join(f"protocol={name}" for name in takes[kind])
        raise SuiteError(f"encoder={kind} is for {allowed}, not protocol={plan.protocol}.")
    task, head = plan.task, head_class(plan.task.head["name"])
    if plan.protocol in FROZEN and task.kind not in LINEAR:
        raise SuiteError(f"task {task.name}: protocol={plan.protocol} gives {' or '.join(LINEAR)}, not {task.kind}.")
    if not head.trained and plan.protocol not in ("zero_shot", "majority"):
        raise SuiteError(f"task {task.name}: its head has nothing to train; use protocol=zero_shot.")
    if head.trained and plan.protocol == "zero_shot":
        raise SuiteError(f"task {task.name}: its head is trained; use protocol=finetune or probe.")


class Trials:
    """The trials of a plan: run, or read where they were run before.

    Attributes:
        done, folders: by rate and seed the result and the folder.
    """

    def __init__(self, plan: Plan, out: Path, say: Say, threads: int | None) -> None:
        self.plan, self.out, self.say, self.threads = plan, out, say, threads
        self.done: dict[tuple[float, int], dict[str, Any]] = {}
        self.folders: dict[tuple[float, int], Path] = {}

    def run(self, lr: float, seed: int) -> float | None:
        """One trial; returns its dev score."""
        one, select = replace(self.plan, lr=lr, seed=seed), self.plan.task.select
        folder = trial.folder_of(one, self.out)
        result = trial.run(one, folder, self.threads)
        self.done[lr, seed], self.folders[lr, seed] = result, folder
        score = result["dev"].get(select)
        shown = "undefined" if score is None else f"{score:.4f}"
        self.say(f"  lr {lr:g}, seed {seed}: dev {select} {shown}, {result['seconds']:.0f} s")
        if "lost" in result:
            self.say(f"    lost at {result['lost']}")
        return score

    def choose_rate(self) -> tuple[float, dict[float, float | None]]:
        """The rate that is best on dev with the first seeds, and the scores of all; the others' weights are removed. A
        rate that loses a trial is not chosen. Raises SuiteError: no rate has a score."""
        budget, task = self.plan.budget, self.plan.task
        seeds = budget.seeds[: budget.rate_seeds]
        per_lr = {lr: mean_score([self.run(lr, seed) for seed in seeds]) for lr in budget.lr}
        sign = 1 if metrics.find(task.select).higher_is_better else -1
        known = [(sign * value, -lr) for lr, value in per_lr.items() if value is not None]
        chosen = -max(known)[1] if known else None  # of equals the smallest
        if chosen is None and len(budget.lr) == 1 and "lost" not in self.done[budget.lr[0], seeds[0]]:
            chosen = budget.lr[0]  # nothing was to be chosen
        if chosen is None:
            raise SuiteError(
                f"task {task.name}: {task.select} on dev is undefined for every learning rate: all answers are alike, "
                "or the loss was lost. Train longer (epochs, tokens of the budget), or at lower rates (lr)."
            )
        for (lr, _), folder in self.folders.items():
            if lr != chosen:
                trial.discard(folder)
        return chosen, per_lr

    def predict(self, lr: float) -> dict[str, dict[int, np.ndarray]]:
        """By part and seed the predictions of all seeds, once each has something to test. Raises SuiteError: a seed has
        not."""
        for seed in self.plan.budget.seeds:
            if (lr, seed) not in self.done:
                self.run(lr, seed)
            if not self.done[lr, seed]["best_step"]:
                lost = self.done[lr, seed].get("lost", "no dev score was defined.")
                name = self.plan.task.name
                raise SuiteError(f"task {name}: seed {seed} has nothing to test at the rate {lr:g}: {lost}")
        found: dict[str, dict[int, np.ndarray]] = {}
        for seed in self.plan.budget.seeds:
            one = replace(self.plan, lr=lr, seed=seed)
            for part, of_seed in trial.predict_parts(one, self.folders[lr, seed], self.threads).items():
                found.setdefault(part, {})[seed] = of_seed
            if self.plan.keep:
                self.say(f"  kept for `ssl_suite predict encoder={self.folders[lr, seed]}`")
        return found


def _trained(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    task, budget = plan.task, plan.budget
    modality, data = trial.load_data(plan)
    trials = Trials(plan, out, say, threads)
    chosen, per_lr = trials.choose_rate()
    predictions = trials.predict(chosen)
    results = trials.done.values()
    of_seed = {seed: trials.done[chosen, seed] for seed in budget.seeds}
    first = of_seed[budget.seeds[0]]
    probed = {}
    if plan.protocol == "probe":
        probed = {
            "mix": first["mix"],
            "layer_weights": {str(seed): each["layer_weights"] for seed, each in of_seed.items()},
        }
        remove_features(plan, out)
    return Measurement(
        plan,
        modality,
        data,
        predictions,
        protocol={
            "name": plan.protocol,
            "head": first["head"],
            "lr": chosen,
            "lr_grid": list(budget.lr),
            "steps": first["steps"],
            **{key: value for key, value in budget.facts().items() if key in RECORDED},
            "head_init": budget.head,
            **probed,
            **({"keep_special": plan.keep_special} if references.parse(plan.encoder).map else {}),
        },
        selection={
            "split": "dev",
            "metric": task.select,
            "value": mean_score([result["dev"].get(task.select) for result in of_seed.values()]),
            "per_lr": {f"{lr:g}": value for lr, value in per_lr.items()},
        },
        encoder=first["encoder"],
        trials=len(results),
        steps=sum(result["steps"] for result in results),
        tokens=sum(result["tokens"] for result in results),
        seconds=sum(result["seconds"] for result in results),
        curves={seed: result["curve"] for seed, result in of_seed.items()},
    )


def remove_features(plan: Plan, out: Path) -> None:
    """Delete what a probe's frozen encoder gave: the cell is measured."""
    for seed in plan.budget.seeds:
        atomic.remove(trial.features_folder(replace(plan, seed=seed), out, _device()))


RECORDED = (  # of the budget, in a row's protocol
    *("batch", "epochs", "tokens", "schedule", "warmup", "weight_decay", "layer_decay", "dropout"),
    *("evaluations", "choose", "freeze"),
)


def mean_score(scores: Sequence[float | None]) -> float | None:
    """Over seeds; one without a score, and there is no mean."""
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if len(known) == len(scores) else None


def _majority(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    modality, data = trial.load_data(plan)
    head, seed = head_class(plan.task.head["name"]), plan.budget.seeds[0]
    answers = {part: {seed: head.majority(data, data.parts[part])} for part in data.tested}
    return Measurement(plan, modality, data, answers, {"name": "majority"})


def _zero_shot(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    modality, data = trial.load_data(plan)
    kind, reference, seed = head_class(plan.task.head["name"]), references.parse(plan.encoder), plan.budget.seeds[0]
    if kind.causal:
        opened = encoders.open_causal(reference, modality)
    else:
        opened = encoders.open_encoder(reference, modality, seed, keep_special=plan.keep_special)
    head = kind(opened.encoder, data, **plan.task.head_settings)
    found, chosen = head.answer(opened.encoder.to(_device()), modality, data, plan.task)
    answers = {part: {seed: predictions} for part, predictions in found.items()}
    protocol = {"name": "zero_shot", "head": head.described(plan.task.head["name"])}
    return Measurement(plan, modality, data, answers, protocol, chosen, opened.facts())


def _linear(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    if references.parse(plan.encoder).kind == "kmer":
        return _kmer(plan)
    task, regression = plan.task, LINEAR[plan.task.kind]

    def judge(vectors: dict[str, np.ndarray], data: TaskData, part: str) -> tuple[np.ndarray, dict, dict]:
        train, dev = data.parts["train"], data.parts["dev"]
        given = (vectors["train"], train.labels_I, vectors["dev"], dev.labels_I, vectors[part])
        found = baselines.linear_probe(*given, regression, select=task.select)
        return found.test_predictions, {"name": "linear"}, found.chosen

    return _frozen(plan, judge)


def _kmer(plan: Plan) -> Measurement:
    """n-grams, or the symbol at each position where sequences are aligned: what does better on dev."""
    task, seed = plan.task, plan.budget.seeds[0]
    modality, data = trial.load_data(plan)
    texts = {split: symbols(data, modality, split) for split in data.parts}
    train, dev = data.parts["train"].labels_I, data.parts["dev"].labels_I
    sep = None if data.segments is None else chr(SYMBOLS + modality.vocabulary.sep)
    kinds: list[Literal["ngrams", "positions"]] = ["ngrams", "positions"] if modality.aligned else ["ngrams"]
    tried: dict[tuple[str, str], baselines.Control] = {}
    for kind in kinds:
        for part in data.tested:
            tried[kind, part] = baselines.kmer(
                texts["train"],
                train,
                texts["dev"],
                dev,
                texts[part],
                regression=LINEAR[task.kind],
                features=kind,
                select=task.select,
                sizes=modality.ngrams,
                sep=sep,
            )
    scores = {kind: dev_score(tried[kind, "test"].chosen) for kind in kinds}
    sign = 1 if metrics.find(task.select).higher_is_better else -1
    best = max(scores, key=lambda kind: sign * scores[kind])
    selection = {"split": "dev", "metric": task.select, "value": scores[best], "per_features": scores}
    chosen = tried[best, "test"].chosen
    protocol = {"name": "linear", "features": best, chosen["name"]: chosen["value"]}
    predictions = {part: {seed: tried[best, part].test_predictions} for part in data.tested}
    return Measurement(plan, modality, data, predictions, protocol, selection, trials=len(kinds))


def _knn(plan: Plan, out: Path, say: Say, threads: int | None) -> Measurement:
    regression = LINEAR[plan.task.kind]

    def judge(vectors: dict[str, np.ndarray], data: TaskData, part: str) -> tuple[np.ndarray, dict, dict]:
        labels = data.parts["train"].labels_I
        found = baselines.knn(vectors["train"], labels, vectors[part], NEIGHBOURS, TEMPERATURE, regression=regression)
        return found.predictions, {"name": "knn", "k": found.k, "temperature": TEMPERATURE}, {}

    return _frozen(plan, judge)


def _frozen(plan: Plan, judge: Callable[[dict[str, np.ndarray], TaskData, str], tuple[np.ndarray, dict, dict]]) -> Any:
    """Vectors of the last layer, and what a model that needs no steps makes of them, for every seed that matters."""
    modality, data = trial.load_data(plan)
    reference = references.parse(plan.encoder)
    seeds = plan.budget.seeds if reference.varies else plan.budget.seeds[:1]
    predictions: dict[str, dict[int, np.ndarray]] = {}
    protocol: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for seed in seeds:
        opened = encoders.open_encoder(reference, modality, seed, keep_special=plan.keep_special)
        before = encoders.digest(opened.encoder)
        encoder = opened.encoder.to(_device())
        vectors = {}
        for split, part in data.parts.items():
            found = encode.states(encoder, modality, encode.sequences_of(data, split), layer=-1)
            vectors_SD = np.stack([vector for _, vector in found])
            vectors[split] = item_means(vectors_SD, part.windows.records_S, part.windows.lengths_S)
        if encoders.digest(opened.encoder) != before:
            raise SuiteError(f"encoder={reference.short} moved while it was frozen; this is a fault of the suite.")
        for name in data.tested:
            predictions.setdefault(name, {})[seed], protocol, chosen = judge(vectors, data, name)
    selection = {"split": "dev", "metric": plan.task.select, "value": dev_score(chosen)} if chosen else None
    return Measurement(plan, modality, data, predictions, protocol, selection, opened.facts())


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
    "zero_shot": _zero_shot,
}
