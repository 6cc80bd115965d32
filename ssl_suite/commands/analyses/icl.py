"""Ask a causal model by examples in its prompt alone, and models trained on sums for sums that they have not seen.

examples:
  ssl_suite analyse icl encoder=hf:HuggingFaceTB/SmolLM2-135M task=add1,reverse
  ssl_suite analyse icl encoder=runs/sums
  ssl_suite analyse icl budget=smoke

settings:
  encoder=A,B         runs of modality=text objective=clm, or hf:NAME_OR_FOLDER with a causal head; a run of data=sums
                      is asked for sums of each part. Default: one is trained on data=sums per seed, in OUT/encoders
  task=A,B            names of tasks/icl/prompts/*.yaml; default all
  shots=0,1,8,32      examples before what is asked
  draws=5             of the shots
  items=20            that are asked
  sums=200            of each part that are asked
  steps=7000, seeds=3 of the models that are trained
  tasks.path=FOLDER   with icl/prompts/*.yaml of your own
  budget=small        or smoke: 30 steps on sums, in under a minute
  out=FOLDER          where the page, the figures and the numbers go (default runs/analysis)
  publish=true        write them to leaderboards/analyses
  seed=0, data.root=, data.cache=, threads=

Answers are greedy and must match letter by letter. The shots' keys and values are computed once a draw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_suite.commands.analyses import add_arguments, finish, read
from ssl_suite.commands.words import Key

__all__ = ["add_arguments", "main"]

KEYS = {
    "encoder": Key(None, example="runs/sums"),
    "task": Key(None, example="add1,reverse"),
    "shots": Key(None, example="0,1,8"),
    "draws": Key(None, int, least=1, example="5"),
    "items": Key(None, int, least=1, example="20"),
    "sums": Key(None, int, least=1, example="200"),
    "steps": Key(None, int, least=1, example="7000"),
    "seeds": Key(None, int, least=1, example="3"),
    "tasks.path": Key(None, example="tasks"),
}


def main(args: argparse.Namespace) -> int:
    given = read("icl", args.words, KEYS)
    from ssl_suite.analysis import icl_report
    from ssl_suite.data.sources import to_stderr

    runs = Path(given["out"] or "runs/analysis")
    return finish(icl_report.measure(given, runs, to_stderr), given)
