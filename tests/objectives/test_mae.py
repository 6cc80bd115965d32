"""Left-out patches (MAE): the shorter batch, what the encoder sees, the loss, the work that is saved."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.image import Image
from ssl_suite.models.encoder import Encoder
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.frames import Frames
from ssl_suite.objectives.mae import Mae
from tests.modalities.pictures import laid_out, noise
from tests.objectives.test_frames import built, draws, every_parameter_learns, rows_add_up

SIZE, PATCHES, LENGTH = 16, 16, 18
ROW = 3 * LENGTH + 5


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(noise(count, SIZE, SIZE, 3, seed=seed))


def small(**settings) -> tuple[Encoder, Mae]:
    encoder, frames = built(Image(size=SIZE), Frames, **settings)
    assert isinstance(frames.part, Mae)
    return encoder, frames.part


def rows_of(counts: list[int], n: int = ROW) -> Batch:
    """A row for each of ``counts``, with that many pictures."""
    return laid_out(Image(size=SIZE), [pictures(count, seed) for seed, count in enumerate(counts)], n)


def starts(counts: list[int]) -> list[int]:
    return [r * ROW + i * LENGTH for r, count in enumerate(counts) for i in range(count)]


@pytest.mark.parametrize("counts", [[3, 3], [2, 3], [0, 1], [3, 0]])
@pytest.mark.parametrize("ratio", [0.75, 0.3])
def test_the_shorter_batch_against_a_loop(counts: list[int], ratio: float) -> None:
    _, mae = small(mask_ratio=ratio)
    batch = rows_of(counts)
    kept, out = mae.draw(batch, draws([0, 1]))
    shorter = mae.shorter(batch, kept)
    seen = round(PATCHES * (1 - ratio))
    assert kept.shape == (6, seen + 2) and out.shape == (6, PATCHES - seen)
    assert torch.equal(torch.cat((kept, out), 1).sort(1).values, torch.arange(LENGTH).expand(6, -1))
    assert (kept[:, 0] == 0).all() and (kept[:, -1] == LENGTH - 1).all() and (kept.diff() > 0).all()
    assert shorter.values.shape == shorter.places_N.shape == (6 * (seen + 2),)
    assert torch.equal(shorter.positions_N(), kept.flatten())
    assert shorter.max_length == seen + 2 and len(shorter.lengths) == len(batch.lengths)
    assert shorter.offsets_B1.tolist() == np.cumsum([0, *shorter.lengths]).tolist()
    assert shorter.offsets_B1.dtype == torch.int32
    for field in ("real_B", "index_B"):
        assert torch.equal(getattr(shorter, field), getattr(batch, field))
    assert shorter.tokens == sum(counts) * (seen + 2) and shorter.squares == sum(counts) * (seen + 2) ** 2
    slots = len(batch.real_B) // 2
    for r, count in enumerate(counts):
        sizes = shorter.lengths[r * slots : (r + 1) * slots]
        assert sizes[:count] == (seen + 2,) * count and sum(sizes) == 3 * (seen + 2)
        for i in range(3):
            places = kept[3 * r + i]
            here = slice((3 * r + i) * (seen + 2), (3 * r + i + 1) * (seen + 2))
            there = r * ROW + i * LENGTH + places
            assert torch.equal(shorter.values[here], batch.values[there])
            assert torch.equal(shorter.frames_NF[here], batch.frames_NF[there])
            if i < count:
                assert shorter.values[here][0] == 2 and shorter.values[here][-1] == 3


def test_patches_are_left_out_evenly_and_anew() -> None:
    _, mae = small()
    batch, counts = rows_of([3, 3]), np.zeros(LENGTH)
    for step in range(500):
        kept, _ = mae.draw(batch, draws([0, 1], step))
        counts += np.bincount(kept.flatten(), minlength=LENGTH)
    assert stats.chisquare(counts[1:-1]).pvalue > 1e-4
    assert len({tuple(places) for places in kept.tolist()}) == 6


def test_states_are_those_of_each_picture_alone() -> None:
    encoder, mae = small()
    batch = rows_of([2, 3])
    kept, _ = mae.draw(batch, draws([0, 1]))
    states = encoder(mae.shorter(batch, kept)).view(6, -1, 32)
    for number, start in ((0, 0), (1, LENGTH), (3, ROW), (4, ROW + LENGTH), (5, ROW + 2 * LENGTH)):
        places = kept[number]
        alone = Batch(
            values=batch.values[start + places],
            frames_NF=batch.frames_NF[start + places],
            offsets_B1=torch.tensor([0, len(places)], dtype=torch.int32),
            max_length=len(places),
            lengths=(len(places),),
            real_B=torch.tensor([True]),
            index_B=torch.tensor([0]),
            tokens=len(places),
            squares=len(places) ** 2,
            places_N=places,
        )
        torch.testing.assert_close(states[number], encoder(alone), rtol=1e-4, atol=1e-5)


def predictions(encoder: Encoder, mae: Mae, batch: Batch, step: int = 0) -> tuple[Tensor, Tensor]:
    """(I, P - S, F) predicted pixels, and the places of those patches."""
    kept, out = mae.draw(batch, draws(list(range(batch.rows)), step))
    first = mae._starts(batch)
    states = encoder(mae.shorter(batch, kept))
    found = mae.decoder(states, (first + kept).flatten(), (first + out).flatten(), batch)
    return found.unflatten(0, out.shape), out


def test_a_patch_that_is_left_out_cannot_be_seen() -> None:
    encoder, mae = small()
    batch = rows_of([2, 3])
    found, out = predictions(encoder, mae, batch)
    other = batch.frames_NF.clone()
    first = mae._starts(batch)
    other[(first + out).flatten()] = 77
    again, _ = predictions(encoder, mae, batch.with_values(batch.values, other))
    assert torch.equal(found[[0, 1, 3, 4, 5]], again[[0, 1, 3, 4, 5]])
    other = batch.frames_NF.clone()
    kept, _ = mae.draw(batch, draws([0, 1]))
    other[first[0] + kept[0, 1]] ^= 255
    again, _ = predictions(encoder, mae, batch.with_values(batch.values, other))
    assert (found[0] != again[0]).any() and torch.equal(found[1:], again[1:])


def test_the_decoder_knows_where_a_patch_is_missing() -> None:
    encoder, mae = small()
    found, _ = predictions(encoder, mae, rows_of([1]))
    assert (found[0, 1:] - found[0, :1]).abs().amax(1).min() > 1e-3


def test_the_loss_is_that_of_transformers() -> None:
    """ViTMAE's own loss of the same predictions, on whole pictures."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    encoder, mae = small()
    counts = [2, 3]
    batch = rows_of(counts)
    loss, count, metrics = mae(encoder, batch, draws([0, 1]))
    found, out = predictions(encoder, mae, batch)
    keep = [0, 1, 3, 4, 5]
    pixels = torch.stack([torch.from_numpy(x) for r, n in enumerate(counts) for x in pictures(n, r)])
    everywhere, mask = torch.zeros(5, PATCHES, 48), torch.zeros(5, PATCHES)
    everywhere.scatter_(1, (out[keep] - 1)[:, :, None].expand(-1, -1, 48), found[keep])
    mask.scatter_(1, out[keep] - 1, 1.0)
    config = ViTMAEConfig(
        image_size=SIZE,
        patch_size=4,
        norm_pix_loss=True,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=1,
        decoder_intermediate_size=8,
    )
    model = ViTMAEForPreTraining(config)
    seen = SimpleNamespace(mask=mask, last_hidden_state=None, ids_restore=None, hidden_states=None, attentions=None)
    model.vit.forward = lambda *_, **__: seen
    model.decoder.forward = lambda *_, **__: SimpleNamespace(logits=everywhere)
    reference = model(pixels.permute(0, 3, 1, 2) / 255).loss
    assert count == 5 * 12
    torch.testing.assert_close(loss / count, reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(metrics["mse"][0] / metrics["mse"][1], reference, rtol=1e-4, atol=1e-5)
    assert (metrics["mean_mse"][0] / metrics["mean_mse"][1]).item() == pytest.approx(47 / 48, abs=1e-3)


def test_gradients_reach_every_parameter_and_rows_add_up() -> None:
    encoder, mae = small()
    every_parameter_learns(encoder, mae, rows_of([2, 3]))
    images = Image(size=SIZE)
    alone = [laid_out(images, [pictures(count, seed)], ROW) for seed, count in enumerate([2, 3])]
    rows_add_up(encoder, mae, rows_of([2, 3]), alone)


def test_a_row_of_padding_counts_nothing() -> None:
    encoder, mae = small()
    loss, count, metrics = mae(encoder, rows_of([0]), draws([0]))
    assert loss == 0 and count == 0 and metrics["mse"][1] == 0


def matrix_flops(encoder: Encoder, batch: Batch) -> float:
    """What PyTorch counts in the encoder's linear maps; attention on the CPU is a function that it does not know."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(batch)
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if "mm" in str(op))


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_encoder_works_on_what_it_sees(ratio: float) -> None:
    """Full rows: counted by PyTorch in the linear maps, and by the suite with attention."""
    encoder, mae = small(mask_ratio=ratio)
    batch = replace(rows_of([3, 3], 3 * LENGTH), squares=6 * LENGTH**2)
    kept, _ = mae.draw(batch, draws([0, 1]))
    shorter = mae.shorter(batch, kept)
    seen = round(PATCHES * (1 - ratio)) + 2
    assert matrix_flops(encoder, shorter) / matrix_flops(encoder, batch) == pytest.approx(seen / LENGTH)
    model = vars(encoder.spec)
    assert matrix_flops(encoder, shorter) == encoder_flops(
        model, SimpleNamespace(tokens=shorter.tokens, squares=0, lengths=(), max_length=0)
    )
    whole = encoder_flops(model, batch)
    assert encoder_flops(model, shorter) < (seen / LENGTH) * whole
    assert mae.flops(model, batch) == 3 * (encoder_flops(model, shorter) + decoder_flops(mae, batch, seen))


def decoder_flops(mae: Mae, batch: Batch, seen: int) -> float:
    """By hand, for 6 pictures."""
    use = mae.decoder.spec
    layer = 2 * 6 * LENGTH * (4 * use.width**2 + 3 * use.width * use.mlp_width) + 4 * use.width * 6 * LENGTH**2
    return 2 * layer + 2 * 6 * seen * 32 * use.width + 2 * 6 * (LENGTH - seen) * use.width * 48


@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_some_patches_are_seen_and_some_left_out(ratio: float) -> None:
    with pytest.raises(SuiteError, match=f"mask_ratio={ratio}"):
        small(mask_ratio=ratio)
