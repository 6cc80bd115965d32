import types
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.models.attention import _per_group
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.electra import Electra, generator_spec
from tests.conftest import ragged
from tests.objectives.halves import gradients, halves

SPEC = EncoderSpec(2, 32, 2, 48, 20, windows=(None,) * 2, thetas=(10_000.0,) * 2, init_std=0.2)


def objective(targets: tuple[int, int] = (5, 9), **settings) -> Electra:
    torch.manual_seed(0)
    vocabulary = Vocabulary(tuple(map(str, range(20))), targets=targets)
    return Electra(types.SimpleNamespace(name="test", vocabulary=vocabulary), SPEC, **settings)


def rng(step: int = 0, rows: int = 1) -> Rng:
    return Rng(0, step, torch.arange(rows))


def test_samples_follow_the_distribution_and_are_never_special():
    """10^5 draws from the same logits by chi-squared; the largest logits are a special token's."""
    task = objective(mask_rate=0.5)
    batch = ragged([50_000] * 4, rows=2)
    picks, labels, _ = task.corrupt(batch, rng(0, 2))
    logits = torch.full((20,), 9.0)
    logits[5:9] = torch.tensor([1.0, 0.0, -0.5, -3.0])
    filled = task.sample(logits.expand(len(picks), -1), batch, picks, labels, rng(1, 2))
    assert len(picks) == 100_000
    counts = np.bincount(filled[picks].numpy(), minlength=20)
    assert counts[5:9].sum() == 100_000
    expected = torch.tensor([1.0, 0.0, -0.5, -3.0], dtype=torch.float64).softmax(0).numpy() * 100_000
    assert stats.chisquare(counts[5:9], expected).pvalue > 1e-4
    untouched = torch.ones(200_000, dtype=torch.bool)
    untouched[picks] = False
    assert torch.equal(filled[untouched], batch.values[untouched])


def test_a_symbol_without_probability_is_never_drawn():
    task, batch = objective(mask_rate=0.5), ragged([50_000] * 2, rows=1)
    picks, labels, _ = task.corrupt(batch, rng())
    logits = torch.zeros(20)
    logits[[5, 8]] = -float("inf")
    drawn = task.sample(logits.expand(len(picks), -1), batch, picks, labels, rng(1))[picks[labels != -100]]
    assert set(drawn.tolist()) == {6, 7}


def test_loss_is_that_of_a_naive_loop():
    """Generator by log-softmax, discriminator by one binary cross-entropy a token, weighted row by row."""
    task, encoder = objective(mask_rate=0.2), Encoder(SPEC)
    batch = ragged([30, 20, 25, 25], rows=2)
    batch.values[75:] = 0  # the second row is half padding
    loss, count, metrics = task(encoder, batch, rng(0, 2))
    draws = rng(0, 2)
    picks, labels, shown = task.corrupt(batch, draws)
    logits = task.fill(encoder, batch.with_values(shown), picks)
    filled = task.sample(logits, batch, picks, labels, draws)
    said = task.discriminate(encoder(batch.with_values(filled)))
    total, tokens, hidden, replaced, found, right = 0.0, 0, 0, 0, 0, 0
    for row in range(2):
        mine = [i for i in range(20) if picks[i] // 50 == row and labels[i] != -100]
        guessed = [-logits[i].log_softmax(-1)[labels[i]] for i in mine]
        losses, hidden = [], hidden + len(mine)
        for place in range(50 * row, 50 * row + 50):
            if batch.values[place].item() in (0, 2, 3):
                continue
            other = (filled[place] != batch.values[place]).float()
            losses.append(F.binary_cross_entropy_with_logits(said[place], other))
            tokens, replaced = tokens + 1, replaced + int(other)
            found += int(other) * int(said[place] > 0)
            right += int((said[place] > 0) == other.bool())
        total += 50 * sum(losses) + len(losses) * sum(guessed) / len(guessed)
    assert 10 < hidden <= 20 and replaced > 3 and count == tokens
    torch.testing.assert_close(loss, total)
    measured = {name: (x[0].item(), x[1].item()) for name, x in metrics.items()}
    assert measured["replaced"] == (replaced, tokens)
    assert measured["recall"] == (found, replaced)
    assert measured["discriminator_accuracy"] == (right, tokens)
    assert measured["generator_accuracy"] == measured["masked_accuracy"]
    assert measured["generator_accuracy"][1] == hidden


def test_samples_equal_to_the_original_count_as_original():
    """With one symbol every sample is the original: nothing is replaced."""
    task, batch = objective(targets=(5, 6)), ragged([40, 60], low=5, high=6)
    metrics = task(Encoder(SPEC), batch, rng())[2]
    assert metrics["generator_accuracy"][1] == 15
    assert metrics["replaced"][0] == metrics["recall"][1] == 0


def test_share_of_replaced_tokens():
    """A generator that knows nothing draws one of four symbols: of 15 % of the positions three quarters change."""
    task, encoder = objective(), Encoder(SPEC)
    with torch.no_grad():
        task.guess.norm.weight.zero_()
    batch = ragged([500] * 20, rows=1)
    replaced, tokens = task(encoder, batch, rng())[2]["replaced"]
    hidden = 0.15 * 10_000
    assert tokens == 20 * 498
    assert abs(replaced / hidden - 0.75) <= 5 * (0.75 * 0.25 / hidden) ** 0.5


def test_the_discriminator_does_not_teach_the_generator_but_the_table_serves_both():
    encoder, batch = Encoder(SPEC), ragged([50, 50], rows=1)
    seen = []
    for weight in (50.0, 5000.0):
        task = objective(discriminator_weight=weight)
        task(encoder, batch, rng())[0].backward()
        seen.append([p.grad.clone() for m in (task.generator, task.guess) for p in m.parameters()])
        encoder.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    task = objective()
    picks, labels, shown = task.corrupt(batch, rng())
    F.cross_entropy(task.fill(encoder, batch.with_values(shown), picks), labels).backward()
    table, inner = encoder.embeddings.tok_embeddings.weight, encoder.layers[0].attn.Wo.weight
    assert table.grad[4].abs().sum() > 0 and inner.grad is None  # row 4: [MASK], which is read and not predicted
    assert table.grad[0].abs().sum() > 0  # [PAD], which is predicted (a class of the softmax)


def test_rows_apart_give_the_gradient_of_the_batch_and_every_parameter_gets_one():
    task, encoder, batch = objective(), Encoder(SPEC), ragged([30, 20, 25, 25], rows=2)
    batch.values[75:] = 0
    whole = gradients(task, encoder, [(batch, [0, 1])])
    apart = gradients(task, encoder, [(half, [r]) for r, half in enumerate(halves(batch))])
    torch.testing.assert_close(whole, apart, atol=1e-5, rtol=1e-4)
    empty = replace(batch, values=torch.zeros_like(batch.values))
    assert gradients(task, encoder, [(empty, [0, 1])]).abs().sum() == 0


@pytest.mark.parametrize(
    ("layers", "width", "heads", "mlp_width", "share", "expected"),
    [
        (2, 128, 2, 320, 0.25, (2, 32, 1, 80)),
        (12, 768, 12, 2048, 0.25, (12, 192, 3, 512)),
        (24, 1024, 16, 2752, 0.25, (24, 256, 4, 688)),
        (12, 768, 12, 2048, 1.0, (12, 768, 12, 2048)),
        (12, 768, 12, 2048, 0.3333, (12, 256, 4, 680)),
        (2, 64, 1, 96, 0.01, (2, 8, 1, 8)),
    ],
)
def test_shapes_of_the_generator(layers, width, heads, mlp_width, share, expected):
    spec = EncoderSpec(layers, width, heads, mlp_width, 20, windows=(None,) * layers, thetas=(100.0,) * layers)
    small = generator_spec(spec, share, None)
    assert (small.layers, small.width, small.heads, small.mlp_width) == expected
    assert small.width % small.heads == 0 and small.width // small.heads % 2 == 0
    assert small.init_std == pytest.approx(spec.init_std * (width / small.width) ** 0.5)


def test_a_shallow_generator():
    task = objective(generator_layers=1, generator_width=0.5)
    assert len(task.generator.layers) == 1 and task.generator.spec.width == 16
    gradients(task, Encoder(SPEC), [(ragged([50, 50]), [0])])


def test_the_generator_is_no_deeper_than_the_encoder():
    with pytest.raises(SuiteError, match=r"objective\.generator_layers=3"):
        objective(generator_layers=3)


def test_signals_are_refused():
    refused = {
        name: Electra.refuses(registry.load(registry.MODALITIES, "modality", name)) for name in registry.MODALITIES
    }
    assert {name for name, reason in refused.items() if reason} == {"image", "speech"}
    assert "try objective=" in refused["image"]


def test_flops_equal_the_counter(monkeypatch):
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    task, encoder, batch = objective(), Encoder(SPEC), ragged([30, 10], rows=1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task(encoder, batch, rng())[0].backward()
    assert task.flops(vars(SPEC), batch) == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_the_encoder_alone_is_exported_and_the_last_one_is_chosen():
    assert objective().hub_weights() == ("ModernBertModel", {})
    assert not hasattr(objective(), "head") and not Electra.command  # nothing for `fill` to use
    assert not Electra.selects
