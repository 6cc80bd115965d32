"""CTC: its loss is torch's on hand-made input, greedy decoding is a loop, and it learns a transcript with repeats."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_suite.core.errors import SuiteError
from ssl_suite.data.store import Windows
from ssl_suite.evaluation.heads.ctc import Ctc
from ssl_suite.evaluation.predictions import objects
from ssl_suite.evaluation.task_data import Split, TaskData
from tests.evaluation.heads.planted import measured, task
from tests.evaluation.test_heads import Table, rng, rows_of

LENGTHS = [7, 12, 3, 20]
TEXTS = ["aab", "ba", "cc", "abcabc", "b", "ab", "ca"]  # of seven training sequences; rows_of takes 6, 2, 0 and 5
TAKEN = ["ca", "cc", "aab", "ab"]


def data_of(texts: list[str]) -> TaskData:
    sizes_S = np.full(len(texts), 30)
    windows = Windows(np.zeros(len(texts), np.int64), sizes_S, np.arange(len(texts)))
    part = Split(np.arange(len(texts)), objects(texts), windows, len(texts))
    return TaskData("mine@made", np.zeros(0, np.uint8), {"train": part}, tuple("abc"), "", "", {})


def head_of(**settings: Any) -> Ctc:
    torch.manual_seed(4)
    head = Ctc(Table(), data_of(TEXTS), projection=10, hidden=5, **settings)
    nn.init.normal_(head.output.weight)
    return head


def alone(head: Ctc, states_TD: torch.Tensor) -> torch.Tensor:
    """(K, C): the head on one sequence's inner states, with torch's own bidirectional LSTM."""
    x_TD = head.project(head.norm(states_TD))
    if head.rate == 2:
        x_TD = torch.stack([x_TD[i : i + 2].mean(0) for i in range(0, len(x_TD), 2)])
    for onward, backward in zip(head.lstm.onward, head.lstm.backward, strict=True):
        both = nn.LSTM(x_TD.shape[1], 5, bidirectional=True)
        own, turned = onward.state_dict(), backward.state_dict()
        both.load_state_dict(own | {f"{name}_reverse": x for name, x in turned.items()})
        x_TD = both(x_TD)[0]
    return head.output(x_TD)


@pytest.mark.parametrize(("half", "layers"), [(False, 0), (True, 0), (False, 2), (True, 1)])
def test_the_loss_is_torchs_of_each_sequence_alone(half: bool, layers: int) -> None:
    head, encoder, given = head_of(half=half, layers=layers).eval(), Table(), rows_of(LENGTHS)
    loss, count, _ = head(encoder, given, rng())
    expected, begin = 0.0, 0
    for length, text in zip(LENGTHS, TAKEN, strict=True):
        shares_KC = alone(head, encoder(given)[begin + 1 : begin + length - 1]).log_softmax(-1)
        target = torch.tensor([["abc".index(letter) + 1 for letter in text]])
        one = F.ctc_loss(shares_KC[:, None], target, [len(shares_KC)], [len(text)], reduction="sum", zero_infinity=True)
        expected += one.item()
        begin += length
    assert loss.item() == pytest.approx(expected, rel=1e-5) and count.item() == len("".join(TAKEN))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    empty, nothing, _ = head(encoder, rows_of([]), rng())
    empty.backward()
    assert (empty.item(), nothing.item()) == (0.0, 0)


@pytest.mark.parametrize("half", [False, True])
def test_outputs_do_not_depend_on_the_batch(half: bool) -> None:
    """Those of a sequence alone, at each position or the first of two; zeros at the others."""
    head, encoder, given = head_of(half=half, layers=1).eval(), Table(), rows_of(LENGTHS)
    found, begin = head.read(encoder, given), 0
    for length in LENGTHS:
        inside = slice(begin + 1, begin + length - 1)
        torch.testing.assert_close(found[inside][:: head.rate], alone(head, encoder(given)[inside]))
        begin += length
    if half:
        assert not found[2 : LENGTHS[0] - 1 : 2].any()


def test_greedy_decoding_is_a_loop() -> None:
    head, draw = head_of(), np.random.default_rng(0)
    outputs_S = [draw.normal(size=(n, 4)).astype(np.float32) for n in (1, 9, 60)]
    expected = []
    for outputs_TC in outputs_S:
        text, last = "", 0
        for unit in (max(range(4), key=row.__getitem__) for row in outputs_TC.tolist()):
            if unit not in (last, 0):
                text += "abc"[unit - 1]
            last = unit
        expected.append(text)
    assert head.decode(outputs_S, data_of(TEXTS), SimpleNamespace()).tolist() == expected
    steps = np.eye(4, dtype=np.float32)[[1, 1, 0, 1, 2, 0, 0, 2, 3]]  # a a - a b - - b c
    assert head.decode([steps], data_of(TEXTS), SimpleNamespace()).tolist() == ["aabbc"]


def test_transcripts_longer_than_their_input_are_counted_or_refused() -> None:
    data = data_of(["aab", "ab"])
    part = data.parts["train"]
    short = replace(part, windows=replace(part.windows, lengths_S=np.array([3, 3])))
    data.parts["train"] = short
    assert Ctc(Table(), data).settings()["too_short"] == 1  # a, blank, a, b
    with pytest.raises(SuiteError, match="set half: false"):
        Ctc(Table(), replace(data, parts={"train": replace(short, labels_I=objects(["aab", "abc"]))}), half=True)


def without_repeats(sequence: str) -> str:
    return "".join(base for base, _ in itertools.groupby(sequence))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    draw = random.Random(5)
    made = []
    for _ in range(200):
        runs = [draw.choice("ACGT") * draw.randint(1, 4) for _ in range(draw.randint(3, 8))]
        made.append({"sequence": "".join(runs)})
    return [row | {"text": without_repeats(row["sequence"])} for row in made]


FACTS = {"modality": {"name": "dna", "max_length": 40}, "inputs": "sequence", "label": "text", "select": "cer"}


def test_it_writes_a_sequence_without_its_repeats(tmp_path, rows) -> None:
    head = {"name": "ctc", "projection": 32}
    made = task(tmp_path, rows, head=head, metrics=["cer"], **FACTS)
    found, errors = measured(made, tmp_path / "out", epochs=8, lr=[6e-3])
    assert errors < 0.05
    assert found.data.classes == tuple("ACGT")
    assert found.protocol["head"]["too_short"] == 0 and found.protocol["head"]["layers"] == 0


def test_phones_are_words_and_unknown_ones_are_refused_or_wrong(tmp_path, rows) -> None:
    spaced = [{**row, "text": " ".join(row["text"]).replace("A C", "A | C")} for row in rows[:100]]
    spaced[-1]["text"] += " Z"
    head = {"name": "ctc", "units": "words", "projection": 16}
    made = task(tmp_path, spaced, head=head, metrics=["per"], **FACTS | {"select": "per"})
    with pytest.raises(SuiteError, match=r"row 100 has 'Z', which no transcript of train has"):
        measured(made, tmp_path / "out", epochs=1)
    made = task(tmp_path, spaced, head=head | {"unseen": "wrong"}, metrics=["per"], **FACTS | {"select": "per"})
    found, _ = measured(made, tmp_path / "out", "probe", epochs=1, probe_steps=3)
    assert found.data.classes == ("A", "C", "G", "T", "|")
    assert found.data.parts["test"].labels_I[-1].endswith(" Z")
