import numpy as np
import torch
from scipy import stats

from ssl_suite.core.rng import Rng, keyed_bits


def test_rows_do_not_depend_on_who_draws_them():
    together = Rng(7, 3, torch.arange(4))
    apart = [Rng(7, 3, torch.tensor([r])) for r in range(4)]
    for draw in ("uniform", "normal", "bits"):
        whole = getattr(together, draw)(100).view(4, 100)
        parts = torch.stack([getattr(rng, draw)(100) for rng in apart])
        assert torch.equal(whole, parts)


def test_every_coordinate_changes_the_numbers():
    base = Rng(7, 3, torch.tensor([0])).bits(64)
    others = [Rng(8, 3, torch.tensor([0])), Rng(7, 4, torch.tensor([0])), Rng(7, 3, torch.tensor([1]))]
    again = Rng(7, 3, torch.tensor([0]))
    again.bits(64)
    for other in [*(rng.bits(64) for rng in others), again.bits(64)]:
        assert not torch.isin(base, other).any()
    assert torch.equal(base, Rng(7, 3, torch.tensor([0])).bits(64))


def test_uniform_is_uniform_and_uncorrelated():
    x = Rng(0, 0, torch.arange(8)).uniform(125_000).double().numpy()
    assert x.min() >= 0 and x.max() < 1
    assert stats.kstest(x, "uniform").pvalue > 1e-4
    rows = x.reshape(8, -1)
    next_step = Rng(0, 1, torch.arange(8)).uniform(125_000).double().numpy().reshape(8, -1)
    bound = 5 / np.sqrt(125_000)  # five standard deviations of a correlation of independent draws
    for a, b in [(rows[0], rows[1]), (rows[0], next_step[0]), (rows[0][1:], rows[0][:-1]), (rows[2], next_step[3])]:
        assert abs(np.corrcoef(a, b)[0, 1]) < bound


def test_bits_are_balanced_in_every_place():
    bits = Rng(1, 2, torch.arange(4)).bits(50_000).numpy()
    for place in range(63):
        ones = ((bits >> place) & 1).sum()
        assert abs(ones - 100_000) < 5 * np.sqrt(50_000), place


def test_integers_cover_their_range_evenly():
    counts = np.bincount(Rng(5, 0, torch.arange(2)).integers(50_000, 5, 9).numpy(), minlength=10)
    assert counts[:5].sum() == counts[9:].sum() == 0
    assert stats.chisquare(counts[5:9]).pvalue > 1e-4


def test_normal_is_normal():
    assert stats.kstest(Rng(3, 0, torch.arange(2)).normal(100_000).numpy(), "norm").pvalue > 1e-4


def test_keyed_bits_depend_on_key_and_counter_alone():
    keys, places = torch.arange(1000).repeat_interleave(50), torch.arange(50).repeat(1000)
    bits = keyed_bits(0, keys, places)
    order = torch.randperm(50_000)
    assert torch.equal(bits[order], keyed_bits(0, keys[order], places[order]))
    assert bits.unique().numel() == 50_000
    assert stats.kstest(bits.double().numpy() / 2**63, "uniform").pvalue > 1e-4
