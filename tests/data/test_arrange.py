"""Laying out sequences on the host: contents of windows, other records, and batches with targets."""

import types

import numpy as np
import pytest
import torch

from ssl_suite.core.records import Vocabulary
from ssl_suite.data.arrange import Arranged, Contents
from ssl_suite.data.loader import Collator, RowOrder

VOCABULARY = Vocabulary(tuple(map(str, range(20))), targets=(5, 9))
LENGTHS = np.array([5, 30, 12, 7, 20, 9])
RECORDS = np.array([0, 0, 0, 1, 2, 2])  # of each window; records of 47, 7 and 29 ids
BOUNDS = [[0, 3, 5, 11, 35, 40], [0], []]


def store(records: np.ndarray = RECORDS):
    values = np.random.default_rng(0).integers(5, 9, LENGTHS.sum()).astype(np.uint8)
    starts = np.cumsum(LENGTHS) - LENGTHS
    windows = type("Windows", (), {"__len__": lambda self: len(LENGTHS)})()
    windows.starts_S, windows.lengths_S, windows.records_S = starts, LENGTHS, records
    return types.SimpleNamespace(
        values=values,
        ids=values,
        units=None,
        split=lambda name: windows,
        record_bounds=lambda i: np.array(BOUNDS[i], np.int64),
        record_starts=np.array([0, 47, 54]),
    )


class Doubled:
    """Source: the content reversed. Target: the content twice."""

    def __call__(self, contents: Contents, item: int, draw: np.random.Generator) -> Arranged:
        ids = contents.ids(item)
        noise = draw.integers(5, 9, 1)
        source = np.concatenate([[2], ids[::-1][1:], noise, [3]])
        target = np.concatenate([[2], ids, ids, [3]])
        return Arranged(source, target, np.arange(len(source)) % 2, label=int(ids.sum() % 2))

    def target_length(self, length: int) -> int:
        return 2 * length + 2


def test_contents_of_a_window():
    contents = Contents(store(), "train")
    assert contents.ids(1).dtype == np.int64 and contents.ids(1).tolist() == store().values[5:35].tolist()
    assert contents.bounds(0).tolist() == [3]  # 0 and 5 are its ends
    assert contents.bounds(1).tolist() == [6]  # the sentence at 11; those at 5 and 35 are its ends
    assert contents.bounds(2).tolist() == [5]
    assert contents.bounds(4).tolist() == []


def test_windows_come_from_other_records_evenly():
    contents, draw = Contents(store(), "train"), np.random.default_rng(1)
    for item in range(6):
        drawn = np.array([contents.random_other_record(item, draw) for _ in range(6000)])
        allowed = np.flatnonzero(RECORDS[item] != RECORDS)
        counts = np.bincount(drawn, minlength=6)
        assert counts[allowed].sum() == 6000
        np.testing.assert_allclose(counts[allowed], 6000 / len(allowed), rtol=0.15)


def test_of_one_record_another_window_does_not_touch():
    contents, draw = Contents(store(np.zeros(6, int)), "train"), np.random.default_rng(1)
    assert {contents.random_other_record(0, draw) for _ in range(200)} == {2, 3, 4, 5}
    assert {contents.random_other_record(3, draw) for _ in range(200)} == {0, 1, 5}


@pytest.mark.parametrize("rows", [[[1, 0], [], [4, 5, 2]], [[3]]])
def test_batches_hold_sources_and_targets_in_the_same_order(rows):
    order = RowOrder(LENGTHS + 2, 64, seed=3)
    make = Collator(store(), "train", VOCABULARY, 64, order.slots, 34, arranger=Doubled(), seed=7)
    batch = make.rows([np.array(row, dtype=int) for row in rows], list(range(10, 10 + len(rows))))
    contents = Contents(store(), "train")
    assert batch.target is not None and batch.index_B.tolist() == batch.target.index_B.tolist()
    assert len(batch.target.values) % len(rows) == 0 and batch.target.rows == batch.rows == len(rows)
    sources = batch.values.split(list(batch.lengths))
    targets = batch.target.values.split(list(batch.target.lengths))
    segments = batch.segments_N.split(list(batch.lengths))
    for key, source, target, segment, label in zip(
        batch.index_B.tolist(), sources, targets, segments, batch.labels_B.tolist(), strict=True
    ):
        if key < 0:
            assert label == -100 and (source == VOCABULARY.pad).all() and (target == VOCABULARY.pad).all()
            continue
        ids = contents.ids(key).tolist()
        assert target.tolist() == [2, *ids, *ids, 3]
        assert source.tolist()[1:-2] == ids[::-1][1:] and label == sum(ids) % 2
        assert segment.tolist() == [i % 2 for i in range(len(source))]
    assert batch.tokens == sum(len(contents.ids(item)) + 2 for row in rows for item in row)


def test_draws_depend_on_the_row_alone():
    order = RowOrder(LENGTHS + 2, 64, seed=3)
    make = Collator(store(), "train", VOCABULARY, 64, order.slots, 34, arranger=Doubled(), seed=7)
    one, two = np.array([1, 0]), np.array([4, 5, 2])
    together = make.rows([one, two], [4, 9])
    apart = [make.rows([row], [number]) for row, number in ((one, 4), (two, 9))]
    assert torch.equal(together.values, torch.cat([batch.values for batch in apart]))
    assert not torch.equal(apart[0].values, make.rows([one], [5]).values)


def test_the_worst_row_of_targets_fits_whatever_the_shuffle():
    make = None
    for epoch in range(30):
        order = RowOrder(LENGTHS + 2, 64, seed=3)
        make = make or Collator(store(), "train", VOCABULARY, 64, order.slots, 34, arranger=Doubled(), seed=7)
        rows = order.epoch(epoch)
        sizes = {len(make.rows([rows.row(r)], [r]).target.values) for r in range(len(rows))}
        assert len(sizes) == 1
