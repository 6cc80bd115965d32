"""Real processes for tests, forked from a server that has imported torch once: each starts in a tenth of a second."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "ssl_suite.training.trainer",
        "torch.distributed.checkpoint.state_dict",
        "torch.utils.tensorboard",
        "transformers.models.modernbert.configuration_modernbert",
        "matplotlib.pyplot",
    ]
)


def _child(work: Callable[..., None], arguments: tuple, environment: dict[str, str], errors: str) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        work(*arguments)
    except BaseException:
        Path(errors).write_text(traceback.format_exc())
        raise


def start(
    work: Callable[..., None], *arguments: Any, folder: Path, rank: int = 0, world: int = 1, port: int = 0
) -> multiprocessing.process.BaseProcess:
    """One child that runs ``work(*arguments)``; what it raises is written to ``folder/errors_RANK.txt``."""
    environment = {"OMP_NUM_THREADS": "1", "SSL_CACHE_DIR": os.environ["SSL_CACHE_DIR"]}
    if world > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
        environment |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / f"errors_{rank}.txt"
    errors.unlink(missing_ok=True)
    process = _context.Process(target=_child, args=(work, arguments, environment, str(errors)))
    process.start()
    return process


def finish(children: list[multiprocessing.process.BaseProcess], folder: Path, seconds: float = 120) -> None:
    """Wait for all; fail with what the first broken one said."""
    for child in children:
        child.join(seconds)
    alive = [child for child in children if child.is_alive()]
    for child in alive:
        child.kill()
    if alive or any(child.exitcode for child in children):
        said = "\n".join(path.read_text() for path in sorted(folder.glob("errors_*.txt")))
        raise AssertionError(f"exit codes {[child.exitcode for child in children]}\n{said}")


def run_group(work: Callable[..., None], *arguments: Any, folder: Path, world: int) -> None:
    """``world`` children that form one gloo group over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [start(work, *arguments, folder=folder, rank=r, world=world, port=port) for r in range(world)]
    finish(children, folder)
