"""The benchmarks start and measure: what they print is not a matter of tests, that they print is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_contestant_of_the_throughput_benchmark_takes_a_step() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py"), "--serve", "varied", "ours"]
    done = subprocess.run(command, input="1\n", capture_output=True, text=True, cwd=ROOT, check=True)
    ready, line = done.stdout.splitlines()
    facts = json.loads(line)
    assert ready == "ready"
    assert 3500 < facts["tokens"] <= 4096 and facts["flops"] > 1e9 and facts["seconds"] > 0


def test_the_other_benchmarks_explain_themselves() -> None:
    for name in ("prepare", "store_access", "throughput"):
        path = str(ROOT / "benchmarks" / f"{name}.py")
        done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, check=True)
        assert "usage" in done.stdout
