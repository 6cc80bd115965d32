"""What a run logs: metrics.jsonl and TensorBoard always, W&B by switch, and the progress on the terminal."""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_metrics
from ssl_suite.core.wording import duration

# Dense bf16 matrix FLOP/s from the makers' data sheets (no sparsity), by what torch calls the device.
PEAK_BF16 = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
}


def peak_flops(device: torch.device, bf16: bool) -> float | None:
    """The FLOP/s that MFU is measured against: the data sheet's on a known GPU, else this machine's own matrix product.

    Returns:
        FLOP/s; None for a GPU that is not in the table.
    """
    if device.type == "cuda" and bf16:
        name = torch.cuda.get_device_name(device)
        return next((peak for key, peak in PEAK_BF16.items() if key in name), None)
    return matmul_flops(device, n=1024)  # within 5 % of 2,048's, in an eighth of the time: 0.2 s on a core


@functools.cache  # a second of products, once a process
def matmul_flops(device: torch.device, n: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of an (n, n) float32 matrix product, the median of ``repeats`` after one to warm up."""
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # reading one number waits for a GPU
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / statistics.median(seconds[1:])


class Log:
    """Scalars of a run, to files.

    Args:
        out: the run folder.
        step: training goes on after this step: later lines of an earlier attempt are dropped, so that no step stands
            twice.
    """

    def __init__(self, out: Path, step: int, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = out / "metrics.jsonl"
        self.damaged: list[int] = []  # numbers of lines of an earlier attempt that were left out as no JSON of a step
        self._keep_until(step)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - open for as long as the run
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        self._wandb = _wandb(out, config) if config["train"]["wandb"] else None

    def _keep_until(self, step: int) -> None:
        if not self._path.exists():
            return
        entries, self.damaged = read_metrics(self._path)
        kept = [json.dumps(entry) + "\n" for entry in entries if entry["step"] <= step]
        atomic.write(self._path, "".join(kept))

    def write(self, step: int, scalars: Mapping[str, float | int | None]) -> None:
        """One line, flushed, so that a kill loses none."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        for name, value in scalars.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(dict(scalars), step=step)

    def close(self) -> None:
        self._file.close()
        self._board.close()
        if self._wandb:
            self._wandb.finish()


def _wandb(out: Path, config: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise SuiteError("train.wandb=true needs the package wandb: pip install 'ssl_suite[wandb]'.") from error
    return wandb.init(project="ssl_suite", name=out.name, dir=out, config=dict(config), resume="allow")


QUIET = 10.0  # seconds after which a step that logs nothing is told all the same


class Progress:
    """One live line on a terminal; plain lines elsewhere: one at each log step, and after ``QUIET`` seconds without."""

    def __init__(self, steps: int, quiet: bool, gone: Callable[[], None]) -> None:
        """``gone`` is called when nobody can be told any more."""
        self._steps, self._quiet, self._began, self._first, self._gone = steps, quiet, 0.0, 0, gone
        self._bar: Any = None

    def start(self, done: int) -> None:
        """Training goes on after step ``done``."""
        self._began, self._first = time.monotonic(), done
        self._told = self._began
        if not self._quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
            self._bar = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(elapsed_when_finished=True))
            self._task = self._bar.add_task("train", total=self._steps, completed=done, facts="")
            self._bar.start()

    def step(self, step: int) -> None:
        if self._bar:
            self._bar.update(self._task, completed=step)
        elif time.monotonic() - self._told > QUIET:
            self.log(step, {})

    def log(self, step: int, scalars: Mapping[str, float | int | None]) -> None:
        self._told = time.monotonic()
        facts = "  ".join(text for key, form in _FORMS.items() if (text := _show(key, form, scalars)))
        if self._bar:
            self._bar.update(self._task, completed=step, facts=facts)
        elif not self._quiet:
            left = (time.monotonic() - self._began) / max(1, step - self._first) * (self._steps - step)
            self._print("  ".join(filter(None, (f"step {step}/{self._steps}", facts, f"ETA {duration(left)}"))))

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        elif not self._quiet:
            self._print(text)

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:  # the terminal is closed, or the reader of a pipe has gone: save and end
            self._quiet = True
            self._gone()

    def close(self) -> None:
        if self._bar:
            self._bar.stop()


_FORMS = {
    "loss": "loss {:.4f}",
    "valid_loss": "valid {:.4f}",
    "tokens_per_s": "{:,.0f} tokens/s",
    "mfu": "MFU {:.0%}",
    "data_wait": "data wait {:.1%}",
}


def _show(key: str, form: str, scalars: Mapping[str, float | int | None]) -> str:
    value = scalars.get(key)
    return "" if value is None else form.format(value)
