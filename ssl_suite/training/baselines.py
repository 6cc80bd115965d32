"""Baselines of a run: what count models and guesses achieve on the very positions it is evaluated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.models import markov
from ssl_suite.objectives.base import Objective
from ssl_suite.objectives.mlm import MaskedLM
from ssl_suite.training.evaluate import Evaluator

ORDERS = (0, 1, 3, 5)  # read left to right
TWO_SIDED = (3, 5)  # given both sides, as the encoder is; lowered until the table of an order fits into ``TABLE``
TABLE = 1 << 14  # entries, read twice a position: 160,000 (proteins, order 3) take half a minute, 4 million (words) ten
COUNTS = 1 << 20  # entries of the largest table that is fitted: 16 million (16 units, order 5) take a minute
COUNTED = 20_000_000  # training tokens that guesses are counted on


def count_models(
    store: Store,
    modality: Modality,
    evaluator: Evaluator,
    objective: Objective,
    two_sided: Sequence[int] = TWO_SIDED,
) -> dict[str, float]:
    """Cross-entropies in nats of count models fitted on the training split, by name.

    ``unigram`` and ``order-k`` read the validation windows left to right. ``order-k both sides`` is the same chain
    asked for exactly the positions that ``evaluator`` and ``objective`` hide behind [MASK], given the window as the
    encoder sees it, its random symbols included: what a bidirectional model of that order could do. Orders whose table
    is too large, or that have nothing to score, are left out. Empty for objectives that predict no ids of the data.
    """
    if not objective.compares:
        return {}
    targets = modality.vocabulary.targets
    alphabet = targets[1] - targets[0]
    wanted = max(order for order in ORDERS if order == 0 or alphabet ** (order + 1) <= COUNTS)
    chain = markov.fit(markov.training_sequences(store, targets), alphabet, wanted)
    ids_WT = markov.window_symbols(store.ids, store.split("valid"), targets)
    found = {}
    for order in (order for order in ORDERS if order <= chain.order):
        total, count = markov.sequential(chain.at(order), ids_WT)
        if count:
            found["unigram" if order == 0 else f"order-{order}"] = total / count
    if objective.compares != "masked":
        return found
    mask_WT = hide(ids_WT, evaluator, objective, targets[0])
    used_W = mask_WT.any(1)
    largest = max(order for order in range(max(two_sided) + 1) if order == 0 or alphabet ** (order + 1) <= TABLE)
    for order in sorted({min(order, largest, chain.order) for order in two_sided} - {0}):
        total, count = markov.masked(chain.at(order), ids_WT[used_W], mask_WT[used_W])
        if count:
            found[f"order-{order} both sides"] = total / count
    return found


def guesses(store: Store, modality: Modality, evaluator: Evaluator, objective: Objective) -> dict[str, float]:
    """How often guessing is right at the positions that are evaluated behind [MASK].

    ``constant`` always says the commonest symbol of the training split; ``left neighbour`` and ``right neighbour`` say
    what most often stood beside that neighbour there (a bigram model's best guess). The neighbour is the true one, also
    where the encoder sees [MASK], so these are a little easier for the guess than for the encoder. Empty for objectives
    that hide nothing.
    """
    if objective.compares != "masked":
        return {}
    targets = modality.vocabulary.targets
    truth_WT = markov.window_symbols(store.ids, store.split("valid"), targets)
    mask_WT = hide(truth_WT.copy(), evaluator, objective, targets[0])
    if not mask_WT.any():
        return {}
    train = markov.training_sequences(store, targets)
    kept = int(np.searchsorted(np.cumsum([len(part) for part in train]), COUNTED)) + 1
    line = np.concatenate([part for sequence in train[:kept] for part in (sequence, [-1])])[: 2 * COUNTED]
    commonest = int(np.bincount(line[line >= 0]).argmax())
    found = {"constant": float((truth_WT[mask_WT] == commonest).mean())}
    for name, way in (("left neighbour", 1), ("right neighbour", -1)):
        follows = best_followers(line[::way], targets[1] - targets[0], commonest)
        before_WT, guess_WT = truth_WT[:, ::way][:, :-1], np.full(truth_WT.shape, commonest)
        guess_WT[:, 1:] = np.where(before_WT >= 0, follows[before_WT], commonest)
        found[name] = float((guess_WT[:, ::way] == truth_WT)[mask_WT].mean())
    return found


def best_followers(line: np.ndarray, alphabet: int, otherwise: int) -> np.ndarray:
    """(alphabet,) the symbol that most often follows each symbol; ``otherwise`` where none does. -1 separates."""
    pairs = line[:-1].astype(np.int64) * alphabet + line[1:]
    keys, counts = np.unique(pairs[(line[:-1] >= 0) & (line[1:] >= 0)], return_counts=True)
    best = np.full(alphabet, otherwise)
    order = np.argsort(counts, kind="stable")  # the last written is the commonest
    best[keys[order] // alphabet] = keys[order] % alphabet
    return best


def hide(ids_WT: np.ndarray, evaluator: Evaluator, objective: Objective, first: int) -> np.ndarray:
    """Show W validation windows of up to T symbols as an evaluation of a masked objective shows them.

    Args:
        ids_WT: (W, T) symbols from 0, changed in place where the encoder sees a random one.
        first: the id of symbol 0.

    Returns:
        (W, T) bool: where it sees [MASK]; ``ids_WT`` keeps the answer there.
    """
    whole = dataclasses.replace(evaluator.group, rank=0, world=1, device=torch.device("cpu"))
    mask_WT = np.zeros(ids_WT.shape, dtype=bool)
    for batch, rng in evaluator.batches(whole):
        picks_K, labels_K, shown_N = cast(MaskedLM, objective).corrupt(batch, rng)
        picks_K = picks_K[labels_K != -100]
        windows = batch.index_B[batch.sequence_ids_N()[picks_K]].numpy()
        places = batch.positions_N()[picks_K].numpy() - 1  # position 0 is [CLS]
        shown = shown_N[picks_K].numpy()
        masked = shown == cast(MaskedLM, objective).vocabulary.mask
        mask_WT[windows[masked], places[masked]] = True
        ids_WT[windows[~masked], places[~masked]] = shown[~masked] - first
    return mask_WT
