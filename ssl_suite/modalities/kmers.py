"""The distinct k-mers of a sequence as numbers: what near copies of proteins and of DNA share."""

from __future__ import annotations

import numpy as np


def distinct(codes: np.ndarray, letters: int, k: int, both_strands: bool = False) -> np.ndarray:
    """(n,) uint64, increasing: the k-mers of a sequence, each once.

    Args:
        codes: (length,) letters as numbers; k-mers with a number of ``letters`` or more are left out.
        letters: of the alphabet. A k-mer must fit into 64 bits.
        k: letters of a k-mer.
        both_strands: take the smaller of a k-mer and its reverse complement, where ``letters - 1 - code`` complements.
    """
    codes = np.asarray(codes)
    if len(codes) < k:
        return np.zeros(0, np.uint64)
    width = (letters - 1).bit_length()
    good = codes < letters
    clean = np.where(good, codes, 0).astype(np.uint64)
    numbers = joined(clean, k, width)
    if both_strands:
        numbers = np.minimum(numbers, joined(np.uint64(letters - 1) - clean[::-1], k, width)[::-1])
    if not good.all():
        bad = np.concatenate([[0], np.cumsum(~good)])
        numbers = numbers[bad[k:] == bad[:-k]]
    numbers.sort()  # and not np.unique, whose hash table takes three times as long for 500 numbers
    return numbers[np.concatenate([[True], numbers[1:] != numbers[:-1]])] if len(numbers) else numbers


def joined(codes: np.ndarray, k: int, width: int) -> np.ndarray:
    """(length - k + 1,) uint64: k neighbours of ``width`` bits each, the first one highest.

    By doubling: 2-mers from letters, 4-mers from 2-mers, so that k = 16 takes four steps over the sequence.
    """
    numbers, size = codes, 1
    for bit in bin(k)[3:]:
        numbers = (numbers[:-size] << np.uint64(size * width)) | numbers[size:]
        size *= 2
        if bit == "1":
            numbers = (numbers[:-1] << np.uint64(width)) | codes[size : size + len(numbers) - 1]
            size += 1
    return numbers
