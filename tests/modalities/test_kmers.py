"""Distinct k-mers against sets of strings, and the near copies of DNA that they find."""

from __future__ import annotations

import numpy as np
import pytest
from Bio.Seq import Seq

from ssl_suite.core.records import Record
from ssl_suite.modalities import kmers
from ssl_suite.modalities.dna import DNA
from tests.modalities.made import fitted_bpe, random_bases


@pytest.mark.parametrize("k", [1, 2, 5, 6, 7, 12, 16])
def test_distinct_kmers_of_both_strands(k: int) -> None:
    codes = np.random.default_rng(k).integers(0, 5, 400) % np.array([4, 5]).repeat(200)  # 4 is an N

    def number(word: np.ndarray) -> int:
        return sum(int(letter) << 2 * (k - 1 - i) for i, letter in enumerate(word))

    words = [codes[i : i + k] for i in range(len(codes) - k + 1)]
    clean = [word for word in words if (word < 4).all()]
    assert len(clean) > 100
    expected = {min(number(word), number(3 - word[::-1])) for word in clean}
    assert kmers.distinct(codes, 4, k, both_strands=True).tolist() == sorted(expected)
    assert kmers.distinct(codes, 4, k).tolist() == sorted({number(word) for word in clean})


@pytest.mark.parametrize(
    "make", [DNA, lambda: DNA(tokenizer="kmer", k=3), lambda: DNA(tokenizer="kmer", k=3, stride=3), fitted_bpe]
)
def test_kin_of_dna_is_that_of_the_reverse_complement(make) -> None:
    dna = make()
    text = random_bases(150, seed=1) + "N" + random_bases(149, seed=2)
    other = str(Seq(text).reverse_complement())
    one, two = (dna.near_duplicate_features(dna.encode(Record("r", t, "x")).values) for t in (text, other))
    words = {text[i : i + 16] for i in range(len(text) - 15)}
    words = {min(word, str(Seq(word).reverse_complement())) for word in words if "N" not in word}
    numbers = {sum("ACGT".index(letter) << 2 * (15 - i) for i, letter in enumerate(word)) for word in words}
    assert one.dtype == np.uint64
    assert set(one.tolist()) <= numbers
    lost = len(numbers) - len(one)  # bases of unfinished words, and of words with an N
    assert 0 <= lost <= (0 if dna.tokenizer in ("base", "bpe") else 6)
    assert len(np.intersect1d(one, two)) >= len(one) - 6
