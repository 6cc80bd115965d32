"""The loss curve of a run as a picture, and its closing lines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_suite.core import files
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count

# Okabe and Ito 2008, "Color universal design": told apart by every common kind of colour vision, and in grey.
TRAINING, VALIDATION = "#0072B2", "#D55E00"
BASELINES = ("#000000", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
SIZE, DPI = (8.0, 4.5), 120  # inches, dots an inch: 960 x 540
Curve = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Curves:
    """Losses over steps.

    Attributes:
        train, valid: (steps, losses).
        masked: whether they are the losses at [MASK] alone, which is what count models compare with. Positions that
            show a symbol are easier: on DNA with 80/10/10 the loss over all of them is about 0.06 nats lower.
    """

    train: Curve
    valid: Curve
    masked: bool


def read_metrics(path: Path) -> Curves:
    """The losses of a ``metrics.jsonl``: ``masked_loss`` where the objective reports it, else ``loss``.

    A run that was killed may have left half a last line, and one that was resumed repeats the steps after its last
    checkpoint: the half line is passed over, and of a step told twice the later telling counts.

    Raises:
        SuiteError: there is no such file, or a line before the last is damaged.
    """
    entries, damaged = files.read_metrics(path)
    if damaged:
        raise SuiteError(f"{path}, line {damaged[0]} is not JSON of numbers: remove it.")

    def curve(name: str) -> Curve:
        losses = {entry["step"]: entry[name] for entry in entries if entry.get(name) is not None}
        return sorted(losses), [losses[step] for step in sorted(losses)]

    masked = any(entry.get(name) is not None for entry in entries for name in ("masked_loss", "valid_masked_loss"))
    name = f"{'masked_' * masked}loss"
    return Curves(curve(name), curve(f"valid_{name}"), masked)


def smooth(losses: Sequence[float], points: float) -> list[float]:
    """Exponential moving average over about ``points`` values, free of the start's bias as Adam's averages are."""
    keep = max(0.0, 1.0 - 1.0 / max(1.0, points))
    average, weight, result = 0.0, 0.0, []
    for loss in losses:
        average = keep * average + (1 - keep) * loss
        weight = keep * weight + (1 - keep)
        result.append(average / weight)
    return result


def draw(metrics: Path, picture: Path, baselines: Mapping[str, float] | None = None, title: str = "") -> None:
    """Draw training and validation loss over the steps, with a dashed line for each baseline.

    Args:
        metrics: ``metrics.jsonl`` of a run.
        picture: the PNG to write (beside, then renamed).
        baselines: a name to its loss in nats, such as ``{"unigram": 1.386}``.
        title: written above the axes.

    Raises:
        SuiteError: the metrics cannot be read, or hold no loss.
    """
    curves, baselines = read_metrics(metrics), baselines or {}
    (steps, losses), valid = curves.train, curves.valid
    if not steps and not valid[0]:
        raise SuiteError(f"{metrics} holds no loss to draw: train for at least train.log_every steps.")
    # The object interface: pyplot would keep global state and look for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    smoothed = smooth(losses, points=len(losses) / 25)
    if steps:
        axes.plot(steps, losses, color=TRAINING, alpha=0.25, linewidth=1)
        axes.plot(steps, smoothed, color=TRAINING, linewidth=1.8, label="training (smoothed)")
    if valid[0]:
        axes.plot(*valid, color=VALIDATION, linewidth=1.8, marker="o", markersize=4, label="validation")
    for place, (name, loss) in enumerate(sorted(baselines.items(), key=lambda item: -item[1])):
        colour = BASELINES[place % len(BASELINES)]
        axes.axhline(loss, color=colour, linewidth=1.2, linestyle=(0, (5, 3)), label=f"{name} {loss:.3f}")

    # A range without the first tenth of training: its losses, two or three times the rest, would flatten it.
    shown = [*smoothed[len(steps) // 10 :], *valid[1], *baselines.values()]
    margin = 0.08 * (max(shown) - min(shown)) or 0.1
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss {'at [MASK] ' * curves.masked}{'(nats per symbol)' if baselines else ''}")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    figure.legend(frameon=False, loc="outside right upper", fontsize=9)
    save(figure, picture)


def save(figure: Any, picture: Path) -> None:
    """Write a figure as a PNG (beside, then renamed); without metadata the same numbers give the same bytes."""
    beside = picture.with_name(picture.name + ".tmp")
    figure.savefig(beside, format="png", metadata={"Software": None})
    beside.replace(picture)


def summary_lines(
    summary: Mapping[str, Any], example: str = "", command: str = "fill", unit: str = " nats"
) -> list[str]:
    """The closing text of a run: its loss against the baselines, and the commands to try next.

    Args:
        summary: ``out``, ``valid_loss`` and, where they exist, ``valid_masked_loss``, ``steps``, ``seconds``,
            ``tokens_per_s``, ``valid_accuracy``, ``modality``, ``objective``, ``baselines`` (a name to nats, on the
            same data), ``guesses`` (a name to the share that is right) and ``larger`` (a model to try next).
        example: what the command that shows what was learned is given; empty where there is none.
        command: that command.
        unit: of the loss, with a space before it.
    """
    get, lines = summary.get, []
    if get("steps") is not None:
        spent = f" in {get('seconds'):.0f} s" if get("seconds") is not None else ""
        rate = f", {get('tokens_per_s'):,.0f} tokens/s" if get("tokens_per_s") is not None else ""
        lines.append(f"Trained {count(summary['steps'], 'step')}{spent}{rate}.")

    # The loss, and what counting achieves on the same positions.
    valid, masked, symbols = (get(f"valid_{name}loss") for name in ("", "masked_", "symbol_"))
    baselines, guesses = get("baselines") or {}, get("guesses") or {}
    if valid is not None:
        accuracy = f", accuracy {get('valid_accuracy'):.1%}" if get("valid_accuracy") is not None else ""
        lines.append(f"Validation loss {valid:.4f}{unit}{accuracy}.")
        if masked is not None:
            compares = ", where counting can be compared" if baselines else ""
            lines.append(f"At positions that show [MASK]{compares}: {masked:.4f} nats.")
        elif symbols is not None:
            lines.append(f"Without the ends of sequences, as counting is scored: {symbols:.4f} nats.")
        compared = next(x for x in (masked, symbols, valid) if x is not None)
        for name, loss in baselines.items():
            side = "below" if compared < loss else "above"
            width = max(map(len, baselines))
            lines.append(f"  {name:<{width}}  {loss:.4f}  the model is {abs(loss - compared):.4f} {side}")
    if get("valid_masked_accuracy") is not None and guesses:
        shown = ", ".join(f"{name} {share:.1%}" for name, share in guesses.items())
        lines.append(f"Right at [MASK]: {get('valid_masked_accuracy'):.1%}; guessing by counts: {shown}.")

    # What to look at, and what to do next.
    out, name = summary["out"], get("modality", "dna")
    word = shlex.quote(f"encoder={out}")
    learned = f"   what it fills in: {out}/learned.png" if command == "fill" and example else ""
    lines += [f"Loss curve: {out}/loss.png   encoder: {out}/encoder{learned}", "Next:"]
    if example:
        lines.append(f"  ssl_suite {command} {word} {shlex.quote(example)}")
    larger = f"objective={get('objective', 'mlm')} model={get('larger', 'mini')}"
    return [
        *lines,
        f"  ssl_suite embed {word} input=YOUR_FILE output=embeddings.parquet",
        f"  ssl_suite run modality={name} {larger} data.path=YOUR_FILE",
    ]
