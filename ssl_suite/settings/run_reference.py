"""``RUN`` and ``RUN@STEP``: a run folder, and one of its checkpoints, wherever an encoder is asked for."""

from __future__ import annotations

from pathlib import Path

CONFIG = "config.yaml"  # what makes a folder a run folder


def split(reference: str) -> tuple[Path, str | None]:
    """The folder, and the checkpoint behind the last ``@``: a step, ``best`` or ``last``; None where none is named.

    A folder of that whole name stands above a checkpoint.
    """
    folder, at, which = reference.rpartition("@")
    named = bool(at) and (which.isdecimal() or which in ("best", "last"))
    if named and not (Path(reference).expanduser() / CONFIG).is_file():
        return Path(folder).expanduser(), which
    return Path(reference).expanduser(), None


def is_run(reference: str) -> bool:
    """Whether it names a run folder, with or without a checkpoint."""
    return (split(reference)[0] / CONFIG).is_file()
