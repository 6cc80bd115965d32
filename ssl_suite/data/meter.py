"""How far a long transfer is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY = 10.0  # seconds between lines


class Meter:
    """Takes ``begin`` and ``advance`` in bytes, and reports every ten seconds how far the transfer of ``what`` is."""

    def __init__(self, what: str, report: Callable[[str], None]) -> None:
        self.what, self.report = what, report
        self.begin(0, None)

    def begin(self, done: int, total: int | None) -> None:
        """``done`` bytes of ``total`` are here already."""
        self.done, self.start, self.total = done, done, total
        self.begun = self.last = time.monotonic()

    def advance(self, count: int) -> None:
        """``count`` more bytes are here."""
        self.done += count
        if time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            rate = (self.done - self.start) / (self.last - self.begun)
            whole = f" of {self.total / 1e6:,.0f}" if self.total else ""
            self.say(f"{self.done / 1e6:,.0f}{whole} MB, {rate / 1e6:,.1f} MB/s")

    def say(self, text: str) -> None:
        """A line of its own."""
        self.report(f"{self.what}: {text}")


class Bar(Meter):
    """The same as a ``rich`` progress bar; lines appear above it."""

    def __init__(self, what: str, progress: Any) -> None:
        self.progress, self.task = progress, progress.add_task(what, total=None)
        super().__init__(what, progress.console.print)

    def begin(self, done: int, total: int | None) -> None:
        self.progress.update(self.task, completed=done, total=total)

    def advance(self, count: int) -> None:
        self.progress.advance(self.task, count)


@contextmanager
def metering(report: Callable[[str], None], terminal: bool) -> Iterator[Callable[[str], Meter]]:
    """A function that makes a meter for a name: bars when ``terminal``, lines otherwise."""
    if not terminal:
        yield lambda what: Meter(what, report)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
        yield lambda what: Bar(what, progress)
