"""Downstream tasks: one YAML file each in ``tasks/BENCHMARK/NAME.yaml``, read and checked.

Nothing here imports torch, so that a list of tasks costs little; ``build_modality`` does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.files import read_yaml
from ssl_suite.core.registry import MODALITIES, build
from ssl_suite.core.schema import STRICT, keys, parse
from ssl_suite.evaluation import metrics
from ssl_suite.evaluation.heads import HEADS, kind_of

PARTS = ("train", "dev", "test")
COLUMN = "column"  # of ``splits``: the column that the values of the parts stand in
FILE = "file:"  # of ``data``: a table beside the task's own file; of a part: a file of the data set
MOST_LINES = 20
NEAR_COPIES = "near copies"  # of ``cluster``
NAME = re.compile(r"[a-z0-9_]+@[a-z0-9_]+")
CARVED = re.compile(r"(\d{1,2})% of train")

Names = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Named = Annotated[dict[str, Any], BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)]


@dataclass(frozen=True, config=STRICT)
class Task:
    """One task: the keys of its file, and where that is."""

    name: str
    """``base@split``: a score belongs to a split, so the split is part of the name. Its file is called the same."""
    title: Annotated[str, Field(min_length=1, max_length=30)]
    """A column's header."""
    version: Annotated[int, Field(ge=1)]
    """Changes with anything that changes the number."""
    modality: dict[str, Any]
    """``name`` and what differs from ``conf/modality/NAME.yaml``."""
    data: str
    """An entry of the catalogue (``conf/data/``), or ``file:PATH``, a table or a folder of tables beside the file."""
    inputs: Annotated[Names, Field(min_length=1, max_length=2)]
    """The column of the input, or the two of a pair."""
    label: Annotated[Names, Field(min_length=1)]
    """The column or columns of the label."""
    splits: dict[str, str | int | float | bool]
    """For ``train``, ``dev``, ``test`` and any further part a value of the column that ``column`` names, or
    ``file:NAME``, a file of the data set. Rows of other values are not used. Without ``dev`` see ``dev``."""
    head: Named
    """A key of ``heads.HEADS``; with settings ``{name: ..., key: value}``."""
    metrics: Annotated[list[str], Field(min_length=1)]
    """Keys of ``metrics.METRICS``, the main one first."""
    select: str
    """The metric that chooses on dev."""
    dev: str | None = None
    """``10% of train``: the share of the training items that chooses, where the set has no such part."""
    group: str | None = None
    """A column: items of one value stay together when dev is taken from train."""
    cluster: str | Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    """A column: items of one value are not independent, and intervals resample them together; ``near copies`` puts
    items together that are linked by them, where no column tells families apart. Two columns, of trials: the speakers
    of both inputs, of which every trial belongs to both."""
    parallel: str | None = None
    """A column: rows of test and of further parts with one value are the same item (in another language), and a budget
    that limits these parts keeps the same ones of each."""
    lookup: dict[Literal["data", "key", "column"], str] | None = None
    """``{data: …, key: …, column: …}``: the cells of ``inputs`` are names in the column ``key`` of another table, and
    the input is what stands there in ``column``."""
    blind: dict[str, str] = Field(default_factory=dict)
    """Items without labels: by the file of a submission that holds their predictions the value of the split column.
    They are read, as the entry of ``data`` says, where a submission is asked for, and never scored."""
    overflow: Literal["truncate", "middle", "chunks"] = "truncate"
    """Of items longer than the window: keep the first tokens, those around the middle, or pieces that vote."""
    reference: str | None = None
    """The ``task`` of published numbers in ``leaderboards/references``."""
    caveat: str = ""
    """What a reader of a score must know of the data, in a sentence."""
    benchmark: str = Field(default="", kw_only=True)
    """The folder it is in."""
    path: Path = Field(default=Path(), kw_only=True)
    """Its file."""

    @property
    def base(self) -> str:
        """The name without its split."""
        return self.name.partition("@")[0]

    @property
    def parts(self) -> tuple[str, ...]:
        """``train``, ``dev``, ``test`` and further parts."""
        return (*PARTS, *(name for name in self.splits if name not in (COLUMN, *PARTS)))

    @property
    def clusters(self) -> tuple[str, ...]:
        """The one or two columns of ``cluster``; () where there is none."""
        return (self.cluster,) if isinstance(self.cluster, str) else tuple(self.cluster or ())

    @property
    def kind(self) -> str:
        """What its predictions are, a key of ``predictions.KINDS``."""
        return kind_of(self.head["name"])

    @property
    def head_settings(self) -> dict[str, Any]:
        """Of ``head``, without its name."""
        return {key: value for key, value in self.head.items() if key != "name"}

    def identity(self) -> dict[str, Any]:
        """The keys that change a number, as a trial's hash and a row's take them: no title, caveat or metric list."""
        return {key: value for key in KEYS if key not in DESCRIPTIVE and (value := getattr(self, key)) is not None}

    def digest(self) -> str:
        """SHA-256 of ``identity``."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


DESCRIPTIVE = ("title", "reference", "caveat", "metrics", "blind")
KEYS = [key for key in keys(Task) if key not in ("benchmark", "path")]


def load(path: Path) -> Task:
    """The task of one file, checked but for its modality's values and its data. Raises SuiteError: it cannot be read,
    is too long, or has a key, name or value that is wrong; the nearest is offered."""
    path = Path(path)
    content = read_yaml(path)
    if (lines := len(path.read_text("utf-8").splitlines())) > MOST_LINES:
        raise SuiteError(f"{path}: has {lines} lines; a task has at most {MOST_LINES}.")
    place = {"benchmark": path.absolute().parent.name, "path": path.absolute()}
    task = parse(Task, content | place if isinstance(content, dict) else content, str(path))
    if faults := [fault for check in CHECKS if (fault := check(task))]:
        raise SuiteError(f"{path}: {' '.join(faults)}")
    return task


def _name(task: Task) -> str | None:
    if not NAME.fullmatch(task.name):
        return f"name={task.name} should be base@split in small letters, digits and _, such as h3@gue20."
    if task.path.stem != task.name:
        return f"name={task.name} should be the file's own, {task.path.stem}; rename one of them."
    return None


def _splits(task: Task) -> str | None:
    values = {key: str(value) for key, value in task.splits.items() if key != COLUMN}
    if (task.dev is None) == ("dev" not in values):
        return "dev should be a part of splits, or 'dev: 10% of train', and not both."
    for part in ("train", "test"):
        if part not in values:
            return f"splits.{part} is missing."
    for part, value in values.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", part):
            return f"splits.{part} is no name of a part; write small letters, digits and _."
        if not value.startswith(FILE) and COLUMN not in task.splits:
            return f"splits.{part}={value} is a value: name its column by splits.column, or write file:NAME."
    if len(set(values.values())) < len(values):
        return "splits: the parts should be different values or files; a choice made on test is no test."
    if task.dev is not None and not CARVED.fullmatch(task.dev):
        return f"dev={task.dev} should be a share such as '10% of train'."
    return None


def _metrics(task: Task) -> str | None:
    name = task.head.get("name")
    if name not in HEADS:
        return f"head={name} does not exist.{nearest(str(name), HEADS)}"
    for metric in (*task.metrics, task.select):
        if metric not in metrics.METRICS:
            return f"metric {metric} does not exist.{nearest(metric, metrics.METRICS)}"
        takes = metrics.METRICS[metric].takes
        if takes != task.kind:
            fitting = [other for other, found in metrics.METRICS.items() if found.takes == task.kind]
            return f"metric {metric} is of {takes}, not of the {task.kind} of {name}: {', '.join(fitting)}."
    return "metrics names one of them twice." if len(set(task.metrics)) < len(task.metrics) else None


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
    """Whether the data are known, and of the task's modality. Whether they are here is seen when they are read."""
    if task.lookup is not None and set(task.lookup) != {"data", "key", "column"}:
        return "lookup should have the keys data, key and column."
    for data in (task.data, *([task.lookup["data"]] if task.lookup else [])):
        if data.startswith(FILE):
            continue
        section = entry(data)
        if section is None:
            known = [path.stem for path in (resources.folder("conf") / "data").glob("*.yaml")]
            return f"data={data} is not in the catalogue.{nearest(data, known)} A file beside this: {FILE}PATH."
        if section["source"]["modality"] != task.modality.get("name"):
            return f"data={data} is {section['source']['modality']}, not {task.modality.get('name')}."
    return None


CHECKS: tuple[Callable[[Task], str | None], ...] = (_name, _splits, _metrics, _modality, _data)


def entry(name: str) -> dict[str, Any] | None:
    """The ``data`` section of a catalogue entry, as its file has it; None where there is no entry of this name."""
    path = resources.folder("conf") / "data" / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        return None
    section = read_yaml(path)
    return section if section.get("source") is not None else None


def _defaults(name: str) -> dict[str, Any]:
    """``conf/modality/NAME.yaml``; empty for the modality of another package."""
    path = resources.folder("conf") / "modality" / f"{name}.yaml"
    return read_yaml(path) if path.is_file() else {}


def modality_section(task: Task) -> dict[str, Any]:
    """The ``modality`` section of a configuration: the suite's values and over them the task's."""
    return {**_defaults(task.modality["name"]), **task.modality}


def build_modality(task: Task) -> Any:
    """The task's modality. Raises SuiteError: one of its values is wrong."""
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
    return sorted({path.parent.name for base in folders or task_folders() for path in base.glob("*/*.yaml")})


def files(benchmark: str | None = None, folders: Sequence[Path] | None = None) -> list[Path]:
    """The files of all tasks, or of a benchmark's, by benchmark and name. Raises SuiteError: there is no such
    benchmark, or two folders hold a task of one name."""
    known = benchmarks(folders)
    if benchmark is not None and benchmark not in known:
        raise SuiteError(f"There is no benchmark '{benchmark}'.{nearest(benchmark, known)}")
    seen: dict[tuple[str, str], Path] = {}
    for path in (path for base in folders or task_folders() for path in sorted(base.glob("*/*.yaml"))):
        first = seen.setdefault((path.parent.name, path.stem), path)
        if first != path:  # else one could stand for the other in a table
            raise SuiteError(f"{first} and {path} are two tasks of one name; rename one of them.")
    return [seen[key] for key in sorted(seen) if benchmark in (None, key[0])]


def all_tasks(benchmark: str | None = None, folders: Sequence[Path] | None = None) -> list[Task]:
    """All tasks, or those of a benchmark, by benchmark and name. Raises as ``files`` and ``load``."""
    return [load(path) for path in files(benchmark, folders)]


def find(benchmark: str, name: str, folders: Sequence[Path] | None = None) -> Task:
    """A task by its name, or by its base where only one split of that is known (``splice`` is ``splice@kao100``).
    Raises SuiteError: there is none, or several; the nearest is offered. Or it is wrong; the others are not read."""
    return load(match(name, files(benchmark, folders), f"benchmark {benchmark} has no task"))


def match(name: str, known: Sequence[Path], missing: str, others: Sequence[str] = ()) -> Path:
    """The file of a task by its name or base.

    Args:
        missing: begins the message where there is none.
        others: further names that may have been meant.

    Raises SuiteError: there is none, or the base is that of several; the nearest is offered.
    """
    found = [path for path in known if name in (path.stem, path.stem.partition("@")[0])]
    exact = [path for path in found if name == path.stem] or found
    if len({path.stem for path in exact}) > 1:
        raise SuiteError(f"'{name}' is one of {', '.join(path.stem for path in exact)}: say which.")
    if not exact:
        names = [word for path in known for word in (path.stem, path.stem.partition("@")[0])]
        raise SuiteError(f"{missing} '{name}'.{nearest(name, [*names, *others])}")
    return exact[0]
