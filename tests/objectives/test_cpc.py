"""InfoNCE on the future: against a loop, blind to the future, negatives from the row."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.speech import Speech
from ssl_suite.objectives.apc import content_N
from ssl_suite.objectives.cpc import ContrastivePredictive
from tests.modalities.made_speech import laid_out
from tests.objectives.test_apc import KINDS, case, check_rows, futures
from tests.objectives.test_frames import ROW, built, draws

SMALL = {"steps": 3, "negatives": 10, "code_width": 16}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_metrics_against_a_loop(kind: str) -> None:
    modality, batch = case(kind)
    encoder, cpc = built(modality, ContrastivePredictive, **SMALL)
    loss, count, metrics = cpc(encoder, batch, draws([0, 1], 4))
    own = modality.features(batch) if batch.frames_NF is not None else encoder.embeddings(batch)
    codes = F.layer_norm(cpc.code(own), (16,))
    states, n = encoder(batch), len(batch.values) // 2
    picks = cpc.draw(content_N(batch, modality.vocabulary), 2, draws([0, 1], 4)).tolist()
    total = right = chance = pairs = 0
    for s, step in enumerate(range(2, 5) if kind == "speech" else range(1, 4)):
        ahead = cpc.ahead.weight[16 * s : 16 * (s + 1)]
        for i, j in futures(batch, step):
            others = [k for k in picks[i // n] if k != j]
            if batch.frames_NF is None:
                others = [k for k in others if batch.values[k] != batch.values[j]]
            scores = torch.stack([codes[k] @ (ahead @ states[i]) / 4 for k in [j, *others]])
            total -= scores.log_softmax(0)[0].item()
            right += scores.argmax().item() == 0
            chance += 1 / (1 + len({batch.values[k].item() if batch.frames_NF is None else k for k in others}))
            pairs += 1
    assert loss.item() == pytest.approx(total, rel=1e-4)
    assert count == pairs
    assert metrics["accuracy"][0] == right and metrics["accuracy"][1] == pairs
    assert metrics["chance"][0].item() == pytest.approx(chance, rel=1e-5) and metrics["chance"][1] == pairs


def test_negatives_are_different_content_of_the_row_and_all_equally_likely() -> None:
    modality, batch = case("speech")
    _, cpc = built(modality, ContrastivePredictive, **SMALL)
    inside = content_N(batch, modality.vocabulary)
    counts = np.zeros(len(inside))
    for step in range(400):
        picks = cpc.draw(inside, 2, draws([0, 1], step))
        assert all(len(set(row)) == 10 for row in picks.tolist())
        assert (picks[0] < ROW).all() and (picks[1] >= ROW).all()
        counts[picks.flatten()] += 1
    assert counts[~inside].sum() == 0
    for row in (slice(0, ROW), slice(ROW, None)):
        assert stats.chisquare(counts[row][inside[row]]).pvalue > 1e-4


def test_chance_is_what_guessing_gives() -> None:
    """At the start accuracy and loss are those of 1 + negatives equal choices."""
    modality, batch = case("speech")
    encoder, cpc = built(modality, ContrastivePredictive, negatives=20)
    torch.nn.init.normal_(cpc.ahead.weight, std=1e-6)
    loss, count, metrics = cpc(encoder, batch, draws([0, 1]))
    chance = (metrics["chance"][0] / count).item()
    assert 1 / 21 <= chance < 1 / 21 * 1.02
    assert (loss / count).item() == pytest.approx(math.log(21), rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_foreseen_does_not_know_the_future(kind: str) -> None:
    modality, batch = case(kind)
    encoder, cpc = built(modality, ContrastivePredictive, **SMALL)
    before = cpc.ahead(encoder(batch))
    if batch.frames_NF is None:
        values = batch.values.clone()
        values[9:19] = 5 + (values[9:19] - 4) % 4
        other = batch.with_values(values)
    else:
        features = modality.features(batch).index_fill(0, torch.arange(9, 17), 1.0)
        other = replace(batch, features_NG=features)
    changed = (cpc.ahead(encoder(other)) != before).any(1).nonzero().flatten()
    assert changed.min() == 9 and changed.max() < batch.offsets_B1[1]


def test_codes_hold_no_place() -> None:
    """The same patch everywhere has the same code: its place cannot be what tells it from others."""
    modality, batch = case("image")
    encoder, cpc = built(modality, ContrastivePredictive, **SMALL)
    inside = content_N(batch, modality.vocabulary)
    same = torch.where(inside[:, None], batch.frames_NF[1], batch.frames_NF)
    _, codes = cpc.codes(encoder, batch.with_values(batch.values, same))
    assert (codes[inside] == codes[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_rows_add_up(kind: str) -> None:
    check_rows(kind, ContrastivePredictive)


def test_a_row_with_few_or_no_positions() -> None:
    """Fewer positions than negatives, and none at all: finite, and nothing counted twice."""
    encoder, cpc = built(Speech(max_length=ROW), ContrastivePredictive, steps=1, negatives=500)
    _, batch = case("speech")
    short = [batch.frames_NF[1:7].numpy()]
    loss, count, metrics = cpc(encoder, laid_out([short], ROW), draws([0]))
    assert count == 4 and metrics["chance"][0].item() == pytest.approx(4 / 6)
    loss.backward()
    assert all(x.grad.isfinite().all() for x in encoder.parameters())
    loss, count, metrics = cpc(encoder, laid_out([[]], ROW), draws([0]))
    assert loss == 0 and count == 0 and metrics["accuracy"][0] == 0


def test_steps_beyond_every_sequence_are_refused() -> None:
    with pytest.raises(SuiteError, match="steps=62"):
        built(DNA(max_length=64), ContrastivePredictive, steps=62)


def test_flops_by_hand() -> None:
    modality, batch = case("dna")
    encoder, cpc = built(modality, ContrastivePredictive, **SMALL)
    layer = 2 * batch.tokens * (4 * 32**2 + 3 * 32 * 48) + 2 * 32 * batch.squares
    own = 2 * batch.tokens * (32 * 16 + 32 * 3 * 16 + 3 * 10 * 16)
    assert cpc.flops(vars(encoder.spec), batch) == 3 * (2 * layer + own)
