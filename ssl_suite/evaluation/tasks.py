"""Downstream tasks: one YAML file each in ``tasks/BENCHMARK/NAME.yaml``, read and checked.

Nothing here imports torch, so that a list of tasks costs little; ``build_modality`` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from ssl_suite import resources
from ssl_suite.data import catalogue
from ssl_suite.errors import SuiteError, nearest
from ssl_suite.evaluation import metrics
from ssl_suite.registry import MODALITIES, build, describe, fits

PARTS = ("train", "dev", "test")
COLUMNS = ("input", "label", "split")
HEADS = {  # what its metrics take (see ``metrics.Metric``), and its class
    "classification": ("classes", "ssl_suite.evaluation.heads:Classification"),
    "regression": ("values", "ssl_suite.evaluation.heads:Regression"),
}
OVERFLOWS = ("truncate", "middle", "chunks")
FILE = "file:"  # of ``data``: a table beside the task's own file, not an entry of the catalogue
MOST_LINES, MOST_LETTERS = 20, 30
NAME = re.compile(r"[a-z0-9_]+@[a-z0-9_]+")


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: ``base@split``: a score belongs to a split, so the split is part of the name. Its file is called the same.
        title: a column's header, at most ``MOST_LETTERS`` letters.
        version: changes with anything that changes the number.
        modality: ``name`` and what differs from ``conf/modality/NAME.yaml``.
        data: an entry of the catalogue (``conf/data/``), or ``file:PATH``, a table beside the task's file.
        columns: which column of the table is ``input``, ``label`` and ``split``.
        splits: for ``train``, ``dev`` and ``test`` the value in the split column; rows with other values are not used.
        head: a key of ``HEADS``.
        metrics: keys of ``metrics.METRICS``, the main one first.
        select: the metric that chooses on dev.
        overflow: of items that are longer than the modality's window: ``truncate`` keeps its first tokens, ``middle``
            those around its middle, ``chunks`` cuts the item into pieces, which vote.
        reference: the ``task`` of published numbers in ``leaderboards/references``; None where there are none.
        caveat: what a reader of a score must know of the data, in a sentence.
        benchmark: the folder it is in.
        path: its file.
    """

    name: str
    title: str
    version: int
    modality: dict
    data: str
    columns: dict
    splits: dict
    head: str
    metrics: list
    select: str
    overflow: str = "truncate"
    reference: str | None = None
    caveat: str = ""
    benchmark: str = field(default="", kw_only=True)
    path: Path = field(default=Path(), kw_only=True)

    @property
    def base(self) -> str:
        """The name without its split."""
        return self.name.partition("@")[0]


KEYS = {item.name: item for item in fields(Task) if item.name not in ("benchmark", "path")}


def load(path: Path) -> Task:
    """The task of one file, checked but for its modality's values and its data.

    Raises:
        SuiteError: it cannot be read, is too long, or has a key, name or value that is wrong; the nearest is offered.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        content = yaml.load(text, catalogue.LOADER)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: is not YAML ({' '.join(str(error).split())[:120]}).") from None
    lines = len(text.splitlines())
    if lines > MOST_LINES:
        raise SuiteError(f"{path}: has {lines} lines; a task has at most {MOST_LINES}.")
    _check_keys(content, path)
    task = Task(**content, benchmark=path.absolute().parent.name, path=path.absolute())
    for fault in (_form(task), _names(task), _modality(task), _data(task)):
        if fault:
            raise SuiteError(f"{path}: {fault}")
    return task


def _check_keys(content: Any, path: Path) -> None:
    """The right keys, each with a value of its type."""
    if not isinstance(content, Mapping):
        raise SuiteError(f"{path}: a task holds keys and values: {', '.join(KEYS)}.")
    for key in content:
        if key not in KEYS:
            raise SuiteError(f"{path}: '{key}' is no key of a task.{nearest(str(key), KEYS)}")
    missing = [key for key, item in KEYS.items() if key not in content and item.default is MISSING]
    if missing:
        raise SuiteError(f"{path}: {', '.join(missing)} missing; a task needs it.")
    hints = get_type_hints(Task)
    for key, value in content.items():
        if not fits(value, hints[key]):
            raise SuiteError(f"{path}: {key}={value} should be {describe(hints[key])}.")


def _form(task: Task) -> str | None:
    """What is wrong with names, numbers and keys within keys; None where nothing is."""
    if not NAME.fullmatch(task.name):
        return f"name={task.name} should be base@split in small letters, digits and _, such as h3@gue20."
    if task.path.stem != task.name:
        return f"name={task.name} should be the file's own, {task.path.stem}; rename one of them."
    if not 0 < len(task.title) <= MOST_LETTERS:
        return f"title has {len(task.title)} letters; a column's header has 1 to {MOST_LETTERS}."
    if task.version < 1:
        return f"version={task.version} should be 1 or more."
    for key, wanted in (("columns", COLUMNS), ("splits", PARTS)):
        given = getattr(task, key)
        for name in given:
            if name not in wanted:
                return f"{key}.{name} is not known.{nearest(str(name), wanted)}"
        for name in wanted:
            if given.get(name) in (None, "") or isinstance(given[name], (list, dict)):
                return f"{key}.{name} should be {'the name of one column' if key == 'columns' else 'one value'}."
    if len({str(value) for value in task.splits.values()}) < len(PARTS):
        return "splits: train, dev and test should be three different values; a choice made on test is no test."
    return None


def _names(task: Task) -> str | None:
    """Which head, metric or rule does not exist, or does not fit."""
    for key, value, known in (("head", task.head, HEADS), ("overflow", task.overflow, OVERFLOWS)):
        if value not in known:
            return f"{key}={value} does not exist.{nearest(value, known)}"
    if not task.metrics:
        return "metrics is empty; name the main metric first."
    for name in (*task.metrics, task.select):
        if name not in metrics.METRICS:
            return f"metric {name} does not exist.{nearest(str(name), metrics.METRICS)}"
        takes = metrics.METRICS[name].takes
        wanted, _ = HEADS[task.head]
        if takes != wanted:
            fitting = [other for other, metric in metrics.METRICS.items() if metric.takes == wanted]
            return f"metric {name} is of {takes}, not of the {wanted} of {task.head}: {', '.join(fitting)}."
    if len(set(task.metrics)) < len(task.metrics):
        return "metrics names one of them twice."
    return None


def _modality(task: Task) -> str | None:
    """Whether the modality and its settings exist. Their values are checked by ``build_modality``."""
    name = str(task.modality.get("name"))
    if name not in MODALITIES:
        return f"modality.name={name} does not exist.{nearest(name, MODALITIES)}"
    known = _defaults(name)
    for key in task.modality:
        if known and key not in known:
            return f"modality.{key} is not a setting of {name}.{nearest(str(key), known)}"
    return None


def _data(task: Task) -> str | None:
    """Whether the data are known, and of the task's modality."""
    if task.data.startswith(FILE):
        return None  # whether it is there is seen when it is read, as with the catalogue's files
    section = entry(task.data)
    if section is None:
        known = [path.stem for path in (resources.folder("conf") / "data").glob("*.yaml")]
        return f"data={task.data} is not in the catalogue.{nearest(task.data, known)} A file beside this: {FILE}PATH."
    if section["source"]["modality"] != task.modality["name"]:
        return f"data={task.data} is {section['source']['modality']}, not {task.modality['name']}."
    return None


def entry(name: str) -> dict[str, Any] | None:
    """The ``data`` section of a catalogue entry, as its file has it; None where there is no entry of this name."""
    path = resources.folder("conf") / "data" / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        return None
    section = yaml.load(path.read_text("utf-8"), catalogue.LOADER)
    return section if section.get("source") is not None else None


def _defaults(name: str) -> dict[str, Any]:
    """``conf/modality/NAME.yaml``; empty for the modality of another package."""
    path = resources.folder("conf") / "modality" / f"{name}.yaml"
    return yaml.load(path.read_text("utf-8"), catalogue.LOADER) if path.is_file() else {}


def modality_section(task: Task) -> dict[str, Any]:
    """The ``modality`` section of a configuration: the suite's values and over them the task's."""
    return {**_defaults(task.modality["name"]), **task.modality}


def build_modality(task: Task) -> Any:
    """The task's modality.

    Raises:
        SuiteError: one of its values is wrong.
    """
    try:
        return build(MODALITIES, "modality", modality_section(task))
    except SuiteError as error:
        raise SuiteError(f"{task.path}: {error}") from None


def task_folders(own: str | Path | None = None) -> list[Path]:
    """Where tasks are looked for: the user's own folder (``tasks.path``, laid out like ``tasks/``) and the suite's."""
    shipped = resources.folder("tasks")
    if own is None:
        return [shipped]
    path = Path(own).expanduser().absolute()
    if not path.is_dir():
        raise SuiteError(f"tasks.path={own} is not a folder; give one that holds BENCHMARK/NAME.yaml.")
    return [path, shipped]


def benchmarks(folders: Sequence[Path] | None = None) -> list[str]:
    """The names of the folders that hold tasks."""
    return sorted({path.parent.name for path in _files(folders)})


def _files(folders: Sequence[Path] | None) -> list[Path]:
    """The files of all tasks, by benchmark and name."""
    found = [path for base in folders or task_folders() for path in base.glob("*/*.yaml")]
    return sorted(found, key=lambda path: (path.parent.name, path.stem))


def all_tasks(benchmark: str | None = None, folders: Sequence[Path] | None = None) -> list[Task]:
    """All tasks, or those of a benchmark, by benchmark and name.

    Raises:
        SuiteError: there is no such benchmark, a task is wrong, or two folders hold a task of one name.
    """
    known = benchmarks(folders)
    if benchmark is not None and benchmark not in known:
        raise SuiteError(f"There is no benchmark '{benchmark}'.{nearest(benchmark, known)}")
    seen: dict[tuple[str, str], Path] = {}
    for path in _files(folders):
        first = seen.setdefault((path.parent.name, path.stem), path)
        if first != path:  # else one could stand for the other in a table
            raise SuiteError(f"{first} and {path} are two tasks of one name; rename one of them.")
    return [load(path) for (folder, _), path in seen.items() if benchmark in (None, folder)]


def find(benchmark: str, name: str, folders: Sequence[Path] | None = None) -> Task:
    """A task by its name, or by its base where only one split of that is known (``splice`` is ``splice@kao100``).

    Raises:
        SuiteError: there is none, or several; the nearest is offered. Or it is wrong.
    """
    known = all_tasks(benchmark, folders)
    found = [task for task in known if name in (task.name, task.base)]
    exact = [task for task in found if task.name == name]
    if len(exact or found) > 1:
        raise SuiteError(f"'{name}' is one of {', '.join(task.name for task in found)}: say which.")
    if not found:
        names = [word for task in known for word in (task.name, task.base)]
        raise SuiteError(f"benchmark {benchmark} has no task '{name}'.{nearest(name, names)}")
    return (exact or found)[0]
