"""Show what symbols' vectors mean before any context: neighbours of words, residues against BLOSUM62.

examples:
  ssl_suite analyse vectors encoder=runs/words neighbours=king,she,water
  ssl_suite analyse vectors encoder=runs/proteins
  ssl_suite analyse vectors budget=smoke

settings:
  encoder=RUN         a run folder, or RUN@STEP; default: CBOW is trained below OUT/encoders
  neighbours=A,B      words whose nearest neighbours are told; each is one symbol of the run
  modality=, data=, steps=   of the CBOW run that is trained (default protein, swissprot2014_sample, 600)
  budget=small        or smoke: 40 steps on the sample of proteins
  out=FOLDER          where the page, the figures and the numbers go (default runs/analysis)
  publish=true        write them to leaderboards/analyses
  seed=0, data.root=, data.cache=, threads=

Controls: the untrained table, and residues exchanged at random.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_suite.commands.analyses import add_arguments, finish, read
from ssl_suite.commands.words import Key

__all__ = ["add_arguments", "main"]

KEYS = {
    "encoder": Key(None, example="runs/words"),
    "neighbours": Key(None, example="king,she"),
    "modality": Key(None, example="protein"),
    "data": Key(None, example="swissprot2014_sample"),
    "steps": Key(None, int, least=1, example="600"),
}


def main(args: argparse.Namespace) -> int:
    given = read("vectors", args.words, KEYS)
    from ssl_suite.analysis import vectors
    from ssl_suite.data.sources import to_stderr

    return finish(vectors.measure(given, Path(given["out"] or "runs/analysis"), to_stderr), given)
