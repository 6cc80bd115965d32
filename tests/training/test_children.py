"""A supervised child hears of the parent's signals and does not outlive it."""

from __future__ import annotations

import os
import pty
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_is_delivered_once_the_child_can_take_it(tmp_path: Path, number: int) -> None:
    ready, asked = tmp_path / "ready", []
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)}

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


# Prints its step to the terminal for ever, as a run does; saves when it is asked to.
RUN = """
import pathlib, sys, time
from ssl_suite.training.meters import Progress
from ssl_suite.training.stopping import StopSignals
with StopSignals() as stop:
    progress = Progress(10**6, False, stop.unheard)
    pathlib.Path(sys.argv[1]).touch()
    step = 0
    while not stop.asked:
        step += 1
        progress.say(f"step {step}")
        time.sleep(0.01)
    for _ in range(20):
        progress.say("saving")
        sys.stderr.write("a warning")
        sys.stderr.flush()
        time.sleep(0.01)
    pathlib.Path(sys.argv[2]).touch()
print("stopped", flush=True)
"""
NOTE = """
import os, socket, sys
open(sys.argv[3], "w").write(f"{os.getpid()} {socket.gethostname()}")
"""
PARENT = """
import sys
from pathlib import Path
from ssl_suite.training.children import supervise
from ssl_suite.training.launch import _tell_rank_0
sys.exit(supervise(sys.argv[1:], _tell_rank_0(Path(sys.argv[-1]).parent))[0])
"""
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.mark.parametrize("through", ["alone", "launcher"])
def test_a_terminal_that_is_closed(tmp_path: Path, through: str) -> None:
    """A real one: its processes get SIGHUP, and every further write to it fails."""
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    command = [sys.executable, "-c", NOTE + RUN, str(ready), str(saved), str(tmp_path / "worker.pid")]
    if through == "launcher":
        command = [sys.executable, "-c", PARENT, *command]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    wait_for(ready)
    os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    wait_for(saved)
    assert os.waitstatus_to_exitcode(status) == 0


def test_nohup_is_respected(tmp_path: Path) -> None:
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; a child inherits it
    try:
        process = subprocess.Popen([sys.executable, "-c", RUN, str(ready), str(saved)], **SILENT)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(ready)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None and not saved.exists()
    process.terminate()
    assert process.wait(20) == 0 and saved.exists()


def test_the_reader_of_a_pipe_has_gone(tmp_path: Path) -> None:
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    command = [sys.executable, "-c", RUN, str(ready), str(saved)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        wait_for(ready)
        assert process.stdout is not None
        process.stdout.close()
        process.wait(20)
    assert saved.exists()
