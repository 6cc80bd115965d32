"""Tell whether two languages lie on top of one another: dictionary pairs and sentences found by cosine, layer by layer.

examples:
  ssl_suite analyse alignment encoder=hf:intfloat/multilingual-e5-small pair=en-zh
  ssl_suite analyse alignment pair=en-fake tokens=300000,1000000
  ssl_suite analyse alignment budget=smoke

settings:
  encoder=A,B         run folders of modality=text, RUN@STEP, hf:NAME_OR_FOLDER or random:PRESET; with pair=en-fake
                      default runs that are trained here, in OUT/encoders, one for each of tokens=
  pair=en-fake        en-ar, en-de, en-es, en-fr, en-ja, en-ru, en-zh, or en-fake: English and its copy in other letters
  tokens=A,B          that the runs of pair=en-fake see
  sentences=1000      of each language, at most
  prefix=TEXT         before every sentence, as e5's "query: "
  budget=small        or smoke: the built-in novels and two runs of seconds
  out=FOLDER          where the page, the figures and the numbers go (default runs/analysis)
  publish=true        write them to leaderboards/analyses
  seed=0, data.root=, data.cache=, threads=

A word's vector is the mean over its places in sentences of its language, of which none is a translation of one of the
other's ("disjoint"). Controls: layer 0, translated sentences ("parallel"), the untrained network, and chance.
"""

from __future__ import annotations

import argparse

from ssl_suite.commands.analyses import add_arguments, finish, read
from ssl_suite.commands.words import Key

__all__ = ["add_arguments", "main"]

PAIRS = ("en-ar", "en-de", "en-es", "en-fake", "en-fr", "en-ja", "en-ru", "en-zh")
KEYS = {
    "encoder": Key(None, example="runs/mine"),
    "pair": Key(None, choices=PAIRS),
    "tokens": Key(None, example="300000,1000000"),
    "sentences": Key(None, int, least=20),
    "prefix": Key("", example="query: "),
}


def main(args: argparse.Namespace) -> int:
    given = read("alignment", args.words, KEYS)
    from ssl_suite.analysis import alignment
    from ssl_suite.data.sources import to_stderr

    return finish(alignment.measure(given, to_stderr), given)
