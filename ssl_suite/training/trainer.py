"""Training, read top to bottom: what is trained (data, model), then optimiser, resume, loop, finish.

Every process of a run calls ``train`` with the same frozen configuration. ``fit`` is the loop of everything that is
trained here: pre-training, and the heads of the evaluation layer. Nothing in it waits for the device: a step's numbers
stay there until a line is logged.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import Diverged
from ssl_suite.core.rng import Rng
from ssl_suite.data.loader import FRAME, Collator, RowOrder, StepRows, prefetch
from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.models import weights
from ssl_suite.objectives.base import Objective
from ssl_suite.settings import runs
from ssl_suite.training import build, checkpoint, restore, start, units
from ssl_suite.training.distributed import (
    DistributedContext,
    device_name,
    gradient_sync,
    processes,
    reduce_gradients,
    wrap_model,
)
from ssl_suite.training.divergence import Watch
from ssl_suite.training.evaluate import Evaluator
from ssl_suite.training.finish import finish
from ssl_suite.training.learner import Learner
from ssl_suite.training.meters import Log, Progress, peak_flops
from ssl_suite.training.optimiser import learning_rate, make_optimiser, scaled
from ssl_suite.training.stopping import StopSignals
from ssl_suite.training.sums import COUNT, LateLook, StepSums, Window


@dataclass(frozen=True)
class Job:
    """What ``fit`` trains.

    Attributes:
        learner: on the device, with the weights it starts from.
        collator, rows: the batches of this process; ``collator.store`` names the records of a bad one.
        evaluate: gives the numbers on held-out data, of which ``valid_loss`` is shown.
        score: of these, what chooses the best checkpoint (lower is better); None where the last is the best.
        finish: called on the main process after the last step with what prints a line.
        data_key: of the prepared store; kept in every checkpoint, so that no other data go on with it.
        quiet: no progress bar and no lines.
    """

    learner: Learner
    collator: Collator
    rows: StepRows
    evaluate: Callable[[Learner], dict[str, float]]
    score: Callable[[Mapping[str, float]], float | None]
    finish: Callable[[Callable[[str], None]], None]
    data_key: str | None = None
    quiet: bool = False


def train(cfg: Mapping[str, Any], out: Path) -> None:
    """Run (or go on with) the pre-training that ``cfg`` describes, in the run folder ``out``.

    Raises:
        SuiteError: bad input or a full disk; its kind ``Diverged``: a loss that is no longer a number.
    """
    with StopSignals() as stop:
        train_until(cfg, out, stop)


def train_until(cfg: Mapping[str, Any], out: Path, stop: StopSignals) -> None:
    """``train``, for a caller that listens for signals already."""
    with processes(cfg["train"]) as group:
        fit(pretraining(cfg, out, group), cfg, out, group, stop)


def pretraining(cfg: Mapping[str, Any], out: Path, group: DistributedContext) -> Job:
    """The job of a run's configuration."""
    build.check_pair(cfg)

    # Data: the first process of each machine tokenises, the others find it done.
    modality, book = start.modality_of(cfg, out)
    kind = build.objective_class(cfg["objective"])
    store = open_store(modality, cfg["data"], group, out, kind.predicts_ids, book)

    # Model: the same weights on every process, from the seed alone.
    learner = start.learner(cfg, modality, out, print if group.main else _silent).to(group.device)
    objective = learner.objective
    collator, rows = training_rows(store, modality, cfg, group, objective)
    if group.main:
        warn_of_few(rows, cfg, objective, print)
        print(opening_line(cfg, out, learner, store, group), flush=True)
        restore.save_modality(learner, modality, out)
    evaluate = Evaluator(store, modality, cfg["train"], group, objective)

    def end(say: Callable[[str], None]) -> None:
        finish(cfg, out, modality, store, evaluate, say)

    def score(valid: Mapping[str, float]) -> float | None:
        return valid.get("valid_loss") if objective.selects else None

    return Job(learner, collator, rows, evaluate, score, end, store.key)


def opening_line(cfg: Mapping[str, Any], out: Path, learner: Learner, store: Store, group: DistributedContext) -> str:
    """What is about to be trained, where, and on what."""
    train, windows = cfg["train"], store.split("train")
    parameters = sum(weight.numel() for weight in learner.parameters())
    world = f" x {group.world} processes" if group.world > 1 else ""
    return (
        f"run: {out} on {device_name(group.device)}{world}; {parameters:,} parameters; "
        f"{len(windows):,} training windows of {int(windows.lengths_S.sum()):,} tokens; "
        f"{train['steps']:,} steps of {train['tokens_per_batch']:,} positions"
    )


def fit(job: Job, cfg: Mapping[str, Any], out: Path, group: DistributedContext, stop: StopSignals) -> None:
    """Train ``job`` by the ``train`` section of ``cfg``, or go on with it, in the folder ``out``.

    Args:
        cfg: with ``train``, ``seed`` and ``modality.max_length``.
        stop: asked between steps.
    """
    settings, seed, steps = scaled(cfg["train"], cfg["modality"]["max_length"]), cfg["seed"], cfg["train"]["steps"]
    learner, step_rows, store = job.learner, job.rows, job.collator.store
    objective, model_facts = learner.objective, vars(learner.encoder.spec)
    if settings["compile"] is True or (settings["compile"] == "auto" and group.device.type == "cuda"):
        learner.encoder.compile(dynamic=False)
    model = wrap_model(learner, settings["parallel"], group)
    optimiser = make_optimiser(model, settings)
    parameters = [p for p in model.parameters() if p.requires_grad]

    # Resume: from the newest checkpoint that is whole.
    root = out / "checkpoints"
    progress = Progress(steps, job.quiet or not group.main, stop.unheard)
    if settings["lr"] != cfg["train"]["lr"]:
        progress.say(f"learning rate: train.lr={cfg['train']['lr']} scaled to {settings['lr']:.4g} at its peak.")
    frozen = runs.frozen_part(cfg)

    def unlike(folder: Path) -> str | None:
        was = checkpoint.manifest(folder).get("settings", {})
        differing = runs.differences({key: value for key, value in was.items() if key in frozen}, frozen)
        if differing:
            return f"it is of a run with {differing[0]}"
        return weights.fault(weights.read(folder / checkpoint.WEIGHTS, "choose another"), learner.state_dict())

    found = group.from_main(checkpoint.sound(root, progress.say, unlike) if group.main else None)
    facts: dict[str, Any] = {"step": 0, "seconds": 0.0, "tokens": 0, "valid": {}}
    if found:
        facts |= checkpoint.load(found, model, optimiser, group)
    first = done = facts["step"]
    if found:
        progress.say(f"resuming from step {done} of {steps}.")
    log = Log(out, done, cfg) if group.main else None
    if log and log.damaged:
        progress.say(
            f"metrics.jsonl: damaged lines were left out ({len(log.damaged)}, the first line {log.damaged[0]})."
        )
    peak = peak_flops(group.device, group.bf16)
    gc.collect()
    gc.freeze()  # model and store live as long as the process: keep them out of every later collection

    # Loop.
    valid: dict[str, float] = facts["valid"]
    watch = Watch(step_rows, store, out, cfg)
    window, look, began = Window(group.device), LateLook(group.device), time.monotonic()
    ready = prefetch(batches(job.collator, step_rows, done, steps), pin=group.device.type == "cuda")
    progress.start(done)
    stopping = False
    try:
        for step in range(first, steps):
            waited = time.perf_counter()
            parts = next(ready)
            window.wait += time.perf_counter() - waited

            for param_group in optimiser.param_groups:
                param_group["lr"] = learning_rate(step, settings) * param_group["scale"]
            sums = StepSums(group.device)
            for i, (numbers_R, host_batch) in enumerate(parts):
                batch = host_batch.to(group.device)
                rng = Rng(seed, step, numbers_R.to(group.device, non_blocking=True))
                with gradient_sync(model, wanted=i == len(parts) - 1):
                    with group.autocast():
                        loss, count, metrics = model(batch, rng)
                    loss.backward()
                sums.add(loss, count, metrics, batch, objective.flops(model_facts, batch))
            total = sums.over_processes(stop.asked, group)
            norm = reduce_gradients(parameters, total[COUNT], settings["clip"], group)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            done = step + 1
            objective.after_step(learner.encoder, done, steps)
            window.add(total, sums.names, norm)
            stopping = watch.asked(look.push(step, total, norm))
            progress.step(done)
            last = done == steps or stopping
            if done % settings["log_every"] == 0 or last:
                line = window.read(peak, group.world)
                line |= {"lr": learning_rate(step, settings)}
                line["padding"] = 1 - line.pop("tokens_per_step") / settings["tokens_per_batch"]
                if log:
                    log.write(done, line)
                progress.log(done, line | {"valid_loss": valid.get("valid_loss")})
            with window.paused():
                save_now = done % settings["checkpoint_every"] == 0 or last
                evaluated = done % settings["eval_every"] == 0 or done == steps
                if evaluated:
                    valid = job.evaluate(learner)
                    if log:
                        log.write(done, valid)
                    progress.say(f"step {done}: " + "  ".join(f"{name} {x:.4f}" for name, x in valid.items()))
                if save_now:
                    stopping = watch.asked(look.flush()) or stopping
                    watch.before_saving(done)
                    seconds = facts["seconds"] + time.monotonic() - began
                    state = {"seconds": seconds, "tokens": facts["tokens"] + int(window.tokens.item()), "valid": valid}
                    state["valid_loss"] = job.score(valid) if evaluated else None
                    state |= {"settings": frozen, "encoder": build.shapes(learner.encoder), "data_key": job.data_key}
                    try:
                        checkpoint.save(root, done, model, optimiser, state, group)
                    except Diverged as error:
                        raise Diverged(f"{error} {watch.advice()}") from None
                    if group.main:
                        checkpoint.prune(root, settings["keep"])
            if stopping:
                break
    finally:
        ready.close()
        progress.close()
        if log:
            log.close()
        gc.unfreeze()  # a process that evaluates trains many models

    # Finish: the exported encoder, the summary, the curve. The weights are saved, so a signal may end it.
    stop.release()
    if stopping and done < steps:
        progress.say(f"stopped after step {done} of {steps} and saved; the same command goes on from there.")
    if group.main and done == steps:
        job.finish(progress.say)
    group.barrier()


def open_store(
    modality: Modality,
    data: Mapping[str, Any],
    group: DistributedContext,
    out: Path,
    with_units: bool = True,
    book: Path | None = None,
) -> Store:
    """The prepared data, and units for signals; one process of each machine makes them, the others wait and open.

    Args:
        book: a folder whose codebook is used, where it holds one.
    """

    def opened(report: Callable[[str], None]) -> Store:
        store = prepare(modality, data, report=report, accept=lambda key: restore.refuse_other_data(out, key))
        if with_units:
            units.ensure_units(modality, store, group.device, report, saved=book)
        return store

    store = opened(print) if group.local_rank == 0 else None
    group.barrier()
    return store or opened(_silent)


def _silent(text: str) -> None:
    """A report nobody reads: another process says the same."""


def training_rows(
    store: Store, modality: Modality, cfg: Mapping[str, Any], group: DistributedContext, objective: Objective
) -> tuple[Collator, StepRows]:
    """How the training split becomes rows, and which of them are this process's."""
    settings = cfg["train"]
    n = settings["tokens_per_row"]
    order = RowOrder(store.split("train").lengths_S + FRAME, n, cfg["seed"])
    collator = Collator(
        store,
        "train",
        modality.vocabulary,
        n,
        order.slots,
        modality.max_length,
        arranger=objective.arranger,
        seed=cfg["seed"],
        frames=objective.reads == "frames",
    )
    rows = settings["tokens_per_batch"] // n
    # On the CPU one row at a time: its activations stay in the cache (2,048 tokens run 1.2 times as fast as 8,192).
    at_once = settings["rows_per_forward"] or (1 if group.device.type == "cpu" else rows // group.world)
    at_once = rows // group.world if objective.whole else at_once
    return collator, StepRows(order, rows, group.rank, group.world, at_once)


def warn_of_few(rows: StepRows, cfg: Mapping[str, Any], objective: Objective, report: Callable[[str], None]) -> None:
    """A line if a step has fewer sequences than the objective should contrast."""
    found, wanted, batch = rows.sequences(), objective.sequences, cfg["train"]["tokens_per_batch"]
    if found < wanted:
        row = cfg["train"]["tokens_per_row"]
        more = row * -(-batch * wanted // (max(1, found) * row))
        report(
            f"warning: {found} {'sequence' if found == 1 else 'sequences'} a step are few to tell one from another: "
            f"set train.tokens_per_batch={more} or a shorter modality.max_length, for {wanted} or more."
        )


def batches(collator: Collator, rows: StepRows, first: int, steps: int) -> Iterator[list[tuple[torch.Tensor, Batch]]]:
    """For each step the forward passes of this process: (row numbers within the step's draws, batch)."""
    for step in range(first, steps):
        yield [
            (torch.tensor(numbers) - step * rows.rows, collator.rows([rows.order.items(g) for g in numbers], numbers))
            for numbers in rows.numbers(step)
        ]
