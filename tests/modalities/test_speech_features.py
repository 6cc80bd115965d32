"""Log-mel features and MFCC of ragged batches against torchaudio on each sequence alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio import functional, transforms

from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import speech_features
from ssl_suite.modalities.speech import Speech
from tests.modalities.made_speech import encoded, laid_out, noise_frames, sound_file, tone

LENGTHS = (9, 30, 1, 17)


def sequences() -> list[np.ndarray]:
    loud = encoded(sound_file(tone(0.6, level=0.9)))  # beside a quiet one: what leaks shows
    return [noise_frames(9, 1), loud, noise_frames(1, 2, loud=3), noise_frames(17, 3, loud=20)]


def alone(frames: np.ndarray) -> Tensor:
    """(2 positions, 80) torchaudio's band powers of one sequence with 20 ms of silence on each side."""
    spectrogram = transforms.MelSpectrogram(
        16_000, n_fft=400, hop_length=160, n_mels=80, f_max=8000, norm="slaney", mel_scale="slaney", center=False
    )
    signal = torch.nn.functional.pad(torch.from_numpy(frames).reshape(-1).float() / 32768, (320, 320))
    return spectrogram(signal[200:-200]).T  # the first window begins 120 samples before the sequence


def pieces(x_NK: Tensor, batch: Batch) -> list[Tensor]:
    """The content of each sequence, [CLS] and [SEP] cut off."""
    ends = batch.offsets_B1.tolist()
    return [x_NK[a + 1 : b - 1] for a, b in itertools.pairwise(ends)]


def test_features_are_those_of_each_sequence_alone() -> None:
    modality, some = Speech(), sequences()
    batch = ragged(some, modality.vocabulary, 64)
    features = modality.features(batch)
    assert features.shape == (len(batch.values), modality.frame.features) and features.dtype == torch.float32
    for frames, got in zip(some, pieces(features, batch), strict=True):
        wanted = (alone(frames).clamp(min=1e-10).log10() - speech_features.MEAN) / speech_features.SCALE
        assert torch.allclose(got.reshape(-1, 80), wanted, atol=2e-4)


def test_features_are_of_unit_size_and_keep_float32_under_autocast() -> None:
    modality = Speech()
    speech = sequences()[1]
    batch = ragged([speech], modality.vocabulary, 64)
    features = modality.features(batch)
    assert -2 < features[1:-1].mean() < 2 and 0.3 < features[1:-1].std() < 2
    assert features.abs().max() < 4
    silence = (np.log10(speech_features.FLOOR) - speech_features.MEAN) / speech_features.SCALE
    assert torch.allclose(features[0, :70], torch.full((70,), silence), atol=1e-5)  # [CLS]'s first window
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(modality.features(batch), features)
        assert modality.unit_features(batch).dtype == torch.float32


def naive_cepstra(frames: np.ndarray) -> Tensor:
    """(positions, 39) by torchaudio: the cepstra of 10 ms windows, two rounds of deltas, and the mean of each pair."""
    cosine = functional.create_dct(13, 80, norm="ortho")
    mfcc = torch.log(alone(frames) + 1e-6) @ cosine
    once = functional.compute_deltas(mfcc.T, win_length=5).T
    twice = functional.compute_deltas(once.T, win_length=5).T
    return torch.cat([mfcc, once, twice], 1).view(len(frames), 2, 39).mean(1)


def test_unit_features_are_those_of_each_sequence_alone() -> None:
    modality, some = Speech(), sequences()
    batch = ragged(some, modality.vocabulary, 64)
    got = modality.unit_features(batch)
    assert got.shape == (len(batch.values), 39)
    for frames, part in zip(some, pieces(got, batch), strict=True):
        assert torch.allclose(part, naive_cepstra(frames), atol=1e-3)


def test_unit_features_equal_torchaudios_own_mfcc() -> None:
    frames = sequences()[1]
    settings = {"n_fft": 400, "hop_length": 160, "n_mels": 80, "norm": "slaney", "mel_scale": "slaney", "center": False}
    signal = torch.nn.functional.pad(torch.from_numpy(frames).reshape(-1).float() / 32768, (320, 320))
    wanted = transforms.MFCC(16_000, n_mfcc=13, log_mels=True, melkwargs=settings)(signal[200:-200]).T
    modality = Speech()
    got = modality.unit_features(ragged([frames], modality.vocabulary, 64))[1:-1, :13]
    assert torch.allclose(got, wanted.view(len(frames), 2, 13).mean(1), atol=1e-3)


def test_deltas_end_where_a_crop_ends() -> None:
    """In a row with padding, and after a view has shortened its sequences."""
    modality = Speech(noise_rate=0.0, time_masks=0, frequency_masks=0, gain=0.0)
    batch = laid_out([[noise_frames(20, 1), noise_frames(11, 2)], [noise_frames(30, 3)]], 40)
    batch = modality.augment(batch, Rng(0, 0, torch.arange(2)))
    got = modality.unit_features(batch)
    seen = 0
    for start, end in zip(batch.offsets_B1[:-1].tolist(), batch.offsets_B1[1:].tolist(), strict=True):
        content = int((batch.values[start:end] >= 5).sum())
        if content:
            frames = batch.frames_NF[start + 1 : start + 1 + content].numpy()
            assert torch.allclose(got[start + 1 : start + 1 + content], naive_cepstra(frames), atol=1e-3)
            seen += 1
    assert seen == 3


@pytest.mark.parametrize("name", ["features", "unit_features"])
def test_no_feature_waits_for_the_device(name: str) -> None:
    """Tensors on "meta" have no values: anything that would look at one on the host raises."""
    modality = Speech()
    batch = laid_out([[noise_frames(20, 1)]], 40).to(torch.device("meta"))
    assert getattr(modality, name)(batch).is_meta


def test_clusters_of_unit_features_tell_vowel_like_sounds_apart() -> None:
    from ssl_suite.core import codebook

    modality = Speech()
    t = np.arange(32_000) / 16_000
    noise = np.random.default_rng(0).standard_normal(len(t)) * 0.01
    sounds = [
        encoded(sound_file(0.2 * np.sin(2 * np.pi * hertz * t) + 0.1 * np.sin(6 * np.pi * hertz * t) + noise))
        for hertz in (200, 400, 800)
    ]
    batch = ragged(sounds, modality.vocabulary, 128)
    parts = pieces(modality.unit_features(batch), batch)
    book = codebook.fit(torch.cat(parts), codes=12)
    codes = [set(book.assign(part[10:-10])[0].tolist()) for part in parts]
    assert not codes[0] & codes[1] and not codes[1] & codes[2] and not codes[0] & codes[2]
