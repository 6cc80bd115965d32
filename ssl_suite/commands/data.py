"""Data sets: what is known by name, tokenise once, look for leaks.

``data list``, ``data prepare`` and ``data verify``; the work is done in ``ssl_suite.data``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ssl_suite.commands.words import Key, settle

if TYPE_CHECKING:
    from ssl_suite.data.store import Store
    from ssl_suite.modalities.base import Modality


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, as `ssl_suite run` takes them")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own laid out like conf/; it comes first")


def list_sets(args: argparse.Namespace) -> int:
    """List the data sets known by name, and whether their files are here.

    examples:
      ssl_suite data list
      ssl_suite data list data.root=/data        looks for the files there instead of in $SSL_DATA_DIR
      ssl_suite data list --json                 with sources, licences, citations and checksums

    ssl_suite run data=NAME uses one of them. A file of your own needs no entry: data.path=my.fasta.
    """
    from ssl_suite.data.catalogue import list_entries

    entries = list_entries(settle(args.words, {"data.root": Key(default=None, example="/data")})["data.root"])
    if args.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False))
        return 0
    from rich.table import Table

    table = Table("name", "modality", "what it is", "size", "licence", "file below data.root", "here", box=None)
    for entry in entries:
        size = f"{entry.bytes / 1e6:,.1f} MB"
        table.add_row(entry.name, entry.modality, entry.title, size, entry.licence, entry.file, entry.state)
    _show(table)
    return 0


def prepare(args: argparse.Namespace) -> int:
    """Read and tokenise the data once; runs with the same settings then start at once.

    examples:
      ssl_suite data prepare modality=dna data.path=genomes/ data.workers=8
      ssl_suite data prepare modality=dna data.path=my.fasta modality.tokenizer=bpe modality.vocab_size=4096
      ssl_suite data prepare modality=dna data=yeast data.root=/data

    Goes on where it was when it is interrupted. The result lies in data.cache (default ~/.cache/ssl_suite).
    """
    _, store = _prepared(args)
    if args.json:
        print(json.dumps({"store": str(store.folder), **store.report}, indent=1, ensure_ascii=False))
    else:
        print(f"prepared: {store.folder}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Count records, lengths and repeats, and look for validation data that leaks into training.

    examples:
      ssl_suite data verify modality=dna data.path=my.fasta
      ssl_suite data verify modality=dna data=yeast data.root=/data --json

    Checks the SHA-256 of a data set known by name, and prepares the data first where that has not been done.
    """
    from ssl_suite.data.verify import table, verify

    modality, store = _prepared(args)
    result = verify(store, modality)
    if args.json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        _show(table(result))
    return 0


def _prepared(args: argparse.Namespace) -> tuple[Modality, Store]:
    """The modality and the prepared store that the words describe. With ``--json``, progress goes to stderr."""
    from ssl_suite import config, registry
    from ssl_suite.data.prepare import prepare

    cfg = config.compose(args.words, args.config_dir)
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = prepare(modality, cfg["data"], report=lambda text: print(text, file=sys.stderr if args.json else None))
    return modality, store


def _show(table: Any) -> None:
    """Print a table at its own width where the output is not a terminal, so that scripts see whole cells."""
    from rich.console import Console

    console = Console()
    Console(width=None if console.is_terminal else 240).print(table)
