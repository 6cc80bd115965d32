"""Random views of speech batches on the device, no loop over sequences and no host synchronisation.

In this order: crop, additive noise, gain, then SpecAugment (Park et al. 2019, arXiv:1904.08779). A batch carries
samples and not spectra, so a time mask sets samples to zero, and a frequency mask is a band-stop filter: overlapping
40 ms sine windows, their spectra without the masked band, and back by overlap-add (the windows' squares add up to 1,
so what is not masked comes back as it was). The log-mel features then show the mask as SpecAugment would set it.

Shapes: N positions, B sequences, F = 320 samples, A frames of noise, C = 321 frequencies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import views
from ssl_suite.modalities.speech_features import BANDS, POSITION

if TYPE_CHECKING:
    from ssl_suite.modalities.speech import Speech

FULL = 32768  # int16 full scale
NOISE_SECONDS = 20  # of each colour of generated noise


@torch.no_grad()
def view(batch: Batch, rng: Rng, vocabulary: Vocabulary, use: Speech, noise_AF: Tensor) -> Batch:
    """One random view: same N, B and offsets.

    Args:
        batch: sequences of the form [CLS] … [SEP] [PAD]*; all-padding and empty sequences stay as they are.
        rng: of the batch's rows.
        vocabulary: for the special tokens.
        use: for its settings of views.
        noise_AF: noise of about unit power, frames that follow each other in time.
    """
    assert batch.frames_NF is not None
    values_N, from_N, kept_B = crop(batch, rng, vocabulary, use.crop)
    ids_N, place_N = batch.sequence_ids_N(), batch.positions_N() - 1
    inside_N = (place_N >= 0) & (place_N < kept_B[ids_N])
    x_NF = torch.where(inside_N[:, None], batch.frames_NF[from_N].float(), 0.0)
    each = kept_B.shape[0] // batch.rows
    scale_B, start_B = noise_draws(x_NF, batch, rng, use, kept_B, noise_AF.shape[0])
    added_NF = noise_AF[(start_B[ids_N] + place_N) % noise_AF.shape[0]]
    x_NF = x_NF + added_NF * (scale_B[ids_N] * inside_N)[:, None]
    x_NF = x_NF * torch.exp((2 * rng.uniform(each) - 1) * (use.gain * math.log(10) / 20))[ids_N][:, None]
    if use.frequency_masks:
        x_NF = band_stop(x_NF, ids_N, frequency_masks(rng, each, use))
    heard_N = inside_N & ~time_masks(rng, each, use, kept_B, ids_N, place_N)
    x_NF = torch.where(heard_N[:, None], x_NF, 0.0)
    return batch.with_values(values_N, x_NF.round().clamp(-FULL, FULL - 1).to(batch.frames_NF.dtype))


def crop(batch: Batch, rng: Rng, vocabulary: Vocabulary, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a random stretch of positions out of every sequence, as ``views.crop_and_turn`` does for tokens.

    The stretch moves to its slot's start, [CLS] stretch [SEP], and what is left over becomes [PAD].

    Args:
        share: the smallest share that is kept, in (0, 1]; the length is uniform between it and all.

    Returns:
        values_N: (N,) ids. from_N: (N,) int64, where the content of each position comes from. kept_B: (B,) int64.
    """
    size_B, begin_B, kept_B = views.stretches(batch, rng, vocabulary, share)
    values_N, from_N, _ = views.moved(batch, vocabulary, size_B, begin_B, kept_B)
    return values_N, from_N, kept_B


def noise_draws(
    x_NF: Tensor, batch: Batch, rng: Rng, use: Speech, kept_B: Tensor, frames: int
) -> tuple[Tensor, Tensor]:
    """(B,) the amplitude of each sequence's noise, 0 for those without, and (B,) the frame of the noise to begin with.

    The signal-to-noise ratio is uniform in decibels; the signal's power is the mean over its stretch.
    """
    # Differences of one running sum: index_add_ would add in another order each time on CUDA.
    energy = torch.nn.functional.pad(x_NF.square().sum(1, dtype=torch.float64).cumsum(0), (1, 0))
    energy_B = energy[batch.offsets_B1[1:].long()] - energy[batch.offsets_B1[:-1].long()]
    power_B = (energy_B / (kept_B.clamp(min=1) * POSITION)).float()
    each = kept_B.shape[0] // batch.rows
    ratio_B = use.snr_low + (use.snr_high - use.snr_low) * rng.uniform(each)
    noisy_B = rng.uniform(each) < use.noise_rate
    scale_B = torch.sqrt(power_B * torch.exp(ratio_B * (-math.log(10) / 10))) * noisy_B
    return scale_B, rng.integers(each, 0, frames)


def time_masks(rng: Rng, each: int, use: Speech, kept_B: Tensor, ids_N: Tensor, place_N: Tensor) -> Tensor:
    """(N,) bool, True where a time mask lies: widths uniform up to a share of the stretch, whole positions."""
    masked_N = torch.zeros_like(place_N, dtype=torch.bool)
    for _ in range(use.time_masks):
        width_B = (rng.uniform(each) * ((kept_B * use.time_width).floor() + 1)).long()
        begin_B = (rng.uniform(each) * (kept_B - width_B + 1)).long()
        masked_N = masked_N | ((place_N >= begin_B[ids_N]) & (place_N < (begin_B + width_B)[ids_N]))
    return masked_N


def frequency_masks(rng: Rng, each: int, use: Speech) -> Tensor:
    """(B, C) float, 0 where a frequency mask lies and 1 elsewhere; places and widths are uniform in mel bands."""
    first = None
    for _ in range(use.frequency_masks):
        width_B = rng.uniform(each) * use.frequency_width
        begin_B = rng.uniform(each) * (BANDS - width_B)
        bands_C = frequency_bands(width_B.device)
        kept_BC = (bands_C < begin_B[:, None]) | (bands_C >= (begin_B + width_B)[:, None])
        first = kept_BC if first is None else first & kept_BC
    assert first is not None
    return first.float()


def frequency_bands(device: torch.device) -> Tensor:
    """(C,) the place of each frequency of a 640-sample window on the Slaney mel scale, 8 kHz at 80 bands."""
    hertz_C = torch.arange(POSITION + 1, device=device) * (8000 / POSITION)
    linear_C = hertz_C * (3 / 200)
    curved_C = 15 + torch.log(hertz_C.clamp(min=1000) / 1000) * (27 / math.log(6.4))
    top = 15 + math.log(8) * 27 / math.log(6.4)
    return torch.where(hertz_C < 1000, linear_C, curved_C) * (BANDS / top)


def band_stop(x_NF: Tensor, ids_N: Tensor, kept_BC: Tensor) -> Tensor:
    """The signal without the frequencies that its sequence's mask leaves out. Special positions must be silent."""
    at = torch.arange(2 * POSITION, device=x_NF.device)
    window = torch.sin((at + 0.5) * (math.pi / (2 * POSITION)))
    silence_1F = torch.zeros_like(x_NF[:1])
    before, after = torch.cat([silence_1F, x_NF]), torch.cat([x_NF, silence_1F])
    # Window i holds positions i - 1 and i; where these are of two sequences, both are silent ([SEP], [CLS] or [PAD]).
    ids = torch.cat([ids_N, ids_N[-1:]])
    spectra = torch.fft.rfft(torch.cat([before, after], dim=1) * window) * kept_BC[ids]
    parts = torch.fft.irfft(spectra, n=2 * POSITION) * window
    return parts[:-1, POSITION:] + parts[1:, :POSITION]


def made_noise() -> Tensor:
    """(A, F) float32 of unit power: white noise, then pink (power falls as 1 / f), the same on every machine."""
    n = NOISE_SECONDS * 50 * POSITION
    rng = Rng(seed=0, step=0, rows_R=torch.zeros(1, dtype=torch.int64))
    white, other = rng.normal(n), rng.normal(n)
    spectrum = torch.fft.rfft(other)
    spectrum[0] = 0
    pink = torch.fft.irfft(spectrum / torch.arange(len(spectrum)).clamp(min=n // 800).sqrt(), n=n)  # flat below 20 Hz
    return torch.cat([part / part.square().mean().sqrt() for part in (white, pink)]).view(-1, POSITION)
