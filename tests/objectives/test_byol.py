"""BYOL against a reference of few lines, and one process against two."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.byol import Byol
from tests.objectives import views_made as made
from tests.training.children import run_group

ALL = [0, 1, 2, 3]


def on_dna(**settings) -> tuple:
    dna = DNA()
    encoder = made.encoder(dna)
    torch.manual_seed(1)
    return encoder, Byol(dna, encoder, hidden=24, projection=8, **settings)


def pictures(rows: list[int]):
    return made.image_rows(rows, Image(size=32, patch=8))


def on_images_with_a_convnet() -> tuple:
    from ssl_suite.models.convnet import Convnet, ConvnetSpec

    image = Image(size=32, patch=8)
    torch.manual_seed(0)
    section = {"layout": "resnet10", "stem": "half", "channels": 8}
    encoder = Convnet(ConvnetSpec.from_section(section, image), image)
    # float64 inside: eleven batch norms of a few numbers blow rounding up
    encoder.body.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    torch.manual_seed(1)
    return encoder, Byol(image, encoder, hidden=24, projection=8)


def mean_states(encoder: nn.Module, texts: list[Tensor]) -> Tensor:
    return torch.stack([encoder(made.alone(ids))[1:-1].mean(0) for ids in texts])


def test_three_steps_are_those_of_a_reference():
    """Sequences one by one, lightly's heads and loss on the real ones alone, SGD, lightly's moving average."""
    encoder, objective = on_dna(tau=0.9)
    batch, loss_of = made.dna_rows(ALL), NegativeCosineSimilarity()

    online, projector, predictor = copy.deepcopy(encoder), BYOLProjectionHead(16, 24, 8), BYOLPredictionHead(8, 24, 8)
    projector.load_state_dict(objective.projector.state_dict())
    predictor.load_state_dict(objective.predictor.state_dict())
    target, target_projector = copy.deepcopy(online), copy.deepcopy(projector)
    trained = [*online.parameters(), *projector.parameters(), *predictor.parameters()]
    reference = torch.optim.SGD(trained, lr=0.1)
    own = [*encoder.parameters(), *(p for p in objective.parameters() if p.requires_grad)]
    optimiser = torch.optim.SGD(own, lr=0.1)

    for step in range(3):
        loss, count, metrics = objective(encoder, batch, made.rng(ALL, step))
        (loss / count).backward()
        optimiser.step(), optimiser.zero_grad()
        objective.after_step(encoder, step + 1, 3)

        views = [made.contents(view.batch) for view in objective.views(batch, made.rng(ALL, step))]
        p0, p1 = (predictor(projector(mean_states(online, view))) for view in views)
        with torch.no_grad():
            z0, z1 = (target_projector(mean_states(target, view)) for view in views)
        expected = 4 + 2 * (loss_of(p0, z1) + loss_of(p1, z0))
        reference.zero_grad(), expected.backward(), reference.step()
        tau = cosine_schedule(step, 4, 0.9, 1.0)
        update_momentum(online, target, tau), update_momentum(projector, target_projector, tau)

        torch.testing.assert_close(loss / count, expected, rtol=1e-5, atol=1e-5)
        spread = F.normalize(torch.cat((z0, z1)), dim=1).std(0, unbiased=False).mean() * 8**0.5
        torch.testing.assert_close(metrics["target_std"][0], spread, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(metrics["similarity"][0] / metrics["similarity"][1], 1 - expected / 4)
    pairs = [(encoder, online), (objective.projector, projector), (objective.predictor, predictor)]
    pairs += [(objective.target["encoder"], target), (objective.target["projector"], target_projector)]
    for ours, theirs in pairs:
        for name, x in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], x, rtol=2e-4, atol=2e-5, msg=name)
    assert not torch.allclose(target.final_norm.weight, online.final_norm.weight, atol=1e-4)


@pytest.mark.parametrize(("make", "rows_of"), [(on_dna, made.dna_rows), (on_images_with_a_convnet, pictures)])
def test_two_processes_take_the_step_of_one(make, rows_of, tmp_path):
    run_group(made.share_of_a_step, tmp_path, make, rows_of, folder=tmp_path, world=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    expected = made.outcome(*make(), rows_of, ALL)
    assert all(x is not None for x in expected.values())  # every parameter that is trained has a gradient
    assert not any(".target." in name for name in expected if not name.startswith("buffer"))
    made.same(parts, expected, {"target_std"})


def test_the_target_takes_no_gradient_and_is_part_of_the_state():
    encoder, objective = on_dna()
    assert not any(p.requires_grad for p in objective.target.parameters())
    assert objective.target["encoder"] is not encoder
    assert any(name.startswith("target.encoder.layers.0.") for name in objective.state_dict())
    for left, right in zip(objective.target["encoder"].parameters(), encoder.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("memory", [{"tau": 0.5}, {"half_life": 0.01}])
def test_the_gap_shows_how_far_the_target_is(memory):
    encoder, objective = on_dna(**memory)
    assert objective.health(encoder)["target_gap"] == 0
    for p in encoder.parameters():
        p.data.mul_(2)
    torch.testing.assert_close(objective.health(encoder)["target_gap"], torch.tensor(0.5))
    objective.after_step(encoder, 1, 100)
    torch.testing.assert_close(objective.health(encoder)["target_gap"], torch.tensor(0.25))


def test_in_evaluation_nothing_is_tracked_and_padding_does_not_matter():
    encoder, objective = on_dna()
    objective.eval()
    before = {name: x.clone() for name, x in objective.state_dict().items()}
    whole = objective(encoder, made.dna_rows(ALL), made.rng(ALL))
    parts = [objective(encoder, made.dna_rows([row]), made.rng([row])) for row in ALL]
    torch.testing.assert_close(whole[0], sum(part[0] for part in parts), rtol=1e-5, atol=1e-5)
    assert whole[1] == sum(part[1] for part in parts) == 9
    assert all(torch.equal(x, before[name]) for name, x in objective.state_dict().items())


def test_a_collapsed_target_shows():
    encoder, objective = on_dna()
    nn.init.zeros_(objective.target["projector"].layers[-1].weight)
    total, count = objective(encoder, made.dna_rows(ALL), made.rng(ALL))[2]["target_std"]
    assert count == 1 and total < 1e-3


def test_flops_of_both_networks():
    encoder, objective = on_dna()
    batch, model = made.dna_rows([0, 1]), vars(encoder.spec)
    projector, predictor = 2 * (16 * 24 + 24 * 8), 2 * (8 * 24 + 24 * 8)
    online, target = 3 * (projector + predictor), projector  # of one view of each of five sequences
    assert objective.flops(model, batch) == 8 * encoder_flops(model, batch) + 10 * (online + target)
