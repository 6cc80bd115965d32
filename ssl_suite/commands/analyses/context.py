"""Show whether context changes a word: cosines of its uses by layer, sense accuracy of the nearest one, a plane.

examples:
  ssl_suite analyse context encoder=hf:intfloat/multilingual-e5-small
  ssl_suite analyse context encoder=runs/mine word=apple sentences=my.csv
  ssl_suite analyse context budget=smoke

settings:
  encoder=REF         a run folder of modality=text, RUN@STEP, hf:NAME_OR_FOLDER or random:PRESET
  sentences=A,B       sets: a CSV or parquet file with the columns text and sense (also word, start and end, id, split),
                      a built-in one (apple, pingguo), or a data set (senses_apple, senses_senseval, senses_homographs);
                      default: all of these, of budget smoke the built-in ones
  word=WORD           only this word; needed where a file has no column word
  most=50             uses of each word and part, drawn by the seed; 0 takes all
  layout=auto         of the plane: tsne (openTSNE), pca, or auto, t-SNE where it is installed
  budget=small        or smoke: an untrained encoder on the built-in sets, in seconds
  out=FOLDER          where the page, the figures and the numbers go (default runs/analysis)
  publish=true        write them to leaderboards/analyses
  seed=0, data.root=, data.cache=, threads=

Text is compared in lower case. Controls: layer 0, the majority's share, shuffled labels, and the untrained network.
"""

from __future__ import annotations

import argparse

from ssl_suite.commands.analyses import add_arguments, finish, read
from ssl_suite.commands.words import Key
from ssl_suite.core.errors import SuiteError

__all__ = ["add_arguments", "main"]

KEYS = {
    "encoder": Key(None, example="runs/mine"),
    "sentences": Key(None, example="my.csv"),
    "word": Key(None, example="apple"),
    "most": Key(None, int, least=0, example="100"),
    "layout": Key("auto", choices=("auto", "tsne", "pca")),
}


def main(args: argparse.Namespace) -> int:
    given = read("context", args.words, KEYS)
    if given["encoder"] is None:
        raise SuiteError("encoder= is missing: add encoder=runs/mine, or take budget=smoke.")
    from ssl_suite.analysis import context
    from ssl_suite.data.sources import to_stderr

    return finish(context.measure(given, to_stderr), given)
