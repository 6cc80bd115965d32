"""Which folder a run writes to, and whether it begins there or goes on."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.settings import config, overrides
from ssl_suite.settings import schema as settings
from ssl_suite.settings.run_reference import CONFIG

ROOT = Path("runs")
LOCK = ".lock"
PID, ERROR, LOG = "worker.pid", "error.txt", "torchrun.log"  # see training/launch.py
WRITTEN = (CONFIG, "metrics.jsonl", "summary.json", "loss.png", "checkpoints", "encoder", "tensorboard", LOG)
ABSENT = object()

# What may differ when a run goes on: where and how it runs, when it stops, what it reports. Never what it learns.
MAY_CHANGE = (
    *("out", "resume", "launch", "data.workers", "data.root", "data.cache"),
    *(f"train.{key}" for key in ("steps", "minutes", "threads", "wandb", "keep")),
    *(f"train.{key}" for key in ("log_every", "eval_every", "checkpoint_every")),
)


def resolve_run(cfg: dict[str, Any], words: Sequence[str] = ()) -> tuple[dict[str, Any], Path]:
    """Decide on the run folder, and take over the frozen configuration of a run that goes on there.

    A folder with checkpoints goes on. Under ``resume=true`` its own settings stand, except for those in ``words``;
    without, the configuration must be the one it was started with. Either way only ``MAY_CHANGE`` may differ.

    Args:
        cfg: as ``config.compose`` gives it.
        words: the command line's overrides.

    Returns:
        The configuration to freeze, and the folder.

    Raises:
        SuiteError: nothing to resume, or other settings than the run was started with.
    """
    launch = cfg["launch"]
    if cfg["out"] is None and launch["name"] == "torchrun" and settings.node_range(launch["nodes"])[1] > 1:
        raise SuiteError("launch.nodes above 1 needs out=: the same folder on each node, on a shared file system.")
    out = Path(cfg["out"]).expanduser() if cfg["out"] else newest(cfg) if cfg["resume"] else default_folder(cfg)
    if out.exists() and not out.is_dir():
        raise SuiteError(f"out={out} is a file: name a folder.")
    frozen = out / CONFIG
    check_own(out)
    if cfg["resume"] and not frozen.is_file():
        raise SuiteError(f"Nothing to resume: there is no {frozen}. Leave out resume=true to start a run there.")
    if frozen.is_file() and has_started(out):
        saved = config.read_run(frozen)
        offer = "" if cfg["resume"] else ", add resume=true to go on with its own"
        if cfg["resume"]:
            cfg = _overlay(saved, cfg, words)
        _compare(saved, cfg, out, offer)
    return config.validate({**cfg, "out": str(out), "resume": False}), out


def check_own(out: Path) -> None:
    """Refuse a folder in which a run would write over what no run has written.

    Raises:
        SuiteError: a file of one of the names of a run folder is there, without the configuration of a run.
    """
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        if {"modality", "objective", "train"} <= set(yaml.safe_load((out / CONFIG).read_text("utf-8")) or ()):
            return
    taken = [name for name in WRITTEN if (out / name).exists()]
    if taken:
        raise SuiteError(f"out={out} holds a {taken[0]} that no readable run has written: name a new folder.")


def has_started(out: Path) -> bool:
    """Whether the folder holds a checkpoint; a run that failed before its first has nothing to protect."""
    folder = out / "checkpoints"
    return folder.is_dir() and any(folder.iterdir())


def default_folder(cfg: Mapping[str, Any]) -> Path:
    """``runs/<modality>-<objective>-<time>``, with a number behind it when two start in one second."""
    stem = f"{cfg['modality']['name']}-{cfg['objective']['name']}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, count = ROOT / stem, 2
    while folder.exists():
        folder, count = ROOT / f"{stem}-{count}", count + 1
    return folder


def newest(cfg: Mapping[str, Any]) -> Path:
    """The run of the same modality and objective under ``runs/`` that was started or continued last."""
    wanted = (cfg["modality"]["name"], cfg["objective"]["name"])
    for file in sorted(ROOT.glob(f"*/{CONFIG}"), key=lambda file: file.stat().st_mtime, reverse=True):
        with suppress(SuiteError):  # a damaged one is not the one that is looked for
            saved = config.read_run(file)
            if wanted == (saved["modality"]["name"], saved["objective"]["name"]):
                return file.parent
    raise SuiteError(
        f"Nothing to resume: no run of modality={wanted[0]} objective={wanted[1]} under {ROOT}/. "
        "Name its folder with out=, or leave out resume=true."
    )


def _overlay(saved: Mapping[str, Any], composed: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The saved settings, with those that the user typed put over them."""
    cfg: dict[str, Any] = copy.deepcopy(dict(saved))
    groups = overrides.find_groups([resources.folder("conf")])
    typed = [overrides.parse(text, groups) for text in words]
    for word in sorted(typed, key=lambda word: "." in word.key):  # model=mini before model.layers=3
        section = composed.get(word.key)
        if isinstance(section, Mapping) and section.get("name", ABSENT) == cfg.get(word.key, {}).get("name"):
            continue  # the option it was started with: its details stand as they were
        place, source = cfg, composed
        *path, leaf = word.key.split(".")
        for key in path:
            place, source = place.setdefault(key, {}), source[key]
        place[leaf] = copy.deepcopy(source[leaf])
    return cfg


def _compare(saved: Mapping[str, Any], cfg: Mapping[str, Any], out: Path, offer: str) -> None:
    """Raises ``SuiteError`` naming every key that differs and may not. A key that ``saved`` lacks is a newer one."""
    differing = differences(frozen_part(saved), frozen_part(cfg))
    if differing:
        shown = ", ".join(differing[:6]) + (f" and {len(differing) - 6} more" if len(differing) > 6 else "")
        raise SuiteError(
            f"{out} holds a run with other settings: {shown}. Restore them{offer}, or choose another out=."
        )


def frozen_part(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that may not change while a run lasts, by their dotted keys."""
    under = tuple(f"{name}." for name in MAY_CHANGE)
    return {k: v for k, v in overrides.flatten(cfg).items() if k not in MAY_CHANGE and not k.startswith(under)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``key=value (now value)`` of each setting that is not what it was; keys of ``now`` alone are newer ones."""
    return [f"{k}={_text(v)} (now {_text(now.get(k))})" for k, v in before.items() if now.get(k, ABSENT) != v]


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def lock(out: Path) -> Iterator[int]:
    """Hold the run folder for this process, so that no second one writes to it; gives the lock's file descriptor.

    The kernel lets go of it when the last process that holds the descriptor ends, by SIGKILL too.

    Raises:
        SuiteError: another process holds it, or the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise SuiteError(f"out={out} cannot be written: {error.strerror}. Choose another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SuiteError(f"out={out} is in use by another run: wait for it, or choose another folder.") from error
        except OSError:  # a file system without locks: go on without
            pass
        yield file.fileno()


def discard(out: Path) -> None:
    """Remove a folder in which nothing came about but its configuration. Leaves every other folder alone."""
    traces = {CONFIG, LOCK, PID, ERROR, LOG}
    if not out.is_dir() or {file.name for file in out.iterdir()} - traces:
        return
    for name in traces:
        (out / name).unlink(missing_ok=True)
    out.rmdir()
