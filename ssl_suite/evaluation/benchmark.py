"""What a benchmark is: one YAML, ``conf/bench/NAME.yaml`` or a file in a user's own folder (``bench.path=``).

Its columns are tasks, its lines arms; aggregates, contrasts and all words of its page stand in it too. Nothing else in
the suite knows a benchmark by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.files import read_yaml
from ssl_suite.core.schema import parse
from ssl_suite.evaluation import references, tasks

CONTROLS = ("majority", "linear")  # protocols of controls, where no file says what an arm stands for


class _Block(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class Arm(_Block):
    """A line of the table."""

    encoder: str
    """A reference; ``{text}`` is the text encoder, ``{ssl}`` the ``ssl.MODALITY=RUN`` of the task's modality,
    ``{ssl.dna}`` that of another one, and ``{ssl.NAME}`` what ``ssl.NAME=`` gives for any other name."""
    protocol: str
    """A key of ``protocols.PROTOCOLS``. A ``probe`` is ``zero_shot`` where the task's head has nothing to train."""
    text: str = ""
    """What the arm is, for a reader who has not met it."""
    role: Literal["pretrained", "random", "specific", "control"] = "pretrained"
    """What it stands for; pages colour by it. A cell of a control is the line that others must be above."""
    budgets: list[str] = Field(default_factory=list)
    """The budgets that it is measured with where ``arms=`` does not name it; all without it."""


class Contrast(_Block):
    """Two arms that are compared in every column."""

    a: str
    b: str
    main: bool = False
    """The one contrast that the first screen of the page shows."""
    text: str = ""
    """What it asks, as a sentence."""
    published: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    """The two arms of ``leaderboards/references`` whose difference is marked beside it."""


class Aggregate(_Block):
    """A score over columns."""

    name: str
    kind: str = "mean"
    """A key of ``leaderboard.aggregates.AGGREGATES``, or ``superb_s_local``, whose ends are two arms."""
    tasks: list[str] = Field(default_factory=list)
    """The columns that enter, ``base@split`` that one alone; all without it."""
    text: str = ""
    """What a reader must know of it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What its kind takes beside."""
    split: str = ""
    """Of tasks that name their data by their split: the one that ``name`` is of, whose columns enter before others."""
    otherwise: str = ""
    """Its name where a column is of another split."""


class Matrix(_Block):
    """The gain of some arms over another one, by the modality of the columns."""

    arms: Annotated[list[str], Field(min_length=1)]
    """Those that are named as a modality is stand on the diagonal in its columns."""
    against: str
    """The arm that they are compared with."""
    text: str = ""
    """What it asks."""


class Plan(_Block):
    """What was fixed before anything was measured: the main contrast's test, and the budget that rows are held to."""

    page: str
    """The text, in ``leaderboards/plans``."""
    budget: str
    """Whose rows follow the plan."""
    alpha: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    """One-sided level of each stage, after Holm's correction over the columns that are open."""
    more_seeds: list[int] = Field(default_factory=list)
    """What a second stage adds to the budget's seeds."""
    margin: Annotated[float, Field(gt=0)]
    """Points: a difference whose interval lies below is shown not to be there."""


class Benchmark(_Block):
    """A benchmark: the keys of its file."""

    name: str
    title: str
    """Of the page, a few words."""
    introduction: str = ""
    """What is asked and how it is measured, in a paragraph."""
    tasks: Annotated[list[str], Field(min_length=1)]
    """Columns, in order: names of tasks, or their bases; ``BENCHMARK/NAME`` of another benchmark's folder."""
    arms: dict[str, Arm]
    """Lines, in order."""
    controls: list[str] = Field(default_factory=list)
    """The arms that are measured beside any ``encoder=``."""
    protocol: str = "finetune"
    """Of ``encoder=``, where ``protocol=`` says nothing else."""
    budgets: dict[str, str] = Field(default_factory=dict)
    """Budgets of its own: what ``budget=small`` means here, by that name."""
    contrasts: list[Contrast] = Field(default_factory=list)
    """Pairs of arms."""
    aggregates: list[Aggregate] = Field(default_factory=list)
    """Scores over columns."""
    text: str | None = None
    """The default of ``{text}``."""
    smoke: list[str] = Field(default_factory=list)
    """Tasks whose data come with the package, which ``budget=smoke`` measures in the place of the columns."""
    submission: list[str] = Field(default_factory=list)
    """The tasks that ``submission=true`` measures: those with items whose labels are not public (their ``blind``)."""
    pretrain: dict[str, list[str]] = Field(default_factory=dict)
    """By modality, or NAME of ``ssl.NAME=``, the words of ``ssl_suite run`` that make its encoder where
    ``pretrain=true`` asks for it; without a word ``modality=`` the key is the modality. ``steps=0.5`` is a
    share of the budget's steps."""
    matrix: Matrix | None = None
    """Lines by source against columns by modality, as a heat map."""
    plan: Plan | None = None
    """What was fixed before anything was measured."""


def path_of(name: str, own: str | Path | None = None) -> Path:
    """The file of a benchmark. Raises SuiteError: there is none; the nearest is offered."""
    folders = [Path(own).expanduser()] if own else []
    folders.append(resources.folder("conf") / "bench")
    for folder in folders:
        if not folder.is_dir():
            raise SuiteError(f"bench.path={own} is not a folder; give one that holds NAME.yaml of your benchmarks.")
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))
    raise SuiteError(f"There is no benchmark '{name}'.{nearest(name, known)} Known: {', '.join(known)}.")


def load(name: str, own: str | Path | None = None) -> Benchmark:
    """A benchmark, checked but for its tasks' files. Raises SuiteError: it does not exist, or a key or value is wrong;
    the nearest is offered."""
    path = path_of(name, own)
    content = read_yaml(path)
    if isinstance(content, dict):
        content = {"name": path.stem, **content}
    found = parse(Benchmark, content, str(path))
    named = [(f"contrasts.{key}", arm) for pair in found.contrasts for key, arm in (("a", pair.a), ("b", pair.b))]
    matrix = [("matrix", arm) for arm in (*found.matrix.arms, found.matrix.against)] if found.matrix else []
    for key, arm in [*named, *matrix, *(("controls", arm) for arm in found.controls)]:
        if arm not in found.arms:
            raise SuiteError(f"{path}: {key}={arm} is no arm.{nearest(arm, found.arms)}")
    if found.contrasts and sum(pair.main for pair in found.contrasts) != 1:
        raise SuiteError(f"{path}: exactly one of the contrasts should say main: true.")
    return found


def given_names(benchmark: Benchmark) -> list[str]:
    """NAME of every ``{ssl.NAME}`` of its arms, in order."""
    found = [name for arm in benchmark.arms.values() for name in re.findall(r"{ssl\.(\w+)}", arm.encoder)]
    return list(dict.fromkeys(found))


def protocol_of(protocol: str, task: tasks.Task) -> str:
    """An arm's protocol on a task: a frozen encoder is probed, or asked as it is where nothing is to be trained."""
    from ssl_suite.evaluation.heads import head_class

    return "zero_shot" if protocol == "probe" and not head_class(task.head["name"]).trained else protocol


def of_rows(name: str, rows: Sequence[Mapping[str, Any]], own: str | Path | None = None) -> Benchmark:
    """A benchmark whose rows are there: its file, or without one what the rows say."""
    folders = [Path(own).expanduser()] if own else []
    if any((folder / f"{name}.yaml").is_file() for folder in (*folders, resources.folder("conf") / "bench")):
        return load(name, own)
    arms = {}
    for row in sorted(rows, key=lambda row: (row["protocol"]["name"] in CONTROLS, row["arm"])):
        role: Any = "control" if row["protocol"]["name"] in CONTROLS else "pretrained"
        arms[row["arm"]] = Arm(encoder=row["encoder"].get("ref") or "none", protocol=row["protocol"]["name"], role=role)
    columns = list(dict.fromkeys(row["task"]["name"] for row in rows))
    return Benchmark(name=name, title=name.replace("_", " ").capitalize(), tasks=columns, arms=arms)


def tasks_of(
    benchmark: Benchmark,
    names: Sequence[str] | None,
    folders: Sequence[Path],
    say: Callable[[str], None] | None = None,
) -> list[tasks.Task]:
    """The tasks of its columns, or those named; the name of another folder stands for all tasks in it.

    Args:
        say: takes the fault of a task that is wrong, and the others go on; without it the first stops all.

    Raises SuiteError: there is no such task, or it is wrong; with ``say``, if that is so of all.
    """
    found: list[tasks.Task] = []
    faults: list[SuiteError] = []
    for word in names or benchmark.tasks:
        try:
            if names and word in tasks.benchmarks(folders) and word != benchmark.name:
                found += tasks.all_tasks(word, folders)
            else:
                found.append(tasks.find(*_place(benchmark, word), folders))
        except SuiteError as error:
            if say is None:
                raise
            faults.append(error)
            say(f"left out: {error}")
    if faults and not found:
        raise faults[0]
    return found


def _place(benchmark: Benchmark, word: str) -> tuple[str, str]:
    """The folder and name of a task that a word means: one of a column, its base, or ``BENCHMARK/NAME``."""
    home, _, name = word.rpartition("/")
    if home:
        return home, name
    columns = {column.rpartition("/")[2]: column for column in benchmark.tasks}
    by_base = {column.partition("@")[0]: column for column in columns}
    column = columns.get(name) or columns.get(by_base.get(name, ""), name)
    home, _, name = column.rpartition("/")
    return home or benchmark.name, name


def arm_of(encoder: str, protocol: str, benchmark: Benchmark) -> str:
    """The name of the arm that an encoder named by the user stands for; a line of its own where there is none."""
    reference = references.parse(encoder)
    for name, arm in benchmark.arms.items():
        if arm.protocol != protocol:
            continue
        if "{ssl." in arm.encoder:
            continue
        if "{ssl}" in arm.encoder:
            if reference.kind == "run" and reference.reembed == arm.encoder.endswith("+reembed"):
                return name
            continue
        template = references.parse(arm.encoder.replace("{text}", "hf:x"))
        same = (template.map, template.reembed) == (reference.map, reference.reembed)
        fixed = "{" in arm.encoder or template.name == reference.name
        if same and template.kind == reference.kind and fixed:
            return name
    return f"{reference.short} {protocol}"


def encoder_of(arm: Arm, task: tasks.Task, text: str | None, ssl: Mapping[str, str]) -> str | None:
    """The arm's encoder for a task; None where ``text=`` or ``ssl.MODALITY=`` was not given."""
    given = {"text": text} | {f"ssl.{name}": run for name, run in ssl.items()}
    if any(given.get(name) is None for name in words_of(arm, task)):
        return None
    encoder = arm.encoder.replace("{ssl}", f"{{ssl.{task.modality['name']}}}")
    return re.sub(r"{([\w.]+)}", lambda found: str(given[found[1]]), encoder)


def words_of(arm: Arm, task: tasks.Task) -> list[str]:
    """The words of the command line that name an arm's encoder for a task: ``text``, ``ssl.dna``."""
    found = re.findall(r"{([\w.]+)}", arm.encoder)
    return [f"ssl.{task.modality['name']}" if name == "ssl" else name for name in found]
