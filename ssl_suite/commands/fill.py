"""Predict the masked positions of a sequence.

examples:
  ssl_suite fill encoder=runs/first "ACGT[MASK]ACGT"
  ssl_suite fill encoder=runs/first top=2 "ACG[MASK]ACGT" "TTTT[MASK]CC[MASK]A"
  ssl_suite fill encoder=runs/first checkpoint=last "ACGT[MASK]ACGT" --json

settings:
  encoder=RUN         a run folder, or RUN@STEP for one of its checkpoints
  checkpoint=best     best (lowest validation loss), last, or a step
  top=5               tokens shown for each [MASK]
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from ssl_suite.commands.words import Key, parse_words, split_free
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count

if TYPE_CHECKING:
    from ssl_suite.modalities.base import Modality
    from ssl_suite.training.restore import Loaded

KEYS = {"encoder": Key(example="runs/first"), "checkpoint": Key("best"), "top": Key(5, int, least=1)}
MASK = "[MASK]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value | SEQUENCE", help="settings, and sequences with [MASK]")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of text")


def main(args: argparse.Namespace) -> int:
    given, sequences = split_free(args.words)
    settings = parse_words(given, KEYS)
    if not sequences:
        raise SuiteError(f'No sequence to fill: add one with {MASK} in it, such as "ACGT{MASK}ACGT".')
    for sequence in sequences:
        if MASK not in sequence:
            raise SuiteError(f"'{shorten(sequence)}' has no {MASK}: put one where a token is to be predicted.")
    results = run(settings, sequences)
    print(json.dumps(results, indent=1) if args.json else "\n".join(lines(results)))
    return 0


def run(settings: dict[str, Any], sequences: list[str]) -> list[dict[str, Any]]:
    """For each sequence its masks, and for each mask the likeliest tokens. Returns ``{"sequence", "masks":
    [{"position", "tokens": [{"token", "probability"}]}]}``; positions count tokens from 1."""
    from ssl_suite.commands.embed import device
    from ssl_suite.training import restore

    loaded = restore.load_run(settings["encoder"], settings["checkpoint"], device())
    if loaded.objective.command != "fill":
        name = loaded.config["objective"]["name"]
        other = "use `ssl_suite generate`, or " if loaded.objective.command == "generate" else ""
        raise SuiteError(
            f"encoder={settings['encoder']} was trained with objective={name}, which has not learned to fill in "
            f"{MASK}: {other}train one with objective=mlm."
        )
    if loaded.modality.frame is not None:
        name = loaded.modality.name
        raise SuiteError(f"encoder={settings['encoder']} reads {name}, which cannot be typed; fill works on tokens.")
    return [
        {"sequence": sequence, "masks": predict(loaded, ids_of(loaded.modality, sequence, number), settings["top"])}
        for number, sequence in enumerate(sequences, 1)
    ]


def ids_of(modality: Modality, sequence: str, number: int) -> list[int]:
    """Token ids; each [MASK] hides one token, and what stands between two is encoded by itself. Raises SuiteError:
    letters that the modality does not know, a piece too short for a token, or more tokens than the model's window
    holds."""
    from ssl_suite.core.records import Record

    ids: list[int] = []
    for place, piece in enumerate(sequence.split(MASK)):
        if place:
            ids.append(modality.vocabulary.mask)
        if piece.strip():
            record = Record(f"sequence {number}", piece.strip(), "command line")
            values = modality.encode(record).values.tolist()
            if not values:
                raise SuiteError(f"'{shorten(piece.strip())}' is shorter than one token: give more around {MASK}.")
            ids += values
    if len(ids) > modality.max_length - 2:
        raise SuiteError(
            f"'{shorten(sequence)}' has {count(len(ids), 'token')}, the model's window holds "
            f"{modality.max_length - 2}: keep the part around {MASK}."
        )
    return ids


def predict(loaded: Loaded, ids: list[int], top: int) -> list[dict[str, Any]]:
    """The ``top`` likeliest tokens at every [MASK] of one sequence, and their probabilities."""
    import numpy as np
    import torch

    from ssl_suite.core.batch import ragged
    from ssl_suite.evaluation.encode import autocast

    vocabulary = loaded.modality.vocabulary
    device = next(loaded.encoder.parameters()).device
    batch = ragged([np.array(ids)], vocabulary, loaded.modality.max_length).to(device)
    picks_K = (batch.values == vocabulary.mask).nonzero().flatten()
    encoder: Any = loaded.encoder
    with torch.inference_mode(), autocast(device):
        hidden_KD = encoder(batch)[picks_K]
        logits_KV = loaded.objective.logits(encoder, hidden_KD)
    best = torch.softmax(logits_KV.float(), -1)[:, : len(vocabulary)].topk(min(top, len(vocabulary)))
    return [
        {
            "position": int(pick),  # [CLS] stands at 0, so the first token of the sequence is 1
            "tokens": [
                {"token": vocabulary.tokens[i], "probability": p}
                for i, p in zip(places.tolist(), shares.tolist(), strict=True)
            ],
        }
        for pick, places, shares in zip(picks_K, best.indices, best.values, strict=True)
    ]


def lines(results: list[dict[str, Any]]) -> list[str]:
    """The results for a reader."""
    text = []
    for result in results:
        text.append(shorten(result["sequence"]))
        for mask in result["masks"]:
            shown = "  ".join(f"{entry['token']} {entry['probability']:.3f}" for entry in mask["tokens"])
            text.append(f"  position {mask['position']}:  {shown}")
    return text


def shorten(sequence: str, most: int = 60) -> str:
    """A sequence fit for one line."""
    return sequence if len(sequence) <= most else f"{sequence[: most - 1]}…"
