"""AdamW and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def adamw(learner: nn.Module, train: Mapping[str, Any]) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), one fused kernel a step.

    Weight decay acts on matrices alone: not on norms and biases, nor on embedding tables, whose rows are not maps.
    """
    tables = {id(m.weight) for m in learner.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in learner.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.dim() >= 2 and id(p) not in tables]
    others = [p for p in parameters if p.dim() < 2 or id(p) in tables]
    groups = [
        {"params": decayed, "weight_decay": train["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train["lr"], betas=tuple(train["betas"]), eps=train["eps"], fused=True)


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
