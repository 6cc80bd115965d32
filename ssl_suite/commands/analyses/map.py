"""Draw records of any modality on a plane by their embeddings: a PNG, and a page on which each is seen or heard.

examples:
  ssl_suite analyse map encoder=runs/mine input=my.fasta
  ssl_suite analyse map encoder=hf:FOLDER modality=image input=photos.parquet color=label
  ssl_suite analyse map budget=smoke

settings:
  encoder=REF         a run folder, RUN@STEP, hf:NAME_OR_FOLDER, random:PRESET or fbank
  modality=NAME       of what is read; a run knows its own
  input=PATH          a file, a folder, a glob, or a NAME of `ssl_suite data list`; default the built-in sample
  color=COLUMN        of a table, a tag of the records (split, language, …), id or source
  layer=-1            0 is the embedding, 1 the first layer, -1 the last; the mean over a record's positions
  most=500            records, drawn by the seed
  layout=auto         tsne (openTSNE), pca, or auto, t-SNE where it is installed
  column=, id_column= of a table, when they are not called as the modality expects
  budget=small        or smoke: 60 proteins of the sample by an untrained encoder
  out=FOLDER          where map.html, map-hover.html, the figure and the numbers go (default runs/analysis)
  publish=true        write them to leaderboards/analyses
  seed=0, data.root=, data.cache=, threads=

map-hover.html needs no other file and no network: pictures are shown, recordings and music are played.
"""

from __future__ import annotations

import argparse

from ssl_suite.commands.analyses import add_arguments, finish, read
from ssl_suite.commands.words import Key
from ssl_suite.core.errors import SuiteError

__all__ = ["add_arguments", "main"]

KEYS = {
    "encoder": Key(None, example="runs/mine"),
    "modality": Key(None, example="image"),
    "input": Key(None, example="my.fasta"),
    "color": Key(None, example="label"),
    "layer": Key(-1, int),
    "most": Key(None, int, least=2, example="500"),
    "layout": Key("auto", choices=("auto", "tsne", "pca")),
    "column": Key(None),
    "id_column": Key(None),
}


def main(args: argparse.Namespace) -> int:
    given = read("map", args.words, KEYS)
    if given["encoder"] is None:
        raise SuiteError("encoder= is missing: add encoder=runs/mine, or take budget=smoke.")
    from ssl_suite.analysis import maps
    from ssl_suite.data.sources import to_stderr

    return finish(maps.measure(given, to_stderr), given)
