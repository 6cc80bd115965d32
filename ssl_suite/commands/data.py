"""Data sets: what is known by name, fetch it, tokenise once, look for leaks.

``data list``, ``fetch``, ``prepare``, ``verify`` and ``units``; the work is done in ``ssl_suite.data``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite.commands.embed import device
from ssl_suite.commands.words import Key, parse_words, split_free
from ssl_suite.core.errors import SuiteError

if TYPE_CHECKING:
    from ssl_suite.data.store import Store
    from ssl_suite.modalities.base import Modality

PLACES = {"data.root": Key(default=None, example="/data"), "data.cache": Key(default=None, example="/big/cache")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, as `ssl_suite run` takes them")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own laid out like conf/; it comes first")


def list_sets(args: argparse.Namespace) -> int:
    """List the data sets known by name, and whether their files are here.

    examples:
      ssl_suite data list
      ssl_suite data list data.root=/data        looks there too, instead of in $SSL_DATA_DIR
      ssl_suite data list --json                 with files, sources, licences, citations and checksums

    here: it can be used. fetch: `ssl_suite data fetch NAME` gets it. absent: it is published nowhere in this form, and
    `data fetch` says what to place where. ssl_suite run data=NAME uses one of them; a file of your own needs no entry:
    data.path=my.fasta.
    """
    from ssl_suite.data import catalogue

    settings = parse_words(args.words, PLACES)
    entries = catalogue.list_entries(settings["data.root"], settings["data.cache"], args.config_dir)
    if args.json:
        facts = [vars(entry) | {"source": entry.source.model_dump()} for entry in entries]
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        _show(catalogue.table(entries), 100)
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Download a data set known by name from its official source; goes on where it was when it is interrupted.

    examples:
      ssl_suite data fetch librispeech_dev_clean                   into data.cache, where data=NAME finds it
      ssl_suite data fetch squad11 data.root=/data                 into a folder of your own

    Checks length and SHA-256, and unpacks archives. Where there is no network, or SSL_OFFLINE=1 or HF_HUB_OFFLINE=1
    forbids it, it says which file to place where.
    """
    from ssl_suite.data import catalogue
    from ssl_suite.data.fetch import fetch

    words, names = split_free(args.words)
    if len(names) != 1:
        raise SuiteError("data fetch takes the name of one data set: see `ssl_suite data list`.")
    settings = parse_words(words, PLACES)
    root, cache = settings["data.root"], settings["data.cache"]
    entry = catalogue.find(catalogue.list_entries(root, cache, args.config_dir), names[0])
    to = sys.stderr if args.json else sys.stdout
    base = fetch(entry, root, cache, lambda text: print(text, file=to, flush=True), sys.stderr.isatty())
    if args.json:
        print(json.dumps({"name": entry.name, "folder": str(base)}))
    return 0


def prepare(args: argparse.Namespace) -> int:
    """Read and tokenise the data once; runs with the same settings then start at once.

    examples:
      ssl_suite data prepare modality=dna data.path=genomes/ data.workers=8
      ssl_suite data prepare modality=dna data.path=my.fasta modality.tokenizer=bpe modality.vocab_size=4096
      ssl_suite data prepare modality=dna data=yeast data.root=/data

    Goes on where it was when it is interrupted. The result lies in data.cache (default ~/.cache/ssl_suite).
    """
    _, store, _ = _prepared(args)
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
      ssl_suite data verify modality=speech data=speech_mix_clean tasks=superb

    tasks=BENCHMARK also counts the records and speakers that are in a dev or test split of one of its tasks.

    Checks the SHA-256 of a data set known by name and of every file prepared from it; prepares the data first where
    that has not been done, or is damaged.
    """
    from ssl_suite.data.verify import table, verify
    from ssl_suite.training import units

    name, columns = _taken(args, "tasks"), []
    if name:
        from ssl_suite.evaluation import benchmark, overlap, tasks

        columns = benchmark.tasks_of(benchmark.load(name), None, tasks.task_folders())
    modality, store, data = _prepared(args, thorough=True)
    units.discard_damaged(store, lambda text: print(text, file=sys.stderr))
    result = verify(store, modality)
    if name:
        result["tasks"] = overlap.compare(modality, data, [t for t in columns if t.modality["name"] == modality.name])
    if args.json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return 0
    _show(table(result))
    if name:
        _show(overlap.table(result["tasks"]))
    return 0


def units(args: argparse.Namespace) -> int:
    """Fit the codebook of a signal modality, give every frame its unit, and report how well it serves.

    examples:
      ssl_suite data units modality=speech
      ssl_suite data units modality=image data.path=photos/ modality.codes=1024 output=codebook.safetensors
      ssl_suite data units modality=speech data=fsdd modality.units=run:runs/speech@2

    Runs with the same settings find it in the cache. output= keeps a copy. Reported are the codes in use, their
    perplexity, the reconstruction error as a share of the variance, and the commonest code; a collapsed codebook and
    unused codes are warned of.
    """
    from ssl_suite.training.units import ensure_units as fit

    output = _taken(args, "output")
    modality, store, _ = _prepared(args)
    to = sys.stderr if args.json else sys.stdout
    facts = fit(modality, store, device(), report=lambda text: print(text, file=to, flush=True))
    if facts is None:
        raise SuiteError(f"modality={modality.name} reads tokens: units are for images and speech.")
    if output is not None:
        modality.codebook.save(Path(output))  # type: ignore[attr-defined]
        facts["path"] = output
    print(json.dumps(facts, indent=1) if args.json else f"codebook: {facts['path']}")
    return 0


def _taken(args: argparse.Namespace, key: str) -> str | None:
    """The value of a word that is no setting of runs, which is taken out of ``args.words``; None without it."""
    mine = [word for word in args.words if word.startswith(f"{key}=")]
    args.words = [word for word in args.words if word not in mine]
    return mine[0].partition("=")[2] if mine else None


def _prepared(args: argparse.Namespace, thorough: bool = False) -> tuple[Modality, Store, dict[str, Any]]:
    """The modality, the prepared store and the ``data`` section that the words describe. With ``--json``, progress goes
    to stderr."""
    from ssl_suite.core import registry
    from ssl_suite.data.prepare import prepare
    from ssl_suite.settings import config

    cfg = config.compose(args.words, args.config_dir)
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])

    def report(text: str) -> None:
        print(text, file=sys.stderr if args.json else None)

    store = prepare(modality, cfg["data"], report=report, thorough=thorough)
    return modality, store, cfg["data"]


def _show(table: Any, width: int = 240) -> None:
    """Print a table, ``width`` letters wide where the output is not a terminal."""
    from rich.console import Console

    console = Console()
    Console(width=None if console.is_terminal else width).print(table)
