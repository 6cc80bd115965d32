"""Do the representations get better? Minutes of training on real data, then a number beside that of no training.

    python benchmarks/objectives_learn.py simclr --minutes 12
    python benchmarks/objectives_learn.py byol --minutes 12 --out runs/learn-byol model=tiny
    python benchmarks/objectives_learn.py apc --minutes 5

simclr, byol (any objective of pictures): CIFAR-10 under ``SSL_DATA_DIR``, re-encoded as JPEG (``data=cifar10`` is the
official one). The training pictures' features vote on each of the 10,000 test pictures: 20 nearest by cosine, weighted
by distance (scikit-learn). The random encoder is the same network at the run's start. No label is seen in training.

apc, frames: the built-in speech; the error on held-out speech beside that of repeating the last frame, or the nearest
visible one.

Further words are settings as ``ssl_suite run`` takes them, and win over those below. A run that was stopped goes on
with the same command. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core import registry
from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store
from ssl_suite.evaluation.encode import states
from ssl_suite.evaluation.items import Sequence
from ssl_suite.settings import config, runs
from ssl_suite.training import build, estimate, launch
from ssl_suite.training.restore import load_run

NEIGHBOURS = 20
AT_ONCE = 500  # pictures of a forward pass
# 128 pictures a step: on minutes of CPU more steps are worth more than more contrasts.
PICTURES = "data=cifar10_60k_jpeg model=resnet10 train.tokens_per_batch=8448 train.weight_decay=1e-4 train.final_lr=0"
SPEECH = "modality=speech model=mini train.tokens_per_batch=4096 train.lr=1e-3"
SELDOM = "train.eval_every=500 train.checkpoint_every=500 train.log_every=50"
RECIPES = {
    "simclr": f"{PICTURES} objective.temperature=0.5 train.lr=1e-3",
    "byol": f"{PICTURES} objective.tau=0.98 train.lr=1e-3",
    "apc": SPEECH,
    "frames": SPEECH,
}
BASELINES = {"apc": "valid_repeat_l1", "frames": "valid_copy_l1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objective")
    parser.add_argument("words", nargs="*", metavar="key=value")
    parser.add_argument("--minutes", type=float, default=12.0, help="of training")
    parser.add_argument("--out", help="the run folder; runs/learn-OBJECTIVE by default")
    args = parser.parse_intermixed_args()
    out = args.out or f"runs/learn-{args.objective}"
    recipe = RECIPES.get(args.objective, PICTURES)
    fixed = [f"objective={args.objective}", f"out={out}", f"train.minutes={args.minutes:g}"]
    words = [*recipe.split(), *SELDOM.split(), *fixed, *args.words]
    cfg, folder = runs.resolve_run(config.compose(words))
    code = launch.start(estimate.steps_for_minutes(cfg, folder), folder)
    summary = json.loads((folder / "summary.json").read_text()) if code == 0 else {}
    if not summary:
        raise SystemExit("the run has not finished: the same command goes on with it")
    facts = {"objective": args.objective, "data": cfg["data"]["name"], "model": cfg["model"]["name"]}
    found = predicted(summary, args.objective) if args.objective in BASELINES else neighbours(folder)
    cost = {"seconds": round(summary["seconds"], 1), "steps": summary["steps"], "tokens": summary["tokens"]}
    print(json.dumps(facts | found | cost))


def predicted(summary: dict[str, Any], objective: str) -> dict[str, float]:
    """The mean absolute error on held-out frames, and that of the copy."""
    return {"l1": summary["valid_l1"], BASELINES[objective].removeprefix("valid_"): summary[BASELINES[objective]]}


def neighbours(folder: Path) -> dict[str, float]:
    """Test accuracy of the neighbours, by the encoder at its start and at its end."""
    loaded = load_run(str(folder), "last")
    modality = registry.build(registry.MODALITIES, "modality", loaded.config["modality"])
    store = prepare(modality, loaded.config["data"], report=lambda text: None)
    tags = [store.record_tags(i) for i in range(store.records)]
    labels, test = np.array([tag["label"] for tag in tags]), np.array([tag["split"] == "test" for tag in tags])
    start = build.learner(loaded.config, modality, loaded.config["seed"]).encoder.eval()
    encoders = {"knn_random": start, "knn_trained": loaded.encoder}
    scores = {name: score(features(encoder, modality, store), labels, test) for name, encoder in encoders.items()}
    counts = {"train_pictures": int((~test).sum()), "test_pictures": int(test.sum())}
    return {name: round(x, 4) for name, x in scores.items()} | counts


def features(encoder: Any, modality: Any, store: Store) -> np.ndarray:
    """(records, D) float32."""
    ends = store.record_starts + store.record_lengths
    spans = zip(store.record_starts, ends, strict=True)
    pieces = ((i, Sequence(store.values[start:end])) for i, (start, end) in enumerate(spans))
    return np.stack([vector for _, vector in states(encoder, modality, pieces, layer=-1)])


def score(vectors: np.ndarray, labels: np.ndarray, test: np.ndarray) -> float:
    """The share of test records that their neighbours among the others name rightly."""
    from sklearn.neighbors import KNeighborsClassifier

    voters = KNeighborsClassifier(NEIGHBOURS, weights="distance", metric="cosine", algorithm="brute")
    return float(voters.fit(vectors[~test], labels[~test]).score(vectors[test], labels[test]))


if __name__ == "__main__":
    main()
