"""The report of ``icl``: exact match by shots, and sums that a model of this suite was trained on or was not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.analysis import icl, icl_items
from ssl_suite.analysis.report import Colours, Report
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import pretrain
from ssl_suite.settings import config
from ssl_suite.settings.run_reference import CONFIG, split

Row = dict[str, Any]
SUMS = ("icl-sums", "Does a small GPT learn to add?")
TRAINED = "data=sums"
WORDS = ("modality=text", "objective=clm", "model=tiny", TRAINED, "modality.vocab_size=64", "modality.max_length=16")
PACE = ("train.tokens_per_batch=512", "train.lr=2e-3", "train.eval_every=1000", "train.checkpoint_every=1000")
PARTS = {
    "train": "trained on",
    "pair": "neither order\ntrained",
    "order": "other order\ntrained",
    "number": "left number\nnew on the left",
    "longer": "three digits",
}


def measure(given: dict[str, Any], out: Path, say: Callable[[str], None]) -> Report:
    """Ask ``encoder``; without one train a model on sums per seed, in ``out``, and ask those."""
    begun = time.monotonic()
    names = given["encoder"].split(",") if given["encoder"] else _trained(given, out, say)
    prompts, sums = [], []
    for seed, name in enumerate(names):
        reference, modality = icl.open_text(name)
        speaker = icl.open_speaker(reference, modality)
        if reference.kind == "run" and _knows_sums(reference.name):
            sums += [
                {"what": "sums", "model": reference.short, "run": seed, **row}
                for row in icl.held_out(speaker, given["sums"], given["seed"])
            ]
            if given["encoder"] is not None:
                continue
        for task in [icl_items.load(task, given["tasks.path"]) for task in given["task"].split(",")]:
            say(f"{reference.short}: {task.name}")
            found = icl.measure(speaker, task, _shots(given), given["draws"], given["items"], given["seed"])
            prompts += [{"what": "prompts", "model": reference.short, **row} for row in found]
    return _report(prompts, sums, given, time.monotonic() - begun)


def _shots(given: dict[str, Any]) -> list[int]:
    try:
        return sorted({int(word) for word in given["shots"].split(",")})
    except ValueError:
        raise SuiteError(f"shots={given['shots']} should be whole numbers, as in shots=0,1,8.") from None


def _trained(given: dict[str, Any], out: Path, say: Callable[[str], None]) -> list[str]:
    made = []
    for seed in range(given["seeds"]):
        folder = out / "encoders" / f"sums-{given['steps']}-{seed}"
        place = [f"data.cache={given['data.cache']}"] if given["data.cache"] else []
        words = (*WORDS, *PACE, f"train.steps={given['steps']}", f"seed={seed}", f"out={folder}", *place)
        made.append(pretrain.Source(f"sums-{seed}", folder, words))
    return list(pretrain.run(made, 1, say).values())


def _knows_sums(run: str) -> bool:
    folder, _ = split(run)
    return config.read_run(folder / CONFIG)["data"]["name"] == TRAINED.partition("=")[2]


def _report(prompts: list[Row], sums: list[Row], given: dict[str, Any], seconds: float) -> Report:
    figures, captions, tables, answer = {}, {}, {}, []
    if prompts:
        figures["icl-shots"] = partial(_draw_shots, prompts)
        captions["icl-shots"] = (
            "Exact match by shots in the prompt; band: 95 % interval over items, thin lines: lowest and highest draw "
            "of the shots, dotted: always the commonest answer."
        )
        tables["Exact match"] = [
            {k: v for k, v in row.items() if k not in ("what", "example", "said")} for row in prompts
        ]
        answer += _say_prompts(prompts)
    if sums:
        figures["icl-sums"] = partial(_draw_sums, sums)
        captions["icl-sums"] = (
            "Sums below 100 written right without a shot: mean over runs, a dot a run. Right: the four parts of sums "
            "below 100 together, by how often a one is carried."
        )
        tables["Sums"] = _means(sums)
        answer += _say_sums(_means(sums))
    notes = [
        f"Greedy; an answer counts if it is right letter by letter to the line's end. Seed {given['seed']}.",
        "Intervals: Wilson, 95 %, one trial an item (draws of its shots depend on one another).",
        f"The same {given['items']} items at all numbers of shots, none a shot; {given['draws']} draws.",
        "'dealt' is the control of sums: the same answers dealt out to other sums.",
        f"{seconds:.0f} s.",
    ]
    keys = ("encoder", "task", "shots", "draws", "items", "sums", "steps", "seeds", "seed", "budget")
    models = ", ".join(dict.fromkeys(row["model"] for row in [*prompts, *sums]))
    name, title = ("icl", "What does a causal model learn from examples alone?") if prompts else SUMS
    return Report(
        name, f"{title} {models}", answer, [*prompts, *sums], figures, notes,
        given["command"], {key: given[key] for key in keys}, tables, captions,
    )  # fmt: skip


def _say_prompts(rows: Sequence[Row]) -> list[str]:
    said = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        parts = []
        for task in dict.fromkeys(row["task"] for row in own):
            each = [f"{row['accuracy']:.2f}" for row in own if row["task"] == task]
            parts.append(f"{task} {' / '.join(each)}")
        shots = " / ".join(str(row["shots"]) for row in own if row["task"] == own[0]["task"])
        said.append(f"{model}, exact match at {shots} shots: {'; '.join(parts)}.")
    return said


def _say_sums(means: Sequence[Row]) -> list[str]:
    every = {row["part"]: row for row in means if row["carries"] == "all"}
    parts = [f"{PARTS[part].replace(chr(10), ' ')} {row['accuracy']:.3f}" for part, row in every.items()]
    return [
        f"The suite's own model on sums, {every['train']['runs']} run(s): {'; '.join(parts)}; its answers dealt to "
        f"other sums {every['pair']['dealt']:.3f}."
    ]


def _means(sums: Sequence[Row]) -> list[Row]:
    """Over runs, a row for each part and number of carries; ``all`` also for the parts below 100 together."""
    found = []
    for part in dict.fromkeys(row["part"] for row in sums):
        for carries in dict.fromkeys(row["carries"] for row in sums if row["part"] == part):
            own = [row for row in sums if row["part"] == part and row["carries"] == carries]
            each = [row["accuracy"] for row in own]
            dealt = [row["dealt"] for row in own if row["dealt"] is not None]
            found.append(
                {"part": part, "carries": carries, "runs": len(own), "items": own[0]["items"]}
                | {"accuracy": float(np.mean(each)), "lowest run": min(each), "highest run": max(each)}
                | {"low": own[0]["low"] if len(own) == 1 else None, "high": own[0]["high"] if len(own) == 1 else None}
                | {"dealt": float(np.mean(dealt)) if dealt else None}
            )
    return found


def _pooled(rows: Sequence[Row]) -> float:
    """The accuracy over the items of several rows together."""
    return float(np.average([row["accuracy"] for row in rows], weights=[row["items"] for row in rows]))


def _draw_shots(rows: Sequence[Row], figure: Any, colours: Colours) -> None:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    wide = min(4, len(tasks))
    tall = -(-len(tasks) // wide)
    figure.set_size_inches(7.5, 0.6 + 1.8 * tall)
    for at, task in enumerate(tasks):
        axes = figure.add_subplot(tall, wide, at + 1)
        for colour, model in zip(colours.series, models, strict=False):
            own = [row for row in rows if row["task"] == task and row["model"] == model]
            places = range(len(own))
            axes.fill_between(
                places, [row["low"] for row in own], [row["high"] for row in own], color=colour, alpha=0.2, linewidth=0
            )
            axes.plot(places, [row["accuracy"] for row in own], "o-", color=colour, markersize=4, label=model)
            for key in ("lowest_draw", "highest_draw"):
                axes.plot(places, [row[key] for row in own], color=colour, linewidth=0.6)
        axes.axhline(own[0]["majority"], linestyle=":", color=colours.soft)
        axes.set(ylim=(-0.03, 1.03), title=task)
        axes.title.set_fontsize(9)
        axes.set_xticks(list(places), [str(row["shots"]) for row in own])
        axes.set_ylabel("exact match" if at % wide == 0 else "")
        axes.set_xlabel("shots" if at + wide >= len(tasks) else "")
    if len(models) > 1:
        figure.axes[0].legend(fontsize=8)


def _draw_sums(rows: Sequence[Row], figure: Any, colours: Colours) -> None:
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.set_size_inches(7.5, 3.6)
    parts = list(dict.fromkeys(row["part"] for row in rows))
    for x, part in enumerate(parts):
        each = [row["accuracy"] for row in rows if row["part"] == part and row["carries"] == "all"]
        left.bar(x, np.mean(each), color=colours.series[0 if part == "train" else 1], alpha=0.6)
        left.plot([x] * len(each), each, "o", color=colours.ink, markersize=3)
    left.set_xticks(range(len(parts)), [PARTS[part] for part in parts], fontsize=7)
    left.set(ylim=(0, 1.03), ylabel="written right")
    for x, carries in enumerate((0, 1, 2)):
        own = [row for row in rows if row["part"] != "longer" and row["carries"] == carries]
        each = [_pooled([row for row in own if row["run"] == run]) for run in dict.fromkeys(row["run"] for row in own)]
        right.bar(x, np.mean(each) if each else 0, color=colours.series[2], alpha=0.6)
        right.plot([x] * len(each), each, "o", color=colours.ink, markersize=3)
    right.set_xticks(range(3), ["none", "one", "two"])
    right.set_xlabel("ones carried")
