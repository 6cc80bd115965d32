"""What takes the steps, how long they are, and how that goes with the size of a batch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ssl_suite.core.errors import SuiteError

LAYER = re.compile(r"\.(?:layers?|blocks?|h)\.?(\d+)\.")  # the number in the names of a layer's parameters
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
    from ssl_suite.training.lars import LARS

    return LARS(groups(learner, train), lr=train["lr"], momentum=train["momentum"])


OPTIMISERS: dict[str, Callable[[nn.Module, Mapping[str, Any]], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "sgd": sgd,
    "lars": lars,
}


def groups(learner: nn.Module, train: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parameter groups: what decays, and what does not; a pair for each ``scale`` of the rate (see ``rate_scales``).

    Weight decay acts on matrices and kernels alone: not on norms and biases, nor on embedding tables, whose rows are
    not maps.
    """
    tables = {id(m.weight) for m in learner.modules() if isinstance(m, nn.Embedding)}
    scales = rate_scales([name for name, _ in learner.named_parameters()], train.get("layer_decay", 1.0))
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in learner.named_parameters():
        if p.requires_grad:
            decay = train["weight_decay"] if p.dim() >= 2 and id(p) not in tables else 0.0
            found.setdefault((scales[name], decay), []).append(p)
    ordered = sorted(found, reverse=True)  # the head's rate first, and what decays before what does not
    return [{"params": found[key], "weight_decay": key[1], "scale": key[0]} for key in ordered]


def rate_scales(names: list[str], decay: float) -> dict[str, float]:
    """Layer-wise decay of the rate (ELECTRA, BEiT): a layer's rate is ``decay`` times that of the layer above.

    The head and what follows the encoder's last layer have the whole rate, the last of L layers ``decay`` times it, the
    first ``decay ** L``, and what stands before it ``decay ** (L + 1)``.

    Args:
        names: of parameters, in the order in which modules were made: an encoder makes its embedder first.

    Raises:
        SuiteError: a decay other than 1, and no parameter that names its layer.
    """
    if decay == 1.0:
        return dict.fromkeys(names, 1.0)
    own = [name for name in names if name.removeprefix("module.").startswith("encoder.")]  # DDP adds a prefix
    numbers = {name: int(found[1]) for name in own if (found := LAYER.search(f".{name}"))}
    if not numbers:
        raise SuiteError(f"train.layer_decay={decay}: this encoder has no numbered layers; set train.layer_decay=1.")
    first, lowest = own.index(next(iter(numbers))), min(numbers.values())
    layers = max(numbers.values()) - lowest + 1
    depths = dict.fromkeys(names, layers + 1) | dict.fromkeys(own[:first], 0)
    depths |= {name: number - lowest + 1 for name, number in numbers.items()}
    return {name: decay ** (layers + 1 - depth) for name, depth in depths.items()}


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
    """The rate of step ``step`` (from 0): linear warm-up, then the schedule, from ``lr`` to ``final_lr * lr``."""
    total = train["steps"]
    warm = math.ceil(total * train["warmup"])
    if step < warm:
        return train["lr"] * (step + 1) / (warm + 1)
    start = warm
    if train["schedule"] == "wsd":
        start = max(warm, total - math.ceil(total * train["decay_share"]))
    done = max(0, step - start) / max(1, total - start)
    return train["lr"] * (train["final_lr"] + (1 - train["final_lr"]) * SCHEDULES[train["schedule"]](done))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
    "wsd": lambda done: 1 - math.sqrt(done),
}
"""What is left of the way from ``lr`` to ``final_lr * lr``, from 1 to 0 as a share of the fall is done. Of ``wsd``
(warm-up, stable, decay; Hu et al. 2024, MiniCPM, arXiv:2404.06395) the fall is the last ``decay_share`` of the steps,
by the square root as ModernBERT's (Hägele et al. 2024, arXiv:2405.18392)."""
