"""Sequences and tokenisers made for the tests of the DNA modality."""

from __future__ import annotations

import numpy as np

from ssl_suite.core.records import Record
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.dna_letters import BASES


def encoded(dna: DNA, text: str) -> list[int]:
    return dna.encode(Record("r", text, "x.fa")).values.tolist()


def random_bases(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list(BASES), length))


def fitted_bpe(**settings: object) -> DNA:
    dna = DNA(tokenizer="bpe", vocab_size=100, **settings)  # type: ignore[arg-type]
    dna.fit(iter([Record("r", random_bases(20_000) + "NNRY" + "ACGTTT" * 500, "x.fa")]))
    return dna
