"""Weights that others have written: read, held against the module that they should fill, and told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_suite.core.errors import SuiteError

LARGEST = 1e6  # no trained weight is near it: the largest of published encoders are in the hundreds
SIZES = ("layers", "width", "heads", "mlp_width", "vocabulary", "channels")  # of a specification


def read(path: Path, remedy: str, device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Args:
        remedy: what to do about a file that cannot be read; ends the message.

    Raises:
        SuiteError: it is missing, cut off or no such file.
    """
    try:
        return load_file(path, device=str(device))
    except Exception as error:  # SafetensorError, OSError, and what it raises of unknown types
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise SuiteError(f"{path} cannot be read ({reason}); {remedy}.") from None


def unfit(tensors: Mapping[str, Tensor], largest: float = LARGEST) -> str | None:
    """Which of some weights is not finite or beyond ``largest``, or None."""
    for name, x in tensors.items():
        if x.numel() and x.is_floating_point():
            low, high = (float(end) for end in torch.aminmax(x.detach().float()))
            if not max(-low, high) <= largest:  # NaN is not
                return f"{name} holds {high if not high <= largest else low:g}"
    return None


def fault(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], absent: Iterable[str] = ()) -> str | None:
    """The first reason why ``found`` cannot fill a module whose state dict is ``wanted`` (values are not looked at).

    Args:
        absent: names that may be missing.
    """
    if lacking := sorted(wanted.keys() - found.keys() - set(absent)):
        return f"{len(lacking)} of its weights are missing, for example {lacking[0]}"
    if more := sorted(found.keys() - wanted.keys()):
        return f"{len(more)} weights are not of this model, for example {more[0]}"
    for name, x in found.items():
        if x.shape != wanted[name].shape:
            return f"{name} has shape {tuple(x.shape)}, not {tuple(wanted[name].shape)}"
        if x.is_floating_point() != wanted[name].is_floating_point():
            return f"{name} is of type {str(x.dtype).removeprefix('torch.')}"
    return unfit(found)


def implausible(sizes: Mapping[str, Any], found: Mapping[str, Tensor]) -> str | None:
    """A number that these weights cannot have, or None: told before memory is asked for.

    Args:
        sizes: by the names of an ``EncoderSpec``, of which some may be missing.
    """
    most = sum(x.numel() for x in found.values())
    for name in SIZES:
        value = sizes.get(name, 1)
        if type(value) is not int or not 1 <= value <= (len(found) if name == "layers" else most):
            return f"{name}={str(value)[:40]}"
    return None


def digest(module: nn.Module) -> str:
    """SHA-256 of all weights and buffers, by name."""
    total = hashlib.sha256()
    for name, x in sorted(module.state_dict().items()):
        total.update(name.encode())
        total.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
