"""Say what a run will take before you start it: parameters, tokens, FLOPs, memory, steps and time.

Takes the words of `run`. The data are prepared (and stay prepared for the run); the time comes from a two-second probe
of the real training step on this machine, on fewer positions where a step takes longer.

examples:
  ssl_suite plan modality=dna objective=mlm model=base
  ssl_suite plan modality=dna objective=mlm data.path=my.fasta model=mini train.steps=5000 --json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from ssl_suite.core.wording import count, duration
from ssl_suite.settings import config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="the settings of `run`")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own laid out like conf/; it comes first")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main(args: argparse.Namespace) -> int:
    cfg = config.compose(args.words, args.config_dir)
    from ssl_suite.training import estimate

    facts = estimate.plan(cfg, report=lambda line: print(line, file=sys.stderr))
    print(json.dumps(facts, indent=1) if args.json else "\n".join(lines(cfg, facts)))
    return 0


def lines(cfg: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """The facts for a reader."""
    parameters, data, step = facts["parameters"], facts["data"], facts["step"]
    run, memory, device = facts["run"], facts["memory"], facts["device"]
    parts = ", ".join(f"{name} {size(memory[name])}" for name in ("weights", "gradients", "optimiser", "activations"))
    text = [
        f"model       {cfg['model']['name']}: {facts['model']}; {parameters['total']:,} parameters "
        f"(encoder {parameters['encoder']:,}, head {parameters['head']:,})",
        f"data        {count(data['records'], 'record')}, {count(data['train_tokens'], 'token')} in "
        f"{count(data['train_windows'], 'training window')}, {data['valid_tokens']:,} tokens held out",
        f"step        {step['positions']:,} positions in {count(step['rows'], 'row')}, "
        f"{step['tokens']:,} of them data; {si(step['flops'])}FLOP",
        f"run         {count(run['steps'], 'step')}, {run['positions']:,} positions, {run['epochs']:.1f} epochs; "
        f"{si(run['flops'])}FLOP",
        f"memory      {size(memory['total'])} a process: {parts}",
        f"device      {device['name']}, {device['processes']} process{'es' if device['processes'] > 1 else ''}",
    ]
    if facts["probe"] is None:
        return [*text, f"time        not probed: it needs more than this device's {size(device['memory'])}"]
    rate = step["flops"] / facts["step_seconds"]
    return [
        *text,
        f"speed       {facts['tokens_per_s']:,.0f} tokens/s, {si(rate)}FLOP/s, {facts['step_seconds']:.3g} s a step",
        f"time        about {duration(facts['eta_seconds'])}",
    ]


def size(count: float) -> str:
    """Bytes for a reader."""
    power = 3 if count >= 1 << 30 else 2
    return f"{count / 1024**power:.1f} {'GiB' if power == 3 else 'MiB'}"


def si(count: float) -> str:
    """A number with the prefix of its thousands: 1.23e12 is ``1.23 T``."""
    power = max(0, min(8, math.floor(math.log10(max(1.0, count)) / 3 + 1e-12)))
    return f"{count / 1000**power:.3g} {('', 'k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y')[power]}"
