"""Throughput and memory of every objective beside masked language modelling, on the same encoder and data.

    python benchmarks/objectives.py                          # text sample, model=mini
    python benchmarks/objectives.py modality=image objective=mlm,simclr,byol,data2vec model=tiny

One process; the objectives take turns, a step each a round, so that a slow minute of the machine hits all. Medians over
rounds; tokens are those of the data, whatever an objective adds (a target, a second view). Prints a Markdown table.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_suite.commands.objectives import matrix
from ssl_suite.core import registry
from ssl_suite.core.rng import Rng
from ssl_suite.settings import config
from ssl_suite.training import build, estimate
from ssl_suite.training.distributed import processes, reduce_gradients
from ssl_suite.training.optimiser import adamw
from ssl_suite.training.trainer import batches, open_store, training_rows

ROUNDS, WARM = 7, 2
USUAL = ["modality=text", "model=mini", "train.tokens_per_batch=2048", "train.tokens_per_row=2048"]


class Contestant:
    """One objective, ready to take steps."""

    def __init__(self, name: str, words: list[str], group: Any) -> None:
        self.name, self.group = name, group
        self.cfg = config.compose([*USUAL, *words, f"objective={name}"])
        modality = registry.build(registry.MODALITIES, "modality", self.cfg["modality"])
        units = build.objective_class(self.cfg["objective"]).predicts_ids
        store = open_store(modality, self.cfg["data"], group, Path("/nonexistent"), units)
        self.learner = build.learner(self.cfg, modality, seed=0)
        collator, rows = training_rows(store, modality, self.cfg, group, self.learner.objective)
        self.optimiser = adamw(self.learner, self.cfg["train"])
        self.parameters = [p for p in self.learner.parameters() if p.requires_grad]
        self.steps = batches(collator, rows, 0, ROUNDS + WARM)
        single = next(batches(collator, rows, 0, 1))[0][1]
        windows = np.resize(single.index_B[single.real_B].numpy(), 4)
        short = dataclasses.replace(collator, n=collator.max_length, slots=1)
        self.activations = estimate.activation_bytes(self.learner, lambda n: short.rows(list(windows[:n, None])), group)
        self.facts = vars(self.learner.encoder.spec)
        self.seconds: list[float] = []
        self.tokens = self.flops = 0.0

    def step(self) -> None:
        parts = next(self.steps)  # preparing it is the other thread's work in a run
        began, counted = time.perf_counter(), torch.zeros(())
        self.tokens = sum(batch.tokens for _, batch in parts)
        self.flops = sum(self.learner.objective.flops(self.facts, batch) for _, batch in parts)
        for numbers, batch in parts:
            loss, count, _ = self.learner(batch, Rng(0, len(self.seconds), numbers))
            loss.backward()
            counted = counted + count
        reduce_gradients(self.parameters, counted, 1.0, self.group)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.learner.objective.after_step(self.learner.encoder, len(self.seconds) + 1, 1000)
        self.seconds.append(time.perf_counter() - began)


def main(words: list[str]) -> None:
    named = [word.partition("=")[2] for word in words if word.startswith("objective=")]
    words = [word for word in words if not word.startswith("objective=")]
    modality = next((w.partition("=")[2] for w in [*USUAL, *words][::-1] if w.startswith("modality=")), "text")
    offered = [name for name, reasons in matrix().items() if not reasons[modality]]
    names = named[0].split(",") if named else offered
    with processes({"threads": None, "precision": "fp32"}) as group:
        contestants = [Contestant(name, words, group) for name in dict.fromkeys(["mlm", *names])]
        for _ in range(ROUNDS + WARM):
            for one in contestants:
                one.step()
    base = statistics.median(contestants[0].seconds[WARM:]) / contestants[0].tokens
    print("| objective | tokens/s, median (min-max) | of mlm | GFLOP/s | activations, KiB a position | parameters, M |")
    print("|---|---|---|---|---|---|")
    for one in contestants:
        seconds = one.seconds[WARM:]
        middle = statistics.median(seconds)
        rates = [one.tokens / s for s in (middle, max(seconds), min(seconds))]
        millions = sum(p.numel() for p in one.parameters) / 1e6
        print(
            f"| {one.name} | {rates[0]:,.0f} ({rates[1]:,.0f}-{rates[2]:,.0f}) | {base / (middle / one.tokens):.2f} | "
            f"{one.flops / middle / 1e9:.0f} | {one.activations / 1024:.0f} | {millions:.2f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
