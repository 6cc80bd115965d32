"""GLUE's recipes: every layout gives one table, and what is cut anew shares no sentence."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_yaml
from ssl_suite.core.registry import MODALITIES, build
from ssl_suite.core.resources import folder as resource
from ssl_suite.data import recipes
from ssl_suite.data.catalogue import read_source, state
from ssl_suite.data.recipes import glue
from ssl_suite.data.sources import resolve_entry
from tests.data.recipes import mini_glue


def function(entry: str):
    place, _, name = recipes.RECIPES[
        read_yaml(resource("conf") / "data" / f"{entry}.yaml")["source"]["recipe"]
    ].partition(":")
    return getattr(importlib.import_module(place), name)


@pytest.mark.parametrize("folder", sorted(mini_glue.HUB))
def test_both_layouts_give_the_items_that_were_written(folder: str, tmp_path: Path) -> None:
    name = mini_glue.HUB[folder][0]
    tsv = sorted(mini_glue.write_tsv(tmp_path / "tsv", folder).glob("*"))
    hub = sorted(mini_glue.write_hub(tmp_path / "hub", folder).glob("*"))
    made = [function(f"glue_{name}")(files) for files in (tsv, hub)]
    tables = [sorted(table.to_pylist(), key=lambda row: (row["split"], row["idx"])) for table in made]
    assert tables[0] == tables[1]
    pair, labelled = (
        len(mini_glue.HUB[folder][1]) == 2,
        [part for part in mini_glue.parts(folder) if "test" not in part],
    )
    for part in labelled:
        found = [row for row in tables[0] if row["split"] == part]
        written = mini_glue.items(folder, part, mini_glue.size(part))
        expected = [(a, b if pair else None, float(c) if folder == "STS-B" else c) for a, b, c in written]
        assert [(row["sentence1"], row.get("sentence2"), row["label"]) for row in found] == expected
    assert {row["split"] for row in tables[0]} == {*labelled}
    blind = glue.unlabelled(hub)
    assert blind.num_rows == mini_glue.size("test") * (2 if folder == "MNLI" else 1)
    assert blind.column("label").null_count == blind.num_rows


def test_a_user_of_any_layout_is_served(tmp_path: Path) -> None:
    """The catalogue finds GLUE's folder, the hub's, and says what is missing elsewhere."""
    text, section = (
        build(MODALITIES, "modality", {"name": "text"}),
        read_yaml(resource("conf") / "data" / "glue_rte.yaml"),
    )
    source = read_source(section["source"], "glue_rte")
    found = []
    for kind in ("tsv", "hub"):
        root = tmp_path / kind
        getattr(mini_glue, f"write_{kind}")(root, "RTE")
        assert state(source, [root]) == "here"
        (path,) = resolve_entry(text, {**section, "root": str(root), "cache": str(tmp_path)}, lambda line: None).paths
        found.append(pq.read_table(path).to_pylist())
    assert sorted(map(str, found[0])) == sorted(map(str, found[1]))
    assert state(source, [tmp_path / "empty"]) == "absent"
    with pytest.raises(
        SuiteError, match=r"glue/rte/RTE/train.tsv is not here; get it with `ssl_suite data fetch glue_rte`"
    ):
        resolve_entry(text, {**section, "root": str(tmp_path / "empty"), "cache": str(tmp_path)})


def test_rows_that_lack_fields_are_left_out_of_train_alone(tmp_path: Path) -> None:
    whole = mini_glue.write_tsv(tmp_path, "QQP")
    for part in ("train", "dev"):
        with (whole / f"{part}.tsv").open("a") as file:
            file.write("99\t1\t2\tcut off\n")
    assert len(glue.rows_of(whole / "train.tsv")) == 60
    with pytest.raises(SuiteError, match=r"dev.tsv: row 13 has 4 fields of 6; get the file again"):
        glue.rows_of(whole / "dev.tsv")


def test_what_is_not_glue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(SuiteError, match=r"train.tsv: has the columns a, b, which no task of GLUE has"):
        glue.official([path])
    other = tmp_path / "mine.tsv"
    other.write_text("sentence\tlabel\nx\t1\n")
    with pytest.raises(SuiteError, match=r"mine.tsv: its name says neither train, dev nor test"):
        glue.official([other])
    path.write_text("sentence\tlabel\nx\t\n")
    with pytest.raises(SuiteError, match=r"train.tsv: row 1 has no label"):
        glue.official([path])
    with pytest.raises(SuiteError, match=r"items without labels \(test.tsv\) are not here"):
        glue.unlabelled([path])


def parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_phrases_are_kept_once_and_linked_by_five_words(tmp_path: Path) -> None:
    phrases = [
        ("a very good film about nothing much", 1),
        ("A very good film , about nothing much !", 1),  # the same letters
        ("very good film about nothing", 1),  # a part of the first
        ("one that bears two labels here", 0),
        ("one that bears two labels , here", 1),
        ("too short to keep", 1),
        ("a quite different and dull film", 0),
    ]
    train = parquet(tmp_path / "sst2_train.parquet", [{"sentence1": text, "label": label} for text, label in phrases])
    dev = parquet(tmp_path / "sst2_dev.parquet", [{"sentence1": "too short", "label": 1}])
    rows = glue.sst2([train, dev]).to_pylist()
    assert [row["sentence1"] for row in rows] == [phrases[0][0], phrases[2][0], phrases[6][0], "too short"]
    first, part, other, _ = (row["group"] for row in rows)
    assert first == part != other


def test_a_cut_shares_no_sentence(tmp_path: Path) -> None:
    """Components against a naive search over shared sentences, on random pairs."""
    draw = random.Random(0)
    pairs = [(f"Q{draw.randrange(500)}", f"Q{draw.randrange(500)}") for _ in range(150)]
    rows = [{"question1": a, "question2": b, "label": i % 2} for i, (a, b) in enumerate(pairs)]
    made = glue.proxy([parquet(tmp_path / "qqp_train.parquet", rows)], 0.3).to_pylist()
    again = glue.proxy([tmp_path / "qqp_train.parquet"], 0.3).to_pylist()
    assert made == again and len(made) == 150
    sides = {
        name: {t for row in made if row["split"] == name for t in (row["sentence1"], row["sentence2"])}
        for name in ("train", "eval")
    }
    assert sides["train"].isdisjoint(sides["eval"])
    assert 0.3 <= sum(row["split"] == "eval" for row in made) / 150 < 0.75
    for row in made:
        reached, waiting = set(), {row["sentence1"]}
        while waiting:
            text = waiting.pop()
            reached.add(text)
            waiting |= {t for pair in pairs if text in pair for t in pair} - reached
        mine = {
            t
            for r in made
            if (r["split"], r["group"]) == (row["split"], row["group"])
            for t in (r["sentence1"], r["sentence2"])
        }
        assert mine == reached


def test_treebank_tokens_are_joined(tmp_path: Path) -> None:
    pytest.importorskip("nltk")
    rows = [
        {"sentence1": "One .", "sentence2": "Two .", "label": "neutral", "proxy_split": split}
        for split in ("train", "eval")
    ]
    tokens = "You ca n't take it -LRB- I do n't -RRB- , she said ; it 's the dog 's ."
    mm = {"sentence1": tokens, "sentence2": "Neither can I , unfortunately .", "label": "neutral"}
    paths = [
        parquet(tmp_path / "mnli_dev_matched.parquet", rows),
        parquet(tmp_path / "mnli_dev_mismatched.parquet", [mm]),
    ]
    made = glue.mnli(paths).to_pylist()
    assert [row["split"] for row in made] == ["train", "eval", "mm"]
    assert made[2]["sentence1"] == "You can't take it (I don't), she said; it's the dog's."
    assert made[2]["sentence2"] == "Neither can I, unfortunately."
    assert made[0]["sentence1"] == "One ."
