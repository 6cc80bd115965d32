"""What SimCLR's random views cost: the suite's, of the whole batch at once, beside torchvision's, picture by picture.

    python benchmarks/views.py             # under two minutes on 2 quiet cores
    python benchmarks/views.py --rounds 1  # a look

Two views of each of 256 pictures of 32 × 32, of the same recipe (crop, mirror, colour jitter, grey):

    suite     ``modality.augment`` in the training process, on 1 thread and on 2
    tensor    torchvision.transforms.v2 on uint8 tensors, in 1 and 2 workers of a DataLoader
    pillow    the same on Pillow images, the usual way

and a training step of SimCLR with ResNet-18 and CIFAR's stem, its own views included. The contestants take turns;
figures are medians over the rounds. The last line is one JSON object: pictures a second of each (two views made),
``ratio_n``, the suite's on n threads over the better of torchvision's in n workers, and ``share``, the part of the step
that views take. Workers of a DataLoader make views while the step runs, and take a core from it; the suite's are
part of the step.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ssl_suite.core import registry
from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.rng import Rng
from ssl_suite.data.prepare import prepare
from ssl_suite.modalities import image_layout
from ssl_suite.settings import config
from ssl_suite.training import build
from ssl_suite.training.optimiser import make_optimiser

PICTURES = 256
BATCHES = 3  # of a worker's measurement: all of them, from asking for the first to having the last
STEP_PICTURES = 64  # of the training step, whose cost is proportional to them


class Views(Dataset):
    """Two views of each picture, as a worker makes them.

    Args:
        pictures: (I, 32, 32, 3) uint8.
        pillow: on Pillow images, else on tensors.
    """

    def __init__(self, pictures: np.ndarray, pillow: bool) -> None:
        tensors = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
        self.pictures = [Pillow.fromarray(one) for one in pictures] if pillow else list(tensors)
        self.view = v2.Compose(
            [
                v2.RandomResizedCrop(32, scale=(0.08, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                v2.RandomGrayscale(0.2),
                v2.ToImage(),
            ]
        )

    def __len__(self) -> int:
        return BATCHES * PICTURES

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        picture = self.pictures[i % PICTURES]
        return self.view(picture), self.view(picture)


def by_workers(loader: DataLoader) -> float:
    """Seconds of a picture's two views."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return (time.perf_counter() - start) / (BATCHES * PICTURES)


def by_suite(modality: Any, batch: Batch, threads: int) -> float:
    """Seconds of a picture's two views."""
    torch.set_num_threads(threads)
    rng = Rng(0, 0, torch.arange(1))
    start = time.perf_counter()
    with torch.no_grad():
        for _ in range(2):
            modality.augment(batch, rng)
    return (time.perf_counter() - start) / PICTURES


def by_step(learner: Any, optimiser: torch.optim.Optimizer, batch: Batch, threads: int) -> float:
    """Seconds of a training step, for each of its pictures."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    loss, count, _ = learner(batch, Rng(0, 0, torch.arange(1)))
    (loss / count).backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / STEP_PICTURES


def contestants(counts: tuple[int, ...]) -> dict[str, Callable[[], float]]:
    """By name, what takes one measurement; the workers are started first, before there are threads to fork."""
    cfg = config.compose(["modality=image", "objective=simclr", "model=resnet18"])
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = prepare(modality, cfg["data"], report=lambda text: None)
    starts = store.record_starts[np.linspace(0, store.records - 1, PICTURES).astype(int)]
    patches = [store.values[start : start + modality.cells**2] for start in starts]
    pictures = np.stack([image_layout.picture(one, modality.cells, modality.patch) for one in patches])
    runners: dict[str, Callable[[], float]] = {}
    for name in ("tensor", "pillow"):
        for workers in counts:
            settings: dict[str, Any] = {"num_workers": workers, "persistent_workers": True}
            loader = DataLoader(Views(pictures, name == "pillow"), PICTURES, **settings)
            by_workers(loader)
            runners[f"{name}_{workers}"] = functools.partial(by_workers, loader)
    whole = ragged(patches, modality.vocabulary, modality.max_length)
    for threads in counts:
        runners[f"suite_{threads}"] = functools.partial(by_suite, modality, whole, threads)
    learner = build.learner(cfg, modality)
    few = ragged(patches[:STEP_PICTURES], modality.vocabulary, modality.max_length)
    runners["step"] = functools.partial(by_step, learner, make_optimiser(learner, cfg["train"]), few, max(counts))
    return runners


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    counts = tuple(sorted({1, min(2, os.cpu_count() or 1)}))
    runners = contestants(counts)
    for name, run in runners.items():
        if not name.startswith(("tensor", "pillow")):
            run()  # the first allocates
    seen: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            seen[name].append(run())
    seconds = {name: statistics.median(values) for name, values in seen.items()}
    for name, each in seconds.items():
        print(f"{name:10} {1 / each:10,.0f} pictures/s")
    facts: dict[str, Any] = {name: round(1 / each, 1) for name, each in seconds.items()}
    for n in counts:
        facts[f"ratio_{n}"] = round(min(seconds[f"tensor_{n}"], seconds[f"pillow_{n}"]) / seconds[f"suite_{n}"], 2)
    facts["share"] = round(seconds[f"suite_{max(counts)}"] / seconds["step"], 4)
    print(json.dumps(facts | {"threads": max(counts), "rounds": rounds}))


if __name__ == "__main__":
    main()
