"""Small FASTA files, and their preparation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store
from ssl_suite.modalities.dna import DNA


def random_bases(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def write(path: Path, **records: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f">{name}\n{text}\n" for name, text in records.items()))
    return path


def run(path: Path, dna: DNA | None = None, **data: object) -> tuple[Store, list[str]]:
    lines: list[str] = []
    settings = {"path": str(path), "cache": str(path.parent / "cache"), **data}
    return prepare(dna or DNA(max_length=102), settings, report=lines.append), lines
