"""Random views of text against a loop over sequences with the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import text_views
from ssl_suite.modalities.text import Text
from tests.modalities.made import ragged
from tests.modalities.made_text import fitted

VOCABULARY = Vocabulary(tuple(map(str, range(1000))), (5, 1000))
PAD, CLS, SEP = 0, 2, 3


def batch_of(lengths: list[list[int]], n: int) -> Batch:
    """Sequences of these lengths with distinct ids in order."""
    ends = iter(np.cumsum([length for some in lengths for length in some]).tolist())
    return ragged([[list(range(5 + (end := next(ends)) - length, 5 + end)) for length in some] for some in lengths], n)


def places(batch: Batch) -> torch.Tensor:
    inside = batch.values >= 5
    return torch.where(inside, batch.positions_N() - 1, -1)


def rng(step: int, batch: Batch) -> Rng:
    return Rng(seed=5, step=step, rows_R=torch.arange(batch.rows))


LENGTHS = [[30, 1, 12], [7, 40, 0]]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_drop_equals_a_loop(rate: float) -> None:
    batch = batch_of(LENGTHS, 64)
    n, each = 64, len(batch.lengths) // 2
    lost = 0
    for step in range(20):
        values_N, place_N = text_views.drop(batch, batch.values, places(batch), rng(step, batch), VOCABULARY, rate)
        again = rng(step, batch)
        spare_B, chance_N = again.uniform(each), again.uniform(n)
        assert len(spare_B) == len(batch.lengths)
        for b, (start, length) in enumerate(zip(batch.offsets_B1[:-1].tolist(), batch.lengths, strict=True)):
            slot = batch.values[start : start + length].tolist()
            content = [x for x in slot if x >= 5]
            spared = min(int(spare_B[b] * len(content)), len(content) - 1)
            kept = [x for i, x in enumerate(content) if i == spared or not chance_N[start + 1 + i] < rate]
            expected = [CLS, *kept, SEP] if CLS in slot else []
            expected += [PAD] * (length - len(expected))
            assert values_N[start : start + length].tolist() == expected
            expected_places = [-1, *range(len(kept))] if CLS in slot else []
            expected_places += [-1] * (length - len(expected_places))
            assert place_N[start : start + length].tolist() == expected_places
            assert kept or not content
            lost += len(content) - len(kept)
    assert lost > 0


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
def test_swap_equals_a_loop(rate: float) -> None:
    batch = batch_of(LENGTHS, 64)
    moved = 0
    for step in range(20):
        values_N = text_views.swap(batch.values, places(batch), rng(step, batch), batch.rows, rate)
        drawn = (rng(step, batch).uniform(64) < rate).tolist()
        expected, original = batch.values.tolist(), batch.values.tolist()
        for i in range(len(original) - 1):
            able = [j >= 0 and original[j] >= 5 and original[j + 1] >= 5 and drawn[j] for j in (i - 1, i)]
            if able[1] and not able[0]:
                expected[i], expected[i + 1] = original[i + 1], original[i]
        assert values_N.tolist() == expected
        moved += expected != original
    assert moved > 0


def test_a_view_is_a_crop_with_gaps_and_few_exchanges() -> None:
    text = fitted("bpe", crop=0.5, drop=0.1, swap=0.05)
    batch = batch_of([[100, 100], [150, 3]], 256)
    kept = []
    for step in range(100):
        view = text.augment(batch, rng(step, batch))
        assert view.values.shape == batch.values.shape and torch.equal(view.offsets_B1, batch.offsets_B1)
        for start, length in zip(batch.offsets_B1[:-1].tolist(), batch.lengths, strict=True):
            before = batch.values[start : start + length].tolist()
            ids = view.values[start : start + length].tolist()
            if CLS not in before:
                assert set(ids) <= {PAD}
                continue
            end = ids.index(SEP)
            inside = ids[1:end]
            assert ids[0] == CLS and set(ids[end + 1 :]) <= {PAD}
            assert inside and len(set(inside)) == len(inside) and set(inside) <= set(before) - {CLS, SEP, PAD}
            kept.append(len(inside) / (len(before) - 2))
    assert 0.62 < np.mean(kept) < 0.73  # 3/4 of the tokens in the crop, 9/10 of those kept


def test_views_are_reproducible_and_can_be_switched_off() -> None:
    batch = batch_of(LENGTHS, 64)
    text = fitted("bpe")
    assert torch.equal(text.augment(batch, rng(3, batch)).values, text.augment(batch, rng(3, batch)).values)
    still = fitted("bpe", crop=1.0, drop=0.0, swap=0.0)
    assert torch.equal(still.augment(batch, rng(3, batch)).values, batch.values)


def test_no_view_waits_for_the_device() -> None:
    text: Text = fitted("bpe")
    batch = batch_of(LENGTHS, 64).to(torch.device("meta"))
    view = text.augment(batch, Rng(0, 0, torch.arange(2, device="meta")))
    assert view.values.is_meta and view.values.shape == (128,)
