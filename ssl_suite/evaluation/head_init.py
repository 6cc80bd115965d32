"""Where a head starts: at small random numbers, or at a linear model of what the encoder gives before it is trained.

A random map pulls at the encoder before it knows where to, and a short training ends before it does. Linear probing,
then fine-tuning (LP-FT, Kumar et al. 2022, arXiv:2202.10054) fits the map first, on features that stand still, and then
trains everything from there.

Shapes: S sequences of a split, D width of the encoder, C outputs of the head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core import atomic
from ssl_suite.core.batch import Batch
from ssl_suite.evaluation import baselines, encode
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.learner import Learner
from ssl_suite.training.stopping import StopSignals


def linear(
    learner: Learner,
    data: TaskData,
    modality: Modality,
    select: str,
    group: DistributedContext,
    stop: StopSignals,
    kept: Path | None = None,
) -> None:
    """Set the head's map to a linear model of the training sequences' vectors; its penalty is chosen on dev.

    Args:
        learner: an encoder with its starting weights, and a head; both on the group's device.
        select: the metric that chooses.
        stop: asked between forward passes.
        kept: a file that holds the map, or will: the trials of one start differ in their rates alone.

    Raises SuiteError: one class only, or vectors that are not finite. Raises KeyboardInterrupt: it was asked to stop;
    nothing is kept.
    """
    head: Any = learner.objective
    if kept is not None and kept.is_file():
        with np.load(kept) as arrays:
            weight_CD, bias_C = arrays["weight_CD"], arrays["bias_C"]
    else:

        def read(batch: Batch) -> Tensor:
            if stop.asked:
                raise KeyboardInterrupt
            with group.autocast():
                return head.vectors(learner.encoder, batch)

        learner.eval()
        given: list[np.ndarray] = []
        for split in ("train", "dev"):
            found = encode.run_batches(encode.sequences_of(data, split), modality, group.device, read)
            given += [np.stack([vector for _, vector in found]), head.start_targets(data.parts[split])]
        learner.train()
        train_SD, train_S, dev_SD, dev_S = given
        weight_CD, bias_C = baselines.linear_map(train_SD, train_S, dev_SD, dev_S, head.output.out_features, select)
        if kept is not None and group.main:
            with atomic.replacing(kept) as unfinished, unfinished.open("wb") as file:
                np.savez(file, weight_CD=weight_CD, bias_C=bias_C)
    with torch.no_grad():
        head.output.weight.copy_(torch.from_numpy(weight_CD))
        head.output.bias.copy_(torch.from_numpy(bias_C))
