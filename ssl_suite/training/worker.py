"""What ``torchrun`` starts: one process of a run. It reads the frozen configuration and never imports hydra."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from ssl_suite.core.errors import SuiteError, one_line_when_memory_is_full
from ssl_suite.settings import config
from ssl_suite.training.stopping import StopSignals


def main(out: Path) -> int:
    """Train; on a user's fault leave its line in ``error.txt`` for the parent, and return 2."""
    from ssl_suite.training.trainer import train_until

    with StopSignals() as stop:  # before the parent learns whom to signal
        if os.environ.get("RANK", "0") == "0":
            (out / "worker.pid").write_text(f"{os.getpid()} {socket.gethostname()}")
        try:
            with one_line_when_memory_is_full():
                train_until(config.read(out / "config.yaml"), out, stop)
        except SuiteError as error:
            (out / "error.txt").write_text(f"{error}\n", encoding="utf-8")
            return 2
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # All is on disk and the group is closed. At the interpreter's exit gloo's threads now and then abort the process
    # (pytorch issue 190489; seen here on two nodes): a run that succeeded would count as failed, and the other
    # nodes wait 300 seconds for this one.
    os._exit(code)
