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
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.models.attention import _per_group
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.pairs import FALSE, NONE, TRUE, NextArranger, NextSentence, OrderArranger, SentenceOrder
from tests.conftest import ragged
from tests.objectives.halves import gradients, halves

SPEC = EncoderSpec(1, 32, 2, 48, 20, windows=(None,), thetas=(10_000.0,), init_std=0.2)
VOCABULARY = Vocabulary(tuple(map(str, range(20))), targets=(5, 9))
RECORD = 1000  # ids of record r are from 1000 r on, each once: an id tells where it stood


class Windows:
    """Windows of records whose ids are all different, with the interface of ``Contents``.

    Args:
        records: of each record the lengths of its windows.
        sentence: a sentence begins every so many ids of a window, the first after half as many; 0 for none.
    """

    def __init__(self, records: list[list[int]], sentence: int = 0) -> None:
        self.windows, self.record_of, self.sentence = [], [], sentence
        for r, lengths in enumerate(records, start=1):
            ends = np.cumsum(lengths)
            self.windows += [RECORD * r + np.arange(e - n, e) for e, n in zip(ends, lengths, strict=True)]
            self.record_of += [r] * len(lengths)
        self.others = [[i for i, r in enumerate(self.record_of) if r != own] for own in self.record_of]

    def ids(self, item: int) -> np.ndarray:
        return self.windows[item]

    def bounds(self, item: int) -> np.ndarray:
        first = max(1, self.sentence // 2)
        return np.arange(first, len(self.windows[item]), self.sentence) if self.sentence else np.zeros(0, np.int64)

    def random_other_record(self, item: int, draw: np.random.Generator) -> int:
        others = self.others[item]
        return others[draw.integers(len(others))] if others else item


def parts(made) -> tuple[list[int], list[int]]:
    """The two segments, after checking the frame and the segment numbers."""
    source, segments = made.source.tolist(), made.segments.tolist()
    first, second = source.index(3), len(source) - 1
    assert source[0] == 2 and source.count(3) == 2 and source[-1] == 3 and 2 not in source[1:]
    assert segments == [0] * (first + 1) + [1] * (second - first)
    return source[1:first], source[first + 1 : second]


MIXED = [[40, 40], [12], [25, 9], [60]]


@pytest.mark.parametrize("sentence", [0, 7])
def test_next_sentences_are_true_or_of_another_record(sentence):
    """A true second part goes on where the first stops; another is of one other record, begins with a sentence where
    the true one would, and holds ids in their order."""
    contents, draw, arranger = Windows(MIXED, sentence), np.random.default_rng(0), NextArranger(VOCABULARY)
    seen = {TRUE: 0, FALSE: 0}
    for item in range(6):
        ids, bounds = contents.ids(item).tolist(), contents.bounds(item).tolist()
        for _ in range(300):
            made = arranger(contents, item, draw)
            first, second = parts(made)
            assert first == ids[: len(first)]
            assert len(first) + len(second) <= len(ids) - 1
            assert np.all(np.diff(second) == 1)
            if made.label == TRUE:
                assert second[0] == first[-1] + 1
                assert not sentence or len(first) in bounds
            else:
                assert second[0] // RECORD != ids[0] // RECORD
                window = next(w for w in range(6) if second[0] in contents.ids(w))
                assert not sentence or second[0] - contents.ids(window)[0] in contents.bounds(window)
            seen[made.label] += 1
    assert min(seen.values()) > 700


@pytest.mark.parametrize(("arranger", "sentence"), [(NextArranger, 0), (NextArranger, 7), (OrderArranger, 7)])
def test_labels_are_even(arranger, sentence):
    """Over 10,000 pairs and more: within five standard deviations of one half."""
    contents, draw, arrange = Windows(MIXED, sentence), np.random.default_rng(1), arranger(VOCABULARY)
    labels = [arrange(contents, item, draw).label for item in range(6) for _ in range(2600)]
    pairs = len(labels) - labels.count(NONE)
    assert pairs >= 10_000
    assert abs(labels.count(FALSE) - pairs / 2) <= 5 * (pairs / 4) ** 0.5


@pytest.mark.parametrize("sentence", [0, 7])
def test_lengths_do_not_tell_the_label(sentence):
    """Lengths of both parts under both labels, by chi-squared; other records are often too short for the true part."""
    contents, draw, arrange = Windows(MIXED, sentence), np.random.default_rng(2), NextArranger(VOCABULARY)
    made = [arrange(contents, item, draw) for _ in range(4000) for item in (0, 5)]
    pairs = [(*map(len, parts(m)), m.label) for m in made]
    kinds, index = np.unique([p[:2] for p in pairs], axis=0, return_inverse=True)
    labels = np.array([p[2] for p in pairs])
    table = np.stack([np.bincount(index.ravel()[labels == label], minlength=len(kinds)) for label in (TRUE, FALSE)])
    common = table.sum(0) >= 10
    assert common.sum() >= 5
    assert stats.chi2_contingency(table[:, common]).pvalue > 1e-4


@pytest.mark.parametrize(("length", "sentence"), [(3, 0), (4, 0), (40, 0), (41, 0), (40, 7), (41, 7), (18, 7)])
def test_order_is_true_or_swapped(length, sentence):
    """Put back into order by their ids, the two parts are the window but for the id in excess, which is the last of one
    of them, and but for the half sentences at its edges."""
    contents, draw, arranger = Windows([[length]], sentence), np.random.default_rng(0), OrderArranger(VOCABULARY)
    whole, bounds = contents.ids(0), contents.bounds(0)
    if len(bounds):
        whole = whole[bounds[0] : bounds[-1]]
    first_longer = {TRUE: 0, FALSE: 0}
    for _ in range(2000):
        made = arranger(contents, 0, draw)
        first, second = parts(made)
        assert made.label == (FALSE if first[0] > second[0] else TRUE)
        before, after = sorted((first, second))
        assert before[0] == whole[0] and after[-1] in whole[-2:]
        assert set(whole) - {*before, *after} in ({after[0] - 1}, {whole[-1]})
        assert np.all(np.diff(before) == 1) and np.all(np.diff(after) == 1)
        assert not len(bounds) or after[0] - contents.ids(0)[0] in bounds
        first_longer[made.label] += (len(first) > len(second)) - (len(first) < len(second))
    # Each is a sum of about 1,000 steps of -1, 0 or 1. With sentences the parting's places are not symmetric.
    assert sentence or max(map(abs, first_longer.values())) <= 5 * 1000**0.5


def test_a_bound_at_the_edge_keeps_the_sentence():
    contents = Windows([[40]], 7)
    contents.bounds = lambda item: np.array([0, 10, 20, 30, 40])
    first, second = sorted(parts(OrderArranger(VOCABULARY)(contents, 0, np.random.default_rng(0))))
    assert len(first) + len(second) == 39 and first[0] == RECORD and second[0] - RECORD in (10, 20, 30)


def test_partings_lie_in_the_middle_or_nearest_to_it():
    contents, draw, arrange = Windows([[100]]), np.random.default_rng(0), OrderArranger(VOCABULARY)

    def places(bounds: list[int]) -> set[int]:
        contents.bounds = lambda item: np.array(bounds, np.int64)
        made = [sorted(parts(arrange(contents, 0, draw))) for _ in range(400)]
        return {second[0] - RECORD for _, second in made}

    assert places([]) == set(range(25, 76))
    assert places([0, 26, 74, 100]) == {26, 74}
    assert places([2, 9, 80, 98]) == {80}  # the window is cut to 2..98, and its middle is 50
    assert places([0, 5, 100]) == {5}


def test_what_cannot_be_parted_stays_a_single_segment():
    draw = np.random.default_rng(0)
    for arranger, records, sentence in (
        (NextArranger, [[2], [40]], 0),
        (OrderArranger, [[2], [40]], 0),
        (OrderArranger, [[40], [40]], 20),  # sentences begin at 10 and 30: one whole sentence
        (NextArranger, [[40, 40]], 0),  # one record: nobody to take a second part from
    ):
        contents = Windows(records, sentence)
        made = arranger(VOCABULARY)(contents, 0, draw)
        assert made.label == NONE
        assert made.source.tolist() == [2, *contents.ids(0), 3]
        assert made.segments.tolist() == [0] * len(made.source)
        assert arranger(VOCABULARY).target_length(100) == 0


def task_of(cls=NextSentence, **settings) -> NextSentence:
    torch.manual_seed(0)
    task = cls(types.SimpleNamespace(name="test", vocabulary=VOCABULARY), SPEC, **settings)
    torch.nn.init.normal_(task.classes.bias)
    return task


def pairs_batch(labels: list[int]) -> object:
    """Two rows of three sequences; the second of each has a second [SEP], the last is empty."""
    batch = ragged([30, 20, 0, 25, 25, 0], rows=2)
    batch.values[[40, 60]] = 3
    return replace(batch, labels_B=torch.tensor(labels))


@pytest.mark.parametrize("labels", [[0, 1, NONE, 1, NONE, NONE], [NONE, NONE, NONE, 0, 1, NONE]])
def test_loss_is_that_of_a_naive_loop(labels):
    task, encoder, batch = task_of(), Encoder(SPEC), pairs_batch(labels)
    batch.values[80:] = 0  # so the second row has fewer positions to hide
    task.mask_rate = 0.6
    loss, count, metrics = task(encoder, batch, Rng(0, 0, torch.arange(2)))
    picks, targets, shown = task.corrupt(batch, Rng(0, 0, torch.arange(2)))
    states = encoder(batch.with_values(shown))
    total, counts, pair, right, pairs = 0.0, [0, 0], 0.0, 0, 0
    for place, target in zip(picks.tolist(), targets.tolist(), strict=True):
        if target != -100:
            assert 5 <= target < 9 and batch.values[place] != 3
            total += -task.head(states[place], encoder.embeddings.table_VD).log_softmax(-1)[target]
            counts[place // 50] += 1
    assert counts[0] > counts[1] > 0
    for row in range(2):
        losses = []
        for slot in range(3 * row, 3 * row + 3):
            if labels[slot] == NONE:
                continue
            cls = states[int(batch.offsets_B1[slot])]
            x = torch.tanh(task.pooler.weight @ cls + task.pooler.bias)
            logits = task.classes.weight @ x + task.classes.bias
            losses.append(F.cross_entropy(logits[None], torch.tensor([labels[slot]])))
            pair, right, pairs = pair + losses[-1], right + int(logits.argmax() == labels[slot]), pairs + 1
        total += counts[row] * sum(losses) / max(1, len(losses))
    assert count == sum(counts)
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(metrics["pair_loss"][0], pair.detach())
    assert metrics["pair_accuracy"][0] == right
    assert metrics["pair_loss"][1] == metrics["pair_accuracy"][1] == pairs


def test_rows_apart_give_the_gradient_of_the_batch_and_every_parameter_gets_one():
    task, encoder, batch = task_of(SentenceOrder), Encoder(SPEC), pairs_batch([0, 1, NONE, 1, NONE, NONE])
    batch.values[75:] = 0
    whole = gradients(task, encoder, [(batch, [0, 1])])
    apart = gradients(task, encoder, [(half, [r]) for r, half in enumerate(halves(batch))])
    torch.testing.assert_close(whole, apart, atol=1e-6, rtol=1e-4)
    empty = replace(batch, values=torch.zeros_like(batch.values), labels_B=torch.full((6,), NONE))
    assert gradients(task, encoder, [(empty, [0, 1])]).abs().sum() == 0


def test_signals_are_refused():
    kinds = {name: registry.load(registry.MODALITIES, "modality", name) for name in registry.MODALITIES}
    for task in (NextSentence, SentenceOrder):
        assert {name for name, kind in kinds.items() if task.refuses(kind)} == {"image", "speech"}
        assert "try objective=" in task.refuses(kinds["speech"])


def test_flops_equal_the_counter(monkeypatch):
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    task, encoder = task_of(), Encoder(SPEC)
    batch = replace(ragged([30, 10], rows=1), labels_B=torch.tensor([0, 1]))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task(encoder, batch, Rng(0, 0, torch.arange(1)))[0].backward()
    assert task.flops(vars(SPEC), batch) == pytest.approx(counter.get_total_flops(), rel=1e-9)
