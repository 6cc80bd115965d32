"""Tables that are made of an entry's files: once, anew where files or recipe change, and by known recipes alone."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.registry import MODALITIES, build
from ssl_suite.data import recipes
from ssl_suite.data.sources import resolve_entry

CODE = """
import pyarrow.csv as csv
import pyarrow.compute as pc

def upper(paths):
    table = csv.read_csv(paths[0])
    return table.set_column(0, "text", pc.utf8_upper(table["text"]))
"""


def entry(path: Path, **more: Any) -> dict[str, Any]:
    content = path.read_bytes()
    file = {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    source = {
        "title": "three lines",
        "modality": "text",
        "use": "task",
        "official": "here",
        "files": [file],
        "columns": {},
        "splits": {},
        "licence": "none",
        "citation": "none",
    }
    return {"name": "lines", "root": str(path.parent), "source": source | more}


@pytest.fixture
def upper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a recipe of another package."""
    path = tmp_path / "code" / "uppercase_recipe.py"
    path.parent.mkdir()
    path.write_text(CODE)
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setitem(recipes.RECIPES, "upper", "uppercase_recipe:upper")
    return path


def test_a_table_is_made_once_and_anew_where_files_or_recipe_change(
    tmp_path: Path, upper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path / "cache"))
    data, text = tmp_path / "lines.csv", build(MODALITIES, "modality", {"name": "text"})
    data.write_text("text\none\ntwo\n")
    lines: list[str] = []

    def made() -> Path:
        (path,) = resolve_entry(text, entry(data, recipe="upper"), lines.append).paths
        return path

    first = made()
    assert pq.read_table(first)["text"].to_pylist() == ["ONE", "TWO"]
    assert made() == first and len(lines) == 1  # the second time it is there
    data.write_text("text\nthree\n")
    assert pq.read_table(made())["text"].to_pylist() == ["THREE"]
    upper.write_text(CODE.replace("utf8_upper", "utf8_reverse"))
    importlib.invalidate_caches()
    importlib.reload(importlib.import_module("uppercase_recipe"))
    assert pq.read_table(made())["text"].to_pylist() == ["eerht"]
    assert len(lines) == 3


def test_an_unknown_recipe_is_named_with_the_nearest(tmp_path: Path, upper: Path) -> None:
    data = tmp_path / "lines.csv"
    data.write_text("text\none\n")
    with pytest.raises(SuiteError, match=r"data=lines: source.recipe=uper does not exist. Did you mean 'upper'\?"):
        resolve_entry(build(MODALITIES, "modality", {"name": "text"}), entry(data, recipe="uper"))


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_has_its_function(name: str) -> None:
    place, _, attribute = recipes.RECIPES[name].partition(":")
    assert callable(getattr(importlib.import_module(place), attribute))
