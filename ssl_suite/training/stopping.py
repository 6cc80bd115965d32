"""Ending a run early without losing anything."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

_ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def heeded() -> tuple[signal.Signals, ...]:
    """The signals that ask a run to save and end; a hang-up does not under ``nohup``, which had it ignored."""
    return tuple(number for number in _ASKING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN)


def terminals() -> list[int]:
    """Which of stdout and stderr are a terminal."""
    return [number for number in (1, 2) if os.isatty(number)]


def leave(given: list[int]) -> None:
    """Write to nowhere instead: to a terminal that is closed it would fail, and end the run before it saves."""
    for number in given:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


class StopSignals:
    """SIGTERM, SIGUSR1, SIGHUP and the first Ctrl-C ask the run to finish its step, save, and exit 0. A second Ctrl-C
    ends it at once. Slurm sends SIGUSR1 before the time limit, SIGTERM on preemption; a terminal that is closed SIGHUP.

    Used as a context manager, in the main thread; the old handlers come back at its end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._terminals = terminals()

    def ask(self) -> None:
        """Ask the run to save and end."""
        self.asked = True

    def unheard(self) -> None:
        """Ask the run to save and end, as nobody reads what it says any more, and let it speak to nowhere."""
        self.ask()
        leave([*self._terminals, 1])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.ask()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number == signal.SIGHUP:
            leave(self._terminals)

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._handle) for number in heeded()}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Let signals end the process again: all is saved."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
