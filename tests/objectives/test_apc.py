"""Foreseeing features: against a loop, blind to the future, at a distance where nothing is shared."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.modalities.speech import Speech
from ssl_suite.models.encoder import Encoder
from ssl_suite.objectives.apc import Autoregressive, apart
from ssl_suite.objectives.base import Objective
from tests.conftest import ragged
from tests.modalities.made_speech import laid_out, noise_frames
from tests.modalities.pictures import laid_out as pictures_laid_out
from tests.modalities.pictures import noise
from tests.objectives.test_frames import ROW, built, draws, every_parameter_learns, rows_add_up, sounds

IMAGE = {"size": 16}


def pictures(counts: list[int]) -> list[list[np.ndarray]]:
    return [list(noise(count, 16, 16, 3, seed=seed)) for seed, count in enumerate(counts)]


def tokens(lengths: list[int], rows: int, high: int = 9) -> Batch:
    """The last sequence of each row is padding."""
    batch = ragged(lengths, high=high, rows=rows)
    slots = len(lengths) // rows
    for last in range(slots - 1, len(lengths), slots):
        batch.values[batch.offsets_B1[last] : batch.offsets_B1[last + 1]] = 0
        batch.real_B[last] = False
    return batch


def case(kind: str) -> tuple[Modality, Batch]:
    """A modality and two rows of it: sequences of several lengths, padding, an empty slot."""
    if kind == "speech":
        return Speech(max_length=ROW), laid_out(sounds(), ROW)
    if kind == "image":
        modality = Image(**IMAGE)
        return modality, pictures_laid_out(modality, pictures([2, 3]), 3 * 18 + 5)
    return DNA(max_length=64), tokens([30, 20, 10, 25, 25, 10], 2)


KINDS = ("speech", "image", "dna")


def content_of(encoder: Encoder, batch: Batch) -> Tensor:
    """What is predicted, once more."""
    with torch.no_grad():
        if batch.frames_NF is not None:
            return encoder.embeddings.modality.features(batch)
        return F.layer_norm(encoder.embeddings(batch), (32,))


def futures(batch: Batch, step: int) -> list[tuple[int, int]]:
    """All pairs of positions ``step`` apart, both of content, by a loop over sequences."""
    pairs, bounds = [], batch.offsets_B1.tolist()
    for start, end in pairwise(bounds):
        content = [i for i in range(start, end) if batch.values[i] not in (0, 2, 3)]
        pairs += [(i, i + step) for i in content if i + step in content]
    return pairs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [None, 1, 5])
def test_loss_and_baseline_against_a_loop(kind: str, shift: int | None) -> None:
    modality, batch = case(kind)
    encoder, apc = built(modality, Autoregressive, shift=shift)
    loss, count, metrics = apc(encoder, batch, draws([0, 1]))
    found, content = apc.head(encoder(batch)), content_of(encoder, batch)
    pairs = futures(batch, apc.shift)
    assert pairs and count == len(pairs)
    expected = sum((found[i] - content[j]).abs().mean().item() for i, j in pairs)
    repeated = sum((content[i] - content[j]).abs().mean().item() for i, j in pairs)
    assert loss.item() == metrics["l1"][0].item() == pytest.approx(expected, rel=1e-4)
    assert metrics["repeat_l1"][0].item() == pytest.approx(repeated, rel=1e-4)
    assert metrics["l1"][1] == metrics["repeat_l1"][1] == len(pairs)


def test_how_far_ahead() -> None:
    """Speech 2, for windows overlap; k-mers k; else 1."""
    assert apart(Speech()) == 2 and apart(Image()) == 1 and apart(DNA()) == 1
    assert apart(DNA(tokenizer="kmer", k=4)) == 4


def test_features_of_speech_two_ahead_share_no_sample() -> None:
    """What the encoder knows at a position: 120 samples of the next one. What it foresees begins after them."""
    encoder, _ = built(Speech(max_length=ROW), Autoregressive)
    batch = laid_out([[noise_frames(50)]], ROW)
    before = encoder.embeddings.features(batch)
    first_sample = {}
    for sample in range(320):
        frames = batch.frames_NF.clone()
        frames[20, sample] += 9000
        changed = (encoder.embeddings.features(replace(batch, frames_NF=frames)) != before).any(1).nonzero().flatten()
        first_sample.setdefault(tuple(changed.tolist()), sample)
    assert first_sample == {(19, 20): 0, (20,): 120, (20, 21): 201}  # sample 200 is 0 in the next one's Hann window


@pytest.mark.parametrize("kind", KINDS)
def test_no_prediction_knows_what_comes_after(kind: str) -> None:
    """Another signal from a position on changes what is foreseen from there on only."""
    modality, batch = case(kind)
    encoder, apc = built(modality, Autoregressive)
    before = apc.head(encoder(batch))
    for place in (3, 9, 15):
        if batch.frames_NF is None:
            values = batch.values.clone()
            values[place:19] = 5 + (values[place:19] - 4) % 4
            other = batch.with_values(values)
        else:
            frames = batch.frames_NF.clone()
            frames[place:17] = frames[place:17].flip(1) // 2 + 3
            other = batch.with_values(batch.values, frames)
        first = place - 1 if kind == "speech" else place  # features of speech hear 7.5 ms of the next position
        changed = (apc.head(encoder(other)) != before).any(1).nonzero().flatten()
        assert changed.min() == first and changed.max() < (batch.offsets_B1[1])


def test_altered_features_change_nothing_before_them() -> None:
    modality, batch = case("speech")
    encoder, apc = built(modality, Autoregressive)
    features = encoder.embeddings.features(batch)
    before = apc.head(encoder(replace(batch, features_NG=features)))
    features = features.index_fill(0, torch.arange(30, 40), 1.0)
    changed = (apc.head(encoder(replace(batch, features_NG=features))) != before).any(1).nonzero().flatten()
    assert changed.min() == 30 and changed.max() == 61


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_rows_add_up(kind: str) -> None:
    check_rows(kind, Autoregressive)


def check_rows(kind: str, make: type[Objective]) -> None:
    modality, batch = case(kind)
    encoder, objective = built(modality, make)
    every_parameter_learns(encoder, objective, batch)
    rows_add_up(encoder, objective, batch, [row_of(batch, 0), row_of(batch, 1)])


def row_of(batch: Batch, r: int) -> Batch:
    """One of the two rows."""
    n, slots = len(batch.values) // 2, len(batch.real_B) // 2
    positions, sequences = slice(r * n, (r + 1) * n), slice(r * slots, (r + 1) * slots)
    return replace(
        batch,
        values=batch.values[positions],
        frames_NF=None if batch.frames_NF is None else batch.frames_NF[positions],
        offsets_B1=batch.offsets_B1[r * slots : (r + 1) * slots + 1] - r * n,
        lengths=batch.lengths[sequences],
        real_B=batch.real_B[sequences],
        index_B=batch.index_B[sequences],
        rows=1,
    )


def test_the_targets_take_no_gradient() -> None:
    """Embeddings learn from what the encoder makes of them alone."""
    modality, batch = case("dna")
    encoder, apc = built(modality, Autoregressive)
    apc(encoder, batch, draws([0, 1]))[0].backward()
    content = content_of(encoder, batch)
    found, pairs = apc.head(encoder(batch)), futures(batch, 1)
    own = torch.autograd.grad(sum((found[i] - content[j]).abs().mean() for i, j in pairs), encoder.embeddings.table_VD)
    torch.testing.assert_close(encoder.embeddings.table_VD.grad, own[0], rtol=1e-3, atol=1e-4)


def test_a_shift_beyond_every_sequence_is_refused() -> None:
    with pytest.raises(SuiteError, match="shift=62"):
        built(DNA(max_length=64), Autoregressive, shift=62)


def test_flops_by_hand() -> None:
    modality, batch = case("dna")
    encoder, apc = built(modality, Autoregressive)
    layer = 2 * batch.tokens * (4 * 32**2 + 3 * 32 * 48) + 2 * 32 * batch.squares
    assert apc.flops(vars(encoder.spec), batch) == 3 * (2 * layer + 2 * batch.tokens * 32 * 32)
