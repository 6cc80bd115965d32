"""SimCLR against lightly's loss, naive loops, and one process against two."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import Tensor

from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.simclr import SimCLR, nt_xent
from ssl_suite.objectives.two_views import View, project
from tests.objectives import views_made as made
from tests.training.children import run_group

ALL = [0, 1, 2, 3]


def vectors(count: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(count, 6, dtype=torch.float64)


def ours(raw: Tensor, real: Tensor, temperature: float) -> Tensor:
    return nt_xent(F.normalize(raw, dim=1), real, temperature)[0]


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_is_lightlys(temperature):
    raw, others = vectors(14).requires_grad_(), vectors(14).requires_grad_()
    loss = ours(raw, torch.ones(14, dtype=torch.bool), temperature)
    expected = NTXentLoss(temperature)(others[:7], others[7:]) * 14
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    loss.backward(), expected.backward()
    torch.testing.assert_close(raw.grad, others.grad, rtol=1e-6, atol=1e-6)


def test_what_is_not_real_counts_nothing():
    """Loss, gradient and metrics are those of the real vectors alone; with none, and with one, it is 0."""
    raw, real = vectors(14).requires_grad_(), torch.tensor([True, False, True, True, False, True, False] * 2)
    chosen = raw.detach()[real].requires_grad_()
    got, metrics = nt_xent(F.normalize(raw, dim=1), real, 0.2)
    expected, others = nt_xent(F.normalize(chosen, dim=1), torch.ones(8, dtype=torch.bool), 0.2)
    torch.testing.assert_close(got, expected)
    got.backward(), expected.backward()
    torch.testing.assert_close(raw.grad[real], chosen.grad)
    assert not raw.grad[~real].any()
    for name, pair in metrics.items():
        torch.testing.assert_close(pair, others[name], msg=name)
    for some in (torch.zeros(14, dtype=torch.bool), torch.tensor([True] + 6 * [False]).repeat(2)):
        raw = vectors(14).requires_grad_()
        loss, metrics = nt_xent(F.normalize(raw, dim=1), some, 0.2)
        loss.backward()
        assert loss == 0 and torch.isfinite(raw.grad).all() and metrics["uniformity"] == (0, 0)


def test_metrics_are_those_of_loops():
    z, real = F.normalize(vectors(10), dim=1), torch.ones(10, dtype=torch.bool)
    metrics = nt_xent(z, real, 0.3)[1]
    partner = [(i + 5) % 10 for i in range(10)]
    near = [max((j for j in range(10) if j != i), key=lambda j, i=i: float(z[i] @ z[j])) for i in range(10)]
    assert metrics["accuracy"] == (sum(a == b for a, b in zip(near, partner, strict=True)), 10)
    apart = sum(float((z[i] - z[j]).square().sum()) for i, j in enumerate(partner))
    assert math.isclose(metrics["alignment"][0], apart, rel_tol=1e-9) and metrics["alignment"][1] == 10
    pairs = [(i, j) for i in range(10) for j in range(10) if j not in (i, partner[i])]
    potential = sum(math.exp(-2 * float((z[i] - z[j]).square().sum())) for i, j in pairs) / len(pairs)
    assert math.isclose(metrics["uniformity"][0], math.log(potential), rel_tol=1e-9) and metrics["uniformity"][1] == 1


def _gathered(folder: Path) -> None:
    import torch.distributed as dist

    from ssl_suite.training.distributed import processes

    with processes({"threads": 1, "precision": "fp32"}) as group:
        raw, others = vectors(8, group.rank).requires_grad_(), vectors(8, group.rank).requires_grad_()
        loss = ours(raw, torch.ones(8, dtype=torch.bool), 0.2)
        expected = NTXentLoss(0.2, gather_distributed=True)(others[:4], others[4:]) * 8
        loss.backward(), expected.backward()
        total = loss.detach().clone()
        dist.all_reduce(total)
        found = {"loss": loss, "expected": expected, "grad": raw.grad, "expected_grad": others.grad, "total": total}
        torch.save({name: x.detach() for name, x in found.items()}, folder / f"{group.rank}.pt")


def test_two_processes_are_lightlys_two_and_our_one(tmp_path):
    run_group(_gathered, tmp_path, folder=tmp_path, world=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    one, two = vectors(8, 0), vectors(8, 1)
    whole = torch.cat((one[:4], two[:4], one[4:], two[4:])).requires_grad_()
    alone = ours(whole, torch.ones(16, dtype=torch.bool), 0.2)
    alone.backward()
    for rank, part in enumerate(parts):
        torch.testing.assert_close(part["loss"], part["expected"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(part["grad"], part["expected_grad"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(part["total"], alone.detach())
        mine = [*range(4 * rank, 4 * rank + 4), *range(8 + 4 * rank, 12 + 4 * rank)]
        torch.testing.assert_close(part["grad"], whole.grad[mine])


def on_dna(**settings) -> tuple:
    dna = DNA()
    encoder = made.encoder(dna)
    torch.manual_seed(1)
    return encoder, SimCLR(dna, encoder, projection=8, **settings)


def on_images_with_a_convnet() -> tuple:
    from ssl_suite.models.convnet import Convnet, ConvnetSpec

    image = Image(size=32, patch=8)
    section = {"layout": "resnet10", "stem": "half", "channels": 8}
    torch.manual_seed(0)
    encoder = Convnet(ConvnetSpec.from_section(section, image), image)
    # float64 inside: eleven batch norms of a few numbers blow rounding up to 2e-5 of a gradient
    encoder.body.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    torch.manual_seed(1)
    return encoder, SimCLR(image, encoder, projection=8)


def by_dropout() -> tuple:
    return on_dna(views="dropout", pooling="cls")


def pictures(rows: list[int]):
    return made.image_rows(rows, Image(size=32, patch=8))


@pytest.mark.parametrize(
    ("make", "rows_of"),
    [(on_dna, made.dna_rows), (by_dropout, made.dna_rows), (on_images_with_a_convnet, pictures)],
)
def test_two_processes_take_the_step_of_one(make, rows_of, tmp_path):
    run_group(made.share_of_a_step, tmp_path, make, rows_of, folder=tmp_path, world=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    expected = made.outcome(*make(), rows_of, ALL)
    assert all(x is not None for x in expected.values())  # every parameter has a gradient
    made.same(parts, expected, {"uniformity", "projection_std"})


def test_a_view_is_pooled_as_if_it_stood_alone():
    """The [PAD] that a crop leaves is not attended to: against the encoder on each cropped sequence by itself."""
    encoder, objective = on_dna()
    batch = made.dna_rows(ALL)
    for pooling in ("mean", "cls"):
        objective.pooling = pooling
        first, second = objective.views(batch, made.rng(ALL))
        both = objective.pool(encoder, objective.both(batch, made.rng(ALL)))
        for view, vectors_BD in zip((first, second), both.chunk(2), strict=True):
            texts = made.contents(view.batch)
            assert len(texts) == 9 and min(map(len, texts)) < 14
            separate_BD = objective.pool(encoder, view)
            torch.testing.assert_close(separate_BD[batch.real_B], vectors_BD[batch.real_B], rtol=1e-5, atol=1e-5)
            expected = [_pooled(encoder(made.alone(ids)), pooling) for ids in texts]
            torch.testing.assert_close(vectors_BD[batch.real_B], torch.stack(expected), rtol=1e-5, atol=1e-5)
    assert not torch.equal(first.batch.values, second.batch.values)


def _pooled(states_ND: Tensor, pooling: str) -> Tensor:
    return states_ND[0] if pooling == "cls" else states_ND[1:-1].mean(0)


def test_dropout_views_are_the_same_tokens_under_other_draws():
    encoder, objective = by_dropout()
    batch = made.dna_rows(ALL)
    view = objective.both(batch, made.rng(ALL))
    assert torch.equal(view.batch.values, batch.values.repeat(2))
    first, second = objective.pool(encoder, view).chunk(2)
    assert not torch.allclose(first[batch.real_B], second[batch.real_B])
    some = made.dna_rows([1, 3])  # a row's draws do not depend on who shares its batch
    alone = objective.pool(encoder, objective.both(some, made.rng([1, 3])))
    torch.testing.assert_close(torch.cat((first[[4, 5, 12]], second[[4, 5, 12]])), alone[[0, 1, 4, 8, 9, 12]])


def test_a_view_of_pictures_needs_no_splitting():
    encoder, objective = on_images_with_a_convnet()
    batch = pictures(ALL)
    both = objective.both(batch, made.rng(ALL))
    assert isinstance(both, View) and not both.split and both.batch.rows == 8
    vectors_AD = objective.pool(encoder.eval(), both)
    first, second = objective.views(batch, made.rng(ALL))
    separate = torch.cat([objective.pool(encoder, view) for view in (first, second)])
    torch.testing.assert_close(vectors_AD, separate, rtol=1e-4, atol=1e-5)


def test_projection_std_tells_collapse_from_spread():
    encoder, objective = on_dna()
    batch = made.dna_rows(ALL)
    total, count = objective(encoder, batch, made.rng(ALL))[2]["projection_std"]
    with torch.no_grad():
        view = objective.both(batch, made.rng(ALL))
        real = batch.real_B.repeat(2)
        z = F.normalize(project(objective.projector, objective.pool(encoder, view), real), dim=1)[real]
    assert count == 1
    torch.testing.assert_close(total, z.std(0, unbiased=False).mean() * 8**0.5, rtol=1e-4, atol=1e-4)


def test_flops_of_a_head_and_the_similarities():
    encoder, objective = on_dna()
    batch, model = made.dna_rows([0, 1]), vars(encoder.spec)
    real = 5  # the host takes each row to end in padding: row 0 and 1 do
    head = 2 * (16 * 16 + 16 * 8)
    expected = 3 * (2 * encoder_flops(model, batch) + 2 * real * head + 2 * (2 * real) ** 2 * 8)
    assert objective.flops(model, batch) == expected


def test_a_convnet_has_no_cls():
    encoder, objective = on_images_with_a_convnet()
    with pytest.raises(SuiteError, match=r"objective\.pooling=mean"):
        SimCLR(objective.modality, encoder, pooling="cls")
