"""A run of ``objective=clm`` beside Kneser-Ney models of the same tokens, in bits per character of held-out text.

    python benchmarks/prose.py runs/gpt            # trigram; further orders: --orders 3 4 5

Both see the same windows with nothing before them, and every token of the validation split is scored but [SEP] and what
the tokeniser does not know. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import torch
from kneser_ney import KneserNey

from ssl_suite.data.prepare import prepare
from ssl_suite.models import markov
from ssl_suite.training.distributed import processes
from ssl_suite.training.evaluate import Evaluator
from ssl_suite.training.restore import load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run of objective=clm")
    parser.add_argument("--orders", type=int, nargs="+", default=[3], help="of the Kneser-Ney models; 3 is a trigram")
    args = parser.parse_args()
    loaded = load_run(args.run, "best")
    store = prepare(loaded.modality, loaded.config["data"], report=lambda text: None)
    targets, windows = loaded.modality.vocabulary.targets, store.split("valid")
    pieces = [
        store.ids[start : start + length]
        for start, length in zip(windows.starts_S.tolist(), windows.lengths_S.tolist(), strict=True)
    ]
    characters = sum(len(loaded.modality.decode(piece)) for piece in pieces)
    held_out = known([markov.symbols(piece, targets) for piece in pieces])
    tokens = sum(map(len, held_out))
    facts: dict[str, Any] = {"characters": characters, "tokens": tokens, "step": loaded.step}
    nats = {"clm": model_nats(loaded, store) * tokens}
    train = known(markov.training_sequences(store, targets))
    for order in args.orders:
        counted = KneserNey.fit(train, targets[1] - targets[0], order)
        nats[f"kneser_ney_{order}"] = -sum(float(x.sum()) for x in counted.log_probs(held_out))
    facts |= {f"{name}_bits_per_character": round(x / math.log(2) / characters, 4) for name, x in nats.items()}
    print(json.dumps(facts | {f"{name}_nats_per_token": round(x / tokens, 4) for name, x in nats.items()}))


def known(sequences: list[Any]) -> list[Any]:
    """Without the symbols that are none (-1)."""
    return [sequence[sequence >= 0] for sequence in sequences]


def model_nats(loaded: Any, store: Any) -> float:
    """Nats a token over the whole validation split."""
    train = {**loaded.config["train"], "eval_tokens": 1 << 62, "precision": "fp32"}
    with processes(train) as group, torch.no_grad():
        return Evaluator(store, loaded.modality, train, group, loaded.objective)(loaded.learner)["valid_symbol_loss"]


if __name__ == "__main__":
    main()
