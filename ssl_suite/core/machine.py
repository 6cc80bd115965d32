"""What the operating system says of this machine."""

from __future__ import annotations

import os


def memory() -> int | None:
    """Bytes of main memory, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not on every system
        return None


def cpu_threads(given: int | None, processes: int = 1) -> int:
    """Threads of each process of a machine: ``given``, else ``OMP_NUM_THREADS``, else an even share of the cores."""
    words = os.environ.get("OMP_NUM_THREADS", "")
    told = int(words) if words.isdecimal() else 0
    return given or told or max(1, usable_cores() // processes)


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
