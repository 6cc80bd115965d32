"""Checkpoints that survive a kill at any moment.

A checkpoint is a folder ``step_00000100`` with the weights and the optimiser's state as safetensors and a manifest
with the SHA-256 of both and of itself. It is written beside, synced, and renamed: a folder with the right name is
whole, unless somebody harms it later. A damaged one is never counted, chosen or deleted. Weights and state are stored
unsharded under plain parameter names, so any number of processes, DDP or FSDP2, can go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import time
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

from ssl_suite.core import atomic
from ssl_suite.core.errors import Diverged, SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.models.weights import unfit
from ssl_suite.training.distributed import DistributedContext

WEIGHTS, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "checkpoint.json"
OWN = "manifest_sha256"
SETTLED = 1_000_000_000  # ns after which a second write must show in a file's times, whatever the file system's grain
_DIGESTS: dict[tuple[str | int, ...], str] = {}
_NAME = re.compile(r"step_\d{8,}")
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SEPARATOR = "::"  # between a parameter's name and its optimiser state's


def save(
    root: Path,
    step: int,
    learner: nn.Module,
    optimiser: torch.optim.Optimizer,
    facts: dict[str, Any],
    group: DistributedContext,
) -> None:
    """Write the checkpoint of ``step``; all processes call it, the main one writes.

    Args:
        root: the run's ``checkpoints`` folder.
        facts: what else to restore (counters) and to choose by (``valid_loss``); JSON values.

    Raises:
        SuiteError: disk full, no permission; its kind ``Diverged``: weights or moments that are not finite and sane. On
            every process, with the older checkpoints untouched.
    """
    full: Any = get_state_dict(learner, optimiser, options=_FULL)  # empty on all processes but the main one
    weights, moments = full[0], _flatten(full[1].get("state", {}))
    insane = group.from_main(unfit(weights) or unfit(moments, largest=math.inf))
    if insane:
        raise Diverged(f"step {step}: {insane}, so no checkpoint was written.")
    fault = None
    if group.main:
        try:
            _write(root, step, weights, moments, facts)
        except (OSError, SafetensorError) as error:
            kept = whole(root)
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
        files = {name: _sha256(beside / name) for name in (WEIGHTS, STATE)}
        told = {"step": step, **facts, "sha256": files}
        (beside / MANIFEST).write_text(json.dumps({**told, OWN: _own_digest(told)}, indent=1))
        atomic.sync_all(beside)
        if final.exists():  # the same step written again after a fallback: the damaged one makes way
            os.replace(final, root / f".old_{step:08d}")
        os.replace(beside, final)
        atomic.sync(root)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _clean(root)


def prune(root: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` whole checkpoints and the one with the lowest validation loss."""
    for folder in set(whole(root)[:-keep]) - {best(root)}:
        os.replace(folder, root / f".old_{folder.name}")  # gone at once; a kill while deleting leaves no half one
    _clean(root)


def names(root: Path) -> list[Path]:
    """The folders of a run's checkpoints, damaged ones too, oldest first."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted((f for f in found if _NAME.fullmatch(f.name)), key=lambda f: int(f.name[5:]))


def whole(root: Path, report: Callable[[str], None] = lambda text: None) -> list[Path]:
    """The checkpoints that are not damaged, oldest first; of each of the others a line is reported."""
    found = []
    for folder in names(root):
        fault = damage(folder)
        found += [folder] if fault is None else []
        if fault is not None:
            report(f"checkpoint {folder.name} is damaged ({fault}); it is left out.")
    return found


def manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's facts; empty when they cannot be read."""
    with contextlib.suppress(SuiteError):
        return read_json(folder / MANIFEST, "")
    return {}


def best(root: Path) -> Path | None:
    """The whole checkpoint with the lowest validation loss, else the newest."""
    folders = whole(root)
    scored = [(loss, f) for f in folders if (loss := manifest(f).get("valid_loss")) is not None and loss == loss]
    return min(scored)[1] if scored else (folders[-1] if folders else None)


def sound(
    root: Path, report: Callable[[str], None], unlike: Callable[[Path], str | None] = lambda folder: None
) -> Path | None:
    """The newest checkpoint that is whole and of this run; any other is reported and passed over.

    Args:
        unlike: why a whole checkpoint is not one of this run, or None.
    """
    for folder in reversed(names(root)):
        fault = damage(folder) or unlike(folder)
        if fault is None:
            return folder
        report(f"checkpoint {folder.name} is damaged ({fault}); falling back to the one before it.")
    if names(root):
        report("no checkpoint of this run is whole: it starts at step 0.")
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    facts = manifest(folder)
    files = facts.get("sha256")
    if not isinstance(files, dict) or files.keys() != {WEIGHTS, STATE}:
        return f"{MANIFEST} is missing or unreadable" if not facts else f"{MANIFEST} lacks the SHA-256 of its files"
    if facts.get(OWN, own := _own_digest(facts)) != own:  # the manifests of version 1.0 have none
        return f"{MANIFEST} does not match its own SHA-256"
    if type(facts.get("step")) is not int or int(folder.name[5:]) != facts["step"]:
        return f"{MANIFEST} is of step {facts.get('step')}"
    if not isinstance(facts.get("valid_loss"), float | int | None):
        return f"{MANIFEST} has a valid_loss that is no number"
    for name, digest in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"{name} does not match its SHA-256"
    return None


def load(
    folder: Path, learner: nn.Module, optimiser: torch.optim.Optimizer, group: DistributedContext
) -> dict[str, Any]:
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


def _own_digest(facts: dict[str, Any]) -> str:
    """The SHA-256 of a manifest's other entries."""
    others = {key: value for key, value in facts.items() if key != OWN}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(path: Path) -> str | None:
    """The file's SHA-256, None where it cannot be read; of an untouched file computed once a process."""
    try:
        facts = path.stat()
        key = (str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        if key not in _DIGESTS:
            found = _sha256(path)
            if time.time_ns() - facts.st_ctime_ns < SETTLED:
                return found
            _DIGESTS[key] = found
        return _DIGESTS[key]
    except OSError:
        return None


def _clean(root: Path) -> None:
    for leftover in [*root.glob(".old_*"), *root.glob(".writing_*")]:  # the run's lock is held: nobody else writes
        shutil.rmtree(leftover, ignore_errors=True)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error).splitlines()[0]
