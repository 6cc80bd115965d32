"""Residues against BLOSUM62 on planted vectors, and neighbours of words against a loop."""

import numpy as np
import pytest
from Bio.Align import substitution_matrices

from ssl_suite.analysis import vectors
from ssl_suite.cli import main
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.modalities.text import Text


def test_vectors_made_of_blosum62_agree_with_it_and_random_ones_do_not():
    matrix = substitution_matrices.load("BLOSUM62")
    scores_RR = np.array([[matrix[a, b] for b in vectors.RESIDUES] for a in vectors.RESIDUES])
    values_R, axes_RR = np.linalg.eigh(scores_RR)
    planted = vectors.substitutions(axes_RR * np.sqrt(np.maximum(values_R, 0)), 0)
    assert planted["rho"] > 0.7
    assert planted["p"] == pytest.approx(1 / (1 + vectors.SHUFFLES))
    assert len(planted["pairs"]) == 190
    by_pair = {row["a"] + row["b"]: row["blosum62"] for row in planted["pairs"]}
    assert (by_pair["IV"], by_pair["DE"], by_pair["CW"]) == (3, 2, -2)
    drawn = vectors.substitutions(np.random.default_rng(1).normal(size=(20, 64)), 0)
    assert abs(drawn["rho"]) < 0.25
    assert drawn["p"] > 0.02


def test_neighbours_are_those_of_a_loop():
    modality = Text(vocab_size=90)
    modality.fit(iter([Record("a", "king queen man woman king queen man woman " * 20, "a")]))
    low, high = modality.vocabulary.targets
    table_VD = np.random.default_rng(0).normal(size=(len(modality.vocabulary), 6))
    king, queen = (int(modality.encode(Record("w", word, "w")).values[0]) for word in ("king", "queen"))
    table_VD[queen] = table_VD[king] * 1.1
    found = vectors.neighbours("king", table_VD, modality)
    assert found[0]["neighbour"] == "queen"
    left_VD = table_VD[low:high] - table_VD[low:high].mean(0)
    unit_VD = left_VD / np.linalg.norm(left_VD, axis=1, keepdims=True)
    order = sorted((i for i in range(high - low) if i != king - low), key=lambda i: -unit_VD[i] @ unit_VD[king - low])
    assert [each["cosine"] for each in found] == pytest.approx(
        [unit_VD[i] @ unit_VD[king - low] for i in order[: vectors.NEAREST]]
    )
    with pytest.raises(SuiteError, match="neighbours=kingqueenx: is"):
        vectors.neighbours("kingqueenx", table_VD, modality)


def test_only_runs_have_a_table(capsys):
    assert main(["analyse", "vectors", "encoder=random:tiny"]) == 2
    assert "is no run" in capsys.readouterr().err
