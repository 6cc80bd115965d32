from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from ssl_suite.core import codebook
from ssl_suite.core.codebook import Codebook
from ssl_suite.core.errors import SuiteError


def points(n: int = 6000, kinds: int = 20, width: int = 5, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    centres = draw.normal(0, 5, (kinds, width))
    return torch.from_numpy(centres[draw.integers(kinds, size=n)] + draw.normal(0, 0.7, (n, width))).float()


def test_the_error_is_within_five_percent_of_scikit_learn_on_all_points() -> None:
    x = points()
    book = codebook.fit(x, 24)
    standard = ((x - x.mean(0)) / x.std(0)).numpy()
    _, squared = book.assign(x)
    reference = min(KMeans(24, n_init=3, random_state=seed).fit(standard).inertia_ for seed in range(2))
    assert float(squared.sum()) < 1.05 * reference


def test_the_nearest_entry_is_found() -> None:
    x = points(500)
    book = codebook.fit(x, 16)
    standard = (x - book.mean_U) / book.scale_U
    distances = torch.cdist(standard.double(), book.entries_CU.double()) ** 2
    codes, squared = book.assign(x)
    assert torch.equal(codes, distances.argmin(1))
    np.testing.assert_allclose(squared.numpy(), distances.min(1).values.numpy(), rtol=1e-3, atol=1e-4)


def test_the_same_seed_gives_the_same_codebook_and_another_another() -> None:
    x = points(3000)
    one, two, other = codebook.fit(x, 10, 1), codebook.fit(x, 10, 1), codebook.fit(x, 10, 2)
    assert torch.equal(one.entries_CU, two.entries_CU)
    assert not torch.equal(one.entries_CU, other.entries_CU)


def test_entries_stand_for_points_and_survive_a_file(tmp_path: Path) -> None:
    x = points(3000, kinds=8)
    book = codebook.fit(x, 8)
    codes, _ = book.assign(x)
    means = torch.stack([x[codes == c].mean(0) for c in range(8)])
    torch.testing.assert_close(book.decode(torch.arange(8)), means, rtol=0, atol=0.2)
    book.save(tmp_path / "book")
    assert torch.equal(Codebook.load(tmp_path / "book").assign(x)[0], codes)


def test_the_description_against_a_direct_computation() -> None:
    codes, squared = torch.tensor([0, 0, 1, 3]), torch.tensor([1.0, 3.0, 0.0, 0.0])
    facts = codebook.describe(codes, squared, width=2, codes=4)
    shares = np.array([0.5, 0.25, 0.25])
    assert facts["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert (facts["used"], facts["points"], facts["largest"], facts["error"]) == (3, 4, 0.5, 0.5)
    assert not facts["collapsed"]
    assert codebook.describe(torch.zeros(1000, dtype=torch.int64), torch.zeros(1000), 2, 64)["collapsed"]


def test_too_few_different_points_are_one_line() -> None:
    with pytest.raises(SuiteError, match=r"3 different frames, fewer than modality.codes=10; .* modality.codes=2"):
        codebook.fit(torch.eye(3).repeat(50, 1), 10)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(b"nothing")
    with pytest.raises(SuiteError, match="is not a codebook"):
        Codebook.load(tmp_path / "book")
