"""k-mers as numbers: encoding, spelling and complementing, all by NumPy over whole sequences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ssl_suite.core.records import SPECIAL_TOKENS
from ssl_suite.modalities.dna_letters import BASES

FIRST = len(SPECIAL_TOKENS)  # the id of AA…A
UNKNOWN = SPECIAL_TOKENS.index("[UNK]")


def words(k: int) -> list[str]:
    """All k-mers over ACGT in the order of their numbers."""
    return ["".join(letters) for letters in itertools.product(BASES, repeat=k)]


def encode(codes: np.ndarray, k: int, stride: int) -> np.ndarray:
    """Token ids of the k-mers that begin every ``stride`` bases (1 or k).

    Args:
        codes: (length,) uint8: A 0, C 1, G 2, T 3, anything else 4.
        k, stride: a last word of fewer than k bases is left out.

    Returns:
        (words,) ids; a k-mer with an ambiguous base is [UNK].
    """
    count = max(0, (len(codes) - k) // stride + 1)
    dtype = np.uint16 if 4**k + FIRST <= 1 << 16 else np.int32
    numbers: Any = np.zeros(count, dtype=dtype)
    ambiguous = codes > 3
    unknown = np.zeros(count, dtype=bool) if ambiguous.any() else None
    for j in range(k):
        part = slice(j, j + (count - 1) * stride + 1, stride) if count else slice(0, 0)
        numbers *= 4
        numbers += codes[part] & 3
        if unknown is not None:
            unknown |= ambiguous[part]
    numbers += FIRST
    if unknown is not None:
        numbers[unknown] = UNKNOWN
    return numbers


def complement(k: int) -> np.ndarray:
    """(vocabulary,) the id of each token's reverse complement; special tokens map to themselves."""
    numbers = np.arange(4**k)
    opposite = np.zeros_like(numbers)
    for j in range(k):
        opposite = opposite * 4 + 3 - ((numbers >> (2 * j)) & 3)
    return np.concatenate([np.arange(FIRST), opposite + FIRST])
