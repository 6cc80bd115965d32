"""A supervised child hears of the parent's signals and does not outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ssl_suite.training.children import supervise

# Ends with 7 on its first SIGUSR1; says when it is ready for it.
CHILD = """
import pathlib, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
pathlib.Path(sys.argv[1]).touch()
time.sleep(20)
"""


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_delivered_once_the_child_can_take_it(tmp_path: Path, number: int) -> None:
    ready, asked = tmp_path / "ready", []
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}

    def deliver(process: subprocess.Popen, came: int, again: bool) -> bool:
        asked.append((came, again))
        if len(asked) < 3:
            return False  # not yet: it must ask again
        wait_for(ready)
        process.send_signal(signal.SIGUSR1)
        return True

    threading.Timer(0.3, lambda: os.kill(os.getpid(), number)).start()
    code, came = supervise([sys.executable, "-c", CHILD, str(ready)], deliver)
    assert (code, came) == (7, [number])
    assert asked == [(number, False)] * 3
    assert {n: signal.getsignal(n) for n in handlers} == handlers


def test_a_second_signal_is_marked(tmp_path: Path) -> None:
    again = []

    def deliver(process: subprocess.Popen, came: int, second: bool) -> bool:
        again.append(second)
        if second:
            process.kill()
        return True

    for delay in (0.2, 0.6):
        threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    code, _ = supervise([sys.executable, "-c", CHILD, str(tmp_path / "ready")], deliver)
    assert (code, again) == (128 + signal.SIGKILL, [False, True])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel offers this on Linux only")
def test_the_child_of_a_killed_parent_is_told_to_end(tmp_path: Path) -> None:
    child = CHILD.replace("SIGUSR1, lambda *_: sys.exit(7)", "SIGTERM, lambda *_: pathlib.Path(sys.argv[2]).touch()")
    code = "import sys; from ssl_suite.training.children import supervise; supervise(sys.argv[1:], lambda *_: True)"
    ready, told = tmp_path / "ready", tmp_path / "told"
    parent = subprocess.Popen([sys.executable, "-c", code, sys.executable, "-c", child, str(ready), str(told)])
    wait_for(ready)
    parent.kill()
    parent.wait()
    wait_for(told)
