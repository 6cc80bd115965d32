"""Contents made up for arrangers, and batches of what they arrange, without a store."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import numpy as np
import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary

MODALITY = "test"


def vocabulary(size: int = 30, reach: int = 1) -> Vocabulary:
    """Five specials, a symbol that says nothing (5), and targets from 6 on."""
    return Vocabulary(tuple(map(str, range(size))), targets=(6, size), reach=reach)


def modality(size: int = 30, reach: int = 1) -> Any:
    """What an objective asks of a modality."""
    return types.SimpleNamespace(name=MODALITY, vocabulary=vocabulary(size, reach))


class Made:
    """The interface of ``data.arrange.Contents`` over given lists."""

    def __init__(self, contents: list[np.ndarray], bounds: list[int] | None = None) -> None:
        self.contents, self.inside = contents, np.array(bounds or [], dtype=np.int64)

    def ids(self, item: int) -> np.ndarray:
        return self.contents[item]

    def bounds(self, item: int) -> np.ndarray:
        return self.inside


def inside(framed: np.ndarray) -> np.ndarray:
    """The ids between [CLS] and [SEP], which must stand at the ends and nowhere else."""
    assert framed.dtype == np.int64
    assert framed[0] == 2 and framed[-1] == 3
    content = framed[1:-1]
    assert not np.isin(content, (0, 1, 2, 3)).any()
    return content


def laid_out(sequences: list[np.ndarray], n: int, max_length: int) -> Batch:
    """One row of n positions: the sequences end to end, then the padding as a sequence that is not real."""
    lengths = [len(sequence) for sequence in sequences]
    lengths.append(n - sum(lengths))
    return Batch(
        values=torch.from_numpy(np.concatenate((*sequences, np.zeros(lengths[-1], np.int64)))),
        offsets_B1=torch.tensor([0, *lengths]).cumsum(0).int(),
        max_length=max_length,
        lengths=tuple(lengths),
        real_B=torch.tensor([True] * len(sequences) + [False]),
        index_B=torch.arange(len(lengths)),
        tokens=sum(lengths[:-1]),
        squares=sum(length**2 for length in lengths[:-1]),
    )


def arranged(arranger: Any, contents: Made, seed: int = 0, spare: int = 4) -> Batch:
    """A batch of all contents with their targets; source and target rows end in ``spare`` positions of padding."""
    draw = np.random.default_rng(seed)
    made = [arranger(contents, item, draw) for item in range(len(contents.contents))]
    sources, targets = [one.source for one in made], [one.target for one in made]
    longest = max(len(ids) for ids in (*sources, *targets))
    source = laid_out(sources, sum(map(len, sources)) + spare, longest)
    return dataclasses.replace(source, target=laid_out(targets, sum(map(len, targets)) + spare, longest))
