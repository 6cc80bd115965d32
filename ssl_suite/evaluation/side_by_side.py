"""Cells of a table measured side by side, each in a process of one torch thread, so that the bytes of predictions do
not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ssl_suite.evaluation import bench
from ssl_suite.evaluation.bench import Cell, Outcome, Settings
from ssl_suite.evaluation.bench_plan import Size, done_tokens
from ssl_suite.training.children import end_with_parent
from ssl_suite.training.stopping import StopSignals

TICK = 0.5  # seconds between two looks at the trials
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # read when a process loads its libraries
KILLED = "the process that measured it was killed; perhaps memory is short: try jobs=1."


@dataclass
class Progress:
    """Where a table is: cells and tokens of all that was asked for, and the seconds since it began. ``before``: tokens
    that earlier commands had trained already."""

    sizes: Mapping[tuple[str, ...], Size]
    cells: int
    tokens: int
    before: int
    report: Callable[[Progress, Outcome | None], None]
    began: float = field(default_factory=time.monotonic)
    done_tokens: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Cells, measured or not."""
        return len(self.outcomes)

    @property
    def rate(self) -> float:
        """Tokens a second of this command."""
        return (self.done_tokens - self.before) / max(time.monotonic() - self.began, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds; None where nothing is known, as of cells that train nothing."""
        open_ = self.tokens > self.done_tokens and self.rate > 0
        return (self.tokens - self.done_tokens) / self.rate if open_ else None

    def look(self, running: Iterable[Cell], outcome: Outcome | None = None) -> None:
        """Read how far the trials are, and tell; ``outcome`` is of a cell that has just ended."""
        self.outcomes += [outcome] if outcome else []
        whole = sum(self.sizes[each.cell.key].tokens for each in self.outcomes)
        partly = sum(done_tokens(self.sizes[cell.key]) for cell in running)
        self.done_tokens = max(self.done_tokens, whole + partly)
        self.report(self, outcome)


def run(
    phases: list[list[Cell]],
    settings: Settings,
    jobs: int,
    sizes: Mapping[tuple[str, ...], Size],
    report: Callable[[Progress, Outcome | None], None],
) -> list[Outcome]:
    """Measure cells, ``jobs`` at a time; no fault of one of them stops the others.

    A process that is killed takes down the others of its pool: the cells that were under way are then measured alone,
    so that the one that kills is found.

    Args:
        phases: one begins where at least one cell of those before it was measured.

    Raises KeyboardInterrupt: a signal came; every trial has saved, and the same cells go on from there.
    """
    cells = [cell for phase in phases for cell in phase]
    before = sum(done_tokens(sizes[cell.key]) for cell in cells)
    total = sum(sizes[cell.key].tokens for cell in cells)
    progress = Progress(sizes, len(cells), total, before, report, done_tokens=before)
    settings = replace(settings, threads=1)
    with StopSignals() as stop:
        for phase in phases:
            waiting, alone = deque(phase), deque[Cell]()
            while waiting or alone:
                killed = _drain(waiting or alone, jobs if waiting else 1, settings, progress, stop)
                if stop.asked:
                    raise KeyboardInterrupt
                if len(killed) == 1:
                    progress.look([], Outcome(killed[0], fault=KILLED))
                else:
                    alone.extend(killed)
            if not bench.paths(progress.outcomes):
                break
    return progress.outcomes


def _drain(todo: deque[Cell], jobs: int, settings: Settings, progress: Progress, stop: StopSignals) -> list[Cell]:
    """Measure until nothing is left, a signal came, or a process was killed; returns the cells under way then."""
    running: dict[Future[Outcome], Cell] = {}
    killed: list[Cell] = []
    signalled = False
    with _one_thread(), ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as pool:
        while (todo or running) and not killed:
            while len(running) < jobs and not stop.asked and (cell := _free(todo, running)):
                try:
                    running[pool.submit(_measure, cell, settings)] = cell
                except BrokenProcessPool:
                    todo.appendleft(cell)
                    break
            done, _ = wait(running, TICK, FIRST_COMPLETED)
            if stop.asked and not signalled:
                signalled = True
                for child in multiprocessing.active_children():
                    child.terminate()
            for future in done:
                cell = running.pop(future)
                try:
                    progress.look([], future.result())
                except BrokenProcessPool:
                    killed.append(cell)
                except KeyboardInterrupt:  # it has saved
                    continue
            if stop.asked and not running:
                break
            progress.look(running.values())
    return killed + list(running.values())


def _free(todo: deque[Cell], running: Mapping[Future[Outcome], Cell]) -> Cell | None:
    """The next cell whose trials no other process is training: arms may share an encoder and a protocol."""
    busy = {(cell.task.name, cell.encoder, cell.protocol) for cell in running.values()}
    for cell in todo:
        if (cell.task.name, cell.encoder, cell.protocol) not in busy:
            todo.remove(cell)
            return cell
    return None


@contextmanager
def _one_thread() -> Iterator[None]:
    """The environment that processes of one thread start with."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name in THREADS:
            os.environ.pop(name)
            os.environ.update({name: before[name]} if name in before else {})


# In a worker


def _begin() -> None:
    """Let the parent alone say when to stop: Ctrl-C reaches the whole group of a terminal."""
    import torch

    torch.set_num_threads(1)
    _idle()
    if at_start := end_with_parent():
        at_start()


def _idle() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


def _measure(cell: Cell, settings: Settings) -> Outcome:
    lines: list[str] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # between trials: there is nothing to save
    try:
        found = bench.attempt(cell, settings, lines.append)
    finally:
        _idle()
    return replace(found, lines=tuple(lines))
