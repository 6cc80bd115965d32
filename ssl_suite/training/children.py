"""A child process that is told of every signal its parent gets, and does not outlive it."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ssl_suite.training.stopping import heeded, leave, terminals

PR_SET_PDEATHSIG = 1  # prctl(2)
POLL_SECONDS = 0.1

Deliver = Callable[[subprocess.Popen, int, bool], bool]
"""``deliver(process, signal, again) -> bool``: pass a signal on; False = not yet possible, ask again soon."""


def supervise(command: Sequence[str], deliver: Deliver, **options: Any) -> tuple[int, list[int]]:
    """Run ``command`` to its end in a session of its own, so that Ctrl-C reaches this process alone.

    Args:
        command: program and arguments.
        deliver: what to do with each signal that asks a run to end; ``again`` is False for the first.
        options: for ``subprocess.Popen``.

    Returns:
        The exit code (128 + signal when one ended the child) and the signals that came in meanwhile.
    """
    came: list[int] = []
    delivered = 0
    shown = terminals()

    def note(number: int, frame: Any) -> None:
        came.append(number)
        if number == signal.SIGHUP:
            leave(shown)

    before = {number: signal.signal(number, note) for number in heeded()}
    try:
        # preexec_fn may deadlock after threads have locked something; the parent of a run has started none yet.
        before_exec = end_with_parent()
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=before_exec, **options)  # noqa: PLW1509
        while True:
            try:
                code = process.wait(POLL_SECONDS)
                return (code if code >= 0 else 128 - code), came
            except subprocess.TimeoutExpired:
                if delivered < len(came) and deliver(process, came[delivered], delivered > 0):
                    delivered += 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> Callable[[], None] | None:
    """Where the kernel offers it: SIGTERM for the child when this process dies, by SIGKILL too; it saves and ends."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, where only little may be done
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
