"""What a completed run leaves behind: the exported encoder, summary.json, the loss curve, and a few closing words."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_suite import __version__
from ssl_suite.core import atomic
from ssl_suite.core.files import read_metrics
from ssl_suite.core.wording import count
from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.training import build, checkpoint, filled, report, restore
from ssl_suite.training.baselines import count_models, guesses
from ssl_suite.training.evaluate import Evaluator
from ssl_suite.training.learner import Learner

GUESSES = {"constant": "always the commonest"}  # other names as they are


def finish(
    cfg: Mapping[str, Any],
    out: Path,
    modality: Modality,
    store: Store,
    evaluator: Evaluator,
    say: Callable[[str], None],
) -> None:
    """Write ``encoder/`` (from the best checkpoint), ``summary.json`` and ``loss.png``; print the closing text.

    Args:
        say: prints a line to the user.
    """
    best = restore.load_run(str(out), "best", report=say)
    baselines = count_models(store, modality, evaluator, best.objective)
    summary = summarise(cfg, out, store, best.step, baselines)
    summary["guesses"] = guesses(store, modality, evaluator, best.objective)
    if (moved := set_aside(out / "encoder")) is not None:
        say(f"encoder/ held what this run has not written; it is now {moved}")
    build.export(best.learner, modality, out / "encoder", card(cfg, summary, best.learner, modality))
    atomic.write_json(out / "summary.json", summary)
    title = f"{cfg['modality']['name']} {cfg['objective']['name']}, {cfg['model']['name']}"
    report.draw(out / "metrics.jsonl", out / "loss.png", baselines, title)
    command = best.objective.command
    example = modality.example if command == "fill" else "length=50" if command else ""
    if command == "fill" and modality.frame is None:
        example = show_holes(out, best, evaluator, summary, title, say) or example
    closing = summary | {"larger": build.kind_of(build.shapes(best.encoder)).LARGER}
    for line in report.summary_lines(closing, example, command, " nats" if best.objective.predicts_ids else ""):
        say(line)


def show_holes(
    out: Path, best: restore.Loaded, evaluator: Evaluator, summary: Mapping[str, Any], title: str, say: Callable
) -> str:
    """Draw ``learned.png`` and print its first passage: held-out data with holes, and what the model puts into them.

    Returns:
        A part of it to try ``fill`` with, empty where no hole of it was filled rightly.
    """
    found = filled.passages(best, evaluator, count=5)
    if not found:
        return ""
    shares = {"the model": summary.get("valid_masked_accuracy", 0.0)}
    shares |= {GUESSES.get(name, f"from the {name}"): share for name, share in summary["guesses"].items()}
    filled.draw(found, shares, f"{title}: held-out data with holes, and what the model puts in", out / "learned.png")
    holes, guesses = filled.lines(found[0])
    say(f"Held-out data with holes:\n  {holes}\nas the model fills them, [right] or (wrong|as it was):\n  {guesses}")
    return filled.example(found)


def set_aside(folder: Path) -> Path | None:
    """Rename a folder that may not be replaced (an earlier version's export, files of the user's); returns its name."""
    if atomic.foreign(folder) is None:
        return None
    names = (folder.with_name(f"{folder.name}.{number}") for number in itertools.count(1))
    moved = next(path for path in names if not os.path.lexists(path))
    folder.rename(moved)
    return moved


def summarise(
    cfg: Mapping[str, Any], out: Path, store: Store, best_step: int, baselines: Mapping[str, float]
) -> dict[str, Any]:
    """The facts of a completed run, as ``summary.json`` holds them.

    Losses and entropies are in nats; ``valid`` is at the last step, ``best`` at the exported one. ``tokens`` counts
    those that carry data, over all epochs; ``seconds`` is wall time in training, over all attempts.
    """
    root = out / "checkpoints"
    last = checkpoint.manifest(checkpoint.whole(root)[-1])
    trained = [line for line in read_metrics(out / "metrics.jsonl")[0] if "loss" in line]
    rates = sorted(line["tokens_per_s"] for line in trained)
    commit, dirty = git_state()
    return {
        "out": str(out),
        "modality": cfg["modality"]["name"],
        "objective": cfg["objective"]["name"],
        "steps": last["step"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "tokens_per_s": rates[len(rates) // 2] if rates else None,
        "train_loss": trained[-1]["loss"] if trained else None,
        **last["valid"],
        "best_step": best_step,
        "best_valid_loss": checkpoint.manifest(root / f"step_{best_step:08d}").get("valid_loss"),
        "baselines": dict(baselines),
        "config_sha256": hashlib.sha256((out / "config.yaml").read_bytes()).hexdigest(),
        "data_key": store.key,
        "data": {key: store.report[key] for key in ("records", "tokens") if key in store.report},
        "git_commit": commit,
        "git_dirty": dirty,
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


ADDED = ("rows", "predictions", "manifest.jsonl")  # of leaderboards/: what `ssl_suite bench` adds to


def git_state() -> tuple[str | None, bool | None]:
    """The checkout's commit and whether it has uncommitted changes; None for an installed package.

    Rows and predictions that were added since are none: the second row of a table would be of a dirty tree.
    """
    package = Path(__file__).resolve().parents[2]
    if not (package / ".git").exists():
        return None, None
    try:
        changed = _git(
            package, "status", "--porcelain", "--", ".", *(f":(exclude)leaderboards/{name}" for name in ADDED)
        )
        return _git(package, "rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *words: str) -> str:
    command = ["git", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def started(model: Mapping[str, Any]) -> str:
    """The model's name: the preset's, or that of what it started from."""
    return f"from {Path(model['init']).name}" if model.get("init") else model["name"]


def card(cfg: Mapping[str, Any], summary: Mapping[str, Any], learner: Learner, modality: Modality) -> str:
    """The README of the exported folder: what it is, how it was made, how to open it."""
    valid, kind = summary.get("best_valid_loss"), build.kind_of(build.shapes(learner.encoder))
    loss = f"{valid:.4f}{' nats' * learner.objective.predicts_ids}" if valid is not None else "not measured"
    return f"""---
library_name: {kind.LIBRARY}
tags: [ssl_suite, {cfg["modality"]["name"]}, {cfg["objective"]["name"]}]
---
# {cfg["modality"]["name"]} encoder, pre-trained with {cfg["objective"]["name"]}

{started(cfg["model"])}: {learner.encoder.spec.words}.
Trained for {count(summary["steps"], "step")} on {count(summary["tokens"], "token")};
exported at step {summary["best_step"]:,}: validation loss {loss}.

```python
{build.opening(learner, modality)}
```

Data {cfg["data"]["path"] or cfg["data"]["name"]} (store {summary["data_key"]}); configuration SHA-256
{summary["config_sha256"]}; commit {summary["git_commit"] or "unknown"}; ssl_suite {summary["version"]}.
"""
