import dataclasses

import numpy as np
import pytest
import torch

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.objectives import blocks
from tests.conftest import ragged

SIDE, PATCHES = 8, 64
IMAGE = Image(codes=16)


def pictures(rows: int, each: int, padding: int = 5):
    """Rows of whole pictures, [CLS] patches [SEP], then padding as a sequence of its own."""
    one = [2, *[IMAGE.vocabulary.targets[0]] * PATCHES, 3]
    row = [*one * each, *[0] * padding]
    lengths = [*[PATCHES + 2] * each, padding] * rows
    batch = ragged(lengths)
    keys = torch.tensor([*range(each), -1] * rows)
    return dataclasses.replace(batch.with_values(torch.tensor(row * rows)), rows=rows, index_B=keys)


def rng(step: int, rows: int = 3) -> Rng:
    return Rng(1, step, torch.arange(rows))


def hidden(masker, batch, draws: Rng) -> np.ndarray:
    """(pictures, 8, 8) bool, from the positions."""
    picks_K, valid_K = masker(batch, draws)
    assert len(picks_K.unique()) == len(picks_K) == batch.rows * masker.room(len(batch.values) // batch.rows)
    over_N = torch.zeros(len(batch.values), dtype=torch.bool).index_fill(0, picks_K[valid_K], True)
    assert not over_N[batch.values < IMAGE.vocabulary.targets[0]].any()
    inside = batch.values >= IMAGE.vocabulary.targets[0]
    return over_N[inside].view(-1, SIDE, SIDE).numpy()


def beit(draw: np.random.Generator, wanted: int) -> np.ndarray:
    """BEiT's algorithm 1 by loops: rectangles one after the other, the last of them cut at the wanted number."""
    found = np.zeros((SIDE, SIDE), bool)
    while found.sum() < wanted:
        area, ratio = draw.uniform(16 / 196 * PATCHES, wanted), np.exp(draw.uniform(np.log(0.3), -np.log(0.3)))
        height, width = (int(np.clip(round(x**0.5), 1, SIDE)) for x in (area * ratio, area / ratio))
        top, left = draw.integers(SIDE - height + 1), draw.integers(SIDE - width + 1)
        for i in range(top, top + height):
            for j in range(left, left + width):
                if found.sum() < wanted:
                    found[i, j] = True
    return found


def enclosed(over: np.ndarray) -> float:
    """The share of the hidden patches of which all neighbours, left, right, above and below, are hidden."""
    padded = np.pad(over, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    near = padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:] & padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1]
    return float((near & over).sum() / over.sum())


@pytest.mark.parametrize("rate", [0.4, 0.6])
def test_blocks_are_those_of_the_paper(rate):
    """As many patches in every picture, everywhere in it, in regions as large as a loop over rectangles makes."""
    masker, wanted = blocks.masker(IMAGE, rate, "blocks"), round(rate * PATCHES)
    batch = pictures(rows=3, each=40)
    over = np.concatenate([hidden(masker, batch, rng(step)) for step in range(8)])
    assert (over.sum((1, 2)) == wanted).all()
    draw = np.random.default_rng(0)
    expected = np.stack([beit(draw, wanted) for _ in range(960)])
    assert abs(enclosed(over) - enclosed(expected)) < 0.02
    assert np.abs(over.mean(0) - expected.mean(0)).max() < 0.08  # five standard deviations of either
    singles = np.stack([draw.permuted(np.arange(PATCHES) < wanted).reshape(SIDE, SIDE) for _ in range(960)])
    assert enclosed(over) > 3 * enclosed(singles)


def test_a_row_has_its_own_draws_and_static_ones_are_of_the_picture():
    batch, masker = pictures(3, 4), blocks.masker(IMAGE, 0.4, "blocks")
    both = hidden(masker, batch, rng(0))
    alone = hidden(masker, pictures(1, 4), Rng(1, 0, torch.tensor([1])))
    assert np.array_equal(both[4:8], alone) and not np.array_equal(both[:4], alone)
    static = blocks.masker(IMAGE, 0.4, "blocks", static=True)
    first, second = hidden(static, batch, rng(0)), hidden(static, batch, rng(5))
    assert np.array_equal(first, second)
    assert np.array_equal(first[:4], first[4:8]) and not np.array_equal(first[0], first[1])  # the same keys in each row


def test_what_has_no_grid_has_no_blocks():
    with pytest.raises(SuiteError, match="modality=dna has none"):
        blocks.masker(DNA(), 0.4, "blocks")
