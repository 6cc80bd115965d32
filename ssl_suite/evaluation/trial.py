"""One training of one encoder on one task, in a folder of its own; and, once it has been chosen, its test predictions.

    trial.json      what it is            result.json     dev metrics, steps, seconds; written last
    metrics.jsonl   the loss curve        PART.parquet    predictions of test and further parts, by ``predict_parts``
    checkpoints/    the last and the best on dev, until the test predictions are there
    model/          what is kept of a tested one where that is asked for, see ``kept``

Beside the folders: start-KEY.npz, the linear models that heads start from where the budget says ``head: linear``; and
features-KEY/, what a frozen encoder gives (``frozen.Features``), which the trials of a cell share until it is measured.

A folder with a result is not trained again; one without goes on from its newest checkpoint. So a table that was killed
goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from ssl_suite.core import atomic
from ssl_suite.core.errors import Diverged, SuiteError
from ssl_suite.core.files import read_metrics
from ssl_suite.data.loader import Collator, RowOrder, StepRows
from ssl_suite.evaluation import (
    encode,
    encoders,
    frozen,
    head_init,
    inference,
    kept,
    metrics,
    predictions,
    references,
    task_data,
    tasks,
)
from ssl_suite.evaluation.budget import Budget
from ssl_suite.evaluation.heads import head_class
from ssl_suite.evaluation.heads.base import Head
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.settings import config
from ssl_suite.training import checkpoint
from ssl_suite.training.distributed import DistributedContext, processes
from ssl_suite.training.learner import Learner
from ssl_suite.training.stopping import StopSignals
from ssl_suite.training.trainer import Job, fit

RESULT, TRIAL = "result.json", "trial.json"
ROW = 2048  # positions of a forward pass: on the CPU its activations stay in the cache
VALID = "valid_"  # before the name of a dev metric in the log
POINTS = 60  # of a loss curve, each the mean over the steps since the one before


@dataclass(frozen=True)
class Plan:
    """What determines a trial. Plain values: it is sent to another process, and its hash names the folder.

    Attributes:
        task: which.
        encoder: a reference.
        protocol: ``finetune``, ``scratch`` or ``probe``.
        budget: what it may spend.
        seed: of weights, order, and a map that follows it.
        lr: the peak rate.
        place: ``root`` and ``cache`` of the data.
        keep_special: see ``encoders.open_encoder``.
        layer: of a probe, the one hidden state that it reads, 0 the embedder's output; None mixes all.
    """

    task: tasks.Task
    encoder: str
    protocol: str
    budget: Budget
    seed: int
    lr: float
    place: Mapping[str, Any]
    keep_special: bool = True
    keep: bool = False
    layer: int | None = None

    def facts(self) -> dict[str, Any]:
        """What determines the result of a protocol, but for seed and rate, and not where the data lie."""
        reference = references.parse(self.encoder)
        budget = self.budget.facts()
        return {
            "task": self.task.identity(),
            "head_version": head_class(self.task.head["name"]).version,
            "encoder": [reference.short, encoders.identity(reference)],
            "protocol": self.protocol,
            "budget": {key: value for key, value in budget.items() if key not in ("seeds", "lr", "rate_seeds")},
            "keep_special": self.keep_special,
            **({} if self.layer is None else {"layer": self.layer}),
        }

    @property
    def key(self) -> str:
        """Twelve letters of the SHA-256 of what determines the result."""
        facts = self.facts() | {"seed": self.seed, "lr": self.lr}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class TrialComponents:
    """A plan's objects; ``facts`` is what a row says of the encoder, ``features`` of one that must not move."""

    data: TaskData
    modality: Modality
    facts: dict[str, Any]
    encoder: Any
    head: Head
    features: frozen.Features | None = None


def load_data(plan: Plan) -> tuple[Modality, TaskData]:
    """The task's modality for this encoder, and its data; the last ones used are kept."""
    reference = references.parse(plan.encoder)
    own = references.modality_source(reference)
    budget = plan.budget
    sizes = json.dumps({"limits": budget.limits, "length": budget.length, "chunks": budget.chunks})
    return _load_data(str(plan.task.path), plan.task.digest(), own, sizes, json.dumps(dict(plan.place)))


@lru_cache(maxsize=4)
def _load_data(path: str, digest: str, encoder: str, sizes: str, place: str) -> tuple[Modality, TaskData]:
    task, budget = tasks.load(Path(path)), json.loads(sizes)
    reference = references.parse(encoder) if encoder else references.Reference("none")
    section = tasks.modality_section(task)
    if section.get("max_length") is not None:
        section["max_length"] = min(section["max_length"], budget["length"] or section["max_length"])
    modality = encoders.modality_for(reference, section, task.name)
    limits = {part: limit for part, limit in budget["limits"].items() if part in task.parts}
    return modality, task_data.load(task, modality, json.loads(place), limits, budget["chunks"])


def build(
    plan: Plan,
    device: torch.device,
    folder: Path,
    splits: tuple[str, ...] = ("train", "dev"),
    stop: StopSignals | None = None,
) -> TrialComponents:
    """The data, the encoder and the head of a plan, with the weights that they start from.

    Args:
        folder: of the trial, beside which a probe keeps its features.
        splits: of which a probe's features are computed; no others can be asked for.
        stop: asked between forward passes of a probe's encoder.

    Raises KeyboardInterrupt: it was asked to stop; parts that are computed are kept.
    """
    modality, data = load_data(plan)
    scratch, budget, kind = plan.protocol == "scratch", plan.budget, head_class(plan.task.head["name"])

    def open_encoder() -> encoders.Opened:
        reference = references.parse(plan.encoder)
        return encoders.open_encoder(reference, modality, plan.seed, scratch, budget.dropout, plan.keep_special)

    def report(tokens: int) -> None:
        if stop is not None and stop.asked:
            raise KeyboardInterrupt

    features = None
    if plan.protocol == "probe":
        features = frozen.Features(features_folder(plan, folder.parent, device), open_encoder, device, report)
        facts, of_positions = features.facts, kind.granularity in ("token", "frame")
        make: Any = frozen.position_features if of_positions else frozen.sequence_features
        read, encoder = make(features, data, modality, splits)
        if plan.layer is not None:
            read, encoder = frozen.one_layer(read, encoder, plan.layer)
    else:
        opened = open_encoder()
        facts, encoder = opened.facts(), opened.encoder
        if budget.freeze == "embeddings":
            for table in (part for part in encoder.modules() if isinstance(part, nn.Embedding)):
                table.requires_grad_(False)
        read = encode.with_units(encoder, data, modality, device)
    torch.manual_seed(plan.seed)
    if plan.protocol == "probe":  # which standardises its features and stays linear in them
        settings = {**plan.task.head_settings, "pooling": "mean", "norm": False}
    else:
        settings = {"pooling": budget.pooling, "noisy": budget.dropout is None, **plan.task.head_settings}
    head = kind(encoder, replace(data, values=read.values) if kind.positions else data, **settings)
    return TrialComponents(read, modality, facts, encoder, head, features)


def features_folder(plan: Plan, out: Path, device: torch.device) -> Path:
    """Where the states of a probe's frozen encoder are kept: a folder named by all that determines them."""
    reference, budget, (_, data) = references.parse(plan.encoder), plan.budget, load_data(plan)
    facts = [frozen.FORMAT, plan.task.identity(), data.data_sha256, data.split_sha256, encoders.identity(reference)]
    facts += [reference.short, plan.keep_special, plan.seed if reference.varies else None, device.type]
    facts += [budget.limits, budget.length, budget.chunks]
    return out / f"features-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


def folder_of(plan: Plan, out: Path) -> Path:
    """The folder of a trial."""
    return out / f"{plan.task.base}-{plan.protocol}-lr{plan.lr:g}-seed{plan.seed}-{plan.key}"


def settings(plan: Plan, data: TaskData, modality: Modality, threads: int | None = None) -> dict[str, Any]:
    """The ``train`` section of a trial: the suite's defaults, the budget's values, and a batch of whole rows."""
    budget, lengths_S = plan.budget, data.sizes("train")
    wanted = max(int(lengths_S.max()), round(budget.batch * float(lengths_S.mean())))
    row = max(int(lengths_S.max()), min(ROW, wanted))
    batch = row * max(1, round(wanted / row))
    positions = budget.epochs * int(lengths_S.sum())
    steps = max(1, round(min(positions, budget.tokens or positions) / batch))
    if plan.protocol == "probe":
        row = batch = max(batch, budget.batch * int(lengths_S.max()))
        steps = budget.probe_steps
    every = max(1, -(-steps // budget.evaluations))
    return {
        **config.option("train", "default"),
        **{key: getattr(budget, key) for key in ("schedule", "warmup", "weight_decay", "layer_decay")},
        "steps": steps,
        "tokens_per_batch": batch,
        "tokens_per_row": row,
        "lr": plan.lr,
        "final_lr": 0.0,
        "eval_every": every,
        "checkpoint_every": every,
        "log_every": -(-steps // POINTS),
        "keep": 1,
        "betas": [0.9, 0.999],
        "compile": False,
        "threads": threads,
    }


def run(plan: Plan, folder: Path, threads: int | None = None) -> dict[str, Any]:
    """Train, or go on, or read what came out before.

    A rate at which the loss is no longer a number is a trial that has ended: with its best checkpoint until then, or
    with no dev score.

    Raises SuiteError: bad data, or an encoder that does not fit. Raises KeyboardInterrupt: it was asked to stop, and
    has saved.
    """
    if (folder / RESULT).is_file():
        return json.loads((folder / RESULT).read_text("utf-8"))
    began = time.monotonic()
    load_data(plan)
    with StopSignals() as stop, processes({"threads": threads, "precision": "auto"}) as group:
        # Build: what cannot be opened leaves no folder.
        parts = build(plan, group.device, folder, stop=stop)
        folder.mkdir(parents=True, exist_ok=True)
        described = {"task": plan.task.name, "seed": plan.seed, "lr": plan.lr, "budget": plan.budget.facts()}
        (folder / TRIAL).write_text(json.dumps(plan.facts() | described, indent=1), encoding="utf-8")
        train = settings(plan, parts.data, parts.modality, threads)
        learner = Learner(parts.encoder, parts.head).to(group.device)
        if plan.budget.head == "linear" and plan.protocol != "probe":
            start = folder.parent / f"start-{replace(plan, lr=0.0).key}.npz"
            head_init.linear(learner, parts.data, parts.modality, plan.task.select, group, stop, start)

        # Train.
        cfg = {"train": train, "seed": plan.seed, "modality": {"max_length": parts.modality.max_length}}
        lost = None
        try:
            fit(job(learner, parts, plan, train, group), cfg, folder, group, stop)
        except Diverged as error:
            lost = str(error)
        if stop.asked:
            raise KeyboardInterrupt

    # Write what came out.
    if parts.features is not None:
        parts.features.check()
    best = chosen_checkpoint(plan, folder)
    facts = checkpoint.manifest(checkpoint.whole(folder / "checkpoints")[-1]) if best else {"tokens": 0, "seconds": 0.0}
    step = int(best.name[5:]) if best else 0
    result = {"dev": dev_scores(folder, step), "best_step": step, "steps": train["steps"]}
    result |= {"tokens": facts["tokens"], "train_seconds": facts["seconds"], "seconds": time.monotonic() - began}
    result |= {"lost": lost} if lost else {}
    result["head"] = parts.head.described(plan.task.head["name"])
    result["curve"] = curve(folder)
    result["encoder"] = parts.facts
    if parts.features is not None:
        result["mix"] = {"states": len(parts.encoder.weights_L), "each": parts.encoder.scaled}
        shares_L = load_file(best / checkpoint.WEIGHTS)["encoder.weights_L"].softmax(0).tolist() if best else None
        result["layer_weights"] = shares_L and [round(share, 5) for share in shares_L]
    atomic.write_json(folder / RESULT, result)
    return result


def chosen_checkpoint(plan: Plan, folder: Path) -> Path | None:
    """The checkpoint that is tested: the best on dev, or the last of a trial that was not lost."""
    if plan.budget.choose == "best":
        return checkpoint.best(folder / "checkpoints")
    whole = checkpoint.whole(folder / "checkpoints")
    return whole[-1] if whole else None


def dev_scores(folder: Path, step: int) -> dict[str, float]:
    """The metrics on dev at a step, as the trial logged them; {} where it logged none."""
    return {
        key.removeprefix(VALID): value
        for line in read_metrics(folder / "metrics.jsonl")[0]
        if line["step"] == step
        for key, value in line.items()
        if key.startswith(VALID)
    }


def curve(folder: Path) -> dict[str, list[float]]:
    """The training loss over steps, as the trial logged it."""
    points = [
        (line["step"], round(line["loss"], 5)) for line in read_metrics(folder / "metrics.jsonl")[0] if "loss" in line
    ]
    return {"step": [step for step, _ in points], "loss": [loss for _, loss in points]}


def predict_parts(plan: Plan, folder: Path, threads: int | None = None) -> dict[str, np.ndarray]:
    """By part (``test`` and further ones) the (I,) predictions of the chosen checkpoint; it is removed then."""
    wanted = load_data(plan)[1].tested
    files = {part: folder / f"{part}.parquet" for part in wanted}
    if not all(path.is_file() for path in files.values()):
        with processes({"threads": threads, "precision": "auto"}) as group:
            parts = build(plan, group.device, folder, ("train", *wanted) if plan.protocol == "probe" else ())
            learner = Learner(parts.encoder, parts.head).to(group.device)
            if (chosen := chosen_checkpoint(plan, folder)) is None:
                raise SuiteError(f"{folder}: its checkpoint is gone or damaged; delete the folder to train it again.")
            learner.load_state_dict(load_file(chosen / checkpoint.WEIGHTS, device=str(group.device)))
            for part, path in files.items():
                found = inference.predict(learner, parts.data, parts.modality, part, group)
                made = inference.stored(plan.task, parts.data, part, {plan.seed: found})
                atomic.write(path, predictions.encode(made))
            if plan.keep:
                kept.write(folder, plan, learner, parts)
        discard(folder)
    return {part: predictions.decode(path.read_bytes()).by_seed[plan.seed] for part, path in files.items()}


def discard(folder: Path) -> None:
    """Remove a trial's checkpoints: it was not chosen, or has been tested."""
    for name in ("checkpoints", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)


def job(learner: Learner, parts: TrialComponents, plan: Plan, train: dict[str, Any], group: DistributedContext) -> Job:
    data, modality, row, task = parts.data, parts.modality, train["tokens_per_row"], plan.task
    order = RowOrder(data.sizes("train"), row, plan.seed)
    collator = Collator(data, "train", modality.vocabulary, row, order.slots, modality.max_length, seed=plan.seed)  # type: ignore[arg-type]
    count = train["tokens_per_batch"] // row
    at_once = 1 if group.device.type == "cpu" else count // group.world
    better = metrics.METRICS[task.select].higher_is_better

    def evaluate(learner: Learner) -> dict[str, float]:
        found = inference.scores(
            task, data.parts["dev"].labels_I, inference.predict(learner, data, modality, "dev", group)
        )
        learner.train()
        return {f"{VALID}{name}": value for name, value in found.items()}

    def score(valid: Mapping[str, float]) -> float | None:
        value = valid.get(f"{VALID}{task.select}")
        return None if value is None else -value if better else value

    rows = StepRows(order, count, group.rank, group.world, at_once)
    return Job(learner, collator, rows, evaluate, score, lambda say: None, quiet=True)
