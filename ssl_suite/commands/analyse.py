"""The lecture's analyses, each a figure and its numbers; the work is done in ``ssl_suite.analysis``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core.wording import count

KEYS = {
    "task": Key(example="splice"),
    "arms": Key(None, example="BERT,rand"),
    "benchmark": Key("cross_domain"),
    "root": Key(None, example="leaderboards"),
    "out": Key(None, example="runs/curves"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")


def curves(args: argparse.Namespace) -> int:
    """Draw the training loss over steps of a task's arms, with bands over seeds.

    examples:
      ssl_suite analyse curves task=splice
      ssl_suite analyse curves task=h3 arms=BERT,re-emb,rand out=figures

    settings:
      task=NAME           a task with rows, by its name or its base; those of the budget with most arms
      arms=A,B            only these lines; all that were trained else
      benchmark=          the rows' benchmark (default cross_domain)
      root=FOLDER         the leaderboards folder (default leaderboards)
      out=FOLDER          where curves-TASK.png and .json go (default runs/analysis)
    """
    given = parse_words(args.words, KEYS)
    from ssl_suite.analysis import curves as analysis
    from ssl_suite.evaluation import rows

    root = Path(given["root"]) if given["root"] else rows.default_root()
    arms = given["arms"].split(",") if given["arms"] else None
    found = analysis.of_rows(rows.read_all(root, given["benchmark"]), given["task"], arms)
    folder = Path(given["out"] or "runs/analysis")
    figure = folder / f"curves-{given['task']}.png"
    analysis.draw(found, figure, f"{given['task']}: training loss, mean and range over seeds")
    analysis.write_numbers(found, figure.with_suffix(".json"))
    for line in analysis.summary(found):
        reaches = "" if line["reaches"] is None else f"; as low as rand ends after {count(line['reaches'], 'step')}"
        size = f"{count(line['seeds'], 'seed')}, {count(line['steps'], 'step')}"
        print(f"{line['arm']:<18} {size}: ends at {line['end']:.4f}{reaches}")
    print(f"{figure} and {figure.with_suffix('.json').name}")
    return 0
