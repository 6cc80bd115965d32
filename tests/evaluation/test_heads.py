"""Heads: losses against loops, padding that counts nothing, votes of pieces, units, and noise that follows the seed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import SPECIAL_TOKENS, Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.data.store import Windows
from ssl_suite.evaluation.heads.base import Head
from ssl_suite.evaluation.heads.classification import Classification
from ssl_suite.evaluation.heads.regression import Regression
from ssl_suite.evaluation.task_data import Split, TaskData
from ssl_suite.models.pooling import mean_pool
from ssl_suite.objectives.base import Objective
from tests.evaluation.text_models import batch, spans

V = Vocabulary((*SPECIAL_TOKENS, *"ACGT"), (5, 9))
ITEMS_S = np.array([0, 0, 1, 2, 2, 2, 3])  # the items of seven training sequences
KEYS = [6, 2, 0, 5]  # the training sequences of a batch


def data_of(labels_I: np.ndarray, items_S: np.ndarray = ITEMS_S, classes: int = 0) -> TaskData:
    """A task's data with these training labels; the sequences have no content."""
    none = np.zeros(len(items_S), np.int64)
    part = Split(np.arange(len(labels_I)), labels_I, Windows(none, none, items_S), len(labels_I))
    names = tuple(f"c{i}" for i in range(classes))
    return TaskData("mine@made", np.zeros(0, np.uint8), {"train": part}, names, "", "", {})


def decoded(head: Head, outputs_SC: np.ndarray, items_S: np.ndarray) -> np.ndarray:
    data = data_of(np.zeros(items_S.max() + 1), items_S)
    return head.decode(list(outputs_SC), data, data.parts["train"])


class Table(nn.Module):
    """An encoder without layers: a state is its symbol's row."""

    width = 6

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.rows = nn.Embedding(len(V), self.width)

    def forward(self, given: Batch) -> Tensor:
        return self.rows(given.values)

    def pooled(self, given: Batch) -> Tensor:
        return mean_pool(self(given), given, V.pad)


def rows_of(lengths: list[int], **more: Any) -> Batch:
    """Sequences of training, with padding behind them and two empty slots."""
    given = batch(lengths, V, n=80, slots=2, **more)
    keys = torch.full_like(given.index_B, -1)
    keys[: len(lengths)] = torch.tensor(KEYS[: len(lengths)])
    return replace(given, index_B=keys)


def rng(seed: int = 0, step: int = 0) -> Rng:
    return Rng(seed, step, torch.zeros(1, dtype=torch.int64))


def trained(head: Head) -> Head:
    with torch.no_grad():
        head.output.weight.normal_(generator=torch.Generator().manual_seed(2))
        head.output.bias.normal_(generator=torch.Generator().manual_seed(3))
    return head


def outputs(head: Head, encoder: Table, given: Batch, pooling: str, norm: bool) -> list[np.ndarray]:
    """By hand, of each real sequence."""
    found = []
    for span in spans(given):
        states = encoder.rows.weight[given.values[span]].detach().numpy().astype(np.float64)
        vector = states[1:-1].mean(0) if pooling == "mean" else states[0]
        vector = (vector - vector.mean()) / np.sqrt(vector.var() + 1e-5) if norm else vector
        found.append(head.output.weight.detach().numpy() @ vector + head.output.bias.detach().numpy())
    return found


@pytest.mark.parametrize(("pooling", "norm"), [("mean", True), ("cls", True), ("mean", False)])
def test_classification_is_a_loop_over_sequences(pooling: Any, norm: bool) -> None:
    labels, encoder, given = np.array([2, 0, 1, 2]), Table(), rows_of([7, 12, 3, 20])
    head = trained(Classification(encoder, data_of(labels, classes=3), pooling=pooling, norm=norm))
    loss, count, metrics = head(encoder, given, rng())
    expected, right = 0.0, 0
    for key, logits in zip(KEYS, outputs(head, encoder, given, pooling, norm), strict=True):
        label = labels[ITEMS_S[key]]
        expected += math.log(sum(math.exp(x) for x in logits)) - logits[label]
        right += int(np.argmax(logits)) == label
    assert loss.item() == pytest.approx(expected, rel=1e-5) and count.item() == 4
    assert [x.item() for x in metrics["accuracy"]] == [right, 4]


def test_a_projection_of_the_mean_is_the_mean_of_projections() -> None:
    """SUPERB projects each frame and then pools; without one, weights and settings are as they were."""
    data, encoder, given = data_of(np.array([2, 0, 1, 2]), classes=3), Table(), rows_of([7, 12, 3, 20])
    head = Classification(encoder, data, norm=False, projection=4)
    with torch.no_grad():
        frames_NP = head.narrow(encoder(given))
        means = [head.output(frames_NP[span][1:-1].mean(0)) for span in spans(given)]
        torch.testing.assert_close(head.read(encoder, given)[:4], torch.stack(means))
    assert head.settings() == {"pooling": "mean", "norm": False, "projection": 4}
    plain = Classification(encoder, data)
    assert set(plain.state_dict()) == {"output.weight", "output.bias"} and "projection" not in plain.settings()


@pytest.mark.parametrize(("pooling", "norm"), [("mean", True), ("cls", True), ("mean", False)])
def test_regression_is_a_loop_over_sequences(pooling: Any, norm: bool) -> None:
    labels, encoder, given = np.array([300.0, -100.0, 700.5, 30.0]), Table(), rows_of([7, 12, 3, 20])
    head = trained(Regression(encoder, data_of(labels), pooling=pooling, norm=norm))
    loss, count, metrics = head(encoder, given, rng())
    expected = 0.0
    for key, output in zip(KEYS, outputs(head, encoder, given, pooling, norm), strict=True):
        expected += (output[0] - (labels[ITEMS_S[key]] - labels.mean()) / labels.std()) ** 2
    assert loss.item() == pytest.approx(expected, rel=1e-5) and count.item() == 4 and metrics == {}


def test_a_pooler_is_that_of_transformers() -> None:
    """The map of [CLS] starts as the encoder's own; an encoder without one, or with zeros for it, gets a random one."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertPooler

    torch.manual_seed(4)
    encoder, given = Table(), rows_of([7, 12, 3, 20])
    own = BertPooler(BertConfig(hidden_size=Table.width))
    encoder.model = SimpleNamespace(pooler=own)  # type: ignore[assignment]
    head = Classification(encoder, data_of(np.array([2, 0, 1, 2]), classes=3), pooling="pooler")
    states = [encoder.rows(given.values[span])[None] for span in spans(given)]
    torch.testing.assert_close(head.vectors(encoder, given)[:4], torch.cat([own(each) for each in states]))
    assert head.settings() == {"pooling": "pooler", "norm": False}
    head.output(head.vectors(encoder, given)).sum().backward()
    assert head.pooler.weight.grad is not None and own.dense.weight.grad is None  # a copy is trained
    for lacking in (None, own):
        torch.nn.init.zeros_(own.dense.weight)
        encoder.model = SimpleNamespace(pooler=lacking)  # type: ignore[assignment]
        random = Classification(encoder, data_of(np.array([2, 0, 1, 2]), classes=3), pooling="pooler").pooler
        assert 0 < random.weight.std() < 0.05 and not random.bias.any()


@pytest.mark.parametrize("kind", [Classification, Regression])
def test_padding_counts_nothing(kind: Any) -> None:
    """Neither in the sums nor in a gradient; and a batch of padding alone is a batch."""
    encoder = Table()
    head = trained(kind(encoder, data_of(np.array([2, 0, 1, 2]), classes=3)))
    whole, found = rows_of([7, 12, 9]), []
    two = replace(whole, real_B=torch.tensor([True, True, *[False] * 4]))
    without = whole.values.clone()
    without[19:28] = V.pad
    assert head(encoder, whole, rng())[1].item() == 3
    for given in (two, replace(two.with_values(without), index_B=torch.where(two.real_B, two.index_B, -1))):
        encoder.zero_grad()
        head.zero_grad()
        loss, count, metrics = head(encoder, given, rng())
        loss.backward()
        sums = [loss.item(), count.item(), *(x.item() for pair in metrics.values() for x in pair)]
        found.append((sums, [p.grad.clone() for p in (*head.parameters(), *encoder.parameters())]))
    torch.testing.assert_close(found[0], found[1])
    loss, count, _ = head(encoder, rows_of([]), rng())
    loss.backward()
    assert (loss.item(), count.item()) == (0.0, 0)


def voted(shares_SC: np.ndarray, items_S: np.ndarray) -> list[int]:
    found = []
    for item in range(items_S.max() + 1):
        mine = [shares for shares, owner in zip(shares_SC, items_S, strict=True) if owner == item]
        votes = Counter(int(np.argmax(shares)) for shares in mine)
        sums = np.sum(mine, 0)
        found.append(max(votes, key=lambda c: (votes[c], sums[c])))
    return found


def test_pieces_vote() -> None:
    head = Classification(Table(), data_of(np.array([0, 1, 2]), np.arange(3), 3))
    shares_SC = np.array(
        [
            [0.90, 0.06, 0.04],  # the first piece is sure of itself, and outvoted
            [0.30, 0.36, 0.34],
            [0.33, 0.35, 0.32],
            [0.60, 0.39, 0.01],  # one each: what both hold for likely wins, though 2 has the third vote
            [0.08, 0.82, 0.10],
            [0.02, 0.03, 0.95],
            [0.20, 0.20, 0.60],
        ]
    )
    items_S = np.array([0, 0, 0, 1, 1, 1, 2])
    logits_SC = (np.log(shares_SC) + np.arange(7)[:, None]).astype(np.float32)  # shares are those of a softmax
    assert decoded(head, logits_SC, items_S).tolist() == [1, 1, 2] == voted(shares_SC, items_S)
    order = np.array([6, 3, 0, 5, 2, 4, 1])  # a tie is not the first's
    assert decoded(head, logits_SC[order], items_S[order]).tolist() == [1, 1, 2]
    draw = np.random.default_rng(0)
    items_S = np.sort(draw.permutation(np.arange(400) % 150))
    logits_SC = draw.normal(size=(400, 5)).astype(np.float32) * 2
    shares_SC = np.exp(logits_SC.astype(np.float64))
    expected = voted(shares_SC / shares_SC.sum(1, keepdims=True), items_S)
    assert decoded(head, logits_SC, items_S).tolist() == expected
    assert expected != [int(logits_SC[np.flatnonzero(items_S == i)[0]].argmax()) for i in range(150)]


def test_values_come_back_in_the_labels_units() -> None:
    labels = np.array([250.0, 350.0, 990.0, 410.0])
    data = data_of(labels)
    head = Regression(Table(), data)
    targets = np.array([head.start_targets(data.parts["train"])[s] for s in (0, 2, 3, 6)])
    assert targets.mean() == pytest.approx(0, abs=1e-6) and targets.std() == pytest.approx(1, abs=1e-6)
    found = decoded(head, targets[ITEMS_S][:, None], ITEMS_S)
    np.testing.assert_allclose(found, labels, rtol=1e-5)
    wide = targets[ITEMS_S][:, None] + np.array([-1, 1, 0, 2, -1, -1, 0], np.float32)[:, None]
    np.testing.assert_allclose(decoded(head, wide, ITEMS_S), labels, rtol=1e-5)  # the mean of an item's pieces


def test_a_head_starts_small_and_is_an_objective() -> None:
    torch.manual_seed(0)
    head = Classification(SimpleNamespace(width=512), data_of(np.arange(8), np.arange(8), 8))
    assert isinstance(head, Objective) and head.pooled and not head.predicts_ids
    assert head.output.weight.std().item() == pytest.approx(0.02, rel=0.1) and not head.output.bias.any()
    assert "labels_S" not in head.state_dict()  # a checkpoint is of the weights
    facts = {"layers": 2, "width": 512, "mlp_width": 100}
    more, less = (head.flops(facts, batch([10] * n, V)) for n in (6, 2))
    assert more == pytest.approx(3 * less, rel=1e-3) and less > 0


def test_noise_is_a_function_of_seed_and_step() -> None:
    """Resumed training draws what an uninterrupted one does; the passes of one step do not draw the same."""
    encoder, given = Table(), rows_of([7, 12, 9])
    head = trained(Classification(encoder, data_of(np.array([2, 0, 1, 2]), classes=3), dropout=0.5)).train()

    def passes(seed: int, step: int) -> list[float]:
        return [head(encoder, given, rng(seed, step))[0].item() for _ in range(2)]

    first, second = passes(0, 4), passes(0, 5)
    torch.rand(100)
    assert passes(0, 4) == first and passes(0, 5) == second
    assert len({*first, *second, *passes(1, 4)}) == 6
    still = trained(Classification(encoder, data_of(np.array([2, 0, 1, 2]), classes=3))).train()
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    still(encoder, given, rng(0, 4))
    assert torch.equal(before, torch.random.get_rng_state())  # without dropout nobody's stream is touched
