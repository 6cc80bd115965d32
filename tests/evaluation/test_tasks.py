"""Task files: what they hold, how they are found, and that each fault is one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import tasks
from ssl_suite.settings import config

GOOD: dict[str, Any] = {
    "name": "mine@first",
    "title": "Mine",
    "version": 1,
    "modality": {"name": "dna", "max_length": 34},
    "data": "file:mine.parquet",
    "inputs": "sequence",
    "label": "label",
    "splits": {"column": "split", "train": "train", "dev": "valid", "test": "test"},
    "head": "classification",
    "metrics": ["accuracy", "mcc"],
    "select": "accuracy",
}


def write(folder: Path, name: str = "mine@first", benchmark: str = "bio", **changes: Any) -> Path:
    """A task's file; a value of None leaves the key out."""
    content = {key: value for key, value in (GOOD | {"name": name} | changes).items() if value is not None}
    path = folder / benchmark / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=1000), encoding="utf-8")
    return path


def test_the_cross_domain_tasks_follow_the_protocol() -> None:
    """Kao and Lee's lengths with special tokens, their metrics, and the names of their table's columns."""
    expected = {
        "localization@deeploc2sub": ("protein", 512, ["accuracy"], "localization"),
        "stability@tape": ("protein", 50, ["spearman", "spearman_within"], "stability"),
        "fluorescence@tape": ("protein", 256, ["spearman"], "fluorescence"),
        "h3@gue20": ("dna", 502, ["accuracy", "mcc"], "H3"),
        "h4@gue20": ("dna", 502, ["accuracy", "mcc"], "H4"),
        "h3k9ac@gue20": ("dna", 502, ["accuracy", "mcc"], "H3K9ac"),
        "splice@kao100": ("dna", 62, ["accuracy"], "splice"),
        "composer@classical15": ("music", 130, ["accuracy"], "composer"),
    }
    found = {task.name: task for task in tasks.all_tasks("cross_domain")}
    assert set(found) == set(expected)
    for name, (modality, length, metrics, reference) in expected.items():
        task = found[name]
        assert (task.modality["name"], task.modality["max_length"]) == (modality, length)
        assert (task.metrics, task.reference, task.select) == (metrics, reference, metrics[0])
        assert task.caveat and task.benchmark == "cross_domain"
    assert found["composer@classical15"].modality["tokenizer"] == "pitch"
    assert found["composer@classical15"].overflow == "chunks"


def test_the_modality_is_what_a_run_would_compose() -> None:
    task = tasks.find("cross_domain", "h3")
    words = ["modality=dna", "modality.max_length=502"]
    assert tasks.modality_section(task) == config.compose(words)["modality"]
    assert tasks.build_modality(task).max_length == 502
    music = tasks.build_modality(tasks.find("cross_domain", "composer"))
    assert (music.tokenizer, music.max_length, len(music.vocabulary)) == ("pitch", 130, 5 + 128)


def test_find(tmp_path: Path) -> None:
    for name in ("one@a", "two@a", "two@b"):
        write(tmp_path, name)
    folders = tasks.task_folders(tmp_path)
    assert tasks.find("cross_domain", "splice", folders).name == "splice@kao100"
    assert tasks.find("bio", "one", folders).path == tmp_path / "bio" / "one@a.yaml"
    assert tasks.find("bio", "two@b", folders).base == "two"
    assert [task.name for task in tasks.all_tasks("bio", folders)] == ["one@a", "two@a", "two@b"]
    shipped = {path.stem for path in resources.folder("tasks").glob("*/*.yaml")}
    assert {task.name for task in tasks.all_tasks(None, folders)} == shipped | {"one@a", "two@a", "two@b"}
    with pytest.raises(SuiteError, match="is one of two@a, two@b: say which"):
        tasks.find("bio", "two", folders)
    with pytest.raises(SuiteError, match="Did you mean 'splice'"):
        tasks.find("cross_domain", "splcie", folders)
    with pytest.raises(SuiteError, match="Did you mean 'cross_domain'"):
        tasks.all_tasks("cross-domain", folders)
    with pytest.raises(SuiteError, match="is not a folder"):
        tasks.task_folders(tmp_path / "none")


def test_a_name_stands_for_one_task(tmp_path: Path) -> None:
    write(tmp_path, "splice@kao100", "cross_domain")
    with pytest.raises(SuiteError, match="two tasks of one name"):
        tasks.all_tasks("cross_domain", tasks.task_folders(tmp_path))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"head": "classifcation"}, "head=classifcation does not exist. Did you mean 'classification'?"),
        ({"metrics": ["acuracy"]}, "metric acuracy does not exist. Did you mean 'accuracy'?"),
        ({"metrics": []}, "metrics=[] should have at least 1 item"),
        ({"metrics": ["accuracy", "accuracy"]}, "one of them twice"),
        ({"select": "spearman"}, "metric spearman is of values, not of the classes of classification: accuracy"),
        ({"modality": {"name": "dan"}}, "modality.name=dan does not exist. Did you mean 'dna'?"),
        ({"modality": {"name": "dna", "max_lenght": 3}}, "Did you mean 'max_length'?"),
        ({"data": "h3_gue02"}, "Did you mean 'h3_gue20'?"),
        ({"data": "stability"}, "data=stability is protein, not dna"),
        ({"overflow": "chunk"}, "overflow=chunk should be 'truncate', 'middle' or 'chunks'"),
        ({"inputs": ["a", "b", "c"]}, "inputs=['a', 'b', 'c'] should have at most 2 items"),
        ({"inputs": 3}, "inputs=3 should be a valid list"),
        ({"labl": "x"}, "'labl' is not a known key. Did you mean 'label'?"),
        ({"splits": {"column": "s", "train": "a", "dev": "b", "test": "b"}}, "different values or files"),
        ({"splits": {"train": "a", "dev": "b", "test": "c"}}, "splits.train=a is a value: name its column"),
        ({"splits": {"column": "s", "train": "a", "dev": "b"}}, "splits.test is missing"),
        ({"splits": {"column": "s", "train": "a", "test": "c"}}, "or 'dev: 10% of train', and not both"),
        ({"dev": "10% of train"}, "or 'dev: 10% of train', and not both"),
        ({"dev": "a tenth", "splits": {"column": "s", "train": "a", "test": "c"}}, "dev=a tenth should be a share"),
        ({"title": "x" * 31}, "title=" + "x" * 31 + " should have at most 30 characters"),
        ({"version": 0}, "version=0 should be greater than or equal to 1"),
        ({"version": "one"}, "version=one should be a valid integer"),
        ({"head": None, "select": None}, "head, select missing"),
        ({"metric": "accuracy"}, "'metric' is not a known key. Did you mean 'metrics'?"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, changes: dict, expected: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(SuiteError) as caught:
        tasks.load(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_faults_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert tasks.load(path).caveat == ""
    path.write_text(path.read_text() + "# \n" * 15)
    with pytest.raises(SuiteError, match="has 26 lines; a task has at most 20"):
        tasks.load(path)
    path.write_text("name: [\n")
    with pytest.raises(SuiteError, match="is not YAML"):
        tasks.load(path)
    path.write_text("- a\n")
    with pytest.raises(SuiteError, match="should hold keys and values"):
        tasks.load(path)
    with pytest.raises(SuiteError, match="cannot be read"):
        tasks.load(tmp_path / "none.yaml")
    with pytest.raises(SuiteError, match="name=mine@first should be the file's own, other@first"):
        tasks.load(write(tmp_path).rename(tmp_path / "other@first.yaml"))
    with pytest.raises(SuiteError, match="name=mine should be base@split"):
        tasks.load(write(tmp_path, "mine"))
    task = tasks.load(write(tmp_path, modality={"name": "dna", "tokenizer": "bass"}))
    with pytest.raises(SuiteError, match=r"mine@first.yaml: modality.tokenizer=bass should be 'base'"):
        tasks.build_modality(task)
