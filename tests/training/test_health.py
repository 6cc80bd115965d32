"""Spread and rank of representations, against SciPy and plain formulas."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from ssl_suite.core.batch import ragged
from ssl_suite.core.records import SPECIAL_TOKENS, Vocabulary
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.health import Health, perplexity

VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *"abcdefgh"), (5, 13))
ALONE = DistributedContext()


def batch_of(sequences: int):
    draw = np.random.default_rng(0)
    return ragged([draw.integers(5, 9, 6) for _ in range(sequences)], VOCABULARY, 8)


def test_equals_the_formulas_on_all_vectors_at_once():
    x = torch.randn(300, 12, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 2, 12) + 1
    health, batch = Health(ALONE.device, VOCABULARY), batch_of(100)
    for part in x.split(100):
        health.add(part, batch)
    found = health.read(ALONE)
    unit = (x / x.norm(dim=1, keepdim=True)).double().numpy()
    assert found["feature_std"] == pytest.approx(unit.std(0).mean() * math.sqrt(12), rel=1e-6)
    singular = np.linalg.svd(unit - unit.mean(0), compute_uv=False)
    assert found["effective_rank"] == pytest.approx(math.exp(entropy(singular)), rel=1e-6)
    used = np.bincount(batch.values.numpy(), minlength=13)[5:]
    assert found["unit_perplexity"] == pytest.approx(math.exp(entropy(used)), rel=1e-6)
    assert found["units_used"] == 0.5  # a to d of eight


def test_collapse_and_its_opposite():
    batch = batch_of(64)
    for x, std, rank in ((torch.ones(64, 8), 0.0, 1.0), (torch.eye(8).repeat(8, 1), math.sqrt(7 / 8), 7.0)):
        health = Health(ALONE.device)
        health.add(x, batch)
        found = health.read(ALONE)
        assert found["feature_std"] == pytest.approx(std, abs=1e-6)
        if std:
            assert found["effective_rank"] == pytest.approx(rank, rel=1e-5)


def test_padding_sequences_do_not_count():
    x, batch = torch.randn(10, 8), batch_of(10)
    all_of_them, some = Health(ALONE.device), Health(ALONE.device)
    all_of_them.add(x[:6], batch_of(6))
    some.add(x, dataclasses.replace(batch, real_B=torch.arange(10) < 6))
    assert some.read(ALONE) == pytest.approx(all_of_them.read(ALONE))


def test_perplexity_of_nothing_and_of_even_shares():
    assert perplexity(torch.zeros(4)) == 1.0
    assert perplexity(torch.ones(4)) == pytest.approx(4)
