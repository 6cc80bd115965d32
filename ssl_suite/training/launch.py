"""Start a run whose configuration is settled: freeze it into the run folder, then hand it to one process or many.

One process is this one. More are started by ``torchrun`` as a child: its workers read the frozen configuration, rank 0
writes to the terminal through the inherited stdout, and everybody's stderr, torchrun's own log included, goes to
``torchrun.log``. Between parent and workers lie three small files in the run folder:

    worker.pid    rank 0's process id (and host name); a signal to the parent goes on to it: save and stop
    error.txt     a worker's fault of the input, one line, which the parent raises again
    torchrun.log  what the workers and torchrun had to say on stderr
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.machine import cpu_threads
from ssl_suite.settings import config, runs
from ssl_suite.settings import schema as settings
from ssl_suite.settings.runs import ERROR, LOG, PID
from ssl_suite.training import slurm
from ssl_suite.training.children import supervise

WORKER = "ssl_suite.training.worker"
TAIL_LINES = 30  # of the workers' stderr, shown when one of them fails


def start(cfg: Mapping[str, Any], out: Path) -> int:
    """Freeze ``cfg`` and run it, as ``launch.name`` says.

    Returns:
        0 when the run ended or stopped cleanly, 1 when a worker failed, 128 + signal when it had to be killed.

    Raises:
        SuiteError: a fault of the input, or a run folder in use. A folder made for a run that never began is removed.
    """
    single = settings.node_range(cfg["launch"].get("nodes", 1))[1] == 1
    began_here = not (out / runs.CONFIG).exists()
    with runs.lock(out) if single else nullcontext():
        config.write(out / runs.CONFIG, cfg)
        try:
            return LAUNCHERS[cfg["launch"]["name"]](cfg, out)
        except SuiteError:
            if began_here and single:
                runs.discard(out)
            raise


def local(cfg: Mapping[str, Any], out: Path) -> int:
    """``launch=local``."""
    if cfg["launch"]["processes"] == 1:
        from ssl_suite.training.trainer import train

        train(dict(cfg), out)
        return 0
    return _workers(cfg, out, ["--standalone"])


def torchrun(cfg: Mapping[str, Any], out: Path) -> int:
    """``launch=torchrun``: this machine's share of a run over several."""
    launch = cfg["launch"]
    host, _, port = launch["rendezvous"].rpartition(":")
    where = ["--nnodes", str(launch["nodes"]), "--max-restarts", str(launch["max_restarts"])]
    if launch["node_rank"] is None:
        backend = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{host}:{port}", "--rdzv-id", launch["rendezvous_id"]]
        return _workers(cfg, out, where + backend)
    return _workers(
        cfg, out, [*where, "--node-rank", str(launch["node_rank"]), "--master-addr", host, "--master-port", port]
    )


def sbatch(cfg: Mapping[str, Any], out: Path) -> int:
    """``launch=slurm``: write the batch file, and submit it when asked to."""
    path = out / slurm.FILE
    path.write_text(slurm.script(cfg, out.resolve(), Path.cwd(), WORKER), encoding="utf-8")
    if not cfg["launch"]["submit"]:
        print(f"wrote {path}\nnext: sbatch {path}")
        return 0
    try:
        answer = subprocess.run(["sbatch", str(path)], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SuiteError(f"launch.submit=true needs sbatch, which is not on this machine; wrote {path}.") from error
    if answer.returncode:
        raise SuiteError(f"sbatch refused {path}: {answer.stderr.strip() or answer.stdout.strip()}.")
    print(f"{answer.stdout.strip()}\nwrote {path}; its output goes to {out}/slurm-<job>.log")
    return 0


LAUNCHERS: dict[str, Callable[[Mapping[str, Any], Path], int]] = {"local": local, "torchrun": torchrun, "slurm": sbatch}


def _workers(cfg: Mapping[str, Any], out: Path, where: list[str]) -> int:
    """Run torchrun with this machine's workers and wait for it."""
    per_node = ["--nproc-per-node", str(cfg["launch"]["processes"])]
    command = [sys.executable, "-m", "torch.distributed.run", *per_node, *where, "-m", WORKER, str(out)]
    threads = cpu_threads(cfg["train"]["threads"], cfg["launch"]["processes"])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if cfg["launch"].get("node_rank") in (None, 0):
        for name in (PID, ERROR):
            (out / name).unlink(missing_ok=True)
    with (out / LOG).open("w", encoding="utf-8") as log:
        code, signals = supervise(command, _tell_rank_0(out), stderr=log, env=environment)
    (out / PID).unlink(missing_ok=True)
    if (out / ERROR).is_file():
        fault = (out / ERROR).read_text(encoding="utf-8").strip()
        (out / ERROR).unlink()
        raise SuiteError(fault)
    if code == 0:
        return 0
    if signals:
        print(f"stopped before the workers could save; see {out / LOG}", file=sys.stderr)
        return 128 + signals[-1]
    print(*_last_words(out / LOG), f"The whole output is in {out / LOG}.", sep="\n", file=sys.stderr)
    return 1


def _tell_rank_0(out: Path) -> Callable[[subprocess.Popen, int, bool], bool]:
    """A signal goes to rank 0 once it is there to hear it; a second one ends torchrun and all its workers."""

    def deliver(process: subprocess.Popen, number: int, again: bool) -> bool:
        if again:
            process.terminate()
            return True
        try:
            pid, host = (out / PID).read_text(encoding="utf-8").split()
            if host == socket.gethostname():  # on several machines rank 0 may be on another, whose parent is told too
                # A hang-up says that the terminal is gone as well.
                os.kill(int(pid), signal.SIGHUP if number == signal.SIGHUP else signal.SIGUSR1)
        except (OSError, ValueError):  # not written yet, half written, or gone already
            return False
        return True

    return deliver


def _last_words(log: Path) -> list[str]:
    """The end of the workers' stderr, without torchrun's own lines and traceback, and which worker ended how."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    verdict = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
    died = next((i for i, line in enumerate(lines) if verdict.search(line)), len(lines))
    words = [line for line in lines[:died] if not re.match(r"[EWI]\d{4} ", line)]
    found = verdict.search(lines[died]) if died < len(lines) else None
    if found is None:
        return [*words[-TAIL_LINES:], "torchrun failed."]
    hint = " (killed; was the memory full?)" if found[1] == "-9" else ""
    return [*words[-TAIL_LINES:], f"Worker {found[2]} failed with exit code {found[1]}{hint}."]
