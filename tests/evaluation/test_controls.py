"""Controls: random blocks with a source's statistics, and its blocks in another order."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from ssl_suite.core import registry
from ssl_suite.evaluation import controls
from ssl_suite.evaluation.encoders import open_encoder
from ssl_suite.evaluation.references import Reference
from ssl_suite.settings import config


def encoder(layers: int = 0) -> torch.nn.Module:
    modality = registry.build(registry.MODALITIES, "modality", config.option("modality", "dna"))
    made = open_encoder(Reference("random", "tiny"), modality, 3).encoder
    made.layers.extend(copy.deepcopy(made.layers[-1]) for _ in range(layers))
    with torch.no_grad():
        for k, weight in enumerate(made.layers.parameters()):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(k)) * (1 + k) + 0.1 * k)
    return made


def test_moments_keep_mean_and_deviation_and_nothing_else() -> None:
    before, after = encoder(), encoder()
    controls.moments(after, 7)
    for (name, a), (_, b) in zip(before.layers.named_parameters(), after.layers.named_parameters(), strict=True):
        x, y = a.detach().numpy().ravel(), b.detach().numpy().ravel()
        error = 4 * x.std() / np.sqrt(x.size)
        assert abs(y.mean() - x.mean()) < error and abs(y.std() / x.std() - 1) < 4 / np.sqrt(x.size), name
        assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(x.size)
    rest = [{name: x for name, x in each.state_dict().items() if "embeddings" in name} for each in (before, after)]
    assert rest[0] and all(torch.equal(x, rest[1][name]) for name, x in rest[0].items())
    other = encoder()
    controls.moments(other, 8)
    assert not torch.equal(other.layers[0].attn.Wqkv.weight, after.layers[0].attn.Wqkv.weight)


@pytest.mark.parametrize("more", [0, 3])
def test_no_block_stands_where_it_stood(more: int) -> None:
    before, after = encoder(more), encoder(more)
    controls.permuted(after, 7)
    weights = [[layer.mlp.state_dict() for layer in each.layers] for each in (before, after)]
    places = [[all(torch.equal(a[key], b[key]) for key in a) for b in weights[0]].index(True) for a in weights[1]]
    assert sorted(places) == list(range(2 + more)) and all(a != b for a, b in enumerate(places))
