"""Draw what a task's probe takes of each layer of an encoder, and how good each layer is by itself, on dev.

examples:
  ssl_suite analyse layers task=sample/voice encoder=random:tiny budget=smoke
  ssl_suite analyse layers task=sample/gc encoder=runs/mine budget=smoke out=figures

settings:
  task=NAME           a task by its name or base, with its benchmark where two have one of that name
  encoder=REF         a run folder, RUN@STEP, hf:FOLDER, random:PRESET or fbank
  budget=small        rates and seeds of the probes (conf/budget/NAME.yaml, or a file)
  out=FOLDER          where layers-TASK-ENCODER.png and .json go, and the trials; the same command goes on there
                      (default runs/analysis)
  data.root=, data.cache=, tasks.path=, threads=   as of bench
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_suite.commands.analyses import add_arguments
from ssl_suite.commands.words import Key, parse_words

__all__ = ["add_arguments", "main"]

KEYS = {
    "task": Key(example="superb/ks"),
    "encoder": Key(example="random:tiny"),
    "budget": Key("small"),
    "out": Key(None, example="runs/layers"),
    "data.root": Key(None, example="/data"),
    "data.cache": Key(None, example="/big/cache"),
    "tasks.path": Key(None, example="tasks"),
    "threads": Key(None, int, least=1),
}


def main(args: argparse.Namespace) -> int:
    given = parse_words(args.words, KEYS)
    from ssl_suite.analysis import layers as analysis
    from ssl_suite.evaluation import budget, references, tasks, trial

    folder, folders = Path(given["out"] or "runs/analysis"), tasks.task_folders(given["tasks.path"])
    home, _, name = given["task"].rpartition("/")
    task = tasks.load(tasks.match(name, tasks.files(home or None, folders), "there is no task"))
    place = {"root": given["data.root"], "cache": given["data.cache"]}
    chosen = budget.load(given["budget"]).of_cell(task.base, "")
    plan = trial.Plan(task, given["encoder"], "probe", chosen, chosen.seeds[0], 0.0, place)
    found = analysis.measure(plan, folder / "trials", print, given["threads"])
    short = references.parse(given["encoder"]).short.replace(":", "-")
    figure = folder / f"layers-{task.base}-{short}.png"
    folder.mkdir(parents=True, exist_ok=True)
    analysis.draw(found, figure)
    analysis.write_numbers(found, figure.with_suffix(".json"))
    for layer, score in found.alone.items():
        shares = [each[layer] for each in found.weights.values()]
        share = f", {sum(shares) / len(shares):.3f} of the sum" if shares else ""
        print(f"layer {layer}: {found.metric} {'undefined' if score is None else f'{score:.4f}'}{share}")
    if found.mixed is not None:
        print(f"all: {found.metric} {found.mixed:.4f}")
    print(f"{figure} and {figure.with_suffix('.json').name}")
    return 0
