"""Downstream tasks: what there is, one of them in full, and whether your own are right.

``tasks list``, ``tasks show`` and ``tasks validate``; the work is done in ``ssl_suite.evaluation``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite.commands.words import Key, parse_words, split_free
from ssl_suite.core.errors import SuiteError

if TYPE_CHECKING:
    from ssl_suite.evaluation.tasks import Task

KEYS = {
    "tasks.path": Key(default=None, example="my_tasks"),
    "data.root": Key(default=None, example="/data"),
    "data.cache": Key(default=None, example="/big/cache"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="NAME or key=value", help="tasks and settings, see below")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def list_tasks(args: argparse.Namespace) -> int:
    """List the downstream tasks, and whether their data are here.

    examples:
      ssl_suite tasks list
      ssl_suite tasks list cross_domain data.root=/data
      ssl_suite tasks list tasks.path=my_tasks            and your own, in my_tasks/BENCHMARK/NAME.yaml

    A name is TASK@SPLIT: scores on different splits are never put side by side.
    """
    settings, tasks, faults = _asked(args)
    for fault in faults:
        print(f"left out: {fault}", file=sys.stderr)
    rows = [{**_plain(task), "here": _state(task, settings)} for task in tasks]
    if args.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("task", "modality", "head", "metric", "data", Column("here"), "title", box=None, pad_edge=False)
    before = ""
    for task, row in zip(tasks, rows, strict=True):
        if task.benchmark != before:
            before = task.benchmark
            table.add_row(before, style="bold")
        modality, metric = task.modality["name"], task.metrics[0]
        table.add_row(f" {task.name}", modality, task.head["name"], metric, task.data, row["here"], task.title)
    Console(width=None if Console().is_terminal else 140).print(table)
    return 0


def show(args: argparse.Namespace) -> int:
    """Show a task in full: its file, and what of its data the caveat says.

    examples:
      ssl_suite tasks show splice@kao100
      ssl_suite tasks show splice --json
    """
    settings, tasks, faults = _asked(args)
    if faults:
        raise SuiteError(faults[0])
    if len(tasks) != 1 or not split_free(args.words)[1]:
        raise SuiteError("tasks show takes the name of one task: see `ssl_suite tasks list`.")
    row = {**_plain(tasks[0]), "here": _state(tasks[0], settings), "path": str(tasks[0].path)}
    if args.json:
        print(json.dumps(row, indent=1, ensure_ascii=False))
        return 0
    for key, value in row.items():
        parts = [f"{name}: {one}" for name, one in value.items()] if isinstance(value, dict) else value
        shown = ", ".join(map(str, parts)) if isinstance(parts, list) else "none" if parts is None else str(parts)
        print(f"{key + ':':<12}{shown}")
    return 0


def validate(args: argparse.Namespace) -> int:
    """Check tasks: their files, settings, and where the data are here, every row, label and split.

    examples:
      ssl_suite tasks validate                                all of them
      ssl_suite tasks validate cross_domain data.root=/data
      ssl_suite tasks validate my_tasks/bio/mine@first.yaml

    Prints items by split, classes, how many items are longer than the window, and how many of the scored items are also
    in training; then the faults of all that are wrong, and exits with code 2 if there is one.
    """
    settings, tasks, faults = _asked(args)
    results = []
    for task in tasks:
        try:
            results.append(_check(task, settings))
        except SuiteError as error:
            faults.append(str(error))
    if args.json:
        print(json.dumps([*results, *({"fault": fault} for fault in faults)], indent=1, ensure_ascii=False))
        return 2 if faults else 0
    for row in results:
        if "items" not in row:
            print(f"{row['name']}: the file is right; its data are not here")
            continue
        items = " / ".join(f"{count:,}" for count in row["items"].values())
        leaks = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in row["leakage"].items() if count)
        classes = f", {len(row['classes'])} classes" if row["classes"] else ""
        cut = f", {row['truncated']:,} cut to the window" if row["truncated"] else ""
        print(f"{row['name']}: {items} items{classes}{cut}; copies: {leaks or 'none'}; read in {row['seconds']:.1f} s")
    for fault in faults:
        print(f"error: {' '.join(fault.split())}", file=sys.stderr)
    return 2 if faults else 0


def _check(task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    """What is to be said of a task that is right."""
    from ssl_suite.evaluation.task_data import load
    from ssl_suite.evaluation.tasks import build_modality

    modality, row = build_modality(task), {"benchmark": task.benchmark, "name": task.name}
    if _state(task, settings) != "here":
        return row
    begin = time.monotonic()
    data = load(task, modality, {"root": settings["data.root"], "cache": settings["data.cache"]}, {})
    return row | {
        "items": {name: len(part) for name, part in data.parts.items()},
        "classes": list(data.classes),
        "truncated": sum(part.truncated for part in data.parts.values()),
        "leakage": data.leakage,
        "data_sha256": data.data_sha256,
        "split_sha256": data.split_sha256,
        "seconds": round(time.monotonic() - begin, 2),
    }


def _asked(args: argparse.Namespace) -> tuple[dict[str, Any], list[Task], list[str]]:
    """The settings, the tasks that the free words name (benchmarks, tasks or files; without any, all), and the faults
    of those that are wrong."""
    from ssl_suite.evaluation import tasks

    words, names = split_free(args.words)
    settings = parse_words(words, KEYS)
    folders = tasks.task_folders(settings["tasks.path"])
    paths: list[Path] = [] if names else tasks.files(None, folders)
    for name in names:
        if name.endswith(".yaml"):
            paths.append(Path(name).expanduser())
        elif name in tasks.benchmarks(folders):
            paths += tasks.files(name, folders)
        else:
            known, folders_of = tasks.files(None, folders), tasks.benchmarks(folders)
            paths.append(tasks.match(name, known, "There is no task or benchmark", folders_of))
    found, faults = [], []
    for path in paths:
        try:
            found.append(tasks.load(path))
        except SuiteError as error:
            faults.append(str(error))
    return settings, found, faults


def _state(task: Task, settings: dict[str, Any]) -> str:
    """Whether the task's data are here, as ``data list`` says it."""
    from ssl_suite.data import catalogue
    from ssl_suite.evaluation.tasks import FILE, entry

    if task.data.startswith(FILE):
        return catalogue.PRESENT if (task.path.parent / task.data.removeprefix(FILE)).is_file() else catalogue.ABSENT
    source = catalogue.read_source((entry(task.data) or {})["source"], f"data={task.data}")
    where = catalogue.places(settings["data.root"], settings["data.cache"])
    return catalogue.Entry(task.data, source, catalogue.state(source, where)).shown


def _plain(task: Task) -> dict[str, Any]:
    """A task's benchmark and the keys of its file."""
    from ssl_suite.evaluation.tasks import KEYS as FIELDS

    return {"benchmark": task.benchmark, **{key: getattr(task, key) for key in FIELDS}}
