"""From 16 kHz samples to log-mel features and MFCC, for a whole ragged batch at once on its device.

The spectra are those of Whisper (Radford et al. 2022, arXiv:2212.04356): periodic Hann windows of 25 ms every 10 ms,
power, 80 Slaney mel bands from 0 to 8 kHz. A position of 20 ms has two of them, centred at a quarter and at three
quarters of it. [CLS] and [SEP] are frames of zeros, so sequences lie 40 ms of silence apart in the flattened signal
and no window of 25 ms sees two of them: each gets what it would get alone.

Shapes: N positions, F = 320 samples, M = 2 N windows, W = 400 samples of a window, C = 201 frequencies.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch

POSITION = 320  # samples: 20 ms
HOP = 160
WINDOW = 400
BANDS = 80
FREQUENCIES = WINDOW // 2 + 1
BESIDE = (WINDOW - HOP) // 2  # samples that a window sees before and after the 10 ms it stands for
FLOOR = 1e-10  # power of a band in digital silence; 16 bits of rounding noise come to 3e-10
CEPSTRA = 13
CEPSTRAL_FLOOR = 1e-6  # as in torchaudio's MFCC: what is quieter is one and the same silence
SLOPE = 2  # windows on each side over which a delta is fitted, HTK's and Kaldi's

# Mean and standard deviation of log10 band powers over speech. Constants and not a sequence's own statistics: these
# would tell a masked position about itself, and differ between a recording and a crop of it.
MEAN, SCALE = -4.5, 2.0


@dataclass(frozen=True)
class Constants:
    """What the transforms need, on a device: ``window_W``, ``mel_CB`` (80 bands), ``cosine_BK`` (13 cepstra)."""

    window_W: Tensor
    mel_CB: Tensor
    cosine_BK: Tensor


@lru_cache(maxsize=8)
def constants(device: torch.device) -> Constants:
    """Copied to each device once: a copy from pageable memory would wait for it."""
    from torchaudio import functional

    mel_CB = functional.melscale_fbanks(FREQUENCIES, 0.0, 8000.0, BANDS, 2 * 8000, norm="slaney", mel_scale="slaney")
    cosine_BK = functional.create_dct(CEPSTRA, BANDS, norm="ortho")
    return Constants(torch.hann_window(WINDOW).to(device), mel_CB.to(device), cosine_BK.to(device))


def full_precision(device: torch.device) -> AbstractContextManager:
    """No autocast: powers span ten decades, and bfloat16 has two digits and a half."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def mel_power(frames_NF: Tensor) -> Tensor:
    """(2 N, 80) float32: the power in each mel band, two windows a position; full scale is 1."""
    use = constants(frames_NF.device)
    with full_precision(frames_NF.device):
        signal_S = torch.nn.functional.pad(frames_NF.reshape(-1).float() * (1 / 32768), (BESIDE, BESIDE))
        windows_MW = signal_S.unfold(0, WINDOW, HOP) * use.window_W
        spectrum_MC = torch.fft.rfft(windows_MW)
        return (spectrum_MC.real**2 + spectrum_MC.imag**2) @ use.mel_CB


@torch.compiler.disable  # inductor has no complex numbers, and would trace through the cache of the constants
@torch.no_grad()
def log_mel(frames_NF: Tensor) -> Tensor:
    """(N, 160) float32 of about unit size: both windows' standardised log10 band powers."""
    power_MB = mel_power(frames_NF)
    return ((power_MB.clamp(min=FLOOR).log10() - MEAN) / SCALE).reshape(frames_NF.shape[0], 2 * BANDS)


@torch.compiler.disable
@torch.no_grad()
def cepstra(batch: Batch, pad: int) -> Tensor:
    """(N, 39) float32: 13 MFCC, their deltas and the deltas' deltas, each the mean of a position's two windows.

    Args:
        batch: sequences of the form [CLS] … [SEP] [PAD]*. At special tokens the result means nothing.
        pad: the id of [PAD].
    """
    assert batch.frames_NF is not None
    use = constants(batch.frames_NF.device)
    with full_precision(batch.frames_NF.device):
        x_MK = (mel_power(batch.frames_NF) + CEPSTRAL_FLOOR).log() @ use.cosine_BK
    first_M, last_M = bounds(batch, pad)
    once_MK = delta(x_MK, first_M, last_M)
    all_MU = torch.cat([x_MK, once_MK, delta(once_MK, first_M, last_M)], dim=1)
    return all_MU.view(len(batch.values), 2, -1).mean(1)


def bounds(batch: Batch, pad: int) -> tuple[Tensor, Tensor]:
    """(2 N,) the first and the last window of the sequence that each window belongs to, special tokens left out."""
    filled = torch.nn.functional.pad((batch.values != pad).long().cumsum(0), (1, 0))
    starts_B, ends_B = batch.offsets_B1[:-1].long(), batch.offsets_B1[1:].long()
    size_B = filled[ends_B] - filled[starts_B]
    first_B = 2 * (starts_B + 1)
    last_B = torch.maximum(first_B, 2 * (starts_B + size_B - 1) - 1)
    ids_N = batch.sequence_ids_N()
    limit = 2 * len(batch.values) - 1  # of a last sequence without content
    return first_B[ids_N].clamp(max=limit).repeat_interleave(2), last_B[ids_N].clamp(max=limit).repeat_interleave(2)


def delta(x_MK: Tensor, first_M: Tensor, last_M: Tensor) -> Tensor:
    """(M, K) the slope of a line fitted to five windows; beyond a sequence's ends its first and last are repeated."""
    here_M = torch.arange(x_MK.shape[0], device=x_MK.device)
    total_MK = torch.zeros_like(x_MK)
    for step in range(1, SLOPE + 1):
        after_M = (here_M + step).clamp(max=last_M).clamp(min=first_M)
        before_M = (here_M - step).clamp(max=last_M).clamp(min=first_M)
        total_MK += step * (x_MK[after_M] - x_MK[before_M])
    return total_MK / (2 * sum(step**2 for step in range(1, SLOPE + 1)))
