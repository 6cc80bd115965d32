"""A GPU that is not there: fake CUDA tensors, and an error where the host would have to wait for the device.

``FakeTensorMode`` runs every operator on shapes, types and devices alone. It raises on operands of two devices, and on
whatever needs a value on the host: ``.item()``, ``.tolist()``, ``bool()``, shapes that depend on data. ``NoWaiting``
adds what it lets pass: blocking copies between host and device, and boolean masks in an assignment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssl_suite.core.batch import Batch
from ssl_suite.training.distributed import DistributedContext

CUDA = torch.device("cuda", 0)
GROUP = DistributedContext(rank=0, world=1, local_rank=0, device=CUDA, bf16=True)
FROM_HOST = (torch.tensor, torch.as_tensor, torch.scalar_tensor)  # they copy below the dispatcher


class Waits(RuntimeError):
    """The host would wait for the device."""


class NoWaiting(TorchDispatchMode):
    """Raises on blocking copies between host and device, and on indices that are masks or on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        indices = tree_leaves(args[1]) if func.overloadpacket in INDEXED and args[0].device == CUDA else []
        if any(_wide(x) and (x.dtype in (torch.bool, torch.uint8) or x.device != CUDA) for x in indices):
            raise Waits(f"{func} with a mask or with indices on the host")
        found = func(*args, **kwargs)
        places = {x.device.type for x in tree_leaves((args, kwargs, found)) if _wide(x)}
        onto = isinstance(found, Tensor) and found.device == CUDA
        if len(places) > 1 and not (onto and kwargs.get("non_blocking")):
            raise Waits(f"{func} between {' and '.join(sorted(places))}")
        return found


INDEXED = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_)


def _wide(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0  # a number without axes enters as a kernel's argument


class NoTensorsFromHost(TorchFunctionMode):
    """Raises on ``torch.tensor(…, device="cuda")``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in FROM_HOST and isinstance(found, Tensor) and found.device == CUDA:
            raise Waits(f"{func.__name__} copies from the host")
        return found


def on_cuda(mode: FakeTensorMode, thing: Any) -> Any:
    """``thing.to("cuda")`` as fake tensors: a batch, a tensor, or a module, which is changed in place.

    Tensors of a module that are neither parameters nor buffers stay where they are.
    """
    if isinstance(thing, Tensor):
        with mode:
            return torch.empty(thing.shape, dtype=thing.dtype, device=CUDA)
    if isinstance(thing, Batch):
        return thing._map(lambda x: on_cuda(mode, x))
    made: dict[int, Any] = {}  # a tensor that two modules share stays one
    for module in thing.modules():
        for own in (module._parameters, module._buffers):
            for name, x in own.items():
                if x is not None and id(x) not in made:
                    fake = on_cuda(mode, x)
                    made[id(x)] = nn.Parameter(fake, x.requires_grad) if isinstance(x, nn.Parameter) else fake
                own[name] = None if x is None else made[id(x)]
    return thing
