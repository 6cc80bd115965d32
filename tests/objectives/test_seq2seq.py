"""What the three sequence-to-sequence objectives share: the loss, its cost, and the drawing of spans."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.core.rng import Rng
from ssl_suite.models.attention import _per_group
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.bart import Bart
from ssl_suite.objectives.mass import Mass
from ssl_suite.objectives.seq2seq import Seq2Seq, parts, replace_spans, share_of
from ssl_suite.objectives.t5 import T5
from tests.objectives.made_contents import Made, arranged, laid_out, modality

ALL = [Mass, Bart, T5]


def built(cls: type[Seq2Seq], **settings) -> tuple[Encoder, Seq2Seq]:
    torch.manual_seed(0)
    size = 30 + cls.extra_tokens
    spec = EncoderSpec(2, 32, 2, 48, size, windows=(None,) * 2, thetas=(100.0,) * 2, init_std=0.2)
    return Encoder(spec), cls(modality(), spec, **settings)


def contents(lengths: list[int]) -> Made:
    draw = np.random.default_rng(0)
    return Made([draw.integers(5, 30, length) for length in lengths])


def rng() -> Rng:
    return Rng(0, 0, torch.arange(1))


@pytest.mark.parametrize("cls", ALL)
def test_loss_is_the_cross_entropy_of_each_next_id(cls):
    """Sequence by sequence, id by id, in batches of one without padding."""
    encoder, objective = built(cls)
    batch = arranged(objective.arranger, contents([12, 40, 8, 8]))
    loss, count, metrics = objective(encoder, batch, rng())
    total, number, right = 0.0, 0, 0
    ends = (batch.offsets_B1.tolist(), batch.target.offsets_B1.tolist())
    for (a, b), (c, d) in list(zip(*(itertools.pairwise(x) for x in ends), strict=True))[:4]:
        source = laid_out([batch.values[a:b].numpy()], b - a, 64)
        target = laid_out([batch.target.values[c:d].numpy()], d - c, 64)
        table = encoder.embeddings.tok_embeddings.weight
        log_p = objective.head(objective.decoder(target, encoder(source), source, table), table).log_softmax(-1)
        for place, following in enumerate(target.values.tolist()[1:]):
            total -= log_p[place, following].item()
            number += 1
            right += int(log_p[place].argmax() == following)
    assert number == count == metrics["accuracy"][1] and right == metrics["accuracy"][0]
    assert loss.item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("cls", ALL)
def test_every_parameter_gets_a_gradient(cls):
    encoder, objective = built(cls)
    batch = arranged(objective.arranger, contents([12, 40, 8]))
    objective(encoder, batch, rng())[0].backward()
    for name, p in [*encoder.named_parameters(), *objective.named_parameters()]:
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_a_row_of_padding_has_no_loss_and_zero_gradients():
    encoder, objective = built(T5)
    empty = laid_out([], 16, 64)
    object.__setattr__(empty, "target", laid_out([], 5, 64))
    loss, count, _ = objective(encoder, empty, rng())
    loss.backward()
    assert loss == 0 and count == 0
    assert all((p.grad == 0).all() for p in [*encoder.parameters(), *objective.parameters()])


def test_smoothing_is_for_training_alone():
    encoder, objective = built(Bart, label_smoothing=0.1)
    plain = built(Bart)[1]
    batch = arranged(objective.arranger, contents([12, 40]))
    smooth, _, _ = objective(encoder, batch, rng())
    table = encoder.embeddings.tok_embeddings.weight
    logits = objective.head(objective.decoder(batch.target, encoder(batch), batch, table), table)
    even = -logits.log_softmax(-1).mean(-1)[torch.tensor([*range(13), *range(14, 55)])].sum()
    expected = plain(encoder, batch, rng())[0]
    torch.testing.assert_close(smooth, 0.9 * expected + 0.1 * even)
    objective.eval()
    torch.testing.assert_close(objective(encoder, batch, rng())[0], expected)


@pytest.mark.parametrize("cls", ALL)
def test_flops_equal_the_counter(cls, monkeypatch):
    """Sequences of one length, for which targets are proportional to sources."""
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    settings = {"infill": 0.0} if cls is Bart else {}
    encoder, objective = built(cls, decoder_layers=3, **settings)
    batch = arranged(objective.arranger, contents([20] * 3), spare=0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(encoder, batch, rng())[0].backward()
    assert objective.flops(vars(encoder.spec), batch) == pytest.approx(counter.get_total_flops(), rel=1e-12)


@pytest.mark.parametrize("cls", ALL)
def test_flops_of_unequal_lengths_are_off_by_less_than_a_hundredth(cls, monkeypatch):
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    encoder, objective = built(cls)
    batch = arranged(objective.arranger, contents([8, 100, 31, 64]), spare=0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(encoder, batch, rng())[0].backward()
    assert objective.flops(vars(encoder.spec), batch) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_decoder_learns_to_copy_through_the_encoder():
    """Random ids cannot be guessed from those before them: what is better than chance came by cross-attention."""
    encoder, objective = built(Bart, infill=0.0, permute=0.0, mask_rate=0.1)
    parameters = [*encoder.parameters(), *objective.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=5e-3)
    draw = np.random.default_rng(1)
    for step in range(110):
        made = Made([draw.permutation(24)[:6] + 6 for _ in range(32)])
        loss, count, metrics = objective(encoder, arranged(objective.arranger, made, seed=step), rng())
        (loss / count).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert metrics["accuracy"][0] / count > 0.4  # 0.18 is the best of guesses


@pytest.mark.parametrize("cls", ALL)
def test_reads_units_of_every_modality(cls):
    assert cls.reads == "ids" and cls.refuses(type("Any", (), {"name": "speech"})) == ""


def test_parts_are_even_over_all_cuts():
    draw = np.random.default_rng(0)
    seen = {}
    for _ in range(6000):
        cut = tuple(parts(6, 3, draw).tolist())
        seen[cut] = seen.get(cut, 0) + 1
    assert all(sum(cut) == 6 and min(cut) >= 1 for cut in seen) and len(seen) == math.comb(5, 2)
    assert stats.chisquare(list(seen.values())).pvalue > 1e-4


@pytest.mark.parametrize(
    ("total", "count", "least"), [(0, 1, 0), (0, 4, 0), (5, 5, 1), (7, 1, 1), (12, 4, 3), (2, 9, 0)]
)
def test_parts_at_their_limits(total, count, least):
    draw = np.random.default_rng(0)
    for _ in range(50):
        sizes = parts(total, count, draw, least)
        assert len(sizes) == count and sizes.sum() == total and sizes.min() >= least


def test_share_of_is_right_on_average_and_never_off_by_one_or_more():
    draw = np.random.default_rng(0)
    seen = np.array([share_of(7, 0.3, draw) for _ in range(20_000)])
    assert set(seen) == {2, 3}
    assert abs(seen.mean() - 2.1) < 5 * (0.1 * 0.9 / 20_000) ** 0.5
    assert {share_of(10, 0.5, draw) for _ in range(100)} == {5}


def test_marks_stand_where_spans_stood():
    ids = np.arange(10, 20)
    source, hidden = replace_spans(ids, np.array([2, 0, 1, 3]), np.array([3, 0, 1]), np.array([1, 2, 3]))
    assert source.tolist() == [10, 11, 1, 2, 15, 3, 17, 18, 19]
    assert ids[hidden].tolist() == [12, 13, 14, 16]
