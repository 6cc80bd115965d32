"""What takes the steps, how long they are, and how that goes with the size of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

LINEAR_UNIT = 256  # sequences of a step at which ``lr_scaling=linear`` leaves train.lr as it is


def make_optimiser(learner: nn.Module, train: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser that the ``train`` section names, over the parameters that take a gradient."""
    return OPTIMISERS[train.get("optimiser", "adamw")](learner, train)


def adamw(learner: nn.Module, train: Mapping[str, Any]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), one fused kernel a step."""
    betas = (train["betas"][0], train["betas"][1])
    return torch.optim.AdamW(groups(learner, train), lr=train["lr"], betas=betas, eps=train["eps"], fused=True)


def sgd(learner: nn.Module, train: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Stochastic gradient descent with heavy-ball momentum; torch's fused kernel does not know sharded weights."""
    return torch.optim.SGD(groups(learner, train), lr=train["lr"], momentum=train["momentum"], foreach=True)


def lars(learner: nn.Module, train: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888), lightly's.

    Each parameter's step is proportional to its own norm. As in SimCLR and BYOL, what does not decay (norms, biases,
    embeddings) is not adapted: lightly tells the two apart by the decay, which must therefore be above 0.
    """
    from lightly.utils.lars import LARS

    return LARS(groups(learner, train), lr=train["lr"], momentum=train["momentum"])


OPTIMISERS: dict[str, Callable[[nn.Module, Mapping[str, Any]], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "sgd": sgd,
    "lars": lars,
}


def groups(learner: nn.Module, train: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two parameter groups: what decays, and what does not.

    Weight decay acts on matrices and kernels alone: not on norms and biases, nor on embedding tables, whose rows are
    not maps.
    """
    tables = {id(m.weight) for m in learner.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in learner.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.dim() >= 2 and id(p) not in tables]
    others = [p for p in parameters if p.dim() < 2 or id(p) in tables]
    both = ({"params": decayed, "weight_decay": train["weight_decay"]}, {"params": others, "weight_decay": 0.0})
    return [group for group in both if group["params"]]


def scaled(train: Mapping[str, Any], max_length: int) -> dict[str, Any]:
    """The ``train`` section with the peak rate that ``lr_scaling`` makes of ``lr``.

    With S = tokens_per_batch / max_length, the sequences of a step (exact where all are longest, as pictures are):
    ``linear`` is lr * S / 256 (Goyal et al. 2017, arXiv:1706.02677), ``sqrt`` is lr * sqrt(S) (SimCLR, appendix B.1:
    0.075 * sqrt(S)). S does not depend on the number of processes, so neither does the rate.
    """
    sequences = train["tokens_per_batch"] / max_length
    factors = {"none": 1.0, "linear": sequences / LINEAR_UNIT, "sqrt": math.sqrt(sequences)}
    return {**train, "lr": train["lr"] * factors[train.get("lr_scaling", "none")]}


def learning_rate(step: int, train: Mapping[str, Any]) -> float:
    """The rate of step ``step`` (from 0): linear warm-up, then cosine or linear to ``final_lr * lr``, or constant."""
    total = train["steps"]
    warm = math.ceil(total * train["warmup"])
    if step < warm:
        return train["lr"] * (step + 1) / (warm + 1)
    if train["schedule"] == "constant":
        return train["lr"]
    done = (step - warm) / max(1, total - warm)
    fall = 0.5 * (1 + math.cos(math.pi * done)) if train["schedule"] == "cosine" else 1 - done
    return train["lr"] * (train["final_lr"] + (1 - train["final_lr"]) * fall)
