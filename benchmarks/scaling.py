"""How a training step's cost grows with sequence length, with width, and with the number of processes.

    python benchmarks/scaling.py

Every point is the median of five steps after one to warm up, in a process of its own, float32, single-base vocabulary.
Length and width: tokens/s and model FLOP/s over those of a large matrix product measured beside it. Processes: real
gloo groups over one CPU with its cores shared out, DDP, so the ideal is a flat line. Prints Markdown tables.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LENGTHS = (128, 256, 512, 1024, 2048)
WIDTHS = (128, 256, 384, 512, 768)
TOKENS = 4096


def point(length: int, width: int) -> None:
    """One measurement: prints JSON."""
    import torch
    from contestants import Ours, Work

    from ssl_suite.training.meters import matmul_flops

    torch.manual_seed(0)
    count = max(64, 4 * TOKENS // length)
    lengths = np.full(count, length - 2)
    values = np.random.default_rng(0).integers(5, 9, lengths.sum()).astype(np.uint8)
    mlp = round(width * 8 / 3 / 64) * 64
    contestant = Ours(Work(4, width, width // 64, mlp, 20, length, lengths, values, TOKENS), max(length, 2048))
    contestant.step()
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        tokens, flops = contestant.step()
        rates.append((tokens / (seconds := time.perf_counter() - start), flops / seconds))
    tokens_per_s, flops_per_s = (statistics.median(column) for column in zip(*rates, strict=True))
    peak = matmul_flops(torch.device("cpu"))
    print(json.dumps({"tokens_per_s": tokens_per_s, "share": flops_per_s / peak}))


def measure(*words: object) -> dict[str, float]:
    """``point`` in a fresh process."""
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def processes(count: int) -> float:
    """Tokens/s of 12 steps of `mini` on ``count`` processes, the median of the logged steps without the first two."""
    with tempfile.TemporaryDirectory() as folder:
        words = f"modality=dna objective=mlm model=mini train.steps=12 train.log_every=1 out={folder}/run"
        words += f" train.eval_every=100 train.checkpoint_every=100 launch.processes={count}"
        subprocess.run([sys.executable, "-m", "ssl_suite", "run", *words.split()], check=True, capture_output=True)
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    return statistics.median([line["tokens_per_s"] for line in lines if "loss" in line][2:])


def main() -> None:
    if len(sys.argv) == 3:
        return point(int(sys.argv[1]), int(sys.argv[2]))
    print("| sequence length, width 256 | tokens/s | share of a matrix product |\n|---|---|---|")
    for length in LENGTHS:
        row = measure(length, 256)
        print(f"| {length} | {row['tokens_per_s']:,.0f} | {row['share']:.0%} |", flush=True)
    print("\n| width, length 512 | tokens/s | share of a matrix product |\n|---|---|---|")
    for width in WIDTHS:
        row = measure(512, width)
        print(f"| {width} | {row['tokens_per_s']:,.0f} | {row['share']:.0%} |", flush=True)
    print(f"\n| processes, {os.cpu_count()} cores shared | tokens/s |\n|---|---|")
    for count in (1, 2, 4):
        print(f"| {count} | {processes(count):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
