"""A sweep: the product of several settings, one run after another, each in its own folder and its own process.

A process of its own because a run that dies of memory, or leaves something behind in torch, must not touch the next.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.settings import config, runs
from ssl_suite.training.children import supervise


def run(words: Sequence[str], config_dir: str | None = None, show: bool = False) -> int:
    """Run every job that ``words`` spell out. All of them are checked before the first one starts.

    Args:
        words: overrides, some with several values: ``train.lr=1e-3,3e-4 model=tiny,mini``.
        config_dir: as for ``config.compose``.
        show: print the configurations instead.

    Returns:
        0 when every run succeeded, else the exit code of the first that did not.

    Raises:
        SuiteError: a fault in any of the configurations.
    """
    jobs = config.sweep(words, config_dir)
    names = [folder_name(job, words) for job in jobs]
    composed = [config.compose(job, config_dir) for job in jobs]
    parent = Path(composed[0]["out"] or f"{runs.default_folder(composed[0])}-sweep").expanduser()
    if len({cfg["out"] for cfg in composed}) > 1:
        raise SuiteError("out= takes one folder in a sweep: each run gets its own folder below it.")
    if show:
        for name, cfg in zip(names, composed, strict=True):
            print(f"# {parent / name}\n{config.dump(cfg)}")
        return 0
    codes: list[int] = []
    for number, (name, job) in enumerate(zip(names, jobs, strict=True), start=1):
        out = parent / name
        print(f"run {number} of {len(jobs)}: {out}", flush=True)
        resume = [word for word in job if word.lstrip("+").startswith("resume=")]
        keep = [word for word in job if word not in resume and not word.startswith("out=")]
        begun = resume if (out / runs.CONFIG).is_file() else []  # one that never began has nothing to resume
        code, stopped = _child([*keep, *begun, f"out={out}"], config_dir)
        codes.append(code)
        if stopped:
            break
    return _report(codes, names, parent)


def folder_name(job: Sequence[str], words: Sequence[str]) -> str:
    """The job's own values, as a folder name that stays the same when the sweep is started again."""
    own = [word for word in job if word not in words and not word.startswith("out=")]
    return re.sub(r"[^\w.,=+-]+", "_", ",".join(own))[:200] or "run"


def _child(words: Sequence[str], config_dir: str | None) -> tuple[int, bool]:
    """Run one job. A signal goes on to it, so that it saves; then the sweep ends.

    Returns:
        Its exit code (128 + signal when one killed it), and whether the sweep was told to stop.
    """
    options = ["--config-dir", config_dir] if config_dir else []
    command = [sys.executable, "-m", "ssl_suite", "run", *words, *options]
    code, signals = supervise(command, _forward)
    return code, bool(signals)


def _forward(process: subprocess.Popen, number: int, again: bool) -> bool:
    process.send_signal(number)
    return True


def _report(codes: Sequence[int], names: Sequence[str], parent: Path) -> int:
    done = sum(code == 0 for code in codes)
    print(f"{done} of {count(len(names), 'run')} succeeded, in {parent}")
    for name, code in zip(names, codes, strict=False):
        if code:
            print(f"  failed with exit code {code}: {parent / name}", file=sys.stderr)
    skipped = len(names) - len(codes)
    if skipped:
        print(f"  stopped before the last {skipped}; the same command goes on with them", file=sys.stderr)
    return next((code for code in codes if code), 0)
