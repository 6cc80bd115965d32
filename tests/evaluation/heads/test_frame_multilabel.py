"""Diarisation: labels, the loss over all orders of speakers and the error rate, each against a loop; a planted task."""

from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

import numpy as np
import pytest
import simpleder
from torch import nn

from ssl_suite.core.errors import SuiteError
from ssl_suite.data.store import Windows
from ssl_suite.evaluation.heads.frame_multilabel import FrameMultilabel
from ssl_suite.evaluation.metrics import METRICS
from ssl_suite.evaluation.predictions import objects
from ssl_suite.evaluation.task_data import Split, TaskData
from tests.evaluation.heads.planted import measured, task
from tests.evaluation.test_heads import KEYS, Table, rng, rows_of

LENGTHS = [7, 12, 3, 20]


def bits_of_a_loop(spoken: list[list[Any]], length: int, seconds: float) -> list[int]:
    names: list[str] = []
    for _, _, speaker in sorted(spoken, key=lambda segment: segment[0]):
        names += [speaker] if speaker not in names else []
    found = []
    for t in range(length):
        middle = (t + 0.5) * seconds
        active = {speaker for start, duration, speaker in spoken if start <= middle < start + duration}
        found.append(sum(1 << k for k, name in enumerate(names) if name in active))
    return found


def test_a_label_is_the_speakers_of_each_middle() -> None:
    draw = random.Random(0)
    for _ in range(20):
        spoken = [[round(draw.uniform(0, 1), 2), round(draw.uniform(0.05, 0.6), 2), draw.choice("abc")] for _ in "1234"]
        found = FrameMultilabel.fit_label((spoken, 0.02), (np.zeros((60, 320)),), "")
        assert found.tolist() == bits_of_a_loop(spoken, 60, 0.02)


def data_of(labels: list[np.ndarray]) -> TaskData:
    sizes_S = np.array([len(label) for label in labels])
    windows = Windows(np.cumsum(sizes_S) - sizes_S, sizes_S, np.arange(len(labels)))
    part = Split(np.arange(len(labels)), objects(labels), windows, len(labels))
    return TaskData("mine@made", np.zeros(sizes_S.sum(), np.uint8), {"train": part}, (), "", "", {})


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_the_loss_is_that_of_the_best_order(speakers: int, hidden: int) -> None:
    draw = np.random.default_rng(speakers)
    labels = [draw.integers(0, 1 << speakers, 30) for _ in range(7)]
    for key, length in zip(KEYS, LENGTHS, strict=True):
        labels[key] = labels[key][: length - 2]
    head = FrameMultilabel(Table(), data_of(labels), speakers=speakers, hidden=hidden)
    nn.init.normal_(head.output.weight)
    encoder, given = Table(), rows_of(LENGTHS)
    loss, count, _ = head(encoder, given, rng())
    expected, begin = 0.0, 0
    for key, length in zip(KEYS, LENGTHS, strict=True):
        states_TD = head.norm(encoder(given)[begin + 1 : begin + length - 1])
        outputs_TK = head.output(head.lstm.onward[0](states_TD)[0] if hidden else states_TD).tolist()
        costs = []
        for order in itertools.permutations(range(speakers)):
            cost = 0.0
            for row, bits in zip(outputs_TK, labels[key], strict=True):
                for k in range(speakers):
                    sign = 1 if bits >> order[k] & 1 else -1
                    cost += math.log1p(math.exp(-sign * row[k]))
            costs.append(cost / speakers)
        expected += min(costs)
        begin += length
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert count.item() == sum(LENGTHS) - 2 * len(LENGTHS)
    empty, nothing, _ = head(encoder, rows_of([]), rng())
    assert (empty.item(), nothing.item()) == (0.0, 0)


def rate_of_a_loop(labels: list[np.ndarray], given: list[np.ndarray], speakers: int) -> float:
    """Each recording's fewest errors over all permutations of the given speakers, counted frame by frame."""
    errors = spoken = 0
    for label, said in zip(labels, given, strict=True):
        tries = []
        for order in itertools.permutations(range(speakers)):
            wrong = 0
            for a, b in zip(label, said, strict=True):
                true = {k for k in range(speakers) if a >> k & 1}
                found = {order[k] for k in range(speakers) if b >> k & 1}
                missed, alarms = len(true - found), len(found - true)
                wrong += max(missed, alarms)  # a missed one and a false one together are a confusion
            tries.append(wrong)
        errors += min(tries)
        spoken += sum(int(a).bit_count() for a in label)
    return errors / spoken


@pytest.mark.parametrize("speakers", [1, 2, 4])
def test_the_error_rate_is_that_of_the_best_permutation(speakers: int) -> None:
    draw = np.random.default_rng(7)
    labels = [draw.integers(0, 1 << speakers, n) for n in (40, 9, 25)]
    given = [np.where(draw.random(len(x)) < 0.6, x, draw.integers(0, 1 << speakers, len(x))) for x in labels]
    found = METRICS["der"].compute(objects(labels), objects(given))
    assert found == pytest.approx(rate_of_a_loop(labels, given, speakers))


@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_the_error_rate_is_that_of_simpleder(speakers: int) -> None:
    """From random segments with overlaps on, collar 0; several recordings are one ratio of sums, not a mean."""
    draw = random.Random(speakers)

    def segments(names: str) -> list[list[Any]]:
        return [[draw.randrange(0, 150) / 50, draw.randrange(1, 60) / 50, draw.choice(names)] for _ in range(6)]

    labels, given, errors, spoken = [], [], 0.0, 0.0
    for _ in range(12):
        pair = segments("abc"[:speakers]), segments("xyz"[:speakers])
        true, said = ([(who, start, start + size) for start, size, who in some] for some in pair)
        bits = [FrameMultilabel.fit_label((some, 0.02), (np.zeros((220, 1)),), "") for some in pair]
        rate = simpleder.DER(true, said, collar=0.0)
        assert METRICS["der"].compute(objects(bits[:1]), objects(bits[1:])) == pytest.approx(rate, abs=1e-9)
        length = sum(int(a).bit_count() for a in bits[0])
        labels, given = [*labels, bits[0]], [*given, bits[1]]
        errors, spoken = errors + rate * length, spoken + length
    assert METRICS["der"].compute(objects(labels), objects(given)) == pytest.approx(errors / spoken)


def test_too_many_speakers_and_broken_labels_are_refused(tmp_path) -> None:
    with pytest.raises(SuiteError, match=r"train row 2 has 2 speakers, the head 1: raise head\.speakers"):
        FrameMultilabel(Table(), data_of([np.array([0, 1]), np.array([2, 3])]), speakers=1)
    rows = [{"sequence": "ACGT" * 5, "who": json.dumps([[0, -1, "a"]])} for _ in range(20)]
    made = task(tmp_path, rows, head="frame_multilabel", metrics=["der"], **FACTS)
    with pytest.raises(SuiteError, match=r"row 1: the label .* is not a list of \[start, duration, speaker\]"):
        measured(made, tmp_path / "out")


FACTS = {"modality": {"name": "dna", "max_length": 40}, "inputs": "sequence", "label": "who", "select": "der"}


def test_it_finds_two_speakers_at_once(tmp_path) -> None:
    """A position is a second: one speaker is heard in A and G, the other in A and C, and nobody in T."""
    draw, rows = random.Random(3), []
    for _ in range(150):
        sequence = "".join(draw.choice("ACGT") * draw.randint(2, 5) for _ in range(8))[:36]
        one, two = draw.sample(["Ann", "Bob"], 2)
        heard = [(i, name) for i, base in enumerate(sequence) for name, at in ((one, "AG"), (two, "AC")) if base in at]
        rows.append({"sequence": sequence, "who": json.dumps([[i, 1, name] for i, name in heard])})
    head = {"name": "frame_multilabel", "seconds": 1, "hidden": 16}
    made = task(tmp_path, rows, head=head, metrics=["der"], **FACTS)
    found, rate = measured(made, tmp_path / "out", epochs=6, lr=[1e-2])
    assert rate < 0.05
    assert found.protocol["head"]["speakers"] == 2
    _, usual = measured(made, tmp_path / "out", "majority", "none")
    assert usual > 0.3


def test_the_layers_of_a_frozen_encoder_are_read_from_a_file(tmp_path) -> None:
    rows = [{"sequence": "AACCGGTT" * 3, "who": json.dumps([[0, 4, "a"], [3, 9, "b"]])} for _ in range(20)]
    made = task(tmp_path, rows, head={"name": "frame_multilabel", "seconds": 1, "hidden": 4}, metrics=["der"], **FACTS)
    found, _ = measured(made, tmp_path / "out", "probe", probe_steps=2)
    assert [len(x) for x in found.predictions["test"][1]] == [24, 24]
