"""The mean over a sequence's content, against a loop."""

import numpy as np
import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import SPECIAL_TOKENS, Vocabulary
from ssl_suite.models.pooling import mean_pool
from tests.conftest import ragged as of_lengths

VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *"abcd"), (5, 9))
PAD, CLS, SEP = VOCABULARY.pad, VOCABULARY.cls, VOCABULARY.sep


def slots(sequences: list[list[int]]) -> Batch:
    """Sequences of ids as they are, specials and padding included."""
    batch = of_lengths([len(sequence) for sequence in sequences], max_length=40)
    return batch.with_values(torch.tensor([x for sequence in sequences for x in sequence]))


SEQUENCES = [[CLS, 5, 6, 7, SEP], [CLS, 5, 8, SEP, PAD, PAD], [], [CLS, SEP, PAD], [PAD, PAD, PAD], [CLS, 6, SEP]]


def test_equals_a_loop_and_leaves_specials_out():
    batch = slots(SEQUENCES)
    states = torch.randn(len(batch.values), 3)
    got, place = mean_pool(states, batch, PAD), 0
    for sequence, vector in zip(SEQUENCES, got, strict=True):
        inside = [place + i for i, x in enumerate(sequence) if x >= 5]
        expected = states[inside].mean(0) if inside else torch.zeros(3)
        torch.testing.assert_close(vector, expected)
        place += len(sequence)


def test_views_leave_no_padding_in_a_sequence():
    batch = slots(SEQUENCES)
    apart = batch.without_padding(PAD)
    assert len(apart.real_B) == len(apart.lengths) == 2 * len(SEQUENCES) == len(apart.offsets_B1) - 1
    expected = [length for x in SEQUENCES for length in (len([i for i in x if i != PAD]), x.count(PAD))]
    assert list(apart.lengths) == expected and apart.offsets_B1.diff().tolist() == expected
    pieces = apart.values.split(expected)
    assert all((piece != PAD).all() for piece in pieces[::2]) and all((piece == PAD).all() for piece in pieces[1::2])
    assert torch.equal(apart.real_B[::2], batch.real_B) and not apart.real_B[1::2].any()
    states = torch.randn(len(batch.values), 3)
    torch.testing.assert_close(mean_pool(states, apart, PAD)[::2], mean_pool(states, batch, PAD))


def test_gradient_is_shared_evenly():
    batch = slots(SEQUENCES[:1])
    states = torch.randn(5, 2, requires_grad=True)
    mean_pool(states, batch, PAD).sum().backward()
    np.testing.assert_allclose(states.grad[:, 0].tolist(), [0, 1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)
