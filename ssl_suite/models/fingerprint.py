"""What tells the weights of one model from those of another."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def digest(module: nn.Module) -> str:
    """SHA-256 of all weights and buffers, by name."""
    total = hashlib.sha256()
    for name, x in sorted(module.state_dict().items()):
        total.update(name.encode())
        total.update(_bytes(x))
    return total.hexdigest()


def _bytes(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
