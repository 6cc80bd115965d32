"""Data sets that are made from published files: what the ``recipe`` of a catalogue entry may name.

A recipe is a function ``(paths: list[Path]) -> pyarrow.Table`` of the entry's checked files, in the order in which the
entry lists them. It is a pure function of their bytes: equal files give an equal table on every machine. The table is
written once, as parquet, into the cache; its name carries a hash of the files and of the recipe's source, so that a
change of either makes it anew.

A new recipe is one file here and its line in ``RECIPES``. What it uses of another recipe's file it takes from that
module, imported as a module, so that the hash covers both.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.data.cache import cache_folder, content_hash, lock

if TYPE_CHECKING:
    import pyarrow as pa

Recipe = Callable[[list[Path]], "pa.Table"]
ROWS = 1024  # of a row group, which is what readers hold in memory

HERE = "ssl_suite.data.recipes"
RECIPES: dict[str, str] = {
    "bilingual": f"{HERE}.bilingual:bilingual",
    "dna_folds": f"{HERE}.folds:dna_folds",
    "fake_english": f"{HERE}.bilingual:fake_english",
    "glue": f"{HERE}.glue:official",
    "glue_entailment": f"{HERE}.glue:entailment",
    "glue_mnli": f"{HERE}.glue:mnli_official",
    "glue_mnli_proxy": f"{HERE}.glue:mnli",
    "glue_qnli_proxy": f"{HERE}.glue:qnli_proxy",
    "glue_qqp_proxy": f"{HERE}.glue:qqp_proxy",
    "glue_sst2": f"{HERE}.glue:sst2",
    "glue_stsb": f"{HERE}.glue:stsb",
    "glue_unlabelled": f"{HERE}.glue:unlabelled",
    "senses_apple": f"{HERE}.senses:apple",
    "senses_homographs": f"{HERE}.senses:homographs",
    "senses_senseval": f"{HERE}.senses:senseval",
    "snli_dev": f"{HERE}.glue:snli",
    "speech_mix_clean": f"{HERE}.superb:mix_clean",
    "squad_proxy": f"{HERE}.reading:squad_proxy",
    "sums": f"{HERE}.sums:sums",
    "superb_digits": f"{HERE}.superb:digits",
    "superb_emotions": f"{HERE}.superb_corpora:emotions",
    "superb_intents": f"{HERE}.superb_corpora:intents",
    "superb_keywords": f"{HERE}.superb_corpora:keywords",
    "superb_letters": f"{HERE}.superb:letters",
    "superb_mixtures": f"{HERE}.superb_sound:mixtures",
    "superb_phones": f"{HERE}.superb:phones",
    "superb_queries": f"{HERE}.superb_sound:queries",
    "superb_transcripts": f"{HERE}.superb_corpora:transcripts",
    "superb_trials": f"{HERE}.superb:trials",
    "superb_values": f"{HERE}.superb:values",
    "superb_voices": f"{HERE}.superb:voices",
    "treebanks": f"{HERE}.treebanks:tags",
    "xquad": f"{HERE}.reading:cross_lingual",
}


def made(name: str, recipe: str, paths: Sequence[Path], given_cache: str | None, report: Callable[[str], None]) -> Path:
    """The parquet file that a recipe makes of an entry's files; from the cache where it is there.

    Args:
        name: the entry's, for messages and the file.

    Raises:
        SuiteError: there is no such recipe, or the files are not what it takes.
    """
    import pyarrow.parquet as pq

    if recipe not in RECIPES:
        raise SuiteError(f"data={name}: source.recipe={recipe} does not exist.{nearest(recipe, RECIPES)}")
    place, _, attribute = RECIPES[recipe].partition(":")
    module = importlib.import_module(place)
    mine = [module, *(one for one in vars(module).values() if getattr(one, "__package__", None) == __name__)]
    digest = hashlib.sha256(b"".join(Path(str(one.__file__)).read_bytes() for one in mine))
    for part in (recipe, *(content_hash(path, given_cache) for path in paths)):
        digest.update(part.encode())
    path = cache_folder(given_cache) / "made" / f"{name}-{digest.hexdigest()[:16]}.parquet"
    if path.is_file():
        return path
    path.parent.mkdir(exist_ok=True)
    with lock(path.with_suffix(".lock"), lambda: report(f"data={name}: waiting for another process that makes it")):
        if not path.is_file():
            report(f"data={name}: making {path}")
            table = getattr(module, attribute)(list(paths))
            with atomic.replacing(path) as unfinished:
                pq.write_table(table, unfinished, row_group_size=ROWS, compression="zstd")
    return path
