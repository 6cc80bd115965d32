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
from ssl_suite.errors import SuiteError

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
    "threads": Key(None, int, least=1),
}
SAMPLE = "sample"  # the benchmark of tasks whose data come with the package


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", help="a folder of tasks/, such as cross_domain")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")


def main(args: argparse.Namespace) -> int:
    given = settle(args.words, KEYS)
    from ssl_suite.leaderboard import bench

    benchmark = bench.configuration(args.benchmark)
    settings = _settings(args.benchmark, benchmark, given)
    chosen = _tasks(args.benchmark, benchmark, given, settings)
    arms = _arms(benchmark, given)
    named = arms[0] if given["encoder"] else None
    paths = bench.run(arms, chosen, settings, lambda line: print(line, flush=True), named)
    print(f"{len(paths)} rows in {settings.root}. Look at them: ssl_suite board show root={settings.root}")
    return 0


def _settings(name: str, benchmark: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    from ssl_suite import config
    from ssl_suite.leaderboard import bench, rows

    budget = config.option("budget", given["budget"])
    if given["seeds"]:
        budget["seeds"] = [_seed(word) for word in given["seeds"].split(",")]
    out = Path(given["out"] or f"runs/bench-{name}-{given['budget']}")
    own = out / "leaderboards" if given["budget"] == "smoke" else rows.default_root()
    return bench.Settings(
        budget,
        {"root": given["data.root"], "cache": given["data.cache"]},
        out,
        Path(given["root"]) if given["root"] else own,
        given["text"] or benchmark["text"],
        {name: given[f"ssl.{name}"] for name in MODALITIES if given[f"ssl.{name}"]},
        given["keep_special"] == "true",
        given["threads"],
    )


def _seed(word: str) -> int:
    if not word.isdigit():
        raise SuiteError(f"seeds={word} should be whole numbers with commas between them, such as seeds=100,101,102.")
    return int(word)


def _arms(benchmark: Mapping[str, Any], given: Mapping[str, Any]) -> list[Any]:
    from ssl_suite.leaderboard import bench

    names = given["arms"].split(",") if given["arms"] else None
    if given["encoder"] is None:
        if given["protocol"] is not None:
            raise SuiteError("protocol= is of encoder=: name one, or choose arms=.")
        return bench.arms_of(benchmark, names)
    own = bench.arm_of(given["encoder"], given["protocol"] or "finetune", benchmark)
    return [own, *bench.arms_of(benchmark, names or benchmark["controls"])]


def _tasks(name: str, benchmark: Mapping[str, Any], given: Mapping[str, Any], settings: Any) -> list[Any]:
    """The tasks; of budget=smoke, where the data of none are here, those that come with the package."""
    from ssl_suite.evaluation import tasks

    folders = tasks.task_folders(given["tasks.path"])
    if given["task"] == SAMPLE:
        return tasks.all_tasks(SAMPLE, folders)
    words = given["task"].split(",") if given["task"] else benchmark["tasks"]
    chosen = [tasks.find(name, word, folders) for word in words]
    if given["budget"] != "smoke" or given["task"]:
        return chosen
    here = [task for task in chosen if _is_here(task, settings.place)]
    if len(here) < len(chosen):
        absent = ", ".join(task.name for task in chosen if task not in here)
        print(f"The data of {absent} are not here (ssl_suite data list says how to get them, or set data.root=).")
    if not here:
        print("Measuring the sample tasks instead, whose data come with the package.")
    return here or tasks.all_tasks(SAMPLE, folders)


def _is_here(task: Any, place: Mapping[str, Any]) -> bool:
    from ssl_suite.evaluation import task_data, tasks

    try:
        task_data.find_sources(task, tasks.build_modality(task), place)
    except SuiteError:
        return False
    return True
