"""Altered frames on a line (TERA), and which part a modality gets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.modalities.speech import Speech
from ssl_suite.models.embedders import embedder
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.base import Objective
from ssl_suite.objectives.frames import Frames
from ssl_suite.objectives.mae import Mae
from ssl_suite.objectives.tera import NOISE, Tera
from tests.modalities.made_speech import laid_out, noise_frames

ROW = 120


def draws(rows: list[int], step: int = 0) -> Rng:
    return Rng(0, step, torch.tensor(rows))


def built(modality: Modality, make: Callable[..., Objective], **settings) -> tuple[Encoder, Objective]:
    """A small encoder and an objective, as a run builds them, from one seed."""
    torch.manual_seed(0)
    spec = EncoderSpec(
        2,
        32,
        2,
        48,
        len(modality.vocabulary),
        windows=(None,) * 2,
        thetas=(100.0,) * 2,
        init_std=0.1,
        features=modality.frame.features if modality.frame else 0,
        grid=modality.frame.grid if modality.frame else None,
        causal=make.causal,
    )
    return Encoder(spec, embedder(spec, modality)), make(modality=modality, spec=spec, **settings)


def every_parameter_learns(encoder: Encoder, objective: Objective, batch: Batch) -> None:
    """Each parameter gets a finite gradient that is not zero."""
    encoder.zero_grad(), objective.zero_grad()
    loss, count, _ = objective(encoder, batch, draws(list(range(batch.rows))))
    (loss / count).backward()
    for name, x in [*encoder.named_parameters(), *objective.named_parameters()]:
        assert x.grad is not None, name
        assert x.grad.isfinite().all() and x.grad.abs().sum() > 0, name


def rows_add_up(encoder: Encoder, objective: Objective, both: Batch, alone: list[Batch]) -> None:
    """Two rows in one forward pass and in two give the same sums."""
    whole = objective(encoder, both, draws([3, 7]))
    parts = [objective(encoder, batch, draws([row])) for batch, row in zip(alone, (3, 7), strict=True)]
    torch.testing.assert_close(whole[0], parts[0][0] + parts[1][0], rtol=1e-4, atol=1e-3)
    assert whole[1] == parts[0][1] + parts[1][1]
    for name, (total, count) in whole[2].items():
        torch.testing.assert_close(total, parts[0][2][name][0] + parts[1][2][name][0], rtol=1e-4, atol=1e-3)
        assert count == pytest.approx(parts[0][2][name][1] + parts[1][2][name][1])


def sounds() -> list[list[np.ndarray]]:
    """Two rows of two recordings each, with padding at their ends."""
    loud = (100.0, 3000.0, 1000.0, 300.0)
    sizes = (60, 30, 70, 40)
    made = [noise_frames(n, seed, level) for seed, (n, level) in enumerate(zip(sizes, loud, strict=True))]
    return [made[:2], made[2:]]


def speech(**settings) -> tuple[Encoder, Tera, Batch]:
    encoder, frames = built(Speech(max_length=ROW), Frames, **settings)
    assert isinstance(frames.part, Tera)
    return encoder, frames.part, laid_out(sounds(), ROW)


def test_what_a_frame_is_chooses_the_part() -> None:
    assert isinstance(built(Speech(), Frames)[1].part, Tera)
    assert isinstance(built(Image(), Frames)[1].part, Mae)
    assert "objective=mlm" in Frames.refuses(DNA) and not Frames.refuses(Speech) and not Frames.refuses(Image)
    with pytest.raises(SuiteError, match="objective=mlm"):
        built(DNA(), Frames)


def test_what_is_shown_against_a_loop() -> None:
    """A cell is the original, blank, or (in a few sequences) another frame's; both mel halves lose one band."""
    encoder, tera, batch = speech()
    true = encoder.embeddings.features(batch)
    sequence = batch.sequence_ids_N()
    kinds, total = {"blanked": 0, "replaced": 0, "kept": 0}, 0
    for step in range(150):
        seen, altered, band = tera.alter(batch, true, draws([0, 1], step))
        shown, hidden = seen.features_NG, seen.values == 4
        assert torch.equal(seen.values[~hidden], batch.values[~hidden]) and not (hidden & ~altered).any()
        assert not altered[batch.values < 5].any() and not band[batch.values < 5].any()
        total += altered.sum().item()
        for b in (0, 1, 4, 5):
            here = sequence == b
            inside = here & (batch.values >= 5)
            in_band = band[inside][0]
            assert (band[inside] == in_band).all() and torch.equal(in_band[:80], in_band[80:])
            assert in_band[:80].sum() <= 16 and in_band[:80].int().diff().abs().sum() <= 2
            plain = here & ~altered
            expected = true[plain].masked_fill(band[plain], 0.0)
            assert torch.equal(shown[plain], expected)
            at = shown[here & altered]
            assert (hidden[here & altered] == (at == 0).all(1)).all()
            if not len(at):
                continue
            kept = true[here & altered].masked_fill(band[here & altered], 0.0)
            if (at == 0).all():
                kinds["blanked"] += 1
            elif torch.equal(at, kept):
                kinds["kept"] += 1
            else:
                kinds["replaced"] += 1
                others = true[inside].masked_fill(in_band, 0.0)
                assert all((others == frame).all(1).any() for frame in at)
    assert abs(total / 150 - 0.15 * (60 + 30 + 70 + 40)) < 1
    total = sum(kinds.values())
    for name, share in (("blanked", 0.8), ("replaced", 0.1), ("kept", 0.1)):
        assert abs(kinds[name] / total - share) < 5 * (share * (1 - share) / total) ** 0.5, kinds


def test_spans_and_widths_follow_the_settings() -> None:
    encoder, tera, batch = speech(time_width=6, frequency_width=0.5)
    true = encoder.embeddings.features(batch)
    runs, widths, starts = [], [], []
    for step in range(100):
        _, altered, band = tera.alter(batch, true, draws([0, 1], step))
        edges = torch.nn.functional.pad(altered.int(), (1, 1)).diff()
        runs += ((edges == -1).nonzero() - (edges == 1).nonzero()).flatten().tolist()
        first = band[1, :80]
        widths.append(int(first.sum()))
        starts += first.nonzero()[:1].flatten().tolist()
    assert np.mean(np.array(runs) < 6) < 0.4  # one in a few begins before a sequence or is cut short by its end
    assert max(widths) > 36 and min(widths) < 4 and max(widths) <= 40
    assert min(starts) < 10 and max(starts) > 40


def test_noise() -> None:
    encoder, tera, batch = speech(noise_rate=1.0, frequency_width=0.0)
    true = encoder.embeddings.features(batch)
    shown, altered, band = tera.alter(batch, true, draws([0, 1]))
    assert not band.any()
    noise = (shown.features_NG - true)[~altered]
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - NOISE) < 0.01
    tera.noise_rate = 0.5
    noisy = torch.stack(
        [(tera.alter(batch, true, draws([0, 1], step))[0].features_NG != true)[1, 0] for step in range(60)]
    )
    assert 15 < noisy.sum() < 45


def test_loss_and_yardsticks_against_a_loop() -> None:
    encoder, tera, batch = speech(time_rate=0.3)
    loss, count, metrics = tera(encoder, batch, draws([0, 1], 5))
    true = encoder.embeddings.features(batch)
    seen, altered, band = tera.alter(batch, true, draws([0, 1], 5))
    found, shown = tera.head(encoder(seen)), seen.features_NG
    sequence = batch.sequence_ids_N().tolist()
    sums = dict.fromkeys(metrics, 0.0)
    counts = dict.fromkeys(metrics, 0)
    for i in range(len(batch.values)):
        if not altered[i]:
            sums["band_l1"] += (found[i] - true[i])[band[i]].abs().sum().item()
            sums["band_mean_l1"] += true[i][band[i]].abs().sum().item()
            for name in ("band_l1", "band_mean_l1"):
                counts[name] += int(band[i].sum())
            continue
        near = [
            j for j in range(len(sequence)) if sequence[j] == sequence[i] and batch.values[j] >= 5 and not altered[j]
        ]
        copied = shown[min(near, key=lambda j: (abs(i - j), j))]
        for name, guess in (("l1", found[i]), ("mean_l1", torch.zeros(160)), ("copy_l1", copied)):
            sums[name] += (guess - true[i]).abs().sum().item()
            counts[name] += 160
    for name, (total, number) in metrics.items():
        assert total.item() == pytest.approx(sums[name], rel=1e-4), name
        assert number == counts[name], name
    assert loss.item() == pytest.approx(sums["l1"] + sums["band_l1"], rel=1e-4)
    assert count == counts["l1"] + counts["band_l1"]


def test_a_blanked_frame_cannot_be_seen() -> None:
    """Other sounds at altered positions change no prediction where the sequence has them blanked."""
    encoder, tera, batch = speech(frequency_width=0.0)
    true = encoder.embeddings.features(batch)
    for step in range(10):
        seen, altered, _ = tera.alter(batch, true, draws([0, 1], step))
        again, _, _ = tera.alter(batch, true + altered[:, None], draws([0, 1], step))
        hidden = batch.sequence_ids_N()[seen.values == 4].unique()
        here = torch.isin(batch.sequence_ids_N(), hidden)
        assert here.any() and torch.equal(encoder(seen)[here], encoder(again)[here])


def test_gradients_reach_every_parameter_and_rows_add_up() -> None:
    encoder, tera, batch = speech()
    every_parameter_learns(encoder, tera, batch)
    rows_add_up(encoder, tera, batch, [laid_out([row], ROW) for row in sounds()])


def test_a_row_of_padding_counts_nothing() -> None:
    encoder, tera, _ = speech()
    loss, count, metrics = tera(encoder, laid_out([[], sounds()[0]], ROW), draws([0, 1]))
    assert loss.isfinite() and count > 0
    loss, count, metrics = tera(encoder, laid_out([[]], ROW), draws([0]))
    assert loss == 0 and count == 0 and all(total == 0 and number == 0 for total, number in metrics.values())
