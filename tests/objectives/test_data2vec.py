"""data2vec against a loop over positions, and what each of its two networks sees."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.data2vec import Data2Vec
from tests.objectives import views_made as made

ALL = [0, 1, 2, 3]
MASK = 4


def on_dna(layers: int = 3, **settings) -> tuple:
    dna = DNA()
    encoder = made.encoder(dna, layers)
    torch.manual_seed(1)
    return encoder, Data2Vec(dna, encoder.spec, encoder, **settings)


def on_images(**settings) -> tuple:
    image = Image(size=32, patch=4)
    encoder = made.encoder(image, 2)
    torch.manual_seed(1)
    return encoder, Data2Vec(image, encoder.spec, encoder, **settings)


def pictures(rows: list[int]):
    batch = made.image_rows(rows, Image(size=32, patch=4))
    content = batch.values >= 5
    return batch.with_values(batch.values.masked_fill(content, 5))  # no codebook: all units are the first


def normal(x: Tensor) -> Tensor:
    """Layer norm of a vector, as in its definition."""
    return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()


def element(difference: float, beta: float) -> float:
    if beta == 0:
        return difference**2
    return 0.5 * difference**2 / beta if abs(difference) < beta else abs(difference) - 0.5 * beta


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_two_steps_are_those_of_a_loop(beta):
    """Loss position by position, SGD, teacher = 0.8 teacher + 0.2 student."""
    encoder, objective = on_dna(beta=beta, tau_start=0.8, tau_end=0.8, top_layers=2, mask_rate=0.2)
    student, head, teacher = copy.deepcopy(encoder), copy.deepcopy(objective.head), copy.deepcopy(encoder)
    own = torch.optim.SGD([*encoder.parameters(), *(p for p in objective.parameters() if p.requires_grad)], lr=0.5)
    reference = torch.optim.SGD([*student.parameters(), *head.parameters()], lr=0.5)
    batch = made.dna_rows(ALL)
    for step in range(2):
        loss, count, _ = objective(encoder, batch, made.rng(ALL, step))
        (loss / count).backward()
        own.step(), own.zero_grad()
        objective.after_step(encoder, step + 1, 2)

        picks, valid, shown = objective.hide(batch, made.rng(ALL, step))
        with torch.no_grad():
            states = teacher.layer_states(batch)
        predicted, terms = head(student(batch.with_values(shown))), []
        for k, is_valid in zip(picks.tolist(), valid.tolist(), strict=True):
            if is_valid:
                target = normal(sum(normal(states[layer][k]) for layer in (2, 3)) / 2)
                terms.append(sum(element(d, beta) for d in predicted[k] - target) / 16)
        expected = sum(terms) / len(terms)
        expected.backward(), reference.step(), reference.zero_grad()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.copy_(0.8 * slow + 0.2 * fast)
        assert count == len(terms) > 20
        torch.testing.assert_close(loss / count, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in ((encoder, student), (objective.head, head), (objective.teacher, teacher)):
        for name, x in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], x, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("make", "rows_of"), [(on_dna, made.dna_rows), (on_images, pictures)])
def test_rows_do_not_depend_on_each_other(make, rows_of):
    """Loss, metrics and gradients of four rows are the sums of each one's: any process may hold any of them."""
    encoder, objective = make()
    whole = made.outcome(encoder, objective, rows_of, ALL)
    assert all(x is not None for x in whole.values())
    sums: dict[str, Tensor] = {}
    for row in ALL:
        for name, x in made.outcome(*make(), rows_of, [row]).items():
            sums[name] = sums[name] + x if name in sums else x
    for name, x in whole.items():
        torch.testing.assert_close(sums[name], x, rtol=1e-4, atol=1e-5, msg=name)


def test_only_the_teacher_sees_what_is_hidden():
    """Other pixels under the masks change the targets and not the prediction."""
    encoder, objective = on_images()
    batch = pictures(ALL)
    picks, valid, shown = objective.hide(batch, made.rng(ALL))
    assert (shown[picks[valid]] == MASK).all() and (shown == MASK).sum() == valid.sum()
    frames = batch.frames_NF.clone()
    frames[picks[valid]] = 255 - frames[picks[valid]]
    other = batch.with_values(batch.values, frames)
    seen = [encoder(some.with_values(shown)) for some in (batch, other)]
    assert torch.equal(*seen)
    targets = [objective.targets(some, picks) for some in (batch, other)]
    assert not torch.allclose(*targets) and not targets[0].requires_grad
    torch.testing.assert_close(targets[0].var(1, unbiased=False), torch.ones(len(picks)), rtol=1e-3, atol=1e-3)


def test_tokens_hide_single_positions_and_signals_spans():
    objective = on_dna()[1]
    batch = made.dna_rows([1, 3])
    picks, valid, _ = objective.hide(batch, made.rng([1, 3]))
    assert (objective.masker.rate, objective.masker.span, len(picks)) == (0.15, 1, 2 * 10)
    assert valid.sum() in range(14, 17)  # of 58 and 40 bases
    objective = on_images()[1]
    batch, lengths = pictures([0, 1]), []
    for step in range(20):
        picks, valid, _ = objective.hide(batch, made.rng([0, 1], step))
        places = picks[valid].sort().values.numpy()
        assert len(picks) == 2 * (66 + 9) and objective.masker.span == 10
        lengths += [len(run) for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)]
    long = sum(length for length in lengths if length >= 10)
    assert long > 0.85 * sum(lengths)  # shorter at a picture's ends


def test_spread_over_positions_tells_collapse():
    encoder, objective = on_dna()
    batch = made.dna_rows(ALL)
    picks, valid, _ = objective.hide(batch, made.rng(ALL))
    metrics = objective(encoder, batch, made.rng(ALL))[2]
    targets = objective.targets(batch, picks).view(4, -1, 16)
    rows = [x[ok].std(0, unbiased=False).mean() for x, ok in zip(targets, valid.view(4, -1), strict=True)]
    torch.testing.assert_close(metrics["target_std"], (torch.stack(rows).sum(), torch.tensor(4)))
    for weight in (objective.head.weight, objective.teacher.embeddings.norm.weight):
        torch.nn.init.zeros_(weight)  # a teacher that says the same everywhere, a head that says nothing
    metrics = objective(encoder, batch, made.rng(ALL))[2]
    assert metrics["target_std"][0] < 1e-6 and metrics["prediction_std"][0] < 1e-6


def test_a_row_without_data_counts_nothing():
    encoder, objective = on_dna()
    batch = made.dna_rows([0])
    empty = batch.with_values(torch.zeros_like(batch.values))
    loss, count, metrics = objective(encoder, empty, made.rng([0]))
    loss.backward()
    assert loss == 0 and count == 0 and metrics["target_std"] == (0, 0)
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_tau_rises_and_the_gap_is_shown():
    encoder, objective = on_dna(tau_start=0.5, tau_end=0.9, tau_steps=0.5)
    start = objective.teacher.final_norm.weight.clone()
    assert objective.health(encoder)["teacher_gap"] == 0
    encoder.final_norm.weight.data += 1
    for done, tau in ((1, 0.58), (5, 0.9), (10, 0.9)):
        objective.teacher.final_norm.weight.data.copy_(start)
        objective.after_step(encoder, done, 10)
        torch.testing.assert_close(objective.teacher.final_norm.weight.data, start + 1 - tau)
    assert objective.health(encoder)["teacher_gap"] > 0
    encoder, objective = on_dna(half_life=0.2)
    encoder.final_norm.weight.data += 1
    for done in (1, 2):
        objective.after_step(encoder, done, 10)
    torch.testing.assert_close(objective.teacher.final_norm.weight.data, start + 0.5)  # two steps are a fifth of ten


def test_flops_of_student_teacher_and_head():
    encoder, objective = on_dna()
    batch, model = made.dna_rows(ALL), vars(encoder.spec)
    expected = 4 * encoder_flops(model, batch) + 3 * 2 * 0.15 * batch.tokens * 16**2
    assert objective.flops(model, batch) == pytest.approx(expected, rel=1e-12)


def test_no_more_layers_than_there_are():
    with pytest.raises(SuiteError, match=r"objective\.top_layers=4"):
        on_dna(top_layers=4)
