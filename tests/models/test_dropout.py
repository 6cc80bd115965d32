import dataclasses
import shutil

import pytest
import torch
from torch import nn
from transformers import AutoModel

from ssl_suite.core import registry
from ssl_suite.core.rng import Rng
from ssl_suite.models.attention import rope_table
from ssl_suite.models.dropout import Dropout, kept_units
from ssl_suite.settings import config
from ssl_suite.training import build
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.estimate import _saved_bytes, activation_bytes
from ssl_suite.training.restore import load_run
from ssl_suite.training.trainer import train
from tests.conftest import ragged

ALONE = DistributedContext()
NOISY = ["model.dropout=0.3", "model.layers=3"]


def learner(*words: str):
    cfg = config.compose(["model=tiny", "modality.max_length=128", *words])
    return build.learner(cfg, registry.build(registry.MODALITIES, "modality", cfg["modality"]))


def batch_of(rows: list[int]):
    """Each row is two sequences of 32 random bases; its content depends on its number alone."""
    batch = ragged([32] * (2 * len(rows)))
    values = torch.cat([torch.randint(5, 9, (64,), generator=torch.Generator().manual_seed(row)) for row in rows])
    return dataclasses.replace(batch.with_values(values), rows=len(rows))


def rng_of(rows: list[int], step: int = 0) -> Rng:
    return Rng(7, step, torch.tensor(rows))


def gradients(module, batch, rng) -> dict[str, torch.Tensor]:
    module.zero_grad(set_to_none=True)
    module(batch, rng)[0].backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_the_share_is_dropped_and_the_rest_grows():
    """By an independent count; torch's own dropout keeps the mean by the same factor."""
    drop, other = Dropout(rng_of([0, 1]), 0.1).places(4, 2)
    once, again, elsewhere = (f(torch.ones(800, 502)) for f in (drop, drop, other))
    assert torch.equal(once, again) and not torch.equal(once, elsewhere)
    spread = (0.09 / once.numel()) ** 0.5
    assert abs((once == 0).float().mean() - 0.1) < 4 * spread
    assert abs(((once == 0) & (elsewhere == 0)).float().mean() - 0.01) < 4 * 0.1 * spread  # places are independent
    assert once.max().item() == pytest.approx(nn.functional.dropout(torch.ones(99), 0.1).max().item(), rel=1e-4)
    rows = (once == 0).view(4, -1).float().mean(1)  # two rows, twice: all with draws of their own
    assert len({tuple(x.tolist()) for x in (once == 0).view(4, -1)[:, :64]}) == 4 and (rows - 0.1).abs().max() < 0.01


def test_the_compiler_need_not_look_inside():
    """torch's own checks of an operator: what it says of shapes and types is what it gives."""
    torch.library.opcheck(kept_units, (rng_of([0, 3]).keys_R1, 5, 2, 33, 9000))


def test_dropout_in_training_alone_and_by_row():
    """A row's loss does not depend on who shares its batch; evaluation, and a step of other number, differ."""
    module = learner(*NOISY)
    both = module(batch_of([0, 1]), rng_of([0, 1]))[0]
    alone = [module(batch_of([row]), rng_of([row]))[0] for row in (0, 1)]
    torch.testing.assert_close(both, sum(alone))
    assert not torch.isclose(both, module(batch_of([0, 1]), rng_of([0, 1], step=1))[0], rtol=1e-4)
    silent = learner(NOISY[1])
    silent.load_state_dict(module.state_dict())
    torch.testing.assert_close(module.eval()(batch_of([0]), rng_of([0]))[0], silent(batch_of([0]), rng_of([0]))[0])
    assert not torch.isclose(alone[0], silent(batch_of([0]), rng_of([0]))[0], rtol=1e-4)


def test_every_place_of_the_layout_is_dropped():
    """The formula, layer by layer: embeddings and both branches, each with the draws of its place."""
    module = learner(*NOISY).double()
    encoder, batch = module.encoder, batch_of([0, 1])
    drops = Dropout(rng_of([0, 1]), 0.3).places(2, 7)
    found = encoder.layer_states(batch, Dropout(rng_of([0, 1]), 0.3))
    x = drops[0](encoder.embeddings(batch))
    rope = rope_table(batch.positions_N(), 64, encoder.spec.thetas[0])
    for i, layer in enumerate(encoder.layers):
        x = x + drops[1 + 2 * i](layer.attn(layer.attn_norm(x), rope, batch))
        x = x + drops[2 + 2 * i](layer.mlp(layer.mlp_norm(x)))
        torch.testing.assert_close(found[i + 1], x)


@pytest.mark.parametrize("objective", ["mlm", "simclr", "data2vec"])
def test_recomputed_activations_give_the_same_gradient_for_less_memory(objective):
    """To the bit, with dropout, for each way in which objectives call the encoder."""
    words = [f"objective={objective}", *NOISY]
    plain, again = learner(*words), learner(*words, "model.checkpointing=true")
    batch, rows = batch_of([0, 1, 2, 3]), [0, 1, 2, 3]
    wanted, found = (gradients(module, batch, rng_of(rows)) for module in (plain, again))
    assert wanted.keys() == found.keys()
    for name in wanted:
        assert torch.equal(wanted[name], found[name]), name
    kept, fewer = (_saved_bytes(module, batch, ALONE)[0] for module in (plain, again))
    assert fewer < kept / 2


def test_the_estimate_counts_one_layer_that_is_computed_again():
    def per_position(*words: str) -> int:
        return activation_bytes(learner("model.layers=8", *words), lambda n: ragged([32] * n), ALONE)

    plain, again = per_position(), per_position("model.checkpointing=true")
    assert plain / 8 < again < plain / 3


def test_a_run_with_dropout_ends_in_the_same_bits_after_a_restart(tmp_path):
    """Its last checkpoint is lost, so the second half is trained twice."""
    words = ["model=tiny", *NOISY, "model.checkpointing=true", "modality.max_length=64", "train.steps=6"]
    words += ["train.tokens_per_batch=512", "train.eval_every=6", "train.checkpoint_every=3", "train.threads=1"]
    cfg = config.compose([*words, "train.eval_tokens=512"])
    config.write(tmp_path / "run" / "config.yaml", cfg)
    train(cfg, tmp_path / "run")
    first = load_run(str(tmp_path / "run"), "last").learner.state_dict()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00000006")
    train(cfg, tmp_path / "run")
    loaded = load_run(str(tmp_path / "run"), "last")
    assert all(torch.equal(x, first[name]) for name, x in loaded.learner.state_dict().items())
    assert (loaded.encoder.spec.dropout, loaded.encoder.spec.checkpointing) == (0.3, True)
    opened = AutoModel.from_pretrained(tmp_path / "run" / "encoder").config
    assert (opened.embedding_dropout, opened.attention_dropout, opened.mlp_dropout) == (0.3, 0.3, 0.3)
