"""A training that has diverged: seen before its weights are saved, and told with a way to go on that works."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_suite.core.errors import Diverged
from ssl_suite.data.loader import StepRows
from ssl_suite.data.store import Store
from ssl_suite.training import checkpoint

EXPLODED = 20  # times the loss this attempt began with (or 1, where that is less): weights that give it are not saved
LOWER = 10  # the advice divides the rate by it


class Watch:
    """Looks at each step's numbers, one step late on a GPU.

    Args:
        rows, store: tell which records a bad step saw.
        out: the run folder.
        cfg: of the run; ``train.lr`` is divided by the advice.
    """

    def __init__(self, rows: StepRows, store: Store, out: Path, cfg: Mapping[str, Any]) -> None:
        self._rows, self._store, self._out, self._cfg = rows, store, out, cfg
        self._first: float | None = None
        self._last = 0.0

    def asked(self, seen: tuple[int, list[float]] | None) -> bool:
        """Whether any process was asked to stop, from the numbers of a finished step.

        Raises:
            Diverged: the loss or the gradient of that step is not finite; names the step and its batch.
        """
        if seen is None:
            return False
        step, (loss, asked, norm) = seen
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Diverged(
                f"step {step + 1}: the loss is {loss} and the gradient's norm {norm}, on {self._batch(step)}. "
                f"{self.advice()}".rstrip()
            )
        self._first = loss if self._first is None else self._first
        self._last = loss
        return asked > 0

    def before_saving(self, step: int) -> None:
        """Raise ``Diverged`` where the last loss has exploded."""
        if self._last > EXPLODED * max(1.0, self._first or 0.0):
            raise Diverged(
                f"step {step}: the loss is {self._last:.4g}, from {self._first:.4g} at the start, so no checkpoint was "
                f"written. {self.advice()}"
            )

    def advice(self) -> str:
        """Words that the same command takes: a new run with a lower rate, from a checkpoint where that can be.

        Empty for the trials of a benchmark, which choose among rates themselves.
        """
        if "model" not in self._cfg:
            return ""
        kept = checkpoint.whole(self._out / "checkpoints")
        rate = f"train.lr={min(self._cfg['train']['lr'] / LOWER, 1e-3):.1g} out={self._out}-lower"
        if not kept or self._cfg["model"].get("kind", "transformer") != "transformer":
            return f"Start again with a lower rate: the same command with {rate}"
        step = int(kept[-1].name[5:])
        return (
            f"The newest checkpoint before it is {kept[-1].name}; start a new run from it with a lower rate: the same "
            f"command with model.init={self._out}@{step} {rate}"
        )

    def _batch(self, step: int) -> str:
        windows, rows = self._store.split("train"), self._rows
        items = [int(i) for g in range(step * rows.rows, (step + 1) * rows.rows) for i in rows.order.items(g)]
        records = sorted({self._store.record_name(int(windows.records_S[i])) for i in items})
        shown = ", ".join(records[:3]) + (f" and {len(records) - 3} more" if len(records) > 3 else "")
        return f"windows {items[:4]}… of {shown}"
