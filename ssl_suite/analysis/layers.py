"""Which layers of a frozen encoder a task needs: the shares that a trained probe takes of them, and the score on dev of
each by itself, as Yang et al. 2021 (arXiv:2105.01051) and Pasad et al. 2021 (arXiv:2107.04734) look at them.

Everything is measured on dev: the learning rate is chosen there, too, so scores of layers are for comparing them with
each other; test is not opened. Shapes: S seeds, L + 1 hidden states.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core import atomic
from ssl_suite.evaluation import encoders, protocols, references, trial
from ssl_suite.evaluation.heads import head_class


@dataclass(frozen=True)
class Layers:
    """What was found.

    Attributes:
        metric: of dev.
        alone: by layer, 0 the embedder's output, its score by itself; None where that is undefined.
        mixed: the score of the weighted sum of all; None of a head that trains nothing.
        weights: by seed the softmax shares of the sum; {} of a head that trains nothing.
        lr: by layer the rate that dev chose, "mixed" that of the sum.
    """

    task: str
    encoder: str
    metric: str
    alone: dict[int, float | None]
    mixed: float | None
    weights: dict[int, list[float]]
    lr: dict[str, float]


def measure(plan: trial.Plan, out: Path, say: Callable[[str], None], threads: int | None = None) -> Layers:
    """Train a probe of all layers and one of each, every one with the budget's rates and seeds.

    Args:
        plan: with ``protocol="probe"``; its seed, rate and layer are set here.
        out: folder of the trials; what is there already is not trained again.

    Raises:
        SuiteError: an encoder or a task that does not fit.
    """
    task, short = plan.task, references.parse(plan.encoder).short
    if not head_class(task.head["name"]).trained:
        return _of_retrieval(plan, short)
    protocols.check(plan)
    say(f"{task.name}: all layers")
    mixed, lr, results = _scored(plan, out, say, threads)
    weights = {seed: result["layer_weights"] for seed, result in results.items()}
    alone: dict[int, float | None] = {}
    rates = {"mixed": lr}
    for layer in range(len(next(iter(weights.values())))):
        say(f"{task.name}: layer {layer}")
        alone[layer], rates[str(layer)], _ = _scored(replace(plan, layer=layer), out, say, threads)
    protocols.remove_features(plan, out)
    return Layers(task.name, short, task.select, alone, mixed, weights, rates)


def _scored(
    plan: trial.Plan, out: Path, say: Callable[[str], None], threads: int | None
) -> tuple[float | None, float, dict[int, dict[str, Any]]]:
    """The mean over seeds on dev at the best rate, that rate, and each seed's result."""
    trials = protocols.Trials(plan, out, say, threads)
    lr, _ = trials.choose_rate()
    for seed in plan.budget.seeds:
        if (lr, seed) not in trials.done:
            trials.run(lr, seed)
    results = {seed: trials.done[lr, seed] for seed in plan.budget.seeds}
    score = protocols.mean_score([result["dev"].get(plan.task.select) for result in results.values()])
    for folder in trials.folders.values():
        trial.discard(folder)
    return score, lr, results


def _of_retrieval(plan: trial.Plan, short: str) -> Layers:
    """The scores by which a head with nothing to train chooses its layer."""
    modality, data = trial.load_data(plan)
    opened = encoders.open_encoder(references.parse(plan.encoder), modality, plan.budget.seeds[0])
    head = head_class(plan.task.head["name"])(opened.encoder, data, **plan.task.head_settings)
    _, chosen = head.answer(opened.encoder, modality, data, plan.task)
    alone = {int(layer): score for layer, score in (chosen or {})["per_layer"].items()}
    return Layers(plan.task.name, short, plan.task.select, alone, None, {}, {})


def draw(found: Layers, path: Path) -> None:
    """Bars of the shares (mean over seeds, a dot a seed) over a line of the layers' own scores."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.8), layout="constrained")
    rows = figure.subplots(2 if found.weights else 1, 1, sharex=True, squeeze=False)[:, 0]
    rows[0].set_title(f"{found.task}, {found.encoder}")
    if found.weights:
        shares_SL = np.array(list(found.weights.values()))
        rows[0].bar(range(shares_SL.shape[1]), shares_SL.mean(0), color="C0", alpha=0.5)
        for shares_L in shares_SL:
            rows[0].plot(shares_L, ".", color="C0")
        rows[0].axhline(1 / shares_SL.shape[1], color="0.6", linewidth=0.8)
        rows[0].set_ylabel("share in the sum")
    layers = list(found.alone)
    rows[-1].plot(layers, [np.nan if x is None else x for x in found.alone.values()], "o-", color="C1", label="alone")
    if found.mixed is not None:
        rows[-1].axhline(found.mixed, color="C0", linewidth=1, label="weighted sum")
        rows[-1].legend(frameon=False)
    rows[-1].set_ylabel(f"{found.metric} on dev")
    rows[-1].set_xlabel("layer (0: the embedder's output)")
    rows[-1].set_xticks(layers)
    for axes in rows:
        axes.spines[["top", "right"]].set_visible(False)
    with atomic.replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150, metadata={"Software": None})


def write_numbers(found: Layers, path: Path) -> None:
    """The numbers of the figure, as JSON."""
    atomic.write(path, json.dumps(asdict(found), indent=1) + "\n")
