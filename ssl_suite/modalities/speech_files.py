"""Sound files to 16 kHz, one channel, 16 bits: decoding by libsndfile in blocks, resampling by torchaudio's kernels.

Memory holds the undecoded file, one block and the result: two hours of 16 kHz speech end as 230 MB of samples.
What a header claims is never allocated; what decodes only in part is refused, because half a recording beside its
whole transcript teaches nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.limits import Limit
from ssl_suite.core.records import Record
from ssl_suite.modalities.base import Fault
from ssl_suite.modalities.tables import Wanted, read_encoded

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".parquet")
SOUNDS = Wanted(("audio", "wav", "flac", "bytes"), "sound", "bytes")
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "NIST", "AIFF", "AU", "CAF")

ID3, ID3_HEADER, ID3_FOOTER = b"ID3", 10, 0x10  # a tag that programs for music put before any kind of sound
ID3V1 = 128  # bytes of the older tag, at the end
RATE = 16_000  # samples a second of everything that leaves here
RATES = (4_000, 384_000)  # below, no speech is left; above, the header is damaged
CHANNELS = 64
BLOCK = 1 << 18  # samples decoded at a time, over all channels: 1 MB
MAPPED_FROM = 64 << 20  # bytes from which a file is mapped and not read
RATIO = 1000  # the largest number in a ratio of rates: 44,101 Hz is off by 4e-6 and needs no kernel of 2.8 GB
ZEROS = 16  # zero crossings of the resampling filter on each side; torchaudio's 6 leave images between 3.5 and 4.5 kHz
LOUDEST = 1e6  # of a float sample; a damaged one may be 1e38, and the sum of two of these is infinite
TOO_LOUD = 0.25  # with a larger share of samples beyond full scale, a file is not scaled to -1 … 1
MP3_SLACK = 1152  # samples, a frame: without a Xing header the length of an MP3 file is reckoned from its size
UNKNOWN = 1 << 62  # lengths from here on mean that a header claims none
STREAMED = 0x7FFF_0000  # from here on, the length in a WAV header stands for "written to a pipe"

HOURS = 4.0  # of one recording: 0.5 GB of samples, which silence in FLAC holds in 50 kB

Peak = Literal["clip", "normalise"]


def read(
    path: Path,
    fault: Fault,
    column: str | None = None,
    id_column: str | None = None,
    max_record_mb: int | None = None,
) -> Iterator[Record]:
    """The records of a parquet file with a column of sound files, or a sound file as its one record.

    ``data`` is what the file holds, undecoded (a large file is mapped and not read).

    Raises:
        BadRecord: it cannot be read, or is empty.
    """
    return read_encoded(path, fault, SOUNDS, column, id_column, Limit(max_record_mb), map_from=MAPPED_FROM)


class Bytes:
    """What libsndfile asks of a file, over bytes or a mapped file. No seek fails: a damaged header may ask for any
    place, and an exception inside libsndfile's callback would be printed with its traceback."""

    def __init__(self, data: Any) -> None:
        self.view, self.at = untagged(memoryview(data)), 0

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as there is data."""
        some = self.view[self.at : self.at + len(buffer)]
        memoryview(buffer)[: len(some)] = some
        self.at += len(some)
        return len(some)

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes."""
        begin, self.at = self.at, len(self.view) if size < 0 else min(self.at + size, len(self.view))
        return bytes(self.view[begin : self.at])

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, or as near to it as the file reaches."""
        place = offset + (0, self.at, len(self.view))[whence]
        self.at = min(max(place, 0), len(self.view))
        return self.at

    def tell(self) -> int:
        """The place."""
        return self.at

    def write(self, data: Any) -> int:
        """Nothing is written; libsndfile wants to see the method."""
        return 0


def untagged(data: memoryview) -> memoryview:
    """A file without the ID3 tags at its ends.

    libsndfile knows them around MP3; it counts the places of a WAV from the tag on, and one after FLAC is damage to it.
    """
    at = 0
    while bytes(data[at : at + 3]) == ID3 and len(data) >= at + ID3_HEADER:
        size = sum(byte << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=True))
        at += ID3_HEADER + size + (ID3_HEADER if data[at + 5] & ID3_FOOTER else 0)
        rest = bytes(data[at : at + BLOCK])
        at += len(rest) - len(rest.lstrip(b"\0"))  # padding that the tag's size leaves out
    return data[at : -ID3V1 if bytes(data[-ID3V1:][:3]) == b"TAG" else None]


def decode(record: Record, peak: Peak, hours: float = HOURS) -> tuple[bytearray, dict[str, int]]:
    """The int16 samples of a recording at 16 kHz, its channels averaged.

    Args:
        record: an undecoded file.
        peak: ``clip`` cuts what lies beyond full scale, ``normalise`` scales the loudest sample to full scale.
        hours: of the longest recording that is decoded.

    Returns:
        The samples' bytes in the machine's order, and counts of ``samples``, ``clipped`` samples, and of ``mixed``
        and ``resampled`` recordings.

    Raises:
        BadRecord: no sound file, damaged, cut short, empty, silent, or with a sample that is no number.
    """
    import soundfile

    out, beyond, total, lowest, highest = bytearray(), 0, 0, 0.0, 0.0
    try:
        with forward_only(soundfile.SoundFile)(Bytes(record.data)) as sound:
            check_header(record, sound)
            resampler = Resampler(sound.samplerate)
            for block_SC in blocks(sound):
                check_finite(record, block_SC, total)
                mono_S = block_SC.clip(-LOUDEST, LOUDEST).mean(axis=1)
                quiet, loud = float(mono_S.min()), float(mono_S.max())
                lowest, highest = (min(lowest, quiet), max(highest, loud)) if total else (quiet, loud)
                beyond += int(np.count_nonzero(np.abs(mono_S) > 1))
                total += len(block_SC)
                if total > hours * 3600 * sound.samplerate:
                    limit = f"has more hours than modality.max_hours={hours:g}"
                    raise bad(record, limit, "cut it into parts, or raise the key", "too long")
                out += samples(resampler(mono_S.clip(-1, 1) if peak == "clip" else mono_S), peak)
            out += samples(resampler.rest(), peak)
            check_whole(record, sound, total)
            rate, channels = sound.samplerate, sound.channels
    except soundfile.SoundFileError as error:
        raise undecodable(record, error) from None
    check_content(record, total, beyond if peak == "clip" else 0, lowest, highest)
    if peak == "normalise":
        out = normalised(out)
    counts = {"samples": len(out) // 2, "clipped": beyond if peak == "clip" else 0}
    return out, counts | {"mixed": int(channels > 1), "resampled": int(rate != RATE)}


@cache
def forward_only(base: Any) -> Any:
    """``soundfile.SoundFile``, which seeks to where it is after every read, without that: an Opus decoder is wound
    back by 80 ms for each, half the time of a short recording."""
    return type("ForwardOnly", (base,), {"seekable": lambda self: False})


def blocks(sound: Any) -> Iterator[np.ndarray]:
    """(samples, channels) float32 blocks until nothing more decodes."""
    size = max(1, BLOCK // sound.channels)
    read = size
    while read == size:
        block_SC = sound.read(size, dtype="float32", always_2d=True)
        read = len(block_SC)
        if read:
            yield block_SC


def samples(sound_S: np.ndarray, peak: Peak) -> memoryview:
    """A block as it is collected: int16, or float32 where the peak is not known before the end."""
    if peak == "normalise":
        return np.ascontiguousarray(sound_S, np.float32).data.cast("B")
    return np.rint(sound_S * 32768).clip(-32768, 32767).astype(np.int16).data.cast("B")


def normalised(out: bytearray) -> bytearray:
    """The int16 samples of collected float32 ones, the loudest at full scale."""
    sound_S = np.frombuffer(out, np.float32)
    scale = 32767 / max(float(np.abs(sound_S).max()), 1e-9)
    return bytearray(np.rint(sound_S * scale).astype(np.int16).data.cast("B"))


class Resampler:
    """Band-limited interpolation to 16 kHz, block by block: the samples that torchaudio gives for the whole signal.

    Args:
        rate: of the input. Its ratio to 16 kHz is rounded to one of numbers up to ``RATIO``.
    """

    def __init__(self, rate: int) -> None:
        self.old, self.new = ratio(rate)
        self.read = self.made = 0  # samples
        if self.old != self.new:
            self.kernel_P1K, self.width = kernel(self.old, self.new)
            self.waiting_S = np.zeros(self.width, np.float32)

    def __call__(self, sound_S: np.ndarray) -> np.ndarray:
        """What the samples so far determine and has not been given yet."""
        if self.old == self.new:
            return sound_S
        self.read += len(sound_S)
        return self._filter(sound_S)

    def rest(self) -> np.ndarray:
        """What is left when the input has ended."""
        if self.old == self.new:
            return np.zeros(0, np.float32)
        left = -(-self.new * self.read // self.old) - self.made
        return self._filter(np.zeros(self.width + self.old, np.float32))[:left]

    def _filter(self, sound_S: np.ndarray) -> np.ndarray:
        waiting_S = np.concatenate([self.waiting_S, sound_S])
        steps = max(0, (len(waiting_S) - self.kernel_P1K.shape[-1]) // self.old + 1)
        self.waiting_S = waiting_S[steps * self.old :]
        self.made += steps * self.new
        if not steps:
            return np.zeros(0, np.float32)
        made_1PM = torch.nn.functional.conv1d(torch.from_numpy(waiting_S)[None, None], self.kernel_P1K, stride=self.old)
        return made_1PM[0].T.reshape(-1).numpy()


def ratio(rate: int) -> tuple[int, int]:
    """(old, new) whole numbers in the ratio of ``rate`` to 16 kHz, neither above ``RATIO``."""
    if rate >= RATE:
        part = Fraction(RATE, rate).limit_denominator(RATIO)
        return part.denominator, part.numerator
    part = Fraction(rate, RATE).limit_denominator(RATIO)
    return part.numerator, part.denominator


@lru_cache(maxsize=16)
def kernel(old: int, new: int) -> tuple[Tensor, int]:
    """(new, 1, K) the filters of the ``new`` samples that ``old`` samples become, and how many they reach back."""
    import torchaudio

    made = torchaudio.transforms.Resample(old, new, lowpass_filter_width=ZEROS)
    return made.kernel, int(made.width)


def check_header(record: Record, sound: Any) -> None:
    """Refuse what cannot be a recording of speech."""
    low, high = RATES
    if sound.format not in FORMATS:
        raise bad(record, f"is a {sound.format} file", f"convert it to {SUFFIXES[0]} or {SUFFIXES[1]}", "format")
    if not low <= sound.samplerate <= high:
        fault = f"has {sound.samplerate:,} samples a second, not {low:,} to {high:,}"
        raise bad(record, fault, "check the file or convert it", "sample rate")
    if sound.channels > CHANNELS:
        raise bad(record, f"has {sound.channels} channels", f"convert it to at most {CHANNELS}", "channels")


def check_finite(record: Record, block_SC: np.ndarray, before: int) -> None:
    """Refuse NaN and infinite samples."""
    finite_SC = np.isfinite(block_SC)
    if not finite_SC.all():
        first = before + int(np.argmin(finite_SC.all(axis=1)))
        raise bad(
            record, f"sample {first} is no finite number (NaN or infinite)", "repair the recording", "NaN samples"
        )


def check_whole(record: Record, sound: Any, total: int) -> None:
    """Refuse a file that holds fewer samples than its header or its last page says, or that libsndfile mended."""
    claimed = sound.frames
    slack = MP3_SLACK if sound.format == "MP3" else 0
    if claimed < UNKNOWN and total < claimed - slack:
        raise bad(record, f"is damaged: {total:,} of {claimed:,} samples decode", "copy it again", "damaged")
    log = sound.extra_info  # what libsndfile noticed; a missing end-of-stream mark alone is common in whole files
    if sound.format == "OGG" and re.search(r"[Cc]orrupted|[Jj]unk|[Hh]ole", log):
        raise bad(record, "is truncated or damaged (pages of its Ogg stream are missing)", "copy it again", "damaged")
    short = re.search(r"^data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if short and int(short[2]) < int(short[1]) < STREAMED:
        fault = f"is truncated: {int(short[2]):,} of {int(short[1]):,} bytes of sound are there"
        raise bad(record, fault, "copy it again", "truncated")


def check_content(record: Record, total: int, beyond: int, lowest: float, highest: float) -> None:
    """Refuse recordings of nothing, and samples on another scale than -1 … 1."""
    if not total:
        raise bad(record, "holds no samples", "remove it", "no samples")
    if highest - lowest <= 1 / 32768:
        raise bad(record, f"is digital silence ({total:,} equal samples)", "remove it", "silence")
    if beyond > TOO_LOUD * total:
        fault = f"has {beyond / total:.0%} of its samples beyond full scale"
        raise bad(record, fault, "scale it to -1 … 1, or set modality.peak=normalise", "not scaled")


def undecodable(record: Record, error: Any) -> BadRecord:
    """The fault of a file that libsndfile gives up on."""
    text = str(getattr(error, "error_string", error)).strip().splitlines()
    return bad(
        record,
        f"cannot be decoded ({text[0].rstrip('.') if text else 'no reason given'})",
        "check that it is a sound file, or copy it again",
        "damaged",
    )


def bad(record: Record, fault: str, remedy: str, reason: str) -> BadRecord:
    """One line: file, record, fault, remedy."""
    return BadRecord(f"{record.source}: record '{record.name}' {fault}; {remedy}.", reason)
