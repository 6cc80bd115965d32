"""Measure encoders on a benchmark's tasks and write leaderboard rows.

examples:
  ssl_suite bench cross_domain encoder=random:tiny budget=smoke
  ssl_suite bench cross_domain task=splice encoder=hf:MODEL_FOLDER+map=100 protocol=finetune
  ssl_suite bench cross_domain text=hf:MODEL_FOLDER ssl.dna=runs/yeast ssl.protein=runs/swissprot budget=small
  ssl_suite bench cross_domain task=h3,h4 arms=BERT,rand budget=paper out=runs/table

settings:
  encoder=REF         a run folder, hf:NAME_OR_PATH (+map, +map=SEED or +reembed), random:PRESET, cnn; without it all
                      arms of conf/bench/NAME.yaml are measured, and with it this one beside the controls
  protocol=finetune   finetune, scratch, probe, linear, knn or majority; of encoder=
  arms=A,B            only these arms
  task=A,B            only these tasks; also sample tasks, which come with the package: task=sample
  budget=small        smoke (seconds), brief (minutes a cell), small, long (whole sets, for small encoders) or paper
                      (the published settings); warm, warm_long: heads start from a linear model; conf/budget/NAME.yaml
  seeds=100,101,102   others than the budget's
  text=hf:…           the text encoder of the arms BERT, re-emb and rand
  ssl.dna=, ssl.protein=, ssl.music=RUN   the pre-trained encoder of the arms specific-SSL and specific-scratch
  keep_special=true   false maps [CLS], [SEP] and [PAD] onto random words too, as the original experiment did
  out=FOLDER          the trials: curves, checkpoints; a killed table goes on there (default runs/bench-NAME-BUDGET)
  root=FOLDER         the leaderboards folder rows are added to (default leaderboards; of budget=smoke that in out=)
  data.root=, data.cache=, tasks.path=, threads=   where data and own tasks are; threads of a CPU

`ssl_suite board show`, `board render` and `board diff` look at what came out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_suite.commands.words import Key, settle
from ssl_suite.core.wording import count
from ssl_suite.errors import SuiteError, nearest

MODALITIES = ("dna", "protein", "music", "text", "image", "speech")
KEYS = {
    "encoder": Key(None, example="random:tiny"),
    "protocol": Key(None, example="finetune"),
    "arms": Key(None, example="BERT,rand"),
    "task": Key(None, example="splice"),
    "budget": Key("small"),
    "seeds": Key(None, example="100,101,102"),
    "text": Key(None, example="hf:MODEL_FOLDER"),
    **{f"ssl.{name}": Key(None, example="runs/first") for name in MODALITIES},
    "keep_special": Key("true", choices=("true", "false")),
    "out": Key(None, example="runs/table"),
    "root": Key(None, example="leaderboards"),
    "data.root": Key(None, example="/data"),
    "data.cache": Key(None, example="/big/cache"),
    "tasks.path": Key(None, example="tasks"),
    "bench.path": Key(None, example="benches"),
    "threads": Key(None, int, least=1),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", help="a folder of tasks/, such as cross_domain")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")


def main(args: argparse.Namespace) -> int:
    words, overrides = _overrides(args.words)
    given = settle(words, KEYS)
    from ssl_suite.evaluation import bench, benchmark

    found = benchmark.load(args.benchmark, given["bench.path"])
    settings = _settings(found.name, given, overrides)
    cells = _cells(found, given, settings)
    named = sum(cell.encoder == given["encoder"] for cell in cells)
    paths = bench.run(cells, settings, lambda line: print(line, flush=True), named)
    print(f"{count(len(paths), 'row')} in {settings.root}. Look at them: ssl_suite board show root={settings.root}")
    return 0


def _overrides(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The words without ``budget.KEY=VALUE``, and those."""
    mine = [word for word in words if word.startswith("budget.")]
    pairs = (word.removeprefix("budget.").partition("=") for word in mine)
    return [word for word in words if word not in mine], {key: value for key, _, value in pairs}


def _settings(name: str, given: Mapping[str, Any], overrides: Mapping[str, str]) -> Any:
    from ssl_suite.evaluation import bench, budget, rows

    found = budget.load(given["budget"], overrides)
    if given["seeds"]:
        found = found.with_seeds([_seed(word) for word in given["seeds"].split(",")])
    out = Path(given["out"] or f"runs/bench-{name}-{found.name}")
    # Rows of a user's own benchmark, and of a smoke run, do not mix with those that are published.
    own = given["bench.path"] or given["tasks.path"]
    default = Path(own) / "leaderboards" if own else out / "leaderboards" if found.name == "smoke" else None
    return bench.Settings(
        name,
        found,
        {"root": given["data.root"], "cache": given["data.cache"]},
        out,
        Path(given["root"]) if given["root"] else default or rows.default_root(),
        given["keep_special"] == "true",
        given["threads"],
    )


def _seed(word: str) -> int:
    if not word.isdigit():
        raise SuiteError(f"seeds={word} should be whole numbers with commas between them, such as seeds=100,101,102.")
    return int(word)


def _cells(found: Any, given: Mapping[str, Any], settings: Any) -> list[Any]:
    """The cells of ``encoder=``, then those of arms; an arm whose encoder is not given is left out with a line."""
    from ssl_suite.evaluation import benchmark
    from ssl_suite.evaluation.bench import Cell

    names = given["arms"].split(",") if given["arms"] else None
    for name in names or ():
        if name not in found.arms:
            raise SuiteError(f"arms={name} does not exist.{nearest(name, found.arms)}")
    if given["encoder"] is None and given["protocol"] is not None:
        raise SuiteError("protocol= is of encoder=: name one, or choose arms=.")
    chosen = names or (list(found.arms) if given["encoder"] is None else found.controls)
    ssl = {name: given[f"ssl.{name}"] for name in MODALITIES if given[f"ssl.{name}"]}
    cells, protocol = [], given["protocol"] or "finetune"
    columns = _tasks(found, given, settings)
    if given["encoder"] is not None:
        line = benchmark.arm_of(given["encoder"], protocol, found)
        cells = [Cell(task, line, given["encoder"], protocol) for task in columns]
    for task in columns:
        for name in chosen:
            arm = found.arms[name]
            encoder = benchmark.encoder_of(arm, task, given["text"] or found.text, ssl)
            if encoder is None:
                print(f"{task.name}, {name}: left out, give ssl.{task.modality['name']}=RUN.")
                continue
            cells.append(Cell(task, name, encoder, arm.protocol))
    return cells


def _tasks(found: Any, given: Mapping[str, Any], settings: Any) -> list[Any]:
    """The tasks; of budget=smoke, where the data of none are here, those that come with the package."""
    from ssl_suite.evaluation import benchmark, tasks

    folders = tasks.task_folders(given["tasks.path"])
    chosen = benchmark.tasks_of(found, given["task"].split(",") if given["task"] else None, folders)
    if settings.budget.name != "smoke" or given["task"] or not found.smoke:
        return chosen
    here = [task for task in chosen if _is_here(task, settings.place)]
    if len(here) < len(chosen):
        absent = ", ".join(task.name for task in chosen if task not in here)
        print(f"The data of {absent} are not here (ssl_suite data list says how to get them, or set data.root=).")
    if not here:
        print("Measuring the sample tasks instead, whose data come with the package.")
    return here or benchmark.tasks_of(found, found.smoke, folders)


def _is_here(task: Any, place: Mapping[str, Any]) -> bool:
    from ssl_suite.evaluation import task_data, tasks

    try:
        for data in (task.data, *([task.lookup["data"]] if task.lookup else [])):
            task_data.find_sources(task, tasks.build_modality(task), place, data)
    except SuiteError:
        return False
    return True
