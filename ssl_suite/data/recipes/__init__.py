"""Data sets that are made from published files: what the ``recipe`` of a catalogue entry may name.

A recipe is a function ``(paths: list[Path]) -> pyarrow.Table`` of the entry's checked files, in the order in which the
entry lists them. It is a pure function of their bytes: equal files give an equal table on every machine. The table is
written once, as parquet, into the cache; its name carries a hash of the files and of the recipe's source, so that a
change of either makes it anew.

A new recipe is one file here and its line in ``RECIPES``.
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

RECIPES: dict[str, str] = {
    "dna_folds": "ssl_suite.data.recipes.folds:dna_folds",
    "glue": "ssl_suite.data.recipes.glue:official",
    "glue_entailment": "ssl_suite.data.recipes.glue:entailment",
    "glue_mnli": "ssl_suite.data.recipes.glue:mnli_official",
    "glue_mnli_proxy": "ssl_suite.data.recipes.glue:mnli",
    "glue_qnli_proxy": "ssl_suite.data.recipes.glue:qnli_proxy",
    "glue_qqp_proxy": "ssl_suite.data.recipes.glue:qqp_proxy",
    "glue_sst2": "ssl_suite.data.recipes.glue:sst2",
    "glue_stsb": "ssl_suite.data.recipes.glue:stsb",
    "glue_unlabelled": "ssl_suite.data.recipes.glue:unlabelled",
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
    digest = hashlib.sha256(Path(str(module.__file__)).read_bytes())
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
