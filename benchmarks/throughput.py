"""Training throughput of the suite's encoder beside ``transformers``' BertForMaskedLM and ModernBertForMaskedLM.

    python benchmarks/throughput.py            # five rounds of three steps each
    python benchmarks/throughput.py --quick    # five rounds of one step each, under 5 minutes on 2 cores

Every contestant lives in a process of its own and they take turns, one round each, so that a machine whose speed
drifts treats them alike; figures are medians over the rounds. Tokens are those that carry data. Three cases, all
`mini` (4 layers, 256 wide), float32, 8,192 tokens a step (4,096 in the last, whose steps are slow):

    fixed     DNA windows of 512, one token a base (vocabulary 20)
    vocab8k   the same windows of BPE tokens, vocabulary 8,192
    varied    pieces of DNA with the lengths of Swiss-Prot proteins, 50 to 1,000

Without --quick the peers also run in four forward passes a step (bert_parts, modernbert_parts): a smaller working set,
as ours has it. The last line is one JSON object: ``fixed``, ``vocab8k`` and ``varied`` are ours over the better peer in
one forward pass, ``..._parts`` ours over the better one in four, ``bert_default`` is ours over BERT with its default
dropout on ``fixed``, ``peak_fraction`` the model FLOP/s of ours on ``fixed`` over those of a large float32 matrix
product in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PEERS = ("bert", "modernbert")
PARTS = ("bert_parts", "modernbert_parts")  # the peers in four forward passes a step, as ours takes it on a CPU
CASES = {"fixed": ("ours", *PEERS, "bert_default"), "vocab8k": ("ours", *PEERS), "varied": ("ours", *PEERS)}
SHAPE = {"layers": 4, "width": 256, "heads": 4, "mlp_width": 704, "batch": 8192}
ROW = 2048
# Every fifth percentile of the lengths of 18,000 Swiss-Prot proteins of 50 to 1,000 residues (release 2014-01, hash
# sample): used where the sequences themselves are not at hand.
PERCENTILES = [50, 90, 119, 142, 165, 190, 212, 235, 259, 284, 309, 333, 358, 384, 419, 452, 492, 545, 623, 746, 1000]


def build(case: str) -> Any:
    """The ``Work`` of a case, from the built-in genome; the lengths of proteins from the local data if it is there."""
    from contestants import Work

    from ssl_suite.core import registry
    from ssl_suite.data.prepare import prepare
    from ssl_suite.settings import config

    words = ["modality=dna", "data.valid_fraction=0.05"]
    words += ["modality.tokenizer=bpe", "modality.vocab_size=8192"] if case == "vocab8k" else []
    cfg = config.compose(words)
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    values = np.asarray(prepare(modality, cfg["data"], report=lambda text: None).values)
    if case == "varied":
        lengths = protein_lengths(len(values))
        longest = int(lengths.max()) + 2
    else:
        lengths, longest = np.full(len(values) // 510, 510), 512
    vocabulary = len(modality.vocabulary)
    shape = {**SHAPE, "batch": SHAPE["batch"] // 2} if case == "varied" else SHAPE
    return Work(**shape, vocabulary=vocabulary, max_length=longest, lengths=lengths, values=values[: lengths.sum()])


def protein_lengths(total: int) -> np.ndarray:
    """Lengths that sum to at most ``total``: of the Swiss-Prot sample itself, or drawn from its percentiles."""
    local = Path(os.environ.get("SSL_DATA_DIR", "")) / "bio/pretrain/swissprot2014_sample.parquet"
    draw = np.random.default_rng(0)
    if os.environ.get("SSL_DATA_DIR") and local.is_file():
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        every = pc.utf8_length(pq.read_table(local, columns=["sequence"])["sequence"]).to_numpy()
        lengths = draw.permutation(every)
    else:
        lengths = np.interp(draw.random(20_000), np.linspace(0, 1, len(PERCENTILES)), PERCENTILES).astype(np.int64)
    return lengths[: np.searchsorted(np.cumsum(lengths), total)]


def serve(case: str, name: str) -> None:
    """A contestant's process: a line with a number of steps in, a line of JSON out."""
    import torch
    from contestants import CONTESTANTS

    torch.manual_seed(0)
    contestant = CONTESTANTS[name](build(case), ROW)
    contestant.step()
    print("ready", flush=True)
    for line in sys.stdin:
        tokens, flops, start = 0, 0.0, time.perf_counter()
        for _ in range(int(line)):
            done, cost = contestant.step()
            tokens, flops = tokens + done, flops + cost
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"tokens": tokens, "flops": flops, "seconds": seconds, "memory": memory}), flush=True)


def race(case: str, names: tuple[str, ...], rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Rounds of all contestants in turn; medians by name: tokens/s, FLOP/s, peak memory (MiB), and the matmul rate."""
    import torch

    from ssl_suite.training.meters import matmul_flops

    command = [sys.executable, __file__, "--serve", case]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = {name: subprocess.Popen([*command, name], **pipes) for name in names}
    for name, child in children.items():  # all are ready before the first is measured
        if child.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name} failed to start")
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    peaks = []
    for _ in range(rounds):
        peaks.append(matmul_flops(torch.device("cpu")))
        for name, child in children.items():
            child.stdin.write(f"{steps}\n")
            child.stdin.flush()
            seen[name].append(json.loads(child.stdout.readline()))
    for child in children.values():
        child.stdin.close()
        child.wait()
    result = {name: _medians(rows) for name, rows in seen.items()}
    result["matmul"] = {"flops_per_s": statistics.median(peaks)}
    return result


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    rates = [row["tokens"] / row["seconds"] for row in rows]
    return {
        "tokens_per_s": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "flops_per_s": statistics.median(row["flops"] / row["seconds"] for row in rows),
        "memory": rows[-1]["memory"],
    }


def table(case: str, result: dict[str, dict[str, float]]) -> str:
    """A Markdown table of one case."""
    peak, ours = result["matmul"]["flops_per_s"], result["ours"]
    lines = [f"\n**{case}** (matrix product {peak / 1e9:.0f} GFLOP/s)\n"]
    lines += ["| | tokens/s, median (min-max) | ours / it | MFU | peak memory, MiB |", "|---|---|---|---|---|"]
    for name, row in result.items():
        if name == "matmul":
            continue
        rate = f"{row['tokens_per_s']:,.0f} ({row['lowest']:,.0f}-{row['highest']:,.0f})"
        mfu = f"{row['flops_per_s'] / peak:.0%}" if row["flops_per_s"] else ""
        ratio = ours["tokens_per_s"] / row["tokens_per_s"]
        lines.append(f"| {name} | {rate} | {ratio:.2f} | {mfu} | {row['memory']:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one step a round instead of three")
    parser.add_argument("--case", choices=CASES, help="only this case")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(*arguments.serve)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    summary: dict[str, float] = {}
    for case in [arguments.case] if arguments.case else CASES:
        names = CASES[case] if arguments.quick else (*CASES[case], *PARTS)
        result = race(case, names, rounds=5, steps=1 if arguments.quick else 3)
        print(table(case, result), flush=True)
        ours = result["ours"]["tokens_per_s"]
        summary[case] = round(ours / max(result[peer]["tokens_per_s"] for peer in PEERS), 3)
        if not arguments.quick:
            summary[f"{case}_parts"] = round(ours / max(result[peer]["tokens_per_s"] for peer in PARTS), 3)
        if case == "fixed":
            summary["bert_default"] = round(ours / result["bert_default"]["tokens_per_s"], 3)
            summary["peak_fraction"] = round(result["ours"]["flops_per_s"] / result["matmul"]["flops_per_s"], 3)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
