"""Tokenising in several processes: this one, and helpers that start while the tokeniser is still being trained."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ssl_suite.core.errors import SuiteError
from ssl_suite.data.shards import Task, file_sizes, group_files, tokenise
from ssl_suite.modalities.base import Modality


@contextmanager
def helpers(modality: Modality, paths: list[Path], workers: int | None) -> Iterator[ProcessPoolExecutor | None]:
    """Processes for these files, where they pay: as many as make ``workers`` with this one, by default the cores."""
    sizes = file_sizes(paths)
    number = min(workers or len(os.sched_getaffinity(0)), len(group_files(sizes))) - 1
    if number < 1 or (workers is None and sum(sizes) < modality.parallel_from):
        yield None
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the locks of torch's threads
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=start_helper)
    try:
        for _ in range(number):
            pool.submit(imported, type(modality))  # starts the processes, which takes two seconds of imports
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def tokenise_all(tasks: list[Task], pool: ProcessPoolExecutor | None, progress: Callable[[int], None]) -> int:
    """Run the tasks, here and in the pool's processes. Returns the number of shards reused from before.

    Raises:
        SuiteError: a fault of the input, or a process was killed.
    """
    # The largest first, so that no long task starts when the others are done.
    order = sorted(tasks, key=lambda task: -sum(file_sizes([path for _, path in task.files])))
    if pool is None:
        return sum(tokenise(task, progress) for task in order)
    modality, bare = pickle.dumps(order[0].modality), Modality()  # once: ``encode`` here may change it meanwhile
    reused = 0
    try:
        left = {pool.submit(tokenise_there, replace(task, modality=bare), modality): task for task in order}
        while left:
            ready = [future for future in left if future.done()]
            future = ready[0] if ready else next(reversed(left))
            task = left.pop(future)
            if future.cancel():  # nobody has begun it
                reused += tokenise(task, progress)
            else:
                some, tokens = future.result()
                reused += some
                progress(tokens)
    except BrokenProcessPool:
        raise SuiteError(
            "a process that prepared data was ended from outside, perhaps for want of memory; set data.workers "
            "to fewer and start again, which goes on where it was."
        ) from None
    return reused


def start_helper() -> None:
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
    return tokenise(replace(task, modality=unpickled(modality)), tokens.append), sum(tokens)


@functools.lru_cache(1)
def unpickled(modality: bytes) -> Modality:
    """The modality that was pickled; one for all tasks, so that text keeps the words it has met: with none known it
    takes twice as long."""
    found: Modality = pickle.loads(modality)
    return found
