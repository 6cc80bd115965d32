"""Turn one language into another by a vector: the difference of the languages' mean states, added at a layer.

examples:
  ssl_suite analyse language_vector tokens=1000000
  ssl_suite analyse language_vector encoder=runs/multilingual pair=en-de alphas=0,1,2
  ssl_suite analyse language_vector budget=smoke

settings:
  encoder=RUN         a run of modality=text objective=mlm, or RUN@STEP; with pair=en-fake default one that is trained
                      here, in OUT/encoders; an encoder of transformers has no head that this suite decodes with
  pair=en-fake        en-ar, en-de, en-es, en-fr, en-ja, en-ru, en-zh, or en-fake: English and its copy in other letters
  alphas=0,1,2        how often the vector is added
  tokens=NUMBER       that the run of pair=en-fake sees
  sentences=500       of each language, at most
  budget=small        or smoke: the built-in novels and a run of seconds
  out=FOLDER          where the page, the figures and the numbers go (default runs/analysis)
  publish=true        write them to leaderboards/analyses
  seed=0, data.root=, data.cache=, threads=

The vector comes from sentences that are no translations of those it is tried on. Controls: nothing added (alpha 0), and
a random vector of the same length.
"""

from __future__ import annotations

import argparse

from ssl_suite.commands.analyses import add_arguments, finish, read
from ssl_suite.commands.analyses.alignment import PAIRS
from ssl_suite.commands.words import Key

__all__ = ["add_arguments", "main"]

KEYS = {
    "encoder": Key(None, example="runs/mine"),
    "pair": Key(None, choices=PAIRS),
    "alphas": Key(None, example="0,1,2"),
    "tokens": Key(None, example="1000000"),
    "sentences": Key(None, int, least=20),
}


def main(args: argparse.Namespace) -> int:
    given = read("language_vector", args.words, KEYS)
    from ssl_suite.analysis import language_vector
    from ssl_suite.data.sources import to_stderr

    return finish(language_vector.measure(given, to_stderr), given)
