"""Random views of proteins: stretches of the sequence, and substitutions as often as BLOSUM62 says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from Bio.Align import substitution_matrices
from scipy.stats import chisquare

from ssl_suite.core.rng import Rng
from ssl_suite.modalities.protein import FIRST, Protein
from ssl_suite.modalities.protein_views import FREQUENCIES, probabilities, thresholds
from tests.modalities.test_protein import RESIDUES, fitted_bpe, random_protein
from tests.modalities.test_views import laid_out, rng, views_of

TEXTS = [[random_protein(120, 1), random_protein(31, 2) + "X*" + random_protein(8, 3)], [random_protein(90, 4)]]
TEXTS[1].append(random_protein(12, 5))
FLAT = [text for row in TEXTS for text in row]


def expected_chances(old: str) -> dict[str, float]:
    """p(b) 2^(s(a, b) / 2) over b other than a, one letter after the other."""
    matrix = substitution_matrices.load("BLOSUM62")
    weights = {new: FREQUENCIES[new] * 2.0 ** (matrix[old, new] / 2) for new in RESIDUES if new != old}
    return {new: weight / sum(weights.values()) for new, weight in weights.items()}


def test_the_table_is_that_of_the_matrix() -> None:
    """The frequencies fit the scores: joint chances sum to 1 but for the rounding of scores to half bits, and the
    expected score is that in the matrix's header (-0.52 bits)."""
    matrix = substitution_matrices.load("BLOSUM62")
    pairs = [(a, b) for a in RESIDUES for b in RESIDUES]
    assert sum(FREQUENCIES.values()) == pytest.approx(1, abs=1e-12)
    assert sum(FREQUENCIES[a] * FREQUENCIES[b] * 2 ** (matrix[a, b] / 2) for a, b in pairs) == pytest.approx(
        1, abs=0.05
    )
    mean = sum(FREQUENCIES[a] * FREQUENCIES[b] * matrix[a, b] / 2 for a, b in pairs)
    assert mean == pytest.approx(-0.5209, abs=0.03)
    for a, row in zip(RESIDUES, probabilities(), strict=True):
        assert dict(zip(RESIDUES, row, strict=True)) == pytest.approx({a: 0.0, **expected_chances(a)})
    assert thresholds()[19::20].tolist() == [(i + 1) << 24 for i in range(20)]


def test_substitutions_follow_blosum62() -> None:
    """1e5 draws of each residue; the chi-square test of all 20 rows together fails for one seed in 1,000."""
    protein = Protein(substitution=1.0, crop=1.0, max_length=1 << 20)
    each = 100_000
    batch = laid_out(protein, [["".join(letter * each for letter in RESIDUES)]], 20 * each + 10)
    view = protein.augment(batch, rng(0)).values[1 : 20 * each + 1].numpy().reshape(20, each) - FIRST
    smallest = 1.0
    for i, letter in enumerate(RESIDUES):
        chances = expected_chances(letter)
        counts = np.bincount(view[i], minlength=20)
        assert counts[i] == 0
        found = [counts[RESIDUES.index(new)] for new in chances]
        smallest = min(smallest, chisquare(found, [each * chance for chance in chances.values()]).pvalue)
    assert smallest > 0.001 / 20


def test_the_rate_is_per_residue_and_codes_stay() -> None:
    protein = Protein(substitution=0.2, crop=1.0)
    text = random_protein(4000, 6) + "*XBZJUO" * 20
    view = views_of(protein, laid_out(protein, [[text]], 5000), 0)[0]
    changed = [a != b for a, b in zip(text, view, strict=True)]
    assert 0.17 < sum(changed[:4000]) / 4000 < 0.23  # 800 expected, deviation 25
    assert not any(changed[4000:])


@pytest.mark.parametrize("make", [Protein, fitted_bpe])
def test_views_are_stretches(make) -> None:
    protein = make(substitution=0.0)
    batch = laid_out(protein, TEXTS, 200)
    shares = []
    for step in range(100):
        for text, view in zip(FLAT, views_of(protein, batch, step), strict=True):
            assert view in text
            shares.append(len(view) / len(text))
    assert min(shares) < 0.6
    assert 0.65 < np.mean(shares) < 0.85


def test_a_row_gets_the_same_view_in_any_batch_and_views_differ_by_step() -> None:
    protein = Protein()
    both = protein.augment(laid_out(protein, TEXTS, 200), rng(3, rows=2)).values
    second = protein.augment(laid_out(protein, TEXTS[1:], 200), rng(3, rows=1, first=1)).values
    assert torch.equal(both[200:], second)
    assert not torch.equal(protein.augment(laid_out(protein, TEXTS, 200), rng(4, rows=2)).values, both)


def test_no_view_waits_for_the_device() -> None:
    """Tensors on "meta" have no values: anything that would look at one on the host raises."""
    protein = Protein()
    batch = laid_out(protein, TEXTS, 200).to(torch.device("meta"))
    view = protein.augment(batch, Rng(0, 0, torch.arange(2, device="meta")))
    assert view.values.is_meta
    assert view.values.shape == (400,)
