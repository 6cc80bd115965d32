"""Random views of speech batches against naive loops over sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import speech_views
from ssl_suite.modalities.speech import Speech
from tests.modalities.made_speech import CLS, PAD, SEP, encoded, laid_out, noise_frames, sound_file, tone

QUIET = {"noise_rate": 0.0, "time_masks": 0, "frequency_masks": 0, "gain": 0.0, "crop": 1.0}
ROWS = [[noise_frames(20, 1), noise_frames(11, 2)], [noise_frames(30, 3)]]
FLAT = [some for row in ROWS for some in row]


def rng(step: int, rows: int = 2, first: int = 0) -> Rng:
    return Rng(seed=11, step=step, rows_R=torch.arange(first, first + rows))


def speech(**settings: object) -> Speech:
    return Speech(**(QUIET | settings))  # type: ignore[arg-type]


def views_of(modality: Speech, batch: Batch, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(units from 0, frames) of each sequence of a view; checks what surrounds them."""
    view = modality.augment(batch, rng(step, batch.rows))
    assert view.values.shape == batch.values.shape and torch.equal(view.offsets_B1, batch.offsets_B1)
    assert view.frames_NF is not None and view.frames_NF.dtype == torch.int16
    seen = []
    for start, end in zip(batch.offsets_B1[:-1].tolist(), batch.offsets_B1[1:].tolist(), strict=True):
        ids, frames = view.values[start:end].numpy(), view.frames_NF[start:end].numpy()
        assert not frames[ids < 5].any()
        if len(ids) == 0 or batch.values[start] == PAD:
            assert (ids == PAD).all()
            continue
        stop = int(np.flatnonzero(ids == SEP)[0])
        assert ids[0] == CLS and (ids[stop + 1 :] == PAD).all() and (ids[1:stop] >= 5).all()
        seen.append((ids[1:stop] - 5, frames[1:stop].astype(int)))
    return seen


def test_nothing_asked_for_changes_nothing() -> None:
    batch = laid_out(ROWS, 40)
    view = speech().augment(batch, rng(0))
    assert torch.equal(view.values, batch.values) and torch.equal(view.frames_NF, batch.frames_NF)


def test_crops_are_stretches_of_ids_and_frames_alike() -> None:
    modality, batch, shares = speech(crop=0.5), laid_out(ROWS, 40), []
    begins = set()
    for step in range(120):
        for frames, (units, got) in zip(FLAT, views_of(modality, batch, step), strict=True):
            assert np.array_equal(units, np.arange(units[0], units[0] + len(units)))
            assert np.array_equal(got, frames[units])
            shares.append(len(units) / len(frames))
            begins.add((len(frames), units[0], len(frames) - units[-1]))
    assert 0.5 <= min(shares) < 0.56 and max(shares) == 1.0
    assert 0.70 < np.mean(shares) < 0.80
    assert all(any(b[0] == n and b[1] == 0 for b in begins) for n in (20, 11, 30))
    assert all(any(b[0] == n and b[2] == 1 for b in begins) for n in (20, 11, 30))


def test_gain_is_uniform_in_decibels() -> None:
    modality, batch, decibels = speech(gain=6.0), laid_out(ROWS, 40), []
    for step in range(100):
        for frames, (_, got) in zip(FLAT, views_of(modality, batch, step), strict=True):
            factor = (got * frames).sum() / (frames.astype(float) ** 2).sum()
            assert np.abs(got - frames * factor).max() < 1
            decibels.append(20 * np.log10(factor))
    assert -6.01 < min(decibels) < -5.5 and 5.5 < max(decibels) < 6.01
    assert abs(np.mean(decibels)) < 0.7  # deviation of the mean 0.2


def test_what_becomes_too_loud_is_cut() -> None:
    modality, batch = speech(gain=60.0), laid_out(ROWS, 40)
    loudest = max(np.abs(got).max() for step in range(20) for _, got in views_of(modality, batch, step))
    assert loudest == 32768


def test_noise_has_its_ratio_and_its_rate() -> None:
    modality, batch = speech(noise_rate=0.75, snr_low=5.0, snr_high=20.0), laid_out(ROWS, 40)
    ratios, without = [], 0
    for step in range(60):
        for frames, (_, got) in zip(FLAT, views_of(modality, batch, step), strict=True):
            noise = got - frames
            if not noise.any():
                without += 1
                continue
            ratios.append(10 * np.log10((frames.astype(float) ** 2).mean() / (noise.astype(float) ** 2).mean()))
    assert 0.15 < without / 180 < 0.36
    assert min(ratios) > 3.5 and max(ratios) < 21.5  # pink noise is louder at one place than at another
    assert np.std(ratios) > 3


def test_made_noise_is_white_then_pink() -> None:
    noise = speech_views.made_noise()
    assert noise.shape[1] == 320
    assert torch.equal(noise, speech_views.made_noise())
    for part, slope in zip(noise.reshape(2, -1).numpy(), (0.0, -1.0), strict=True):
        assert abs((part**2).mean() - 1) < 1e-3
        power = np.abs(np.fft.rfft(part.reshape(-1, 3200) * np.hanning(3200), axis=1)) ** 2
        octaves = np.array([power[:, lo : 2 * lo].mean() for lo in (25, 50, 100, 200, 400, 800)])
        assert np.allclose(np.diff(np.log2(octaves)), slope, atol=0.15)


def test_noise_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "hum.wav").write_bytes(sound_file(tone(1.0, hertz=100, level=0.01)))
    modality = speech(noise=str(tmp_path), noise_rate=1.0, snr_low=10.0, snr_high=10.0)
    hum = encoded((tmp_path / "hum.wav").read_bytes()).astype(float)
    hum /= np.sqrt((hum**2).mean())
    batch = laid_out(ROWS, 40)
    for frames, (_, got) in zip(FLAT, views_of(modality, batch, 0), strict=True):
        noise = (got - frames) / np.sqrt((frames.astype(float) ** 2).mean() / 10)
        starts = [hum[(begin + np.arange(len(frames))) % 50] for begin in range(50)]
        assert min(np.abs(noise - some).max() for some in starts) < 2e-3
    (tmp_path / "none").mkdir()
    for wrong in (tmp_path / "no", tmp_path / "none"):
        with pytest.raises(SuiteError, match=r"^modality\.noise=.*holds no sound file; "):
            speech(noise=str(wrong)).augment(batch, rng(0))


def test_silence_stays_silent() -> None:
    modality = speech(noise_rate=1.0, gain=6.0, frequency_masks=2, time_masks=2)
    batch = laid_out([[np.zeros((10, 320), np.int16)]], 20)
    assert not modality.augment(batch, rng(0, 1)).frames_NF.any()


def test_time_masks_are_stretches_of_whole_positions() -> None:
    modality, batch, shares = speech(time_masks=1, time_width=0.3), laid_out(ROWS, 40), []
    for step in range(100):
        for frames, (units, got) in zip(FLAT, views_of(modality, batch, step), strict=True):
            masked = ~got.any(axis=1)
            assert np.array_equal(units, np.arange(len(frames)))  # the mask hides frames, not their units
            assert np.array_equal(got[~masked], frames[~masked])
            assert np.count_nonzero(np.diff(np.concatenate([[0], masked, [0]]))) in (0, 2)
            shares.append(masked.mean())
    assert max(shares) <= 0.3 and max(shares) > 0.25 and 0.1 < np.mean(shares) < 0.18


def naive_band_stop(frames: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """One sequence alone, window by window."""
    signal = np.concatenate([np.zeros(320), frames.reshape(-1), np.zeros(320)])
    window = np.sin((np.arange(640) + 0.5) * np.pi / 640)
    out = np.zeros(len(signal))
    for start in range(0, len(signal) - 639, 320):
        spectrum = np.fft.rfft(signal[start : start + 640] * window) * kept
        out[start : start + 640] += np.fft.irfft(spectrum) * window
    return out[320:-320].reshape(-1, 320)


def test_frequency_masks_filter_each_sequence_by_its_own_band() -> None:
    modality, batch = speech(frequency_masks=2, frequency_width=27), laid_out(ROWS, 40)
    for step in range(5):
        each = len(batch.lengths) // 2
        draws = rng(step)
        for _ in range(6):  # two of the crop, three of the noise, one of the gain come first
            draws.uniform(each)
        kept = speech_views.frequency_masks(draws, each, modality).numpy()[batch.real_B.numpy()]
        kept = kept[[0, 1, 3]]  # the sequences; the others are padding
        for frames, mask, (_, got) in zip(FLAT, kept, views_of(modality, batch, step), strict=True):
            assert np.abs(naive_band_stop(frames, mask) - got).max() < 0.51


def test_a_frequency_mask_takes_its_band_out_of_the_features() -> None:
    modality, batch = speech(frequency_masks=1, frequency_width=40), laid_out(ROWS, 40)
    before = modality.features(batch)
    widths = []
    for step in range(10):
        drop = (before - modality.features(modality.augment(batch, rng(step)))).view(-1, 80)
        one = drop[4:40].mean(0)  # inside the first sequence
        gone = one > 0.75  # 1.5 decades: 15 dB
        assert np.count_nonzero(np.diff(np.concatenate([[0], gone.numpy(), [0]]))) in (0, 2)
        assert one[~gone].abs().max() < 1.0
        widths.append(int(gone.sum()))
    assert 5 < np.mean(widths) < 30 and max(widths) <= 42


def test_mel_places_of_frequencies_are_torchaudios() -> None:
    from torchaudio.functional.functional import _hz_to_mel

    top = _hz_to_mel(8000.0, "slaney")
    wanted = [_hz_to_mel(25.0 * i, "slaney") / top * 80 for i in range(321)]
    assert np.allclose(speech_views.frequency_bands(torch.device("cpu")).numpy(), wanted, atol=1e-4)


def test_a_row_gets_the_same_view_in_any_batch_and_views_differ_by_step() -> None:
    modality = Speech()
    both = modality.augment(laid_out(ROWS, 40), rng(3))
    alone = modality.augment(laid_out([[*ROWS[1], noise_frames(1, 9)]], 40), rng(3, rows=1, first=1))
    assert torch.equal(both.values[40:72], alone.values[:32])
    assert torch.equal(both.frames_NF[40:72], alone.frames_NF[:32])
    assert not torch.equal(modality.augment(laid_out(ROWS, 40), rng(4)).frames_NF, both.frames_NF)


def test_a_view_of_a_view_is_framed_by_its_own_end() -> None:
    modality = speech(crop=0.5)
    first = modality.augment(laid_out(ROWS, 40), rng(0))
    for frames, (units, got) in zip(FLAT, views_of(modality, replace(first), 1), strict=True):
        assert np.array_equal(got, frames[units])


def test_no_view_waits_for_the_device() -> None:
    """Tensors on "meta" have no values: anything that would look at one on the host raises."""
    modality = Speech()
    view = modality.augment(laid_out(ROWS, 40).to(torch.device("meta")), Rng(0, 0, torch.arange(2, device="meta")))
    assert view.values.is_meta and view.frames_NF.is_meta
    assert view.frames_NF.shape == (80, 320) and view.frames_NF.dtype == torch.int16
