"""Substituting residues as evolution does, on the device of the batch.

Shapes: N positions.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.rng import Rng
from ssl_suite.modalities.protein_letters import RESIDUES

# Background frequencies of BLOSUM62, as BLAST+ has them (matrix_frequency_data.c); they sum to 1.
FREQUENCIES = {
    "A": 0.07421620506799341, "R": 0.05161448614128464, "N": 0.04464580851275792, "D": 0.05362600083855441,
    "C": 0.02468745716794485, "Q": 0.03425965059141602, "E": 0.05431192568458750, "G": 0.07414694145264500,
    "H": 0.02621298480526623, "I": 0.06791736761895376, "L": 0.09890786849715096, "K": 0.05815568230307968,
    "M": 0.02499019757964311, "F": 0.04741845974228475, "P": 0.03853800332030621, "S": 0.05722902947649442,
    "T": 0.05089136455028703, "W": 0.01302995612997215, "Y": 0.03228151231375858, "V": 0.07291909820561925,
}  # fmt: skip
STEPS = 1 << 24  # cumulative probabilities are whole numbers of this, so that every device draws the same residue


@cache
def probabilities() -> np.ndarray:
    """(20, 20) the chance that residue b (column) takes the place of residue a (row), in the order of ``RESIDUES``.

    BLOSUM62 scores are half-bit log odds, s(a, b) = 2 log2(q(a, b) / (p(a) p(b))) (Henikoff and Henikoff 1992, PNAS
    89:10915), so that given a, b follows q(a, b) / p(a) = p(b) 2^(s(a, b) / 2). Here b = a is left out, for the rate
    of substitution is a setting, and rows sum to 1.
    """
    from Bio.Align import substitution_matrices

    matrix = substitution_matrices.load("BLOSUM62")
    scores = np.array([[matrix[a, b] for b in RESIDUES] for a in RESIDUES])
    chances = np.array([FREQUENCIES[b] for b in RESIDUES]) * 2 ** (scores / 2)
    np.fill_diagonal(chances, 0)
    return chances / chances.sum(1, keepdims=True)


@cache
def thresholds() -> np.ndarray:
    """(400,) int64, increasing: row a holds its cumulative probabilities in ``STEPS``, plus a times ``STEPS``."""
    ends = np.rint(np.cumsum(probabilities(), axis=1) * STEPS).astype(np.int64)
    return (ends + STEPS * np.arange(len(RESIDUES))[:, None]).ravel()


def substitute(
    values_N: Tensor, place_N: Tensor, rng: Rng, rows: int, low: int, rate: float, thresholds_T: Tensor
) -> Tensor:
    """Replace residues by others, drawn by ``probabilities``.

    Args:
        values_N: (N,) int64 ids.
        place_N: (N,) int64, -1 for positions that may not change.
        rng: of the rows.
        rows: of the batch.
        low: id of the first of ``RESIDUES``; other tokens stay.
        rate: probability of a change per residue.
        thresholds_T: ``thresholds`` on the device.
    """
    n = values_N.shape[0] // rows
    hit_N = (rng.uniform(n) < rate) & (place_N >= 0) & (values_N >= low) & (values_N < low + len(RESIDUES))
    row_N = (values_N - low).clamp(0, len(RESIDUES) - 1)
    # A draw u in [0, STEPS) of row a picks the first threshold above a STEPS + u: one search over all rows' thresholds.
    found_N = torch.searchsorted(thresholds_T, row_N * STEPS + rng.integers(n, 0, STEPS), right=True)
    return torch.where(hit_N, low + found_N - row_N * len(RESIDUES), values_N)
