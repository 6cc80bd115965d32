"""Speech: sound files to 20 ms of 16 kHz samples a position, log-mel features on the device, and random views."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import FaultCounter
from ssl_suite.core.records import Encoded, Frame, Record
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import STRICT, Share
from ssl_suite.modalities import speech_features, speech_files, speech_views
from ssl_suite.modalities.signals import Codes, SignalModality
from ssl_suite.modalities.speech_features import BANDS, HOP, POSITION, WINDOW
from ssl_suite.modalities.speech_files import RATE, Peak

NOISE_MINUTES = 10  # of noise files held on the device: 38 MB


@dataclass(config=STRICT, eq=False)
class Speech(SignalModality):
    """Recorded speech."""

    peak: Peak = "clip"
    """Samples beyond full scale are cut (``clip``), or every recording is scaled to it (``normalise``)."""
    max_hours: float = speech_files.HOURS
    """Longer recordings are faults: a small file may decode to gigabytes."""
    max_length: int = 512
    """Positions of a window, [CLS] and [SEP] included; 50 a second."""
    overlap: int = 0
    """Positions that neighbouring windows of a long recording share."""
    codes: Codes = 100
    """Entries of the codebook of units."""
    units: str = "signal"
    """k-means on: ``signal`` (MFCC) or ``run:PATH@LAYER`` (states of a run's encoder)."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Views: smallest share of a sequence that is kept; 1 keeps all."""
    gain: Annotated[float, Field(ge=0, le=60)] = 6.0
    """Views: at most this much louder or quieter, dB."""
    noise: str | None = None
    """Views: folder of noise recordings; null for generated noise, white and pink."""
    noise_rate: Share = 0.5
    """Views: probability of noise for each sequence."""
    snr_low: Annotated[float, Field(ge=-30, le=100)] = 5.0
    """Views: lowest signal-to-noise ratio, dB."""
    snr_high: Annotated[float, Field(le=100)] = 20.0
    """Views: highest signal-to-noise ratio, dB."""
    time_masks: Annotated[int, Field(ge=0, le=20)] = 2
    """Views: stretches that are silenced."""
    time_width: Share = 0.1
    """Views: longest such stretch, share of the sequence."""
    frequency_masks: Annotated[int, Field(ge=0, le=20)] = 2
    """Views: bands that are filtered out."""
    frequency_width: Annotated[int, Field(ge=0, le=BANDS)] = 27
    """Views: widest such band, in 80ths of the mel scale up to 8 kHz."""

    name = "speech"
    suffixes = speech_files.SUFFIXES
    parallel_from = 8 << 20  # an hour of Opus, 10 s of decoding

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.snr_high < self.snr_low:
            raise SuiteError(
                f"modality.snr_high={self.snr_high} should be between snr_low = {self.snr_low} and 100 dB."
            )
        self.frame = Frame("int16", POSITION, features=2 * BANDS)
        self._noise: Tensor | None = None
        self._noise_on: dict[torch.device, Tensor] = {}

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
        return speech_views.view(batch, rng, self.vocabulary, self, self._noise_tensor(batch.values.device))

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
        hours = int(self.max_hours) if self.max_hours.is_integer() else self.max_hours  # as it is mostly written
        return found if hours == speech_files.HOURS else found | {"max_hours": hours}

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
