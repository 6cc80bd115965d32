"""Tokenising in several processes: this one, and helpers that start while the tokeniser is still being trained."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ssl_suite.core.errors import SuiteError
from ssl_suite.data.shards import Task, grouped, sizes_of, tokenise
from ssl_suite.modalities.base import Modality


class Helpers:
    """Processes that take tasks from the same list as this one. A helper gets one when it has done the one before, so
    the last tasks go to whoever is free.

    Args:
        number: of processes.
    """

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")  # fork would copy the locks of torch's threads
        self.number = number
        self.pool = ProcessPoolExecutor(number, mp_context=context, initializer=begin)
        self.lock = threading.RLock()
        self.todo: deque[Task] = deque()
        self.waiting: set[Future[tuple[int, int]]] = set()
        self.modality = b""

    def warm(self, modality: Modality) -> None:
        """Start the processes, which takes two seconds of imports."""
        for _ in range(self.number):
            self.pool.submit(imported, type(modality))

    def run(self, tasks: list[Task], progress: Callable[[int], None]) -> int:
        """Run the tasks, here too. Returns the number of shards reused."""
        # Once, now: while a queue's thread pickles it, ``encode`` would change it here.
        self.modality = pickle.dumps(tasks[0].modality)
        self.todo.extend(tasks)
        reused = 0

        def step(tokens: int) -> None:
            nonlocal reused
            progress(tokens)
            reused += self.collect(progress, None)

        for _ in range(self.number):
            self.feed()
        while True:
            if (task := self.take()) is not None:
                reused += tokenise(task, step)
            elif self.waiting:
                reused += self.collect(progress, FIRST_COMPLETED)
            else:
                return reused

    def take(self) -> Task | None:
        """The next task, which is nobody else's then."""
        with self.lock:
            return self.todo.popleft() if self.todo else None

    def feed(self, last: Future[tuple[int, int]] | None = None) -> None:
        """Give a helper its next task, now that it has done its last; none after a fault."""
        if last is not None and (last.cancelled() or last.exception() is not None):
            return
        with self.lock:  # until the task is among ``waiting``, or ``run`` might return without it
            task = self.take()
            if task is None:
                return
            try:
                future = self.pool.submit(tokenise_there, replace(task, modality=Modality()), self.modality)
            except RuntimeError:  # a helper died between two tasks, and the pool takes no more: done here
                self.todo.appendleft(task)
                return
            self.waiting.add(future)
        future.add_done_callback(self.feed)

    def collect(self, progress: Callable[[int], None], until: str | None) -> int:
        """Count what helpers have done, and raise their faults. Returns the number of shards reused.

        Args:
            progress: called with the tokens of each task.
            until: what to wait for, see ``concurrent.futures.wait``.
        """
        with self.lock:
            waiting = set(self.waiting)
        done = wait(waiting, 0 if until is None else None, until or FIRST_COMPLETED).done
        reused = 0
        for future in done:
            try:
                some, tokens = future.result()
            except BrokenProcessPool:
                raise SuiteError(
                    "a process that prepared data was ended from outside, perhaps for want of memory; set data.workers "
                    "to fewer and start again, which goes on where it was."
                ) from None
            reused += some
            progress(tokens)
        with self.lock:
            self.waiting -= done
        return reused

    def abandon(self) -> None:
        """Start nothing more."""
        with self.lock:
            self.todo.clear()
        self.pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def helpers(modality: Modality, paths: list[Path], workers: int | None) -> Iterator[Helpers | None]:
    """Helpers for these files, where they pay: as many as make ``workers`` with this process, by default the cores."""
    sizes = sizes_of(paths)
    number = min(workers or len(os.sched_getaffinity(0)), len(grouped(sizes))) - 1
    if number < 1 or (workers is None and sum(sizes) < modality.parallel_from):
        yield None
        return
    found = Helpers(number)
    try:
        found.warm(modality)
        yield found
    except BaseException:
        found.abandon()
        raise
    found.pool.shutdown()


def tokenise_all(tasks: list[Task], found: Helpers | None, progress: Callable[[int], None]) -> int:
    """Run the tasks, with helpers if there are any. Returns the number of shards reused from before."""
    # The largest first, so that no long task starts when the others are done.
    order = sorted(tasks, key=lambda task: -sum(sizes_of([path for _, path in task.files])))
    return sum(tokenise(task, progress) for task in order) if found is None else found.run(order, progress)


def begin() -> None:
    """Make ready a helper: it ends when the process that started it is gone (a pool's would wait for ever), and takes
    one core (the tokenizers library would start a thread for each)."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()  # type: ignore[union-attr]
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


def imported(kind: type) -> str:
    """The name of a class: whoever is asked has imported it."""
    return kind.__qualname__


def tokenise_there(task: Task, modality: bytes) -> tuple[int, int]:
    """``tokenise`` in a helper: shards reused, and tokens made."""
    tokens: list[int] = []
    return tokenise(replace(task, modality=opened(modality)), tokens.append), sum(tokens)


@functools.lru_cache(1)
def opened(modality: bytes) -> Modality:
    """The modality that was pickled; one for all tasks, so that text keeps the words it has met: with none known it
    takes twice as long."""
    found: Modality = pickle.loads(modality)
    return found
