import types
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.core import resources
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.models.attention import _per_group
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives import span
from ssl_suite.objectives.span import SpanBERT
from tests.conftest import ragged
from tests.objectives.halves import gradients, halves

SPEC = EncoderSpec(1, 32, 2, 48, 20, windows=(None,), thetas=(10_000.0,), init_std=0.2)


def objective(**settings) -> SpanBERT:
    torch.manual_seed(0)
    vocabulary = Vocabulary(tuple(map(str, range(20))), targets=(5, 9))
    return SpanBERT(types.SimpleNamespace(name="test", vocabulary=vocabulary), SPEC, **settings)


def rng(step: int = 0, rows: int = 1) -> Rng:
    return Rng(0, step, torch.arange(rows))


def edges(hidden: list[bool], place: int) -> tuple[int, int]:
    """By walking outwards from a position until a visible one comes."""
    left = right = place
    while hidden[left]:
        left -= 1
    while hidden[right]:
        right += 1
    return left, right


@pytest.mark.parametrize("rate", [0.15, 0.5, 0.9])
def test_boundaries_are_those_of_the_longest_runs(rate):
    """Also where spans touch, where nearly everything is hidden, and for picks that are not hidden."""
    batch, merged = ragged([40, 3, 57, 100], rows=1), 0
    for step in range(10):
        picks, labels, _ = objective(mask_rate=rate).corrupt(batch, rng(step))
        valid = labels != -100
        hidden = [False] * 200
        for pick, is_hidden in zip(picks.tolist(), valid.tolist(), strict=True):
            hidden[pick] = is_hidden
        left, right = span.boundaries(picks, valid, 200)
        expected = [edges(hidden, pick) for pick in picks.tolist()]
        assert list(zip(left.tolist(), right.tolist(), strict=True)) == expected
        sequences = batch.sequence_ids_N()
        assert torch.equal(sequences[left], sequences[right])
        merged += sum(b - a - 1 > 10 for a, b in expected)
    assert merged  # runs longer than any span


def test_loss_is_both_cross_entropies_by_a_loop():
    task, encoder = objective(mask_rate=0.3), Encoder(SPEC)
    batch = ragged([60, 40], rows=1)
    loss, count, metrics = task(encoder, batch, rng())
    picks, labels, shown = task.corrupt(batch, rng())
    states, table = encoder(batch.with_values(shown)), encoder.embeddings.table_VD
    hidden = [i in picks[labels != -100].tolist() for i in range(100)]
    head, one, two = task.head, task.boundary, task.boundary.second
    inside = beyond = right = 0.0
    for pick, label in zip(picks.tolist(), labels.tolist(), strict=True):
        if label == -100:
            continue
        logits = F.layer_norm(F.gelu(head.dense.weight @ states[pick]), (32,), head.norm.weight) @ table.T + head.bias
        inside += -logits.log_softmax(-1)[label]
        a, b = edges(hidden, pick)
        x = one.dense.weight @ torch.cat((states[a], states[b], one.places.weight[pick - a - 1]))
        x = F.layer_norm(F.gelu(x), (32,), one.norm.weight)
        x = F.layer_norm(F.gelu(two.dense.weight @ x), (32,), two.norm.weight)
        logits = x @ table.T + two.bias
        beyond += -logits.log_softmax(-1)[label]
        right += logits.argmax().item() == label
    assert count == sum(hidden) > 20
    torch.testing.assert_close(loss, inside + beyond)
    torch.testing.assert_close(metrics["boundary_loss"][0], beyond.detach())
    assert metrics["boundary_accuracy"][0] == right and metrics["boundary_accuracy"][1] == count


def test_the_boundary_loss_reads_the_edges_and_not_the_span():
    """Its gradient reaches the states of the two edges alone."""
    task = objective()
    states = torch.randn(12, 32, requires_grad=True)
    left, right = span.boundaries(torch.tensor([4, 5, 6]), torch.tensor([True] * 3), 12)
    task.boundary(states[left], states[right], torch.tensor([1, 2, 3]), torch.randn(20, 32)).square().sum().backward()
    assert states.grad.abs().sum(1).nonzero().flatten().tolist() == [3, 7]


def test_a_span_is_changed_as_a_whole():
    """Every run shows [MASK] throughout or nowhere, and 60 % of the runs do, within five standard deviations."""
    task = objective(mask_share=0.6, random_share=0.0)
    masked = runs = 0
    for step in range(30):
        batch = ragged([200] * 10, rows=1)
        picks, labels, shown = task.corrupt(batch, rng(step))
        places = picks[labels != -100].sort().values.numpy()
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            inside = shown[run] == 4
            assert inside.all() or not inside.any()
            masked, runs = masked + bool(inside.all()), runs + 1
    assert runs > 1000
    assert abs(masked / runs - 0.6) <= 5 * np.sqrt(0.6 * 0.4 / runs)


def test_few_runs_are_longer_than_the_places_with_an_embedding():
    task, long, runs = objective(), 0, 0
    for step in range(10):
        picks, labels, _ = task.corrupt(ragged([20_000], rows=1), rng(step))
        places = picks[labels != -100].sort().values.numpy()
        lengths = [len(run) for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)]
        long, runs = long + sum(length > span.LONGEST_RUN for length in lengths), runs + len(lengths)
    assert runs > 5000
    assert long <= runs / 1000


def test_rows_apart_give_the_gradient_of_the_batch_and_every_parameter_gets_one():
    task, encoder, batch = objective(), Encoder(SPEC), ragged([30, 20, 25, 25], rows=2)
    batch.values[75:] = 0  # the second row is short
    whole = gradients(task, encoder, [(batch, [0, 1])])
    apart = gradients(task, encoder, [(half, [r]) for r, half in enumerate(halves(batch))])
    torch.testing.assert_close(whole, apart, atol=1e-6, rtol=1e-4)
    empty = replace(batch, values=torch.zeros_like(batch.values))
    assert gradients(task, encoder, [(empty, [0, 1])]).abs().sum() == 0


def test_flops_equal_the_counter(monkeypatch):
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    task, encoder, batch = objective(span=1), Encoder(SPEC), ragged([30, 10], rows=1)  # without room for a last span
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task(encoder, batch, rng())[0].backward()
    assert task.flops(vars(SPEC), batch) == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_presets_differ_from_mlm_in_what_their_names_say():
    folder = resources.folder("conf") / "objective"
    mlm, word = (yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8")) for name in ("mlm", "whole_word"))
    shared = {"mask_rate", "mask_share", "random_share"}
    assert word == {key: mlm[key] for key in shared} | {"name": "whole_word"}
