"""Ending a run early without losing anything."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopSignals:
    """SIGTERM, SIGUSR1 and the first Ctrl-C ask the run to finish its step, save, and exit 0. A second Ctrl-C ends it
    at once. Slurm sends SIGUSR1 before the time limit, SIGTERM on preemption.

    Used as a context manager, in the main thread; the old handlers come back at its end.
    """

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self) -> None:
        self.asked = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._handle) for number in self.signals}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Let signals end the process again: all is saved."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
