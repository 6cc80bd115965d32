"""What a run leaves for the eye: the loss curve as a picture, and the closing lines."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite.core import files
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito 2008, "Color universal design": told apart by every common kind of colour vision, and in grey.
TRAINING, VALIDATION = "#0072B2", "#D55E00"
BASELINES = ("#000000", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
SIZE, DPI = (8.0, 4.5), 120  # inches, dots an inch: 960 x 540
Curve = tuple[list[float], list[float]]


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
    found: dict[str, dict[int, float]] = {"loss": {}, "valid_loss": {}, "masked_loss": {}, "valid_masked_loss": {}}
    for entry in entries:
        for name, curve in found.items():
            if entry.get(name) is not None:
                curve[entry["step"]] = entry[name]
    masked = bool(found["masked_loss"] or found["valid_masked_loss"])
    train, valid = (found[f"{split}{'masked_' if masked else ''}loss"] for split in ("", "valid_"))
    return Curves(_columns(train), _columns(valid), masked)


def _columns(losses: Mapping[int, float]) -> Curve:
    steps = sorted(losses)
    return [float(step) for step in steps], [losses[step] for step in steps]


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
    """Draw training and validation loss over the steps, with one labelled line a baseline.

    Args:
        metrics: ``metrics.jsonl`` of a run.
        picture: the PNG to write (beside, then renamed).
        baselines: a name to its loss in nats, such as ``{"unigram": 1.386}``.
        title: written above the axes.

    Raises:
        SuiteError: the metrics cannot be read, or hold no loss.
    """
    curves = read_metrics(metrics)
    train, valid = curves.train, curves.valid
    if not train[0] and not valid[0]:
        raise SuiteError(f"{metrics} holds no loss to draw: train for at least train.log_every steps.")
    # The object interface: pyplot would keep global state and look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _curves(axes, train, valid)
    _baselines(axes, baselines or {})
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss {'at [MASK] ' * curves.masked}{'(nats per symbol)' if baselines else ''}")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.set_ylim(_limits(train, valid, baselines or {}))
    axes.legend(frameon=False, loc="upper right")
    beside = picture.with_name(picture.name + ".tmp")
    # Without metadata the same numbers give the same bytes (matplotlib would add its version).
    figure.savefig(beside, format="png", metadata={"Software": None})
    beside.replace(picture)


def _curves(axes: Axes, train: Curve, valid: Curve) -> None:
    if train[0]:
        axes.plot(*train, color=TRAINING, alpha=0.25, linewidth=1)
        smoothed = smooth(train[1], points=len(train[1]) / 25)
        axes.plot(train[0], smoothed, color=TRAINING, linewidth=1.8, label="training (smoothed)")
    if valid[0]:
        axes.plot(*valid, color=VALIDATION, linewidth=1.8, marker="o", markersize=4, label="validation")


def _baselines(axes: Axes, baselines: Mapping[str, float]) -> None:
    """One dashed line each; the labels stand right of the axes, at least a line of text apart."""
    ordered = sorted(baselines.items(), key=lambda item: item[1])
    for place, (name, loss) in enumerate(ordered):
        colour = BASELINES[place % len(BASELINES)]
        axes.axhline(loss, color=colour, linewidth=1.2, linestyle=(0, (5, 3)))
        # Offsets in points, so that close baselines (1.386 and 1.381) keep readable labels whatever the scale.
        below = place - (len(ordered) - 1) / 2
        axes.annotate(
            f"{name} {loss:.3f}",
            xy=(1.0, loss),
            xycoords=axes.get_yaxis_transform(),
            xytext=(18, 11 * below),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _limits(train: Curve, valid: Curve, baselines: Mapping[str, float]) -> tuple[float, float]:
    """A range that shows all but the first tenth of training: its losses, two or three times the rest, flatten it."""
    settled = smooth(train[1], points=len(train[1]) / 25)[len(train[1]) // 10 :]
    shown = [loss for loss in (*settled, *valid[1], *baselines.values()) if math.isfinite(loss)] or [0.0, 1.0]
    margin = 0.08 * (max(shown) - min(shown)) or 0.1
    return min(shown) - margin, max(shown) + margin


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

    Returns:
        Lines without line ends.
    """
    out, valid = summary["out"], summary.get("valid_loss")
    lines = []
    if summary.get("steps") is not None:
        spent = f" in {summary['seconds']:.0f} s" if summary.get("seconds") is not None else ""
        rate = f", {summary['tokens_per_s']:,.0f} tokens/s" if summary.get("tokens_per_s") is not None else ""
        lines.append(f"Trained {count(summary['steps'], 'step')}{spent}{rate}.")
    if valid is not None:
        right, masked = summary.get("valid_accuracy"), summary.get("valid_masked_loss")
        symbols = summary.get("valid_symbol_loss")
        accuracy = f", accuracy {right:.1%}" if right is not None else ""
        lines.append(f"Validation loss {valid:.4f}{unit}{accuracy}.")
        if masked is not None:
            compares = ", where counting can be compared" if summary.get("baselines") else ""
            lines.append(f"At positions that show [MASK]{compares}: {masked:.4f} nats.")
        elif symbols is not None:
            lines.append(f"Without the ends of sequences, as counting is scored: {symbols:.4f} nats.")
        compared = next(x for x in (masked, symbols, valid) if x is not None)
        baselines = summary.get("baselines") or {}
        width = max(map(len, baselines), default=0)
        for name, loss in baselines.items():
            side = "below" if compared < loss else "above"
            lines.append(f"  {name:<{width}}  {loss:.4f}  the model is {abs(loss - compared):.4f} {side}")
    hidden, guesses = summary.get("valid_masked_accuracy"), summary.get("guesses") or {}
    if hidden is not None and guesses:
        shown = ", ".join(f"{name} {share:.1%}" for name, share in guesses.items())
        lines.append(f"Right at [MASK]: {hidden:.1%}; guessing by counts: {shown}.")
    name, word = summary.get("modality", "dna"), shlex.quote(f"encoder={out}")
    lines += [
        f"Loss curve: {out}/loss.png   encoder: {out}/encoder"
        + (f"   what it fills in: {out}/learned.png" if command == "fill" and example else ""),
        "Next:",
        f"  ssl_suite {command} {word} {shlex.quote(example)}" if example else "",
        f"  ssl_suite embed {word} input=YOUR_FILE output=embeddings.parquet",
        f"  ssl_suite run modality={name} objective={summary.get('objective', 'mlm')} "
        f"model={summary.get('larger', 'mini')} data.path=YOUR_FILE",
    ]
    return [line for line in lines if line]
