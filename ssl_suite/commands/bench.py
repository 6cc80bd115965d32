"""Measure encoders on a benchmark's tasks and write leaderboard rows.

examples:
  ssl_suite bench cross_domain encoder=random:tiny budget=smoke
  ssl_suite bench cross_domain task=splice encoder=hf:MODEL_FOLDER+map=100 protocol=finetune
  ssl_suite bench cross_domain text=hf:MODEL_FOLDER ssl.dna=runs/yeast ssl.protein=runs/swissprot budget=small
  ssl_suite bench cross_domain task=h3,h4 arms=BERT,rand budget=paper out=runs/table
  ssl_suite bench glue encoder=hf:MODEL_FOLDER data.root=GLUE_FOLDER budget=paper submission=true

settings:
  encoder=REF         a run folder, hf:NAME_OR_PATH (+map, +map=SEED or +reembed), random:PRESET, cnn; without it all
                      arms of conf/bench/NAME.yaml are measured, and with it this one beside the controls
  protocol=finetune   finetune, scratch, probe, linear, knn, zero_shot or majority; of encoder= (superb: probe)
  arms=A,B            only these arms
  task=A,B            only these tasks; also sample tasks, which come with the package: task=sample
  budget=small        smoke (sample tasks), brief (minutes a cell), small, long (for small encoders) or paper
                      (the published settings); warm, warm_long: heads start from a linear model; conf/budget/NAME.yaml
  seeds=100,101,102   others than the budget's
  text=hf:…           the text encoder of the arms BERT, re-emb and rand
  ssl.dna=, ssl.protein=, ssl.music=RUN   the pre-trained encoder of the arms specific-SSL and specific-scratch
  ssl.NAME=REF        the encoder of an arm that says {ssl.NAME}: ssl.whisper=hf:FOLDER, ssl.cpc=RUN of superb
  pretrain=true       first makes the encoders that the benchmark's arms need and ssl.NAME= does not give
  submission=true     glue: with the official data, also answers its test sets: OUT/submission/ARM.zip for its site
  keep_special=true   false maps [CLS], [SEP] and [PAD] onto random words too, as the original experiment did
  keep=true           keeps the weights of the trials that are tested, for `ssl_suite predict`
  out=FOLDER          the trials: curves, checkpoints; a killed table goes on there (default runs/bench-NAME-BUDGET)
  root=FOLDER         the leaderboards folder rows are added to (default leaderboards; of budget=smoke that in out=)
  jobs=auto           cells side by side, in as many processes of one thread as there are cores, or jobs=N: the same
                      bytes whatever the number; Ctrl-C saves, and the same command goes on
  data.root=, data.cache=, tasks.path=, bench.path=, threads=   where data, own tasks and benchmarks are; threads of a
                      CPU where cells are measured one after the other

--plan prints cells, tokens, core-hours and what is measured already, and ends; it needs no network.

`ssl_suite board show`, `board render` and `board diff` look at what came out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssl_suite.commands.words import Key, parse_words
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.machine import usable_cores
from ssl_suite.core.wording import count, duration

SECONDS = 60.0  # between two lines of progress without a terminal
MODALITIES = ("dna", "protein", "music", "text", "image", "speech")
SSL = Key(None, example="runs/first")
KEYS = {
    "encoder": Key(None, example="random:tiny"),
    "protocol": Key(None, example="finetune"),
    "arms": Key(None, example="BERT,rand"),
    "task": Key(None, example="splice"),
    "budget": Key("small"),
    "seeds": Key(None, example="100,101,102"),
    "text": Key(None, example="hf:MODEL_FOLDER"),
    **{f"ssl.{name}": SSL for name in MODALITIES},
    "pretrain": Key("false", choices=("true", "false")),
    "submission": Key("false", choices=("true", "false")),
    "keep_special": Key("true", choices=("true", "false")),
    "keep": Key("false", choices=("true", "false")),
    "out": Key(None, example="runs/table"),
    "root": Key(None, example="leaderboards"),
    "data.root": Key(None, example="/data"),
    "data.cache": Key(None, example="/big/cache"),
    "tasks.path": Key(None, example="tasks"),
    "bench.path": Key(None, example="benches"),
    "threads": Key(None, int, least=1),
    "jobs": Key(None, example="auto"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", help="a folder of tasks/, such as cross_domain")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")
    parser.add_argument("--plan", action="store_true", help="say what it takes, and end")


def main(args: argparse.Namespace) -> int:
    words, overrides = _overrides(args.words)
    from ssl_suite.evaluation import bench, bench_plan, benchmark, references, side_by_side, text_encoders

    own = next((word.removeprefix("bench.path=") for word in words if word.startswith("bench.path=")), None)
    found = benchmark.load(args.benchmark, own)
    given = parse_words(words, KEYS | {f"ssl.{name}": SSL for name in benchmark.given_names(found)})
    jobs, settings = _jobs(given), _settings(found, given, overrides)
    arms, columns = _arms(found, given), _tasks(found, given, settings)
    if given["pretrain"] == "true":
        asked = {word for name in arms for task in columns for word in benchmark.words_of(found.arms[name], task)}
        given |= _pretrained(found, given, settings, asked, args.plan, jobs or _at_once())
    cells = _distinct(_cells(found, given, arms, columns))
    named = sum(cell.encoder == given["encoder"] for cell in cells)
    phases = [cells[:named], cells[named:]] if named else [cells]
    if args.plan:
        alone = replace(settings, threads=1) if jobs else settings
        with text_encoders.offline():
            print("\n".join(plan_lines(bench_plan.plan(cells, alone, say), jobs)))
        return 0
    for reference in {references.parse(cell.encoder) for cell in cells}:
        if reference.kind == "hf":
            text_encoders.place_of(reference.name)  # nothing is measured for hours and then lacks its main arm
    if jobs:
        with View() as view:
            outcomes = side_by_side.run(phases, settings, jobs, bench_plan.sizes(cells, settings), view.show)
    else:
        outcomes = bench.run(phases, settings, say)
    if not (paths := bench.paths(outcomes)):
        left = "No arm was left to measure: give ssl.MODALITY=RUN, or other arms=."
        raise SuiteError(outcomes[0].fault if outcomes else left)
    if given["submission"] == "true":
        _submissions(cells, settings)
    print(f"{count(len(paths), 'row')} in {settings.root}. Look at them: ssl_suite board show root={settings.root}")
    return 0


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def _pretrained(
    found: Any, given: Mapping[str, Any], settings: Any, asked: set[str], plan: bool, jobs: int
) -> dict[str, str]:
    """``ssl.NAME=`` of the encoders that were made, or are there, of those ``asked`` for; of a plan those that are
    there."""
    from ssl_suite.evaluation import pretrain

    if not found.pretrain:
        raise SuiteError(f"pretrain=true: the benchmark {found.name} says of no encoder how it is made; leave it out.")
    wanted = pretrain.sources(
        found, settings.budget, settings.out, _ssl(given), {key: settings.place[key] for key in ("root", "cache")}
    )
    wanted = pretrain.needed(wanted, {word.removeprefix("ssl.") for word in asked})
    if plan:
        for source in wanted:
            say(f"{source.name}: {'is there' if source.done else 'to be pre-trained'}, {source.folder}")
        return {f"ssl.{source.name}": str(source.folder) for source in wanted if source.done}
    return {f"ssl.{name}": run for name, run in pretrain.run(wanted, jobs, say).items()}


def _ssl(given: Mapping[str, Any]) -> dict[str, str]:
    """By NAME what ``ssl.NAME=`` gives."""
    return {key.removeprefix("ssl."): value for key, value in given.items() if key.startswith("ssl.") and value}


def _jobs(given: Mapping[str, Any]) -> int | None:
    """How many cells at a time; None where one follows the other in this process."""
    word = given["jobs"]
    if word is None:
        return None
    if given["threads"] not in (None, 1):
        raise SuiteError(f"threads={given['threads']} and jobs={word}: cells side by side take one thread each.")
    if word == "auto":
        return _at_once()
    if not word.isdigit() or int(word) < 1:
        raise SuiteError(f"jobs={word} should be auto or a whole number of at least 1.")
    return int(word)


def _at_once() -> int:
    """Processes of one thread that this machine has room for: one where they would share a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else usable_cores()


class View:
    """One line for the whole table: cells done, tokens a second, time left; without a terminal a line now and then."""

    def __enter__(self) -> View:
        from rich.console import Console

        console = Console()
        self.status = console.status("starting") if console.is_terminal else None
        self.last = time.monotonic()
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.status:
            self.status.stop()

    def show(self, progress: Any, outcome: Any) -> None:
        """Print what a cell gave, and how far the table is."""
        if outcome:
            for line in (*outcome.lines, *([f"  not measured: {outcome.fault}"] if outcome.fault else [])):
                say(line)
        rate = f"{progress.rate:,.0f} tokens/s"
        left = "" if progress.left is None else f", about {duration(progress.left)} left"
        line = f"{progress.done} of {progress.cells} cells, {rate}{left}"
        if self.status:
            self.status.update(line)
        elif outcome or time.monotonic() - self.last > SECONDS:
            self.last = time.monotonic()
            say(line)


def plan_lines(planned: Sequence[Any], jobs: int | None) -> list[str]:
    """A line a cell, and what all of them take."""
    lines = [f"{'task':<28}{'arm':<24}{'trials':>7}{'tokens':>14}{'core-hours':>12}"]
    for each in planned:
        head = f"{each.cell.task.name:<28}{each.cell.arm:<24}"
        if each.measured:
            lines.append(f"{head}  measured already")
        elif each.size.fault:
            lines.append(f"{head}  not known: {each.size.fault}")
        else:
            hours = "unknown" if each.seconds is None else f"{each.seconds / 3600:.3f}" if each.seconds else "–"
            lines.append(f"{head}{each.size.trials:>7}{each.size.tokens:>14,}{hours:>12}")
    seconds = sum(each.seconds or 0.0 for each in planned)
    left, workers = [each for each in planned if not each.measured], jobs or 1
    unknown = sum(each.seconds is None for each in left)
    lines.append(
        f"{len(planned)} cells, {len(planned) - len(left)} measured already; "
        f"{sum(each.size.tokens for each in left):,} tokens, {seconds / 3600:.2f} core-hours"
        + (f" and {unknown} cells of unknown time" if unknown else "")
        + f", about {duration(seconds / workers)} with {workers} at a time. "
        "Linear models and majorities, which take seconds, are not counted."
    )
    return lines


def _distinct(cells: list[Any]) -> list[Any]:
    """Each cell once: the encoder that the user named may be that of a control."""
    return list({(*cell.key[:3], cell.protocol): cell for cell in reversed(cells)}.values())[::-1]


def _overrides(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The words without ``budget.KEY=VALUE``, and those by key."""
    from ssl_suite.core.schema import keys
    from ssl_suite.evaluation.budget import Budget

    mine = [word for word in words if word.startswith("budget.")]
    given = parse_words(mine, {f"budget.{key}": Key(None) for key in keys(Budget)})
    changed = {key.removeprefix("budget."): value for key, value in given.items() if value is not None}
    return [word for word in words if word not in mine], changed


def _settings(benchmark: Any, given: Mapping[str, Any], overrides: Mapping[str, str]) -> Any:
    from ssl_suite.evaluation import bench, budget, rows

    name, found = benchmark.name, budget.load(benchmark.budgets.get(given["budget"], given["budget"]), overrides)
    if given["seeds"]:
        words = given["seeds"].split(",")
        if wrong := [word for word in words if not word.isdigit()]:
            raise SuiteError(f"seeds={wrong[0]} should be whole numbers with commas, such as seeds=100,101,102.")
        seeds = list(map(int, words))
        found = replace(found, seeds=seeds, overrides=found.overrides | {"seeds": seeds})
    blind = given["submission"] == "true"
    out = Path(given["out"] or f"runs/bench-{name}-{found.name}" + "-submission" * blind)
    # Rows of a user's own benchmark, of a smoke run or a submission do not mix with those that are published.
    own = given["bench.path"] or given["tasks.path"]
    default = Path(own) / "leaderboards" if own else out / "leaderboards" if blind or found.name == "smoke" else None
    return bench.Settings(
        name,
        found,
        {"root": given["data.root"], "cache": given["data.cache"]} | ({"blind": True} if blind else {}),
        out,
        Path(given["root"]) if given["root"] else default or rows.default_root(),
        given["keep_special"] == "true",
        given["threads"],
        given["keep"] == "true",
    )


def _submissions(cells: Sequence[Any], settings: Any) -> None:
    """Pack what each arm says of items without labels."""
    from ssl_suite.evaluation import submission

    for arm in dict.fromkeys(cell.arm for cell in cells):
        tasks = [cell.task for cell in cells if cell.arm == arm]
        path, absent = submission.pack(tasks, submission.folder(settings.out, arm))
        say(f"{path}" + (f"; it lacks {', '.join(absent)}, which the site asks for" if absent else ""))


def _arms(found: Any, given: Mapping[str, Any]) -> list[str]:
    """The arms of ``arms=``; else all that the budget has, or beside ``encoder=`` the controls."""
    names = given["arms"].split(",") if given["arms"] else None
    for name in names or ():
        if name not in found.arms:
            raise SuiteError(f"arms={name} does not exist.{nearest(name, found.arms)}")
    if given["encoder"] is None and given["protocol"] is not None:
        raise SuiteError("protocol= is of encoder=: name one, or choose arms=.")
    if names:
        return names
    chosen = found.arms if given["encoder"] is None else found.controls
    return [name for name in chosen if not found.arms[name].budgets or given["budget"] in found.arms[name].budgets]


def _cells(found: Any, given: Mapping[str, Any], arms: Sequence[str], columns: Sequence[Any]) -> list[Any]:
    """The cells of ``encoder=``, then those of arms; an arm whose encoder is not given is left out with a line."""
    from ssl_suite.evaluation import benchmark, references
    from ssl_suite.evaluation.bench import Cell

    cells, protocol, ssl = [], given["protocol"] or found.protocol, _ssl(given)
    if given["encoder"] is not None:
        line = benchmark.arm_of(given["encoder"], protocol, found)
        cells = [Cell(task, line, given["encoder"], benchmark.protocol_of(protocol, task)) for task in columns]
    for task in columns:
        for name in arms:
            arm = found.arms[name]
            text = given["text"] or found.text
            # Beside encoder= a control of the text encoder's shape takes that one's; of random weights it would be it.
            if not given["arms"] and given["encoder"] is not None and arm.encoder == "{text}":
                if references.parse(given["encoder"]).kind not in ("hf", "run"):
                    continue
                text = given["text"] or given["encoder"]
            encoder = benchmark.encoder_of(arm, task, text, ssl)
            if encoder is None:
                print(f"{task.name}, {name}: left out, give {'=, '.join(benchmark.words_of(arm, task))}=REF.")
                continue
            cells.append(Cell(task, name, encoder, benchmark.protocol_of(arm.protocol, task)))
    return cells


def _tasks(found: Any, given: Mapping[str, Any], settings: Any) -> list[Any]:
    """The tasks; of budget=smoke those that come with the package, where the benchmark names some."""
    from ssl_suite.evaluation import benchmark, tasks

    folders = tasks.task_folders(given["tasks.path"])
    if given["task"]:
        return benchmark.tasks_of(found, given["task"].split(","), folders)
    if given["submission"] == "true":
        if not found.submission:
            raise SuiteError(f"submission=true: the benchmark {found.name} has no items without labels; leave it out.")
        return benchmark.tasks_of(found, found.submission, folders, say)
    smoke = settings.budget.name == "smoke" and found.smoke
    return benchmark.tasks_of(found, found.smoke if smoke else None, folders, say)
