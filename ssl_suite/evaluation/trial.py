"""One training of one encoder on one task, in a folder of its own; and, once it has been chosen, its test predictions.

    trial.json      what it is            result.json     dev metrics, steps, seconds; written last
    metrics.jsonl   the loss curve        test.npy        outputs on test, written by ``predict_test``
    checkpoints/    the last and the best on dev, until the test predictions are there

Beside the folders: start-KEY.npz, the linear models that heads start from where the budget says ``head: linear``.

A folder with a result is not trained again; one without goes on from its newest checkpoint. So a table that was killed
goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_suite import config
from ssl_suite.core import atomic
from ssl_suite.data.batch import Batch
from ssl_suite.data.loader import FRAME, Collator, RowOrder, StepRows
from ssl_suite.errors import Diverged, SuiteError
from ssl_suite.evaluation import encoders, features, metrics, passes, references, start, task_data, tasks
from ssl_suite.evaluation.heads import Head, head_class
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.files import read_metrics
from ssl_suite.modalities.base import Modality
from ssl_suite.models.learner import Learner
from ssl_suite.training import checkpoint
from ssl_suite.training.distributed import Processes, processes
from ssl_suite.training.stopping import StopSignals
from ssl_suite.training.trainer import Job, fit

RESULT, TRIAL, TEST = "result.json", "trial.json", "test.npy"
ROW = 2048  # positions of a forward pass: on the CPU its activations stay in the cache
VALID = "valid_"  # before the name of a dev metric in the log
POINTS = 60  # of a loss curve, each the mean over the steps since the one before


@dataclass(frozen=True)
class Plan:
    """What determines a trial. Plain values: it is sent to another process, and its hash names the folder.

    Attributes:
        task: the file of the task.
        encoder: a reference.
        protocol: ``finetune``, ``scratch`` or ``probe``.
        budget: as ``conf/budget/NAME.yaml`` has it.
        seed: of weights, order, and a map that follows it.
        lr: the peak rate.
        place: ``root`` and ``cache`` of the data.
        keep_special: see ``encoders.open_encoder``.
    """

    task: str
    encoder: str
    protocol: str
    budget: Mapping[str, Any]
    seed: int
    lr: float
    place: Mapping[str, Any]
    keep_special: bool = True

    @property
    def key(self) -> str:
        """Twelve letters of the SHA-256 of what determines the result: not of where the data lie."""
        facts = {name: value for name, value in asdict(self).items() if name not in ("place", "task", "encoder")}
        reference = references.parse(self.encoder)
        facts |= {
            "task": Path(self.task).read_text("utf-8"),
            "encoder": [reference.short, encoders.identity(reference)],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Parts:
    """A plan's objects; ``frozen`` is the digest of an encoder that must not move."""

    data: TaskData
    modality: Modality
    opened: encoders.Opened
    encoder: Any
    head: Head
    frozen: str | None = None


def opened_data(plan: Plan) -> tuple[tasks.Task, Modality, TaskData]:
    """The task, its modality for this encoder, and its data; the last ones used are kept."""
    reference = references.parse(plan.encoder)
    own = f"{reference.kind}:{reference.name}" if reference.kind in ("run", "hf") else ""
    sizes = {key: plan.budget[key] for key in ("limits", "length", "chunks")}
    return _opened_data(plan.task, own, json.dumps(sizes), json.dumps(dict(plan.place)))


@lru_cache(maxsize=4)
def _opened_data(path: str, encoder: str, sizes: str, place: str) -> tuple[tasks.Task, Modality, TaskData]:
    task, budget = tasks.load(Path(path)), json.loads(sizes)
    reference = references.parse(encoder.removeprefix("run:")) if encoder else references.Reference("none")
    section = tasks.modality_section(task)
    section["max_length"] = min(section["max_length"], budget["length"] or section["max_length"])
    modality = encoders.modality_for(reference, section, task.name)
    return task, modality, task_data.load(task, modality, json.loads(place), budget["limits"], budget["chunks"])


def build(plan: Plan, device: torch.device, splits: tuple[str, ...] = ("train", "dev")) -> Parts:
    """The data, the encoder and the head of a plan, with the weights that they start from.

    Args:
        splits: of which a probe's features are computed; no others can be asked for.
    """
    task, modality, data = opened_data(plan)
    scratch, budget = plan.protocol == "scratch", plan.budget
    opened = encoders.open_encoder(
        references.parse(plan.encoder), modality, plan.seed, scratch, budget["dropout"], plan.keep_special
    )
    encoder, frozen, whole = opened.encoder, None, data
    if plan.protocol == "probe":
        frozen = encoders.digest(encoder)
        data, encoder = features.precomputed(encoder.to(device), data, modality, splits)
    torch.manual_seed(plan.seed)
    part = whole.parts["train"]
    head = head_class(task.head)(
        encoder,
        part.labels_I,
        part.windows.records_S,
        len(whole.classes),
        pooling=budget["pooling"] if plan.protocol != "probe" else "mean",
        noisy=budget["dropout"] is None,
        norm=plan.protocol != "probe",  # which standardises its features and stays linear in them
    )
    return Parts(data, modality, opened, encoder, head, frozen)


def settings(plan: Plan, data: TaskData, modality: Modality, threads: int | None = None) -> dict[str, Any]:
    """The ``train`` section of a trial: the suite's defaults, the budget's values, and a batch of whole rows."""
    budget, lengths_S = plan.budget, data.split("train").lengths_S.astype(np.int64) + FRAME
    wanted = max(int(lengths_S.max()), round(budget["batch"] * float(lengths_S.mean())))
    row = max(int(lengths_S.max()), min(ROW, wanted))
    batch = row * max(1, round(wanted / row))
    positions = budget["epochs"] * int(lengths_S.sum())
    positions = min(positions, budget["tokens"] or positions)
    steps = max(1, round(positions / batch))
    if plan.protocol == "probe":
        row = batch = budget["batch"] * int(lengths_S.max())
        steps = budget["probe_steps"]
    every = max(1, -(-steps // budget["evaluations"]))
    return {
        **config.option("train", "default"),
        **{key: budget[key] for key in ("schedule", "warmup", "weight_decay", "layer_decay") if key in budget},
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

    Raises:
        SuiteError: bad data, or an encoder that does not fit.
        KeyboardInterrupt: it was asked to stop, and has saved.
    """
    if (folder / RESULT).is_file():
        return json.loads((folder / RESULT).read_text("utf-8"))
    began = time.monotonic()
    task, _, _ = opened_data(plan)
    train = {"threads": threads, "precision": "auto"}
    with StopSignals() as stop, processes(train) as group:
        parts = build(plan, group.device)
        folder.mkdir(parents=True, exist_ok=True)  # not before: what cannot be opened leaves no folder
        (folder / TRIAL).write_text(json.dumps(_told(plan), indent=1), encoding="utf-8")
        train = settings(plan, parts.data, parts.modality, threads)
        learner = Learner(parts.encoder, parts.head).to(group.device)
        if start.is_linear(plan.budget) and plan.protocol != "probe":
            kept = folder.parent / f"start-{replace(plan, lr=0.0).key}.npz"
            start.linear(learner, parts.data, parts.modality, task.select, group, stop, kept)
        cfg = {"train": train, "seed": plan.seed, "modality": {"max_length": parts.modality.max_length}}
        lost = None
        try:
            fit(_job(learner, parts, task, train, plan.seed, group), cfg, folder, group, stop)
        except Diverged as error:
            lost = str(error)
        if stop.asked:
            raise KeyboardInterrupt
    best = checkpoint.best(folder / "checkpoints")
    facts = checkpoint.manifest(checkpoint.whole(folder / "checkpoints")[-1]) if best else {"tokens": 0, "seconds": 0.0}
    if parts.frozen is not None and encoders.digest(parts.opened.encoder) != parts.frozen:
        raise SuiteError(f"{folder}: the frozen encoder's weights moved; this is a fault of the suite.")
    step = int(best.name[5:]) if best else 0
    result = {"dev": dev_scores(folder, step), "best_step": step, "steps": train["steps"]}
    result |= {"tokens": facts["tokens"], "train_seconds": facts["seconds"], "seconds": time.monotonic() - began}
    result |= {"lost": lost} if lost else {}
    result["curve"] = curve(folder)
    result["encoder"] = {key: value for key, value in vars(parts.opened).items() if key != "encoder"}
    atomic.write_json(folder / RESULT, result)
    return result


def dev_scores(folder: Path, step: int) -> dict[str, float]:
    """The metrics on dev at a step, as the trial logged them; {} where it logged none."""
    lines, _ = read_metrics(folder / "metrics.jsonl")
    return {
        key.removeprefix(VALID): value
        for line in lines
        if line["step"] == step
        for key, value in line.items()
        if key.startswith(VALID)
    }


def curve(folder: Path) -> dict[str, list[float]]:
    """The training loss over steps, as the trial logged it."""
    lines, _ = read_metrics(folder / "metrics.jsonl")
    points = [(line["step"], round(line["loss"], 5)) for line in lines if "loss" in line]
    return {"step": [step for step, _ in points], "loss": [loss for _, loss in points]}


def predict_test(plan: Plan, folder: Path, threads: int | None = None) -> np.ndarray:
    """(I,) predictions of the test items, by the checkpoint that was best on dev; the checkpoints are removed then."""
    if (folder / TEST).is_file():
        return np.load(folder / TEST)
    with processes({"threads": threads, "precision": "auto"}) as group:
        parts = build(plan, group.device, ("test",))
        learner = Learner(parts.encoder, parts.head).to(group.device)
        _load_best(learner, folder, group.device)
        found = predict(learner, parts.data, parts.modality, "test", group)
    with atomic.replacing(folder / TEST) as unfinished, unfinished.open("wb") as file:
        np.save(file, found)
    discard(folder)
    return found


def discard(folder: Path) -> None:
    """Remove a trial's checkpoints: it was not chosen, or has been tested."""
    import shutil

    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def predict(
    learner: Any, data: TaskData, modality: Modality, split: str, group: Processes, at_once: int = passes.AT_ONCE
) -> np.ndarray:
    """(I,) predictions of a split's items."""
    items_S = data.split(split).records_S
    return learner.objective.decode(outputs(learner, data, modality, split, group, at_once), items_S)


def outputs(
    learner: Any, data: TaskData, modality: Modality, split: str, group: Processes, at_once: int = passes.AT_ONCE
) -> np.ndarray:
    """(S, C) float32: the head's outputs for a split's sequences."""
    learner.eval()

    def read(batch: Batch) -> Tensor:
        with group.autocast():
            return learner.objective.read(learner.encoder, batch)

    return passes.over(data, modality, split, group.device, read, at_once)


def scores(task: tasks.Task, labels_I: np.ndarray, predictions_I: np.ndarray) -> dict[str, float]:
    """The task's metrics that are defined on these predictions."""
    found = {}
    for name in dict.fromkeys((*task.metrics, task.select)):
        try:
            found[name] = metrics.METRICS[name].compute(labels_I, predictions_I)
        except metrics.Undefined:  # an encoder that answers everything alike has no correlation
            continue
    return found


def _job(learner: Learner, parts: Parts, task: tasks.Task, train: dict[str, Any], seed: int, group: Processes) -> Job:
    data, modality, row = parts.data, parts.modality, train["tokens_per_row"]
    order = RowOrder(data.split("train").lengths_S.astype(np.int64) + FRAME, row, seed)
    collator = Collator(data, "train", modality.vocabulary, row, order.slots, modality.max_length, seed=seed)  # type: ignore[arg-type]
    count = train["tokens_per_batch"] // row
    at_once = 1 if group.device.type == "cpu" else count // group.world
    better = metrics.METRICS[task.select].higher_is_better

    def evaluate(learner: Learner) -> dict[str, float]:
        found = scores(task, data.parts["dev"].labels_I, predict(learner, data, modality, "dev", group))
        learner.train()
        return {f"{VALID}{name}": value for name, value in found.items()}

    def score(valid: Mapping[str, float]) -> float | None:
        value = valid.get(f"{VALID}{task.select}")
        return None if value is None else -value if better else value

    rows = StepRows(order, count, group.rank, group.world, at_once)
    return Job(learner, collator, rows, evaluate, score, lambda say: None, quiet=True)


def _load_best(learner: Learner, folder: Path, device: torch.device) -> None:
    best = checkpoint.best(folder / "checkpoints")
    if best is None:
        raise SuiteError(f"{folder}: its best checkpoint is gone or damaged; delete the folder to train it again.")
    learner.load_state_dict(load_file(best / checkpoint.WEIGHTS, device=str(device)))


def _told(plan: Plan) -> dict[str, Any]:
    """The plan for a reader, without the folders of this machine."""
    short = replace(plan, encoder=references.parse(plan.encoder).short, task=Path(plan.task).stem, place={})
    return asdict(short)
