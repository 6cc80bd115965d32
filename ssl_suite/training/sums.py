"""The numbers of a step, kept on the device and added up over processes; read back only when a line is logged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.objectives.base import Metrics
from ssl_suite.training.distributed import DistributedContext

LOSS, COUNT, TOKENS, FLOPS, STOP, FIRST_METRIC = range(6)


class StepSums:
    """One float64 vector a step: loss sum, count, tokens, FLOPs, the wish to stop, then each metric's sum and count.

    float64, because the counts and FLOPs of a step are beyond float32's 2**24 whole numbers.
    """

    def __init__(self, device: torch.device) -> None:
        self.vector = torch.zeros(FIRST_METRIC, dtype=torch.float64, device=device)
        self.names: list[str] = []

    def add(self, loss: Tensor, count: Tensor, metrics: Metrics, batch: Batch, flops: float) -> None:
        """The result of one forward pass."""
        self.names = sorted(metrics)
        parts = [loss.detach(), count, *(x for name in self.names for x in metrics[name])]
        device_sums = torch.stack([part.double() for part in parts])
        if len(self.vector) == FIRST_METRIC:
            self.vector = torch.cat((self.vector, self.vector.new_zeros(2 * len(self.names))))
        self.vector[: COUNT + 1] += device_sums[: COUNT + 1]
        self.vector[FIRST_METRIC:] += device_sums[COUNT + 1 :]
        self.vector[TOKENS] += batch.tokens  # host numbers enter as kernel arguments: no copy, no wait
        self.vector[FLOPS] += flops

    def over_processes(self, asked_to_stop: bool, group: DistributedContext) -> Tensor:
        """The vector of the whole step, the same on every process."""
        self.vector[STOP] += asked_to_stop
        return group.add_up(self.vector)


def means(vector: list[float], names: list[str], prefix: str = "") -> dict[str, float]:
    """Loss and metrics as means; a metric that nothing was counted for is left out."""
    line = {f"{prefix}loss": vector[LOSS] / vector[COUNT]} if vector[COUNT] else {}
    for i, name in enumerate(names):
        total, count = vector[FIRST_METRIC + 2 * i : FIRST_METRIC + 2 * i + 2]
        if count:
            line[prefix + name] = total / count
    return line


class Window:
    """Everything since the last logged line."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.tokens = torch.zeros((), dtype=torch.float64, device=device)  # of this attempt, never reset
        self._reset()

    def _reset(self) -> None:
        self._total: Tensor | None = None
        self._names: list[str] = []
        self._norms: Tensor | None = None
        self.wait = self._excluded = 0.0
        self._steps = 0
        self._start = time.perf_counter()

    def add(self, total: Tensor, names: list[str], norm: Tensor) -> None:
        """One step."""
        self._total = total.clone() if self._total is None else self._total + total
        self._norms = norm if self._norms is None else self._norms + norm
        self._names, self._steps = names, self._steps + 1
        self.tokens = self.tokens + total[TOKENS]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in here (evaluation, checkpoints) is not training time."""
        start = time.perf_counter()
        yield
        self._excluded += time.perf_counter() - start

    def read(self, peak: float | None, world: int) -> dict[str, float | None]:
        """The line of this window, and a fresh one. Waits for the device.

        Returns:
            Means; ``grad_norm``, their mean; ``tokens_per_s``, tokens that carry data, over all processes;
            ``tokens_per_step``; ``mfu``, model FLOP/s over ``peak * world``, None without a peak; ``data_wait``, the
            share of the time this process waited for data.
        """
        assert self._total is not None and self._norms is not None
        vector = self._total.tolist()
        seconds = time.perf_counter() - self._start - self._excluded
        line: dict[str, float | None] = dict(means(vector, self._names))
        line["grad_norm"] = self._norms.item() / self._steps
        line["tokens_per_s"] = vector[TOKENS] / seconds
        line["mfu"] = vector[FLOPS] / seconds / (peak * world) if peak else None
        line["data_wait"] = self.wait / seconds
        line["tokens_per_step"] = vector[TOKENS] / self._steps
        self._reset()
        return line


class LateLook:
    """Reads the few numbers of each step one step late on a GPU, when the copy has long arrived; at once on the CPU.

    So a loss that is not finite, or a wish to stop, is acted on without a wait in any step.
    """

    def __init__(self, device: torch.device) -> None:
        self._late = device.type == "cuda"
        self._pending: list[tuple[int, Tensor, torch.cuda.Event]] = []

    def push(self, step: int, total: Tensor, norm: Tensor) -> tuple[int, list[float]] | None:
        """Hand in this step's numbers; get those of a step that is ready: ``(step, [mean loss, stop, norm])``."""
        small = torch.stack((total[LOSS] / total[COUNT].clamp(min=1e-9), total[STOP], norm.double()))
        if not self._late:
            return step, small.tolist()
        host = torch.empty(3, dtype=torch.float64, pin_memory=True)
        host.copy_(small, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending.append((step, host, event))
        return self._take() if len(self._pending) > 1 else None

    def flush(self) -> tuple[int, list[float]] | None:
        """What is still on its way, if anything."""
        return self._take() if self._pending else None

    def _take(self) -> tuple[int, list[float]]:
        step, host, event = self._pending.pop(0)
        event.synchronize()
        return step, host.tolist()
