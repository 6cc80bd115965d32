"""What counting alone achieves on the very positions a run is evaluated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.models import markov
from ssl_suite.training.evaluate import Evaluator

ORDERS = (0, 1, 3, 5)  # read left to right
TWO_SIDED = (3, 5)  # given both sides, as the encoder is


def count_models(
    store: Store,
    modality: Modality,
    evaluator: Evaluator,
    objective: Any,
    two_sided: Sequence[int] = TWO_SIDED,
) -> dict[str, float]:
    """Cross-entropies in nats of count models fitted on the training split, by name.

    ``unigram`` and ``order-k`` read the validation windows left to right. ``order-k both sides`` is the same chain
    asked for exactly the positions that ``evaluator`` and ``objective`` hide behind [MASK], given the window as the
    encoder sees it, its random symbols included: what a bidirectional model of that order could do. Orders whose table
    is too large, or that have nothing to score, are left out.
    """
    targets = modality.vocabulary.targets
    alphabet = targets[1] - targets[0]
    chain = markov.fit_store(store, targets, max(ORDERS))
    ids_WT = markov.window_symbols(store.values, store.split("valid"), targets)
    found = {}
    for order in (order for order in ORDERS if order <= chain.order):
        total, count = markov.sequential(chain.at(order), ids_WT)
        if count:
            found["unigram" if order == 0 else f"order-{order}"] = total / count
    if not hasattr(objective, "corrupt"):
        return found
    mask_WT = hide(ids_WT, evaluator, objective, targets[0])
    used_W = mask_WT.any(1)
    for order in two_sided:
        if markov.highest_order(alphabet, order) == order <= chain.order:
            total, count = markov.masked(chain.at(order), ids_WT[used_W], mask_WT[used_W])
            if count:
                found[f"order-{order} both sides"] = total / count
    return found


def hide(ids_WT: np.ndarray, evaluator: Evaluator, objective: Any, first: int) -> np.ndarray:
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
        picks_K, labels_K, shown_N = objective.corrupt(batch, rng)
        picks_K = picks_K[labels_K != -100]
        windows = batch.keys_B[batch.sequence_ids_N()[picks_K]].numpy()
        places = batch.positions_N()[picks_K].numpy() - 1  # position 0 is [CLS]
        shown = shown_N[picks_K].numpy()
        masked = shown == objective.vocabulary.mask
        mask_WT[windows[masked], places[masked]] = True
        ids_WT[windows[~masked], places[~masked]] = shown[~masked] - first
    return mask_WT
