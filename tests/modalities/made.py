"""Sequences and tokenisers of DNA, and ragged batches of any ids, made for the tests."""

from __future__ import annotations

import numpy as np
import torch

from ssl_suite.core.batch import Batch
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


def ragged(rows: list[list[list[int]]], n: int, frames: np.ndarray | None = None) -> Batch:
    """Rows of ``n`` positions, each with the same number of slots, as the loader makes them.

    Args:
        rows: the ids of each row's sequences, without [CLS] and [SEP].
        frames: (rows, n, F), or None for tokens.
    """
    values, lengths, slots = np.zeros((len(rows), n), np.int64), [], max(map(len, rows))
    for row, some in zip(values, rows, strict=True):
        place = 0
        for ids in some:
            row[place : place + len(ids) + 2] = [2, *ids, 3]
            place += len(ids) + 2
            lengths.append(len(ids) + 2)
        lengths += [n - place, *[0] * (slots + 1 - len(some))]  # the padding, and slots that are empty
    return Batch(
        values=torch.from_numpy(values.reshape(-1)),
        frames_NF=None if frames is None else torch.from_numpy(frames.reshape(len(rows) * n, -1)),
        offsets_B1=torch.tensor([0, *lengths]).cumsum(0).int(),
        max_length=n,
        lengths=tuple(lengths),
        real_B=torch.tensor([length > 0 for length in lengths]),
        index_B=torch.arange(len(lengths)),
        tokens=sum(lengths),
        squares=0,
        rows=len(rows),
    )
