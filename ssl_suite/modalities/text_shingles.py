"""Hashed runs of words, by which near copies of a text are found (Broder 1997, "On the resemblance and containment of
documents"); five words, as Lee et al. 2022 (arXiv:2107.06499) take for web text.

A word's hash is a polynomial of its letters modulo 2**64, so it does not depend on how the word is cut into tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_suite.core.records import Vocabulary
from ssl_suite.modalities import text_letters

RUN = 5  # words
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers do not vanish modulo 2**64
MIX = np.uint64(0xBF58476D1CE4E5B9)
SHIFT = np.uint64(31)


def written(tokenizer: Any, tokens: tuple[str, ...]) -> list[str]:
    """What each token writes, in one case, with a space where a word begins: joined, they are a text's letters."""
    prefix = getattr(tokenizer.model, "continuing_subword_prefix", None)
    if prefix:
        parts = (token.removeprefix(prefix) if token.startswith(prefix) else f" {token}" for token in tokens)
    else:
        parts = (token.replace(text_letters.MARK, " ").replace("Ġ", " ") for token in tokens)
    return [part.casefold() for part in parts]


class Shingles:
    """Tables over a vocabulary, V tokens: the hash and length of each token's letters, and whether it begins a word.

    Args:
        vocabulary: the ids.
        written: what each token writes.
    """

    def __init__(self, vocabulary: Vocabulary, written: list[str]) -> None:
        size = len(vocabulary)
        self.hash_V, self.length_V = np.zeros(size, np.uint64), np.zeros(size, np.int64)
        for i in range(*vocabulary.targets):
            letters = "".join(filter(str.isalnum, written[i])).encode("utf-8", "replace")
            total = 0
            for byte in letters:
                total = (total * int(BASE) + byte + 1) & ((1 << 64) - 1)
            self.hash_V[i], self.length_V[i] = total, len(letters)
        self.begins_V = np.ones(size, dtype=bool)
        self.begins_V[list(vocabulary.continues)] = False

    def of(self, values: np.ndarray) -> np.ndarray:
        """(n,) uint64, sorted: the hashes of all runs of five words; of fewer words, the one of all."""
        ids = np.asarray(values, np.int64)
        starts = np.flatnonzero(self.begins_V[ids])
        if len(ids) and (len(starts) == 0 or starts[0] > 0):  # a window may begin inside a word
            starts = np.concatenate([[0], starts])
        if len(starts) == 0:
            return np.zeros(0, np.uint64)
        lengths, through = self.length_V[ids], np.cumsum(self.length_V[ids])
        ends = np.concatenate([starts[1:], [len(ids)]]) - 1
        behind = np.repeat(through[ends], ends - starts + 1) - through  # letters of the word after each token
        powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(int(behind.max()), BASE)]), dtype=np.uint64)
        words = np.add.reduceat(self.hash_V[ids] * powers[behind], starts)
        words = words[np.add.reduceat(lengths, starts) > 0]
        if len(words) == 0:
            return np.zeros(0, np.uint64)
        run = min(RUN, len(words))
        total = np.zeros(len(words) - run + 1, np.uint64)
        for j in range(run):
            part = words[j : len(words) - run + 1 + j]
            total = (total ^ (part ^ (part >> SHIFT)) * MIX) * BASE
        return np.unique(total ^ (total >> SHIFT))
