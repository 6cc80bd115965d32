"""Families of near copies, against a loop over all pairs; near copies of train in test: ``test_verify``."""

from __future__ import annotations

import numpy as np

from ssl_suite.data import near_copies


def test_families_are_the_components_of_a_naive_graph() -> None:
    draw = np.random.default_rng(0)
    parents = [draw.choice(10_000, 40, replace=False) for _ in range(6)]
    sets = [np.unique(np.concatenate([draw.permutation(p)[:34], draw.integers(10_000, size=6)])) for p in parents * 5]
    sets += [np.zeros(0, np.int64), np.array([77777])]
    sets = [each.astype(np.uint64) for each in sets]
    found = near_copies.families(sets, 0.3)
    label = list(range(len(sets)))
    for a in range(len(sets)):
        for b in range(a):
            shared = len(np.intersect1d(sets[a], sets[b]))
            if shared and shared / (len(sets[a]) + len(sets[b]) - shared) >= 0.3:
                label = [label[a] if x == label[b] else x for x in label]
    assert [[x == y for y in label] for x in label] == [[x == y for y in found] for x in found]
    assert len(set(label)) == 8
