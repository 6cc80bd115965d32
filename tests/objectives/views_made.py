"""Batches, encoders and processes for the tests of objectives on two views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.models.embedders import embedder
from ssl_suite.models.encoder import Encoder, EncoderSpec
from tests.modalities import pictures

ROW, SLOTS = 64, 4
CONTENTS = [[20, 12, 22], [30, 28], [9, 17, 11], [40]]  # bases of each sequence of each row


def encoder(modality: DNA | Image, layers: int = 1) -> Encoder:
    """A small transformer, the same every time."""
    torch.manual_seed(0)
    frame, v = modality.frame, modality.vocabulary
    facts = {"features": frame.features, "grid": frame.grid} if frame else {}
    spec = EncoderSpec(
        layers, 16, 2, 24, len(v), windows=(None,) * layers, thetas=(100.0,) * layers, init_std=0.2, **facts
    )
    return Encoder(spec, embedder(spec, modality))


def dna_rows(rows: list[int], dtype: torch.dtype = torch.float32) -> Batch:
    """Rows of random bases, each with its padding as a sequence of its own and an empty slot where there is room."""
    values, lengths, keys = np.zeros((len(rows), ROW), np.int64), [], []
    for out, row in zip(values, rows, strict=True):
        draw, place, own = np.random.default_rng(row), 0, []
        for length in CONTENTS[row]:
            out[place : place + length + 2] = [2, *draw.integers(5, 9, length), 3]
            place += length + 2
            own.append(length + 2)
        lengths += [*own, ROW - place, *[0] * (SLOTS - len(own) - 1)]
        keys += [*range(len(own)), *[-1] * (SLOTS - len(own))]
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    real = torch.tensor(keys) >= 0
    return Batch(
        values=torch.from_numpy(values.reshape(-1)),
        offsets_B1=offsets,
        max_length=ROW,
        lengths=tuple(lengths),
        real_B=real,
        index_B=torch.tensor(keys),
        tokens=sum(length for length, key in zip(lengths, keys, strict=True) if key >= 0),
        squares=sum(length**2 for length, key in zip(lengths, keys, strict=True) if key >= 0),
        rows=len(rows),
    )


def image_rows(rows: list[int], modality: Image) -> Batch:
    """Two pictures of the built-in sample a row, one in row 3."""
    tiles = pictures.tiles(8)
    chosen = [[tiles[2 * row], tiles[2 * row + 1]][: 1 if row == 3 else 2] for row in rows]
    return pictures.laid_out(modality, chosen, 2 * modality.max_length)


def rng(rows: list[int], step: int = 0) -> Rng:
    return Rng(3, step, torch.tensor(rows))


def contents(batch: Batch, values_N: Tensor | None = None) -> list[Tensor]:
    """Each real sequence's ids, from [CLS] to [SEP]."""
    values = batch.values if values_N is None else values_N
    parts = []
    for start, end, real in zip(batch.offsets_B1[:-1], batch.offsets_B1[1:], batch.real_B, strict=True):
        ids = values[start:end]
        if real:
            parts.append(ids[ids != 0])
    return parts


def alone(ids: Tensor) -> Batch:
    """One sequence as a batch."""
    n = len(ids)
    return Batch(
        values=ids,
        offsets_B1=torch.tensor([0, n]).int(),
        max_length=ROW,
        lengths=(n,),
        real_B=torch.tensor([True]),
        index_B=torch.tensor([0]),
        tokens=n,
        squares=n * n,
    )


def share_of_a_step(folder: Path, make: Callable[[], tuple[Any, Any]], rows_of: Callable[[list[int]], Batch]) -> None:
    """A process's rows of a step of four, as the trainer deals them; writes what the step adds up to."""
    import torch.distributed as dist

    from ssl_suite.training.distributed import processes

    with processes({"threads": 1, "precision": "fp32"}) as group:
        encoder, objective = make()
        found = outcome(encoder, objective, rows_of, list(range(group.rank, 4, group.world)))
        for name, x in found.items():
            if not name.startswith("buffer"):
                dist.all_reduce(x)
        torch.save(found, folder / f"{group.rank}.pt")


def outcome(encoder: Any, objective: Any, rows_of: Callable[[list[int]], Batch], rows: list[int]) -> dict[str, Tensor]:
    """Loss, count, metrics, gradients and buffers after one forward and backward pass over some rows."""
    loss, count, metrics = objective(encoder, rows_of(rows), rng(rows))
    loss.backward()
    found = {"loss": loss.detach(), "count": count.clone()}
    found |= {f"{name} {i}": x.double() for name, pair in metrics.items() for i, x in enumerate(pair)}
    for module in (encoder, objective):
        kind = type(module).__name__
        found |= {f"{kind}.{name}": p.grad for name, p in module.named_parameters() if p.requires_grad}
        found |= {f"buffer {kind}.{name}": x for name, x in module.named_buffers()}
    return found


def same(parts: list[dict[str, Tensor]], expected: dict[str, Tensor], metrics: set[str], within: float = 1e-5) -> None:
    """Sums over processes are one process's; a metric of the whole step counts once a process."""
    for name, x in expected.items():
        for part in parts:
            assert part.keys() == expected.keys()
            whole = name.split(" ")[0] in metrics
            got = part[name] / len(parts) if whole else part[name]
            scale = x.abs().max().clamp(min=1) if x.is_floating_point() else 1
            error = float(((got - x).abs() / scale).max()) if x.numel() else 0.0
            assert error < within, f"{name}: {error}"
