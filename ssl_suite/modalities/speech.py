"""Speech: sound files to 20 ms of 16 kHz samples a position, log-mel features on the device, and random views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import FaultCounter
from ssl_suite.core.records import Encoded, Frame, Record
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import speech_features, speech_files, speech_views
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.modalities.speech_features import BANDS, HOP, POSITION, WINDOW
from ssl_suite.modalities.speech_files import RATE, Peak

NOISE_MINUTES = 10  # of noise files held on the device: 38 MB


class Speech(SignalModality):
    """Recorded speech.

    Args:
        peak: samples beyond full scale are cut (``clip``), or every recording is scaled to it (``normalise``).
        max_hours: a longer recording is a fault: a small file may decode to gigabytes.
        max_length: positions of a window, [CLS] and [SEP] included; 50 a second.
        overlap: positions that neighbouring windows of a long recording share.
        codes: entries of the codebook.
        units: what it is fitted to, see ``SignalModality``; ``signal`` means MFCC.
        crop: of ``augment``: the smallest share of a sequence that is kept; 1 keeps all.
        gain: of ``augment``: decibels by which a sequence becomes at most louder or quieter.
        noise: of ``augment``: a folder of noise recordings, or None for generated noise.
        noise_rate: of ``augment``: the probability that noise is added to a sequence.
        snr_low, snr_high: of ``augment``: bounds of the signal-to-noise ratio in decibels.
        time_masks, time_width: of ``augment``: how many stretches are silenced, each at most this share of a sequence.
        frequency_masks, frequency_width: of ``augment``: how many bands are filtered out, each at most this wide in
            80ths of the mel scale up to 8 kHz.
    """

    name = "speech"
    suffixes = speech_files.SUFFIXES
    parallel_from = 8 << 20  # an hour of Opus, 10 s of decoding

    def __init__(
        self,
        peak: Peak = "clip",
        max_hours: float = speech_files.HOURS,
        max_length: int = 512,
        overlap: int = 0,
        codes: int = 100,
        units: str = "signal",
        crop: float = 0.5,
        gain: float = 6.0,
        noise: str | None = None,
        noise_rate: float = 0.5,
        snr_low: float = 5.0,
        snr_high: float = 20.0,
        time_masks: int = 2,
        time_width: float = 0.1,
        frequency_masks: int = 2,
        frequency_width: int = 27,
    ) -> None:
        self.frame = Frame("int16", POSITION, features=2 * BANDS)
        self._units(codes, units)
        self.peak: Peak = peak
        self.max_hours = max_hours
        self.max_length, self.overlap, self.noise = max_length, overlap, noise
        self.views = speech_views.ViewSettings(
            crop, gain, noise_rate, snr_low, snr_high, time_masks, time_width, frequency_masks, frequency_width
        )
        self._check()
        self._noise: Tensor | None = None
        self._noise_on: dict[torch.device, Tensor] = {}

    def _check(self) -> None:
        use = self.views
        rules = (
            (0 < use.crop <= 1, "crop", "above 0 and at most 1"),
            (0 <= use.gain <= 60, "gain", "between 0 and 60 dB"),
            (0 <= use.noise_rate <= 1, "noise_rate", "between 0 and 1"),
            (-30 <= use.snr_low <= 100, "snr_low", "between -30 and 100 dB"),
            (use.snr_low <= use.snr_high <= 100, "snr_high", f"between snr_low = {use.snr_low} and 100 dB"),
            (0 <= use.time_masks <= 20, "time_masks", "between 0 and 20"),
            (0 <= use.time_width <= 1, "time_width", "between 0 and 1"),
            (0 <= use.frequency_masks <= 20, "frequency_masks", "between 0 and 20"),
            (0 <= use.frequency_width <= BANDS, "frequency_width", f"between 0 and {BANDS}"),
        )
        for right, key, expected in rules:
            if not right:
                raise SuiteError(f"modality.{key}={getattr(use, key)} should be {expected}.")

    read = staticmethod(speech_files.read)

    def encode(self, record: Record) -> Encoded:
        """(positions, 320) int16 at 16 kHz, the last position filled up with zeros.

        Raises:
            BadRecord: see ``speech_files.decode``.
        """
        sound, counts = speech_files.decode(record, self.peak, self.max_hours)
        sound += bytes(-len(sound) % (2 * POSITION))
        return Encoded(np.frombuffer(sound, np.int16).reshape(-1, POSITION), counts)

    def features(self, batch: Batch) -> Tensor:
        """(N, 160) log-mel features, see ``speech_features``."""
        assert batch.frames_NF is not None
        return speech_features.log_mel(batch.frames_NF)

    def unit_features(self, batch: Batch) -> Tensor:
        """(N, 39) MFCC with deltas, of which HuBERT's first units are made (Hsu et al. 2021, arXiv:2106.07447)."""
        return speech_features.cepstra(batch, self.vocabulary.pad)

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """Crop, noise, gain, time and frequency masks, see ``speech_views``."""
        return speech_views.view(batch, rng, self.vocabulary, self.views, self._noise_tensor(batch.values.device))

    def _noise_tensor(self, device: torch.device) -> Tensor:
        if device not in self._noise_on:  # copied once: a copy from pageable memory would wait for the device
            if self._noise is None:
                self._noise = speech_views.made_noise() if self.noise is None else self._recorded_noise(self.noise)
            self._noise_on[device] = self._noise.to(device)
        return self._noise_on[device]

    def _recorded_noise(self, folder: str) -> Tensor:
        """(A, 320) the recordings of a folder (or a file) end to end, each of unit power."""
        base = Path(folder).expanduser()
        found = sorted(base.rglob("*")) if base.is_dir() else [base]
        paths = [path for path in found if path.name.lower().endswith(self.suffixes) and path.is_file()]
        if not paths:
            raise SuiteError(f"modality.noise={folder}: holds no sound file; name a folder of recordings, or set null.")
        parts: list[Tensor] = []
        room = NOISE_MINUTES * 60 * RATE // POSITION
        records = (record for path in paths for record in self.read(path, FaultCounter("stop")))
        while room > 0 and (record := next(records, None)) is not None:
            part = torch.from_numpy(self.encode(record).values[:room].astype(np.float32))
            parts.append(part / part.square().mean().sqrt().clamp(min=1))
            room -= len(part)
        return torch.cat(parts)

    def fingerprint(self) -> dict[str, Any]:
        """The settings that change samples."""
        found = {"name": self.name, "rate": RATE, "position": POSITION, "peak": self.peak, "zeros": speech_files.ZEROS}
        return found if self.max_hours == speech_files.HOURS else found | {"max_hours": self.max_hours}

    def settings(self) -> dict[str, Any]:
        """How samples become features, in the words of ``transformers``' feature extractors where it has them."""
        return self.fingerprint() | {
            "sampling_rate": RATE,
            "feature_size": BANDS,
            "n_fft": WINDOW,
            "hop_length": HOP,
            "mel_scale": "slaney",
            "floor": speech_features.FLOOR,
            "mean": speech_features.MEAN,
            "scale": speech_features.SCALE,
            "stacked": 2,
        }
