"""Random views of DNA batches against string operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from Bio.Seq import Seq

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.dna_letters import BASES
from tests.modalities.made import encoded, fitted_bpe, ragged, random_bases

PAD, UNK, CLS, SEP = 0, 1, 2, 3


def laid_out(dna: DNA, texts: list[list[str]], n: int) -> Batch:
    return ragged([[encoded(dna, text) for text in some] for some in texts], n)


def rng(step: int, rows: int = 1, first: int = 0) -> Rng:
    return Rng(seed=11, step=step, rows_R=torch.arange(first, first + rows))


def views_of(dna: DNA, batch: Batch, step: int) -> list[str]:
    """The text of each sequence of a view; checks its frame."""
    view = dna.augment(batch, rng(step, batch.rows))
    assert view.values.shape == batch.values.shape
    assert torch.equal(view.offsets_B1, batch.offsets_B1)
    texts = []
    for start, end in zip(batch.offsets_B1[:-1].tolist(), batch.offsets_B1[1:].tolist(), strict=True):
        ids = view.values[start:end].numpy()
        if len(ids) == 0 or batch.values[start] == PAD:
            assert (ids == PAD).all()
            continue
        stop = int(np.flatnonzero(ids == SEP)[0])
        assert ids[0] == CLS
        assert (ids[stop + 1 :] == PAD).all()
        assert ((ids[1:stop] >= 5) | (ids[1:stop] == UNK)).all()
        texts.append(dna.decode(ids[1:stop]))
    return texts


TEXTS = [
    [random_bases(120, 1), random_bases(31, 2) + "N" + random_bases(8, 3)],
    [random_bases(90, 4), random_bases(12, 5)],
]
FLAT = [text for row in TEXTS for text in row]


def test_views_of_bases_are_stretches_of_either_strand() -> None:
    dna = DNA(mutation=0.0)
    batch = laid_out(dna, TEXTS, 200)
    turned, shares = 0, []
    for step in range(200):
        for text, view in zip(FLAT, views_of(dna, batch, step), strict=True):
            forward, backward = view in text, view in str(Seq(text).reverse_complement())
            assert forward or backward
            turned += backward and not forward
            shares.append(len(view) / len(text))
    assert 0.4 < turned / len(shares) < 0.6
    assert 0.5 <= min(shares) < 0.55
    assert 0.70 < np.mean(shares) < 0.78


def test_views_reach_both_ends() -> None:
    dna = DNA(mutation=0.0, reverse_complement=0.0, crop=0.5)
    text = "A" + "C" * 6 + "G"
    batch = laid_out(dna, [[text]], 20)
    seen = {views_of(dna, batch, step)[0] for step in range(300)}
    assert seen == {text[i:j] for i in range(9) for j in range(i + 4, 9)}  # every stretch of at least half


@pytest.mark.parametrize("k", [3, 6])
def test_views_of_overlapping_kmers_spell_a_strand(k: int) -> None:
    dna = DNA(tokenizer="kmer", k=k, mutation=0.0)
    batch = laid_out(dna, [[random_bases(60, 1), random_bases(40, 2)]], 120)
    texts = [random_bases(60, 1), random_bases(40, 2)]
    for step in range(50):
        for text, view in zip(texts, views_of(dna, batch, step), strict=True):
            words = view.split()
            spelt = words[0] + "".join(word[-1] for word in words[1:])
            assert words == [spelt[i : i + k] for i in range(len(words))]
            assert spelt in text or spelt in str(Seq(text).reverse_complement())


def test_views_of_separate_kmers_and_bpe() -> None:
    separate = DNA(tokenizer="kmer", k=4, stride=4, mutation=0.0)
    text = random_bases(80, 1)
    batch = laid_out(separate, [[text]], 30)
    for step in range(30):
        view = views_of(separate, batch, step)[0]
        assert view in text or view in str(Seq(text).reverse_complement())
    bpe = fitted_bpe()
    batch = laid_out(bpe, [[text]], 90)
    assert all(views_of(bpe, batch, step)[0] in text for step in range(30))


@pytest.mark.parametrize("settings_", [{}, {"tokenizer": "kmer", "k": 4, "stride": 4}, {"tokenizer": "kmer", "k": 4}])
def test_mutations_replace_bases_at_their_rate(settings_: dict) -> None:
    dna = DNA(**settings_, mutation=0.1, crop=1.0, reverse_complement=0.0)
    text = random_bases(4000, 6)
    batch = laid_out(dna, [[text]], 4100)
    view = views_of(dna, batch, 0)[0]
    if dna.vocabulary.reach > 1:
        words = view.split()
        view = words[0] + "".join(word[-1] for word in words[1:])
        assert words == [view[i : i + 4] for i in range(len(words))]  # all words that spell a base changed together
        assert view[-3:] == text[-3:]
    changes = [(a, b) for a, b in zip(text, view, strict=True) if a != b]
    assert 0.08 < len(changes) / len(text) < 0.12  # 400 expected, deviation 19
    kinds = {change: changes.count(change) for change in changes}
    assert len(kinds) == 12
    assert max(kinds.values()) < 3 * min(kinds.values())


def test_a_mutation_leaves_what_is_no_base() -> None:
    dna = DNA(ambiguous="keep", mutation=1.0, crop=1.0, reverse_complement=0.0)
    text = "ACGTNRYACGTACGTACGT"
    view = views_of(dna, laid_out(dna, [[text]], 30), 0)[0]
    assert all((a == b) == (a not in BASES) for a, b in zip(text, view, strict=True))


def test_a_row_gets_the_same_view_in_any_batch_and_views_differ_by_step() -> None:
    dna = DNA()
    both = dna.augment(laid_out(dna, TEXTS, 200), rng(3, rows=2)).values
    second = dna.augment(laid_out(dna, TEXTS[1:], 200), rng(3, rows=1, first=1)).values
    assert torch.equal(both[200:], second)
    assert not torch.equal(dna.augment(laid_out(dna, TEXTS, 200), rng(4, rows=2)).values, both)


def test_a_view_of_a_view_is_framed_by_its_own_end() -> None:
    dna = DNA(mutation=0.0)
    batch = laid_out(dna, TEXTS, 200)
    first = dna.augment(batch, rng(0, rows=2))
    for text, view in zip(FLAT, views_of(dna, first, 1), strict=True):
        assert view in text or view in str(Seq(text).reverse_complement())


@pytest.mark.parametrize("settings_", [{}, {"tokenizer": "kmer"}, {"tokenizer": "kmer", "stride": 6}])
def test_no_view_waits_for_the_device(settings_: dict) -> None:
    """Tensors on "meta" have no values: anything that would look at one on the host raises."""
    dna = DNA(**settings_)
    batch = laid_out(dna, TEXTS, 200).to(torch.device("meta"))
    view = dna.augment(batch, Rng(0, 0, torch.arange(2, device="meta")))
    assert view.values.is_meta
    assert view.values.shape == (400,)
    assert view.lengths == batch.lengths
