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

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_suite.commands.analyses import add_arguments
from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core.wording import count

__all__ = ["add_arguments", "main"]

KEYS = {
    "task": Key(example="splice"),
    "arms": Key(None, example="BERT,rand"),
    "budget": Key(None, example="decided"),
    "benchmark": Key("cross_domain"),
    "root": Key(None, example="leaderboards"),
    "out": Key(None, example="runs/curves"),
}


def main(args: argparse.Namespace) -> int:
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
