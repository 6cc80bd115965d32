"""Judge what a GPT writes: perplexity under a count model, new n-grams, frequencies and lengths beside held-out data.

examples:
  ssl_suite analyse written encoder=runs/gpt
  ssl_suite analyse written encoder=runs/tunes samples=20 temperature=0.9
  ssl_suite analyse written budget=smoke modality=protein

settings:
  encoder=RUN         a run of objective=clm; its training data must be where they were
  modality=NAME       without encoder=, of the sample that budget=smoke trains on (default dna)
  samples=100         sequences, each from nothing
  length=N            tokens of each at most; what the window holds
  temperature=1, top_p=P   as of generate
  longest=8           of the n-grams
  budget=small        or smoke: 60 training steps on a built-in sample, 8 sequences
  out=FOLDER          where the page, figures, numbers and tunes go (default runs/analysis)
  publish=true        write them to leaderboards/analyses
  seed=0, data.root=, data.cache=, threads=

Held-out sequences, and what was written with its tokens shuffled, are judged the same way. Music is written as MIDI
too, and the first tune that has a note is drawn as a piano roll.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_suite.commands.analyses import add_arguments, finish, read
from ssl_suite.commands.words import Key
from ssl_suite.core.errors import SuiteError

__all__ = ["add_arguments", "main"]

KEYS = {
    "encoder": Key(None, example="runs/gpt"),
    "modality": Key(None, choices=("text", "dna", "protein", "music")),
    "samples": Key(None, int, least=2, example="100"),
    "length": Key(None, int, least=2, example="100"),
    "temperature": Key(1.0, float, least=0, example="0.9"),
    "top_p": Key(None, float, least=0, example="0.95"),
    "longest": Key(None, int, least=2, example="8"),
}


def main(args: argparse.Namespace) -> int:
    given = read("written", args.words, KEYS)
    if given["encoder"] is None and given["steps"] is None:
        raise SuiteError("encoder= is missing: add encoder=RUN, a run of objective=clm, or take budget=smoke.")
    from ssl_suite.analysis import written
    from ssl_suite.data.sources import to_stderr

    return finish(written.measure(given, Path(given["out"] or "runs/analysis"), to_stderr), given)
