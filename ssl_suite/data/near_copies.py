"""Validation windows that nearly repeat a training window: homologous proteins, edited texts, another cut of a picture.

Which features a window has is the modality's matter (``near_duplicate_features``), as is the Jaccard similarity of two
sets from which windows count as near copies (``near_duplicate_similarity``). The search is exact, by an inverted index
over the validation windows' features: a training window that finds fewer of its own features in it than a near copy
must share is passed over without any comparison, and a validation window leaves the index once it has been found, so
that data of nothing but copies do not take for ever.

Shapes: V validation windows, T training windows looked up together, P features of all windows of a group.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from ssl_suite.data.store import Store, Windows
from ssl_suite.modalities.base import Modality

LOOKED_AT = 20_000  # validation windows, evenly spaced: with 500 features each, 160 MB of index
AT_ONCE = 1 << 20  # features of training windows looked up together: 40 MB of memory
SEEN_BITS = 24  # 16 MB of flags
EXAMPLES = 5


def slots(features: np.ndarray) -> np.ndarray:
    """Places of features in a table of ``2 ** SEEN_BITS`` (Fibonacci hashing)."""
    return (features * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - SEEN_BITS)


class Index:
    """Which validation windows have a feature.

    Attributes:
        sizes_V: features of each window.
        similar_V: float64, the similarity of the near copy that was found, 0 without one.
        partner_V: its training window, -1 without one.
    """

    def __init__(self, sets: list[np.ndarray], least: float) -> None:
        self.sizes_V = np.array([len(one) for one in sets], np.int64)
        self.similar_V = np.zeros(len(sets))
        self.partner_V = np.full(len(sets), -1, np.int64)
        self.least = least
        features = np.concatenate([np.zeros(0, np.uint64), *sets]).astype(np.uint64)
        owners = np.repeat(np.arange(len(sets)), self.sizes_V)
        order = np.argsort(features, kind="stable")
        self._features_P, self._owners_P = features[order], owners[order]
        self._seen = np.zeros(1 << SEEN_BITS, bool)
        self._seen[slots(features)] = True

    def look_up(self, sets: list[np.ndarray], numbers: list[int]) -> None:
        """Compare training windows, given by their features and their numbers, with all that are in the index."""
        sizes_T = np.array([len(one) for one in sets], np.int64)
        features_P, owners_P = np.concatenate(sets), np.repeat(np.arange(len(sets)), sizes_T)
        known_P = self._known(features_P)
        # J = |a and b| / |a or b| >= s needs |a and b| >= s max(|a|, |b|): so many of b's features must be known
        known_T = np.bincount(owners_P[known_P], minlength=len(sets))
        for t in np.flatnonzero((known_T >= np.ceil(self.least * sizes_T - 1e-9)) & (sizes_T > 0)).tolist():
            self._compare(np.asarray(sets[t]), numbers[t])

    def _known(self, features_P: np.ndarray) -> np.ndarray:
        known_P = self._seen[slots(features_P)] & (len(self._features_P) > 0)
        maybe = np.flatnonzero(known_P)  # a table of flags first: a search for each feature takes ten times as long
        if len(maybe):
            places = np.searchsorted(self._features_P, features_P[maybe])
            found = self._features_P[np.minimum(places, len(self._features_P) - 1)]
            known_P[maybe] = found == features_P[maybe]
        return known_P

    def _compare(self, features: np.ndarray, number: int) -> None:
        first = np.searchsorted(self._features_P, features, side="left")
        counts = np.searchsorted(self._features_P, features, side="right") - first
        places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        shared_V = np.bincount(self._owners_P[places], minlength=len(self.sizes_V))
        similar_V = shared_V / np.maximum(self.sizes_V + len(features) - shared_V, 1)
        found = np.flatnonzero(similar_V >= self.least)
        if len(found) == 0:
            return
        self.similar_V[found], self.partner_V[found] = similar_V[found], number
        stay_P = ~np.isin(self._owners_P, found)
        self._features_P, self._owners_P = self._features_P[stay_P], self._owners_P[stay_P]


def near_copies(store: Store, modality: Modality) -> dict[str, Any] | None:
    """How many validation windows have a near copy in training; exact copies count too.

    Returns:
        None where the modality has no ``near_duplicate_features``. Else ``kinship`` (in words), ``similarity`` (from
        which windows count), ``looked_at`` (validation windows: all up to ``LOOKED_AT``), ``windows`` (those with a
        near copy), ``share``, and the first ``examples``: names of both records and their similarity.
    """
    if not modality.near_duplicate_kind:
        return None
    train, valid = store.split("train"), store.split("valid")
    looked_at = np.arange(min(len(valid), LOOKED_AT)) * len(valid) // min(len(valid), LOOKED_AT)
    index = Index([features(store, modality, valid, i) for i in looked_at.tolist()], modality.near_duplicate_similarity)
    sets: list[np.ndarray] = []
    numbers: list[int] = []
    waiting = 0
    for i in range(len(train)):
        sets.append(features(store, modality, train, i))
        numbers.append(i)
        waiting += len(sets[-1])
        if waiting >= AT_ONCE or i + 1 == len(train):
            index.look_up(sets, numbers)
            sets, numbers, waiting = [], [], 0
    found = np.flatnonzero(index.partner_V >= 0)
    examples = [
        {
            "valid": store.record_name(int(valid.records_S[looked_at[i]])),
            "train": store.record_name(int(train.records_S[index.partner_V[i]])),
            "similarity": math.floor(1000 * index.similar_V[i]) / 1000,
        }
        for i in found[:EXAMPLES].tolist()
    ]
    return {
        "kinship": modality.near_duplicate_kind,
        "similarity": modality.near_duplicate_similarity,
        "looked_at": len(looked_at),
        "windows": len(found),
        "share": len(found) / len(looked_at),
        "examples": examples,
    }


def families(sets: list[np.ndarray], least: float) -> np.ndarray:
    """(n,) numbers of families: what is linked by near copies, from a Jaccard similarity of ``least`` on.

    Args:
        sets: distinct features of each item; one without any is a family of its own.
    """
    sizes = np.array([len(one) for one in sets])
    columns = np.unique(np.concatenate([np.zeros(0, np.uint64), *sets]), return_inverse=True)[1]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    has = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, bounds), (len(sets), max(columns.size, 1)))
    shared = (has @ has.T).tocoo()
    alike = shared.data / (sizes[shared.row] + sizes[shared.col] - shared.data) >= least
    links = sparse.csr_matrix((alike[alike], (shared.row[alike], shared.col[alike])), shared.shape)
    return csgraph.connected_components(links, directed=False)[1].astype(np.int64)


def features(store: Store, modality: Modality, windows: Windows, i: int) -> np.ndarray:
    """(n,) uint64 distinct features of the i-th window."""
    start, length = int(windows.starts_S[i]), int(windows.lengths_S[i])
    return modality.near_duplicate_features(np.asarray(store.values[start : start + length]))
