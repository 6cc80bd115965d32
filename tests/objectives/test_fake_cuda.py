"""The CUDA path without a GPU: every objective on every modality, heads on encoders, and a step's other parts.

In bfloat16 autocast, forward only: the autograd engine asks the driver for the device. Nothing may mix devices, and
nothing may make the host wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ssl_suite.core import registry
from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.data.store import Store, Windows
from ssl_suite.evaluation import encoders, frozen, references
from ssl_suite.evaluation.heads import HEADS, head_class, kind_of
from ssl_suite.evaluation.predictions import objects
from ssl_suite.evaluation.task_data import Split, TaskData
from ssl_suite.modalities import speech_features
from ssl_suite.modalities.base import Modality
from ssl_suite.objectives.base import Objective
from ssl_suite.settings import config
from ssl_suite.training import build
from ssl_suite.training.distributed import reduce_gradients
from ssl_suite.training.health import Health
from ssl_suite.training.learner import Learner
from ssl_suite.training.optimiser import OPTIMISERS, make_optimiser
from ssl_suite.training.sums import COUNT, StepSums, Window
from ssl_suite.training.trainer import batches, open_store, training_rows
from tests.evaluation import text_models
from tests.objectives.fake_cuda import CUDA, GROUP, NoTensorsFromHost, NoWaiting, on_cuda
from tests.objectives.pairs_offered import OBJECTIVE, offered, settings

HOST = dataclasses.replace(GROUP, device=torch.device("cpu"), bf16=False)
MODE = FakeTensorMode()


@pytest.fixture(autouse=True)
def as_if_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """bfloat16 autocast for CUDA, which torch switches off where there is none; the prepared samples of the matrix."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *args, **more: True)
    # Torch's CTC and cuDNN's LSTM have no rule for fake tensors; what stands around them is held here.
    monkeypatch.setattr("torch.nn.functional.ctc_loss", lambda shares_KJC, *others, **more: -shares_KJC.sum((0, 2)))
    monkeypatch.setattr("torch._VF.lstm", _lstm)
    monkeypatch.setattr(speech_features, "constants", lambda device: CONSTANTS[device.type])
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "matrix-cache"))


def _lstm(x_JKD: Tensor, start: tuple[Tensor, Tensor], weights: list[Tensor], *others: Any) -> tuple[Tensor, ...]:
    return (torch.nn.functional.linear(x_JKD, weights[0])[..., : weights[1].shape[1]], *start)


def _constants() -> dict[str, speech_features.Constants]:
    """Copied to a device once in a process; the fake ones must not be what later tests find in the cache."""
    own = speech_features.constants.__wrapped__(torch.device("cpu"))
    return {"cpu": own, "cuda": speech_features.Constants(*(on_cuda(MODE, x) for x in vars(own).values()))}


CONSTANTS = _constants()


@functools.cache
def prepared(name: str) -> tuple[dict[str, Any], Modality, Store]:
    """The configuration, the modality with its codebook, and the built-in sample."""
    cfg = settings(name, "mlm")
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = open_store(modality, cfg["data"], HOST, Path("none"))
    return cfg, modality, store


@functools.cache
def warmed(name: str) -> Modality:
    """The modality after its first view on the device, when what it needs there has been copied."""
    cfg, modality, store = prepared(name)
    batch, rows_R = first_batch(cfg, modality, store, Objective())
    with MODE:
        modality.augment(batch, Rng(0, 0, rows_R))
    return modality


def first_batch(cfg: dict[str, Any], modality: Modality, store: Store, objective: Any) -> tuple[Batch, Tensor]:
    """The first pass of a run on a GPU, on the device, and its rows' numbers."""
    collator, step_rows = training_rows(store, modality, cfg, GROUP, objective)
    rows_R, batch = next(batches(collator, step_rows, 0, 1))[0]
    return on_cuda(MODE, batch), on_cuda(MODE, rows_R)


def configured(name: str, objective: str, model: str | None = None) -> dict[str, Any]:
    """A run's configuration, composed once a modality, with what the matrix sets beside its sizes."""
    own = [word.removeprefix("objective.").split("=") for word in OBJECTIVE.get(objective, ())]
    section = config.option("objective", objective) | {k: float(v) for k, v in own if not k.startswith("train.")}
    cfg = config.with_recipe(prepared(name)[0] | {"objective": section}, set())
    return cfg | {"model": config.option("model", model)} if model else cfg


def one_pass(name: str, learner: Learner, cfg: dict[str, Any], frames: int = 0) -> None:
    """A forward pass of training and one of evaluation, and what the trainer does with the result.

    Args:
        frames: numbers that every position of the batch carries besides; 0 leaves it as it is.
    """
    modality, store = warmed(name), prepared(name)[2]
    batch, rows_R = first_batch(cfg, modality, store, learner.objective)
    moved = on_cuda(MODE, learner)
    if frames:
        batch = dataclasses.replace(batch, frames_NF=on_cuda(MODE, torch.zeros(len(batch.values), frames)))
    with MODE, NoWaiting(), NoTensorsFromHost():
        rng = Rng(cfg["seed"], 0, rows_R)
        with GROUP.autocast():
            loss, count, metrics = moved(batch, rng)
        sums = StepSums(CUDA)
        sums.add(loss, count, metrics, batch, learner.objective.flops(vars(learner.encoder.spec), batch))
        moved.objective.after_step(moved.encoder, 1, 10)
        moved.objective.health(moved.encoder)
    assert loss.device == count.device == CUDA and loss.shape == count.shape == ()
    assert {x.device for pair in metrics.values() for x in pair} <= {CUDA}


PAIRS = [(*pair, None) for pair in offered()] + [("image", name, "resnet10") for name in ("simclr", "byol")]


@pytest.mark.parametrize(("modality", "objective", "model"), PAIRS)
def test_an_objective_stays_on_the_device(modality: str, objective: str, model: str | None) -> None:
    cfg = configured(modality, objective, model)
    one_pass(modality, build.learner(cfg, prepared(modality)[1]), cfg)


@pytest.mark.parametrize("modality", ["dna", "speech"])
def test_the_health_of_representations_stays_on_the_device(modality: str) -> None:
    cfg, adapter, store = prepared(modality)
    encoder = on_cuda(MODE, build.learner(cfg, adapter).encoder)
    batch, _ = first_batch(cfg, adapter, store, Objective())
    with MODE, NoWaiting(), NoTensorsFromHost(), GROUP.autocast():
        health = Health(CUDA, adapter.vocabulary)
        health.add(encoder.pooled(batch), batch)


def test_half_precision_takes_the_kernel_for_ragged_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes above run ``varlen_attn``, once a layer."""
    from torch.nn.attention import varlen

    real, seen = varlen.varlen_attn, []
    monkeypatch.setattr(varlen, "varlen_attn", lambda q, *args, **more: seen.append(q.dtype) or real(q, *args, **more))
    cfg = configured("dna", "mlm")
    one_pass("dna", build.learner(cfg, prepared("dna")[1]), cfg)
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_stays_on_the_device(checkpointing: bool) -> None:
    cfg = configured("dna", "mlm")
    cfg = cfg | {"model": cfg["model"] | {"dropout": 0.1, "checkpointing": checkpointing}}
    one_pass("dna", build.learner(cfg, prepared("dna")[1]), cfg)


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_models.save(tmp_path_factory.mktemp("bert"), "bert")


def task_data_of(store: Store, kind: str) -> TaskData:
    """The store's training windows as the items of a task, every position a word, with labels of a kind."""
    windows = store.split("train")
    lengths_S = np.array(windows.lengths_S)
    items_S = np.arange(len(windows), dtype=np.int32)
    places_T = np.zeros(len(store.values), np.int64)
    for _, start, length in windows.each():
        places_T[start : start + length] = np.arange(length)
    labels: dict[str, Any] = {
        "classes": items_S % 3,
        "scores": items_S % 3,
        "values": np.arange(len(windows), dtype=np.float64),
        "slots": objects([np.array([i % 2, 2 + i % 3]) for i in items_S]),
        "tags": objects([np.arange(length) % 3 for length in lengths_S]),
        "answers": objects([["AB"] for _ in items_S]),
        "activity": objects([np.arange(length) % 4 for length in lengths_S]),
        "texts": objects(["ab a"[: 2 + i % 3].strip() for i in items_S]),
    }
    names = {"slots": ("a=0", "a=1", "b=0", "b=1", "b=2"), "texts": (" ", "a", "b")}.get(kind, ("a", "b", "c"))
    part = Split(items_S, labels[kind], Windows(np.array(windows.starts_S), lengths_S, items_S), len(windows))
    part = dataclasses.replace(part, contexts=("ABAB",) * len(part), more=(0,) * len(part))
    marks_T2 = np.stack([places_T, places_T + 1], 1).astype(np.int32)
    return TaskData("made@once", store.values, {"train": part}, names, "", "", {}, None, None, marks_T2)


TRAINED = [head for head in HEADS if head_class(head).trained]
HEAD_CASES = [("random:tiny", head, pooling) for head in TRAINED for pooling in ("mean", "cls")]
HEAD_CASES += [(encoder, "classification", "mean") for encoder in ("cnn", "hf+map", "hf+reembed", "layers", "fbank")]


@pytest.mark.parametrize(("encoder", "head", "pooling"), HEAD_CASES)
def test_a_head_stays_on_the_device(encoder: str, head: str, pooling: Any, text_folder: Path) -> None:
    name = "speech" if encoder == "fbank" else "protein"
    cfg, modality, store = prepared(name)
    model: Any = frozen.LayerMix(torch.zeros(3, 4), torch.ones(3, 4))  # a probe of three layers' vectors
    if encoder != "layers":
        reference = references.parse(encoder.replace("hf", f"hf:{text_folder}"))
        model = encoders.open_encoder(reference, modality, seed=1).encoder
    built = head_class(head)(model, task_data_of(store, kind_of(head)), pooling=pooling, dropout=0.1)
    one_pass(name, Learner(model, built), cfg, frames=12 if encoder == "layers" else 0)


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_the_rest_of_a_step_stays_on_the_device(name: str) -> None:
    cfg = configured("dna", "mlm")
    learner = on_cuda(MODE, build.learner(cfg, prepared("dna")[1]))
    optimiser = make_optimiser(learner, cfg["train"] | {"optimiser": name})
    parameters = [p for p in learner.parameters() if p.requires_grad]
    with MODE, NoWaiting(), NoTensorsFromHost():
        for _ in range(2):  # the first makes the optimiser's state
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter)
            sums, window = StepSums(CUDA), Window(CUDA)
            scalar = torch.ones((), device=CUDA)
            batch = first_batch(cfg, *prepared("dna")[1:], Objective())[0]
            sums.add(scalar, scalar, {"accuracy": (scalar, scalar)}, batch, 1.0)
            total = sums.over_processes(False, GROUP)
            norm = reduce_gradients(parameters, total[COUNT], 1.0, GROUP)
            optimiser.step()
            window.add(total, sums.names, norm)
    assert norm.device == CUDA


FAULTS: dict[str, Any] = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool(x.any()),
    "cpu": lambda x: x.cpu(),
    "a mask as an index": lambda x: x[x > 0],
    "an assignment under a mask": lambda x: x.__setitem__(x > 0, x[:3]),
    "indices on the host": lambda x: x[torch.arange(2)],
    "nonzero": lambda x: x.nonzero(),
    "two devices": lambda x: x + torch.zeros(x.shape),
    "a table from the host": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "a copy from the host": lambda x: torch.zeros(3).to(x.device),
}


@pytest.mark.parametrize("fault", ["nothing", *FAULTS])
def test_a_wait_is_found(fault: str) -> None:
    """An objective that does one of these fails the test above; one that does nothing passes."""

    class Waiting(Objective):
        def forward(self, encoder: Any, batch: Batch, rng: Rng) -> Any:
            FAULTS.get(fault, lambda x: None)(rng.uniform(8))
            return encoder(batch).sum(), batch.real_B.sum(), {}

        def flops(self, *anything: Any) -> float:
            return 0.0

    cfg = configured("dna", "mlm")
    learner = Learner(build.learner(cfg, prepared("dna")[1]).encoder, Waiting())
    with contextlib.nullcontext() if fault == "nothing" else pytest.raises(RuntimeError):
        one_pass("dna", learner, cfg)
