"""The encoders that a benchmark needs, pre-trained by this suite where they are missing: ``pretrain=true``.

Each is a run of its own, ``OUT/encoders/NAME-STEPS``, in a process of one thread. One that was stopped goes on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.wording import duration
from ssl_suite.evaluation.benchmark import Benchmark
from ssl_suite.evaluation.budget import Budget
from ssl_suite.settings.runs import CONFIG
from ssl_suite.training.children import end_with_parent

POLL_SECONDS, TELL_SECONDS = 0.2, 60.0
LOG = "pretrain.log"
SHARE = "steps="  # of a benchmark's words: the share of the budget's steps, so that all encoders cost the same


@dataclass(frozen=True)
class Source:
    """An encoder that is to be made: its name, run folder, the words of ``ssl_suite run``, and the names of those that
    are made first."""

    name: str
    folder: Path
    words: tuple[str, ...]
    after: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """The run has ended and its encoder is there."""
        return (self.folder / "summary.json").is_file() and (self.folder / "encoder").is_dir()


def sources(
    found: Benchmark, budget: Budget, out: Path, given: Mapping[str, str], place: Mapping[str, str | None]
) -> list[Source]:
    """The encoders that a benchmark's ``pretrain`` names, but for those that were given.

    ``place`` has ``root`` and ``cache`` of the data. Budget ``smoke`` takes the samples that come with the package in
    the place of data sets. ``{ssl.NAME}`` in a word is the run of another one, which is made first.

    Raises SuiteError: there is no such other one before it.
    """
    made, runs = [], dict(given)
    for name, words in found.pretrain.items():
        if name in given:
            continue
        share = next((float(word.removeprefix(SHARE)) for word in words if word.startswith(SHARE)), 1.0)
        steps = max(1, round(share * budget.pretrain_steps))
        folder = out / "encoders" / f"{name}-{steps}"
        others = tuple(re.findall(r"{ssl\.(\w+)}", " ".join(words)))
        if absent := [other for other in others if other not in runs]:
            raise SuiteError(f"pretrain.{name}: {{ssl.{absent[0]}}} is no encoder before it.{nearest(absent[0], runs)}")
        words = [re.sub(r"{ssl\.(\w+)}", lambda match: runs[match[1]], word) for word in words]
        runs[name] = str(folder)
        left_out = (SHARE, "data=") if budget.name == "smoke" else (SHARE,)
        chosen = [word for word in words if not word.startswith(left_out)]
        chosen += [f"train.steps={steps}", f"out={folder}"]
        chosen += [f"data.{key}={value}" for key, value in place.items() if value]
        kind = [] if any(word.startswith("modality=") for word in chosen) else [f"modality={name}"]
        made.append(Source(name, folder, (*kind, *chosen), tuple(other for other in others if other not in given)))
    return made


def needed(made: Sequence[Source], names: Collection[str]) -> list[Source]:
    """Those of some names, and those that are made before them."""
    wanted = set(names)
    for source in reversed(made):  # one that comes after another is behind it
        wanted |= set(source.after) if source.name in wanted else set()
    return [source for source in made if source.name in wanted]


def run(wanted: Sequence[Source], jobs: int, say: Callable[[str], None]) -> dict[str, str]:
    """Train those that are missing, ``jobs`` at a time. Returns by name the run folder. Raises SuiteError: one failed,
    with its last line; those beside it have saved."""
    waiting = [source for source in wanted if not source.done]
    running: dict[Source, subprocess.Popen] = {}
    told = began = time.monotonic()
    try:
        while waiting or running:
            ready = [
                source for source in waiting if not set(source.after) & {each.name for each in [*waiting, *running]}
            ]
            while ready and len(running) < jobs:
                source = ready.pop(0)
                waiting.remove(source)
                running[source] = _start(source)
                say(f"pre-training {source.name}: {source.folder}")
            time.sleep(POLL_SECONDS)
            for source, process in list(running.items()):
                if process.poll() is not None:
                    del running[source]
                    _check(source, process.returncode)
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                say(f"{_progress([*waiting, *running], wanted)} after {duration(told - began)}")
    finally:
        for process in running.values():
            process.terminate()  # it saves and ends
        for process in running.values():
            process.wait()
    return {source.name: str(source.folder) for source in wanted}


def _start(source: Source) -> subprocess.Popen:
    begun = (source.folder / CONFIG).is_file()
    words = (f"out={source.folder}", "resume=true") if begun else source.words
    source.folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ssl_suite", "run", *words, "train.threads=1"]
    with (source.folder.parent / f"{source.folder.name}.{LOG}").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=end_with_parent())  # noqa: PLW1509


def _check(source: Source, code: int) -> None:
    if code == 0 and source.done:
        return
    log = source.folder.parent / f"{source.folder.name}.{LOG}"
    lines = log.read_text("utf-8", "replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "nothing was said")
    raise SuiteError(f"pre-training {source.name} ended with {code}: {last.removeprefix('error: ')} ({log})")


def _progress(open_: Sequence[Source], wanted: Sequence[Source]) -> str:
    """How many encoders are made, and the share of the steps of the others."""
    steps = []
    for source in open_:
        with suppress(OSError, ValueError, KeyError, IndexError):
            last = (source.folder / "metrics.jsonl").read_text("utf-8").splitlines()[-1]
            steps.append(f"{source.name} at step {json.loads(last)['step']}")
    return f"{len(wanted) - len(open_)} of {len(wanted)} encoders; {', '.join(steps) or 'starting'}"
