import threading
import time
import types

import numpy as np
import pytest
import torch

from ssl_suite.core.records import Vocabulary
from ssl_suite.data.loader import Collator, RowOrder, StepRows, prefetch

VOCABULARY = Vocabulary(tuple(map(str, range(20))), targets=(5, 9))


def collator(lengths: np.ndarray, n: int = 64) -> tuple[Collator, RowOrder]:
    values = np.random.default_rng(0).integers(5, 9, lengths.sum()).astype(np.uint8)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    windows = types.SimpleNamespace(starts_S=starts, lengths_S=lengths)
    store = types.SimpleNamespace(values=values, ids=values, split=lambda name: windows)
    order = RowOrder(lengths + 2, n, seed=3)
    return Collator(store, "train", VOCABULARY, n, order.slots, 34), order


def test_rows_hold_whole_sequences_and_the_rest_is_padding():
    lengths = np.array([5, 30, 12, 7, 20, 9])
    make, _ = collator(lengths)
    batch = make.rows([np.array([1, 0]), np.array([], dtype=int), np.array([4, 5, 2])])
    assert batch.values.shape == (192,) and batch.rows == 3
    assert batch.offsets_B1[0] == 0 and batch.offsets_B1[-1] == 192 and (batch.offsets_B1.diff() >= 0).all()
    assert len(batch.offsets_B1) == 3 * (make.slots + 1) + 1
    pieces = batch.values.split(list(batch.lengths))
    real = [(key, piece) for key, piece, used in zip(batch.index_B.tolist(), pieces, batch.real_B, strict=True) if used]
    assert [key for key, _ in real] == [1, 0, 4, 5, 2]
    for key, piece in real:
        start = lengths[:key].sum()
        inside = make.store.values[start : start + lengths[key]].tolist()
        assert piece.tolist() == [VOCABULARY.cls, *inside, VOCABULARY.sep]
    padding = torch.cat([piece for piece, used in zip(pieces, batch.real_B, strict=True) if not used])
    assert (padding == VOCABULARY.pad).all()
    assert batch.tokens == sum(lengths[[1, 0, 4, 5, 2]] + 2) == 192 - len(padding)
    assert batch.squares == sum((lengths[[1, 0, 4, 5, 2]] + 2) ** 2)


def test_shapes_are_constant_over_an_epoch():
    make, order = collator(np.random.default_rng(1).integers(2, 32, 300))
    shapes = {tuple(map(len, (b.values, b.offsets_B1))) for b in (make.rows([order.items(g)]) for g in range(60))}
    assert len(shapes) == 1


def test_every_sequence_once_an_epoch_in_a_new_order():
    lengths = np.random.default_rng(1).integers(2, 32, 300)
    _, order = collator(lengths)
    g, epochs = 0, []
    for epoch in range(3):
        seen = []
        while order.locate(g)[0] == epoch:
            seen += order.items(g).tolist()
            g += 1
        assert sorted(seen) == list(range(300))
        epochs.append(seen)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_row_is_a_function_of_its_number():
    lengths = np.random.default_rng(1).integers(2, 32, 300)
    forward, jumped = collator(lengths)[1], collator(lengths)[1]
    rows = [forward.items(g).tolist() for g in range(200)]
    assert jumped.items(199).tolist() == rows[199]
    assert jumped.items(5).tolist() == rows[5]  # long after its epoch's packing was forgotten


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_rows_of_a_step(world):
    _, order = collator(np.full(50, 10))
    shares = [StepRows(order, 8, rank, world, 2).numbers(3) for rank in range(world)]
    assert sorted(g for share in shares for part in share for g in part) == list(range(24, 32))
    assert all(len(part) <= 2 for share in shares for part in share)
    assert len({sum(map(len, share)) for share in shares}) == 1


def test_prefetch_keeps_order_passes_errors_and_stops():
    def source():
        yield from range(5)
        raise ValueError("bad row")

    ready = prefetch(source())
    assert [next(ready) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="bad row"):
        next(ready)

    def endless():
        while True:
            yield 0

    before = threading.active_count()
    ready = prefetch(endless())
    next(ready)
    ready.close()
    time.sleep(0.05)
    assert threading.active_count() == before
