"""What a run will take, before it is spent: parameters, tokens, FLOPs, memory, and a short probe of the real step."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from ssl_suite.core import machine
from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.core.wording import count
from ssl_suite.data.loader import FRAME, Collator
from ssl_suite.data.prepare import Report, prepare
from ssl_suite.settings import config, runs
from ssl_suite.settings import schema as settings
from ssl_suite.training import build, start, units
from ssl_suite.training.distributed import DistributedContext, device_name, processes, reduce_gradients
from ssl_suite.training.meters import matmul_flops
from ssl_suite.training.optimiser import make_optimiser
from ssl_suite.training.trainer import batches, training_rows, warn_of_few

PROBE_SECONDS = 2.0
BUSY = 0.5  # of a large matrix product's FLOP/s, a pass reaches half at least (benchmarks/RESULTS.md: 65 to 76 %)
SHORTEST = 130  # positions: with 66, `base` comes out 1.4 times as slow as with 512, for weights are read and written
STATE = 2  # numbers that AdamW keeps for each parameter
FORWARD_SHARE = 1 / 3  # of a training pass: the backward pass costs twice the forward one
FLOAT = 4  # bytes; weights, gradients and optimiser state are float32 in every precision


@dataclass(frozen=True)
class Probe:
    """What the real training step cost on this device.

    Attributes:
        positions: of each forward and backward pass that was timed.
        seconds_per_position: of forward and backward, the median.
        optimiser_seconds: of clipping and the optimiser's step.
        passes: how many were timed.
    """

    positions: int
    seconds_per_position: float
    optimiser_seconds: float
    passes: int


def plan(cfg: Mapping[str, Any], report: Report = print, seconds: float = PROBE_SECONDS) -> dict[str, Any]:
    """Everything that ``ssl_suite plan`` prints. Bytes, seconds and operations; the data are prepared on the way.

    Args:
        cfg: a validated configuration.
        report: takes the lines that tell what goes on.
        seconds: of the probe.

    Raises:
        SuiteError: as the run itself would, for its data and its settings.
    """
    world = settings.world_size(cfg["launch"])
    with processes(cfg["train"]) as alone:
        build.check_pair(cfg)
        modality, book = start.modality_of(cfg)
        store = prepare(modality, cfg["data"], report=report)
        if build.objective_class(cfg["objective"]).predicts_ids:
            units.ensure_units(modality, store, alone.device, report, book)
        share = dataclasses.replace(alone, world=world)
        learner = start.learner(cfg, modality, report=report).to(alone.device)
        collator, step_rows = training_rows(store, modality, cfg, share, learner.objective)
        warn_of_few(step_rows, cfg, learner.objective, report)
        spec = vars(learner.encoder.spec)
        # All rows of the first step, whoever will work on them.
        whole = collator.rows([step_rows.order.items(g) for g in range(step_rows.rows)])
        first = next(batches(collator, step_rows, 0, 1))[0][1]
        objective: Any = learner.objective
        flops = objective.flops(spec, whole)
        counts = count_parameters(learner)
        windows = np.resize(first.index_B[first.real_B].numpy(), 4)
        single = dataclasses.replace(collator, n=collator.max_length, slots=1)
        activations = activation_bytes(learner, lambda count: single.rows(list(windows[:count, None])), alone)
        activations *= first.values.shape[0]
        shards = world if cfg["train"]["parallel"] == "fsdp" else 1
        memory = memory_bytes(counts["total"], counts["trained"], activations, shards)
        available = device_memory(alone.device)
        fits = available is None or memory["total"] < available
        probe = measure(cfg, learner, collator, first, alone, seconds) if fits else None
    facts: dict[str, Any] = {
        "model": learner.encoder.spec.words,
        "parameters": counts,
        "data": {
            "records": store.records,
            **{f"{split}_windows": len(store.split(split)) for split in ("train", "valid")},
            **{f"{split}_tokens": int(store.split(split).lengths_S.sum()) for split in ("train", "valid")},
        },
        "step": {
            "positions": cfg["train"]["tokens_per_batch"],
            "tokens": whole.tokens,
            "rows": step_rows.rows,
            "flops": flops,
        },
        "memory": memory,
        "device": {"name": device_name(alone.device), "memory": available, "processes": world},
        "probe": probe and dataclasses.asdict(probe),
    }
    facts |= times(cfg, facts, workers(cfg, alone.device))
    steps = facts["run"]["steps"]
    facts["run"] |= {
        "positions": steps * cfg["train"]["tokens_per_batch"],
        "epochs": steps * step_rows.rows / len(step_rows.order.epoch(0)),
        "flops": steps * flops,
    }
    return facts


def steps_for_minutes(cfg: Mapping[str, Any], out: Path, report: Report = print) -> dict[str, Any]:
    """``cfg`` with ``train.steps`` set so that the run takes about ``train.minutes`` here; unchanged without minutes.

    The number is settled once and frozen, so the schedule ends with the run and a resumed run takes the same steps.

    Raises:
        SuiteError: the run will be on another machine (``launch=slurm``), or too large to be timed here.
    """
    train = cfg["train"]
    if train["minutes"] is None:
        return dict(cfg)
    if runs.has_started(out):
        saved = config.read(out / runs.CONFIG)["train"]
        if saved["minutes"] == train["minutes"]:
            return {**cfg, "train": {**train, "steps": saved["steps"]}}
    if cfg["launch"]["name"] == "slurm":
        raise SuiteError("train.minutes is timed on this machine, and launch=slurm runs on another: set train.steps.")
    facts = plan(cfg, report)
    if facts["eta_seconds"] is None:
        raise SuiteError("train.minutes: the model does not fit this machine's memory, so no step can be timed.")
    steps = facts["run"]["steps"]
    report(f"train.minutes={train['minutes']}: {count(steps, 'step')} of {facts['step_seconds']:.3g} s.")
    return {**cfg, "train": {**train, "steps": steps}}


def count_parameters(learner: nn.Module) -> dict[str, int]:
    """Parameters of the encoder and of the objective's head; shared ones count once."""
    total = sum(weight.numel() for weight in learner.parameters())
    encoder = sum(weight.numel() for weight in learner.get_submodule("encoder").parameters())
    trained = sum(weight.numel() for weight in learner.parameters() if weight.requires_grad)
    return {"encoder": encoder, "head": total - encoder, "total": total, "trained": trained}


def memory_bytes(parameters: int, trained: int, activations: int, shards: int = 1) -> dict[str, int]:
    """Bytes of a process: float32 weights, and of those that are trained gradients and AdamW's two averages.

    Each is a ``shards``-th under FSDP2.
    """
    weights, moving = FLOAT * parameters // shards, FLOAT * trained // shards
    parts = {"weights": weights, "gradients": moving, "optimiser": STATE * moving, "activations": activations}
    return parts | {"total": sum(parts.values())}


def activation_bytes(learner: nn.Module, sequences: Callable[[int], Batch], group: DistributedContext) -> int:
    """Bytes that autograd keeps for each position between forward and backward.

    Measured: the difference between four sequences and two cancels what does not grow (copies of the weights in
    bfloat16). No attention path keeps a matrix of scores, so memory is linear in positions. Where layers are computed
    again, one of them is whole at a time.

    Args:
        sequences: gives a batch of so many; two at least, for a batch norm of one has no variance.
    """

    def kept() -> float:
        two, four = (_saved_bytes(learner, sequences(count).to(group.device), group) for count in (2, 4))
        return (four[0] - two[0]) / (four[1] - two[1])

    encoder: Any = learner.get_submodule("encoder")
    found, spec = kept(), encoder.spec
    if getattr(spec, "checkpointing", False):
        encoder.spec = dataclasses.replace(spec, checkpointing=False)
        found += (kept() - found) / spec.layers
        encoder.spec = spec
    return round(found)


def _saved_bytes(learner: nn.Module, batch: Batch, group: DistributedContext) -> tuple[int, int]:
    """Bytes of all distinct storages that a forward pass keeps for its backward pass, without parameters; positions.

    On fake tensors, which compute nothing, but where shapes depend on numbers (views of sequences on the CPU).
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            return _kept_bytes(learner, batch._map(mode.from_tensor), group), batch.values.shape[0]
    except (DataDependentOutputException, DynamicOutputShapeException):
        return _kept_bytes(learner, batch, group), batch.values.shape[0]


def _kept_bytes(learner: nn.Module, batch: Batch, group: DistributedContext) -> int:
    kept: dict[int, Any] = {}  # by identity; the storages are held, or an identity could be used again
    own = {weight.untyped_storage()._cdata for weight in learner.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    rng = Rng(0, 0, torch.arange(batch.rows, device=group.device))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), group.autocast():
        learner(batch, rng)
    return sum(storage.nbytes() for storage in kept.values())


def measure(
    cfg: Mapping[str, Any],
    learner: nn.Module,
    collator: Collator,
    first: Batch,
    group: DistributedContext,
    seconds: float,
) -> Probe:
    """Time the real step for about ``seconds``: forward, backward, clipping and the optimiser on real rows."""
    train = cfg["train"]
    encoder: Any = learner.encoder
    if train["compile"] is True or (train["compile"] == "auto" and group.device.type == "cuda"):
        encoder.compile(dynamic=False)
    optimiser = make_optimiser(learner, train)
    flops, spec = cast(Any, learner).objective.flops, vars(encoder.spec)
    timed_batch = probed(learner, collator, first, group.device, seconds)
    batch, until = timed_batch.to(group.device), time.monotonic() + seconds
    timed = [_pass(learner, batch, group)]  # it allocates and sets up: up to ten times slower, and not counted
    while len(timed) < 2 or time.monotonic() + timed[-1] < until:
        timed.append(_pass(learner, batch, group))
    optimiser_seconds = _update(optimiser, learner, train["clip"], group.device)
    learner.zero_grad(set_to_none=True)
    n = batch.values.shape[0]
    # Short sequences need less attention: a position costs as much more as it has more operations.
    weight = flops(spec, first) / first.values.shape[0] / (flops(spec, timed_batch) / n)
    return Probe(n, float(np.median(timed[1:])) / n * weight, optimiser_seconds, len(timed) - 1)


def probed(learner: Any, collator: Collator, first: Batch, device: torch.device, seconds: float) -> Batch:
    """What to time: ``first``, or on a CPU that would need more than a quarter of ``seconds`` for it a smaller batch.

    That is as many windows as there is time for, one at least (two for contrasts and batch norms), and shorter ones
    where that is still too long; not below ``SHORTEST`` positions, where weights cost as much, nor parts of pictures.
    """
    objective, spec = learner.objective, learner.encoder.spec
    n = first.values.shape[0]
    flops = objective.flops(vars(spec), first) / n
    room = n if device.type == "cuda" else int(seconds / 4 * BUSY * matmul_flops(device, n=1024) / max(1.0, flops))
    few = 2 if objective.whole else 1
    if room >= n or n <= few * SHORTEST:
        return first
    length = collator.max_length
    if room < few * length and spec.kind != "convnet" and getattr(spec, "grid", None) is None:
        length = min(length, max(SHORTEST, room // few))
    windows = np.resize(first.index_B[first.real_B].numpy(), (max(few, room // length), 1))
    store = collator.store.shortened(length - FRAME)
    return dataclasses.replace(collator, store=store, n=length, slots=1).rows(list(windows))


def _pass(learner: nn.Module, batch: Batch, group: DistributedContext) -> float:
    """Seconds of one forward and backward pass; gradients add up."""
    rng = Rng(0, 0, torch.arange(batch.rows, device=group.device))
    start = time.perf_counter()
    with group.autocast():
        loss, _, _ = learner(batch, rng)
    loss.backward()
    _wait(group.device)
    return time.perf_counter() - start


def _update(optimiser: torch.optim.Optimizer, learner: nn.Module, clip: float | None, device: torch.device) -> float:
    """Seconds of clipping and the optimiser's step; the first of two allocates."""
    parameters, taken = [weight for weight in learner.parameters() if weight.grad is not None], []
    count = torch.ones((), dtype=torch.float64, device=device)
    for _ in range(2):
        start = time.perf_counter()
        reduce_gradients(parameters, count, clip, DistributedContext(device=device))
        optimiser.step()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def workers(cfg: Mapping[str, Any], device: torch.device) -> int:
    """How many machines like the probe's share a step: one a GPU; processes on one CPU share its cores."""
    launch = cfg["launch"]
    return settings.world_size(launch) if device.type == "cuda" else settings.node_range(launch.get("nodes", 1))[1]


def times(cfg: Mapping[str, Any], facts: Mapping[str, Any], share: int) -> dict[str, Any]:
    """Steps of the run, seconds of a step, tokens/s and the time of it all, evaluations included.

    Args:
        facts: ``data``, ``step`` and ``probe`` as ``plan`` makes them.
        share: among how many equal machines a step is divided.

    Returns:
        ``run`` with ``steps``: ``train.steps``, or as many as fit into ``train.minutes``; the times are None without a
        probe.
    """
    train, probe = cfg["train"], facts["probe"]
    if probe is None:
        unknown = {"step_seconds": None, "tokens_per_s": None, "eta_seconds": None}
        return {"run": {"steps": train["steps"]}, **unknown}
    step = train["tokens_per_batch"] / share * probe["seconds_per_position"] + probe["optimiser_seconds"]
    held_out = facts["data"]["valid_tokens"] + 2 * facts["data"]["valid_windows"]
    evaluated = min(train["eval_tokens"], held_out) / share
    evaluation = evaluated * probe["seconds_per_position"] * FORWARD_SHARE
    steps = train["steps"]
    if train["minutes"] is not None:
        steps = max(1, int(60 * train["minutes"] / (step + evaluation / train["eval_every"])))
    return {
        "run": {"steps": steps},
        "step_seconds": step,
        "tokens_per_s": facts["step"]["tokens"] / step,
        "eta_seconds": steps * step + math.ceil(steps / train["eval_every"]) * evaluation,
    }


def device_memory(device: torch.device) -> int | None:
    """Bytes of the device's memory, None where the system does not say."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine.memory()
