"""The lecture's analyses, each a figure and its numbers; the work is done in ``ssl_suite.analysis``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core.wording import count

LAYERS = {
    "task": Key(example="superb/ks"),
    "encoder": Key(example="random:tiny"),
    "budget": Key("small"),
    "out": Key(None, example="runs/layers"),
    "data.root": Key(None, example="/data"),
    "data.cache": Key(None, example="/big/cache"),
    "tasks.path": Key(None, example="tasks"),
    "threads": Key(None, int, least=1),
}
KEYS = {
    "task": Key(example="splice"),
    "arms": Key(None, example="BERT,rand"),
    "budget": Key(None, example="decided"),
    "benchmark": Key("cross_domain"),
    "root": Key(None, example="leaderboards"),
    "out": Key(None, example="runs/curves"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")


def curves(args: argparse.Namespace) -> int:
    """Draw the training loss over steps of a task's arms, with bands over seeds, and tell the areas between them.

    examples:
      ssl_suite analyse curves task=splice
      ssl_suite analyse curves task=h3 arms=BERT,re-emb,rand out=figures

    settings:
      task=NAME           a task with rows, by its name or its base
      arms=A,B            only these lines; all that were trained else
      budget=NAME         whose rows; else those of the benchmark's plan, or of the budget with most arms
      benchmark=          the rows' benchmark (default cross_domain)
      root=FOLDER         the leaderboards folder (default leaderboards)
      out=FOLDER          where curves-TASK.png and .json go (default runs/analysis)

    An area is told of each pair that the benchmark contrasts: how far the second lies above the first on average, over
    equal tokens, with Student's paired test over the seeds that both have.
    """
    given = parse_words(args.words, KEYS)
    from ssl_suite.analysis import curves as analysis
    from ssl_suite.evaluation import benchmark, rows

    root = Path(given["root"]) if given["root"] else rows.default_root()
    arms = given["arms"].split(",") if given["arms"] else None
    measured = rows.read_all(root, given["benchmark"])
    described = benchmark.of_rows(given["benchmark"], measured)
    planned = described.plan.budget if described.plan else None
    found = analysis.of_rows(measured, given["task"], arms, given["budget"], planned)
    contrasts = described.contrasts
    against = next((pair.b for pair in contrasts if pair.main), "rand")
    between = analysis.areas(found, [(pair.a, pair.b) for pair in contrasts])
    folder = Path(given["out"] or "runs/analysis")
    figure = folder / f"curves-{given['task']}.png"
    analysis.draw(found, figure, f"{given['task']}: training loss, mean and range over seeds")
    analysis.write_numbers(found, figure.with_suffix(".json"), between, against)
    for line in analysis.summary(found, against):
        reaches = ""
        if line["reaches"] is not None:
            reaches = f"; as low as {against} ends after {count(line['reaches'], 'step')}"
            reaches += f" ({line['reaches_tokens']:,.0f} tokens)" if line["reaches_tokens"] else ""
        size = f"{count(line['seeds'], 'seed')}, {count(line['steps'], 'step')}"
        print(f"{line['arm']:<18} {size}: ends at {line['end']:.4f}{reaches}")
    for each in between:
        test = "" if each.p is None else f" [{each.low:.4f}, {each.high:.4f}], p = {each.p:.3g}"
        over = f"{each.tokens:,.0f} tokens, {count(each.seeds, 'seed')}"
        print(f"{each.b} - {each.a}: {each.value:+.4f}{test} on average ({over})")
    print(f"{figure} and {figure.with_suffix('.json').name}")
    return 0


def layers(args: argparse.Namespace) -> int:
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
    given = parse_words(args.words, LAYERS)
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
