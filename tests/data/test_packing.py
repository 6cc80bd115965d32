import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data.packing import pack, slots_per_row


def protein_like(n: int, seed: int = 0) -> np.ndarray:
    """Lengths with the skew of Swiss-Prot between 52 and 1,002."""
    return np.clip(np.random.default_rng(seed).lognormal(5.7, 0.6, n), 52, 1002).astype(np.int64)


def rows_of(lengths, n, slots=None, seed=0):
    slots = slots or slots_per_row(lengths, n)
    return pack(lengths, np.random.default_rng(seed).permutation(len(lengths)), n, slots), slots


@pytest.mark.parametrize("n", [1024, 2048, 8192, 65536])
def test_every_sequence_once_and_no_row_too_full(n):
    lengths = protein_like(5000)
    rows, slots = rows_of(lengths, n)
    assert np.array_equal(np.sort(rows.items), np.arange(5000))
    for r in range(len(rows)):
        assert lengths[rows.row(r)].sum() <= n
        assert 0 < len(rows.row(r)) <= slots
        assert (np.diff(lengths[rows.row(r)]) >= 0).all()


@pytest.mark.parametrize("n", [2048, 8192])
def test_varied_lengths_fill_98_percent(n):
    lengths = protein_like(5000)
    rows, _ = rows_of(lengths, n)
    assert lengths.sum() / (len(rows) * n) >= 0.98


def test_equal_lengths_fill_rows_in_order():
    lengths = np.full(10, 512)
    rows = pack(lengths, np.arange(10)[::-1].copy(), 2048, 20)
    assert [rows.row(r).tolist() for r in range(3)] == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]


def test_rows_are_a_fair_sample():
    """Best-fit decreasing would give early rows of long sequences only; here every row's mean is near the whole's."""
    lengths = protein_like(5000)
    rows, _ = rows_of(lengths, 65536)
    means = [lengths[rows.row(r)].mean() for r in range(len(rows) - 1)]
    assert max(means) / min(means) < 1.35


def test_slots_are_a_hard_limit():
    lengths = np.concatenate([np.full(500, 3), np.full(5, 400)])
    rows, _ = rows_of(lengths, 512, slots=10)
    assert max(len(rows.row(r)) for r in range(len(rows))) == 10


@pytest.mark.parametrize("lengths", [[52, 513, 60], [513, 513], [0, 52], [-3, 52]])
def test_a_sequence_that_fits_into_no_row_is_refused(lengths):
    with pytest.raises(SuiteError, match="positions and a row has 512"):
        pack(np.array(lengths), np.arange(len(lengths)), 512, 10)


def test_same_order_same_rows():
    lengths = protein_like(2000)
    first, second = rows_of(lengths, 2048)[0], rows_of(lengths, 2048)[0]
    assert np.array_equal(first.items, second.items) and np.array_equal(first.bounds, second.bounds)
