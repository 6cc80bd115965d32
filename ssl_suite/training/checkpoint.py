"""Checkpoints that survive a kill at any moment.

A checkpoint is a folder ``step_00000100`` with the weights and the optimiser's state as safetensors and a manifest
with the SHA-256 of both. It is written beside, synced, and renamed: a folder with the right name is whole. Weights
and state are stored unsharded under plain parameter names, so any number of processes, DDP or FSDP2, can go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from ssl_suite.errors import SuiteError
from ssl_suite.training.distributed import Processes

WEIGHTS, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "checkpoint.json"
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SEPARATOR = "::"  # between a parameter's name and its optimiser state's


def save(
    root: Path, step: int, learner: nn.Module, optimiser: torch.optim.Optimizer, facts: dict[str, Any], group: Processes
) -> None:
    """Write the checkpoint of ``step``; all processes call it, the main one writes.

    Args:
        root: the run's ``checkpoints`` folder.
        facts: what else to restore (counters) and to choose by (``valid_loss``); JSON values.

    Raises:
        SuiteError: disk full, no permission; on every process, with the older checkpoints untouched.
    """
    weights, state = get_state_dict(learner, optimiser, options=_FULL)
    moments: Any = state.get("state", {})  # empty on all processes but the main one
    fault = None
    if group.main:
        try:
            _write(root, step, weights, _flatten(moments), facts)
        except (OSError, SafetensorError) as error:
            kept = names(root)
            fault = (
                f"{root}: the checkpoint of step {step} could not be written ({_reason(error)}); "
                f"the newest good one is {kept[-1].name if kept else 'none'}. "
                "Make room or mend the permissions, then run the same command again to go on from there."
            )
    fault = group.from_main(fault)
    if fault:
        raise SuiteError(fault)


def _write(root: Path, step: int, weights: dict[str, Any], state: dict[str, Tensor], facts: dict) -> None:
    root.mkdir(parents=True, exist_ok=True)
    final, beside = root / f"step_{step:08d}", root / f".writing_{step:08d}"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        save_file({k: v.contiguous() for k, v in weights.items()}, beside / WEIGHTS, metadata={"format": "pt"})
        save_file(state, beside / STATE, metadata={"format": "pt"})
        files = {name: _digest(beside / name) for name in (WEIGHTS, STATE)}
        (beside / MANIFEST).write_text(json.dumps({"step": step, **facts, "sha256": files}, indent=1))
        for name in (WEIGHTS, STATE, MANIFEST):
            _sync(beside / name)
        _sync(beside)
        if final.exists():  # the same step written again after a fallback: the damaged one makes way
            os.replace(final, root / f".old_{step:08d}")
        os.replace(beside, final)
        _sync(root)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _clean(root)


def prune(root: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints and the one with the lowest validation loss."""
    for folder in set(names(root)[:-keep]) - {best(root)}:
        os.replace(folder, root / f".old_{folder.name}")  # gone at once; a kill while deleting leaves no half one
    _clean(root)


def names(root: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(root.glob("step_*")) if root.is_dir() else []


def manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's facts; empty when they cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / MANIFEST).read_text())
    return {}


def best(root: Path) -> Path | None:
    """The checkpoint with the lowest validation loss, else the newest."""
    folders = names(root)
    scored = [(loss, f) for f in folders if (loss := manifest(f).get("valid_loss")) is not None]
    return min(scored)[1] if scored else (folders[-1] if folders else None)


def sound(root: Path, report: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files match their checksums; a damaged one is reported and passed over."""
    for folder in reversed(names(root)):
        fault = damage(folder)
        if fault is None:
            return folder
        report(f"checkpoint {folder.name} is damaged ({fault}); falling back to the one before it.")
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    facts = manifest(folder)
    if "sha256" not in facts:
        return f"{MANIFEST} is missing or unreadable"
    for name, digest in facts["sha256"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"{name} does not match its SHA-256"
    return None


def load(folder: Path, learner: nn.Module, optimiser: torch.optim.Optimizer, group: Processes) -> dict[str, Any]:
    """Restore weights and optimiser state in place, whatever number of processes wrote them.

    Returns:
        The facts given to ``save``, and ``step``.
    """
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=group.world > 1)
    weights: dict[str, Any] = dict(load_file(folder / WEIGHTS)) if group.main else {}
    set_model_state_dict(learner, weights, options=options)
    _, template = get_state_dict(learner, optimiser, options=_FULL)
    state: Any = template | {"state": _unflatten(load_file(folder / STATE))} if group.main else {}
    if any(optimiser.state.values()):  # which SGD without momentum has none of, and torch refuses to restore none
        set_optimizer_state_dict(learner, optimiser, state, options=options)
    return manifest(folder)


def _flatten(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name}{_SEPARATOR}{key}": x.contiguous() for name, entry in state.items() for key, x in entry.items()}


def _unflatten(flat: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    state: dict[str, dict[str, Tensor]] = {}
    for full, x in flat.items():
        name, _, key = full.rpartition(_SEPARATOR)
        state.setdefault(name, {})[key] = x
    return state


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clean(root: Path) -> None:
    for leftover in root.glob(".old_*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error).splitlines()[0]
