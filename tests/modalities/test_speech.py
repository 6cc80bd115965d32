"""Sound files to samples: decoding, resampling, and what is refused."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.core.resources import folder
from ssl_suite.modalities import speech_files
from ssl_suite.modalities.speech import Speech
from tests.modalities.made_speech import FORMATS, encoded, record, sound_file, tone


def stop(error: SuiteError) -> None:
    raise error


def as_int16(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_lossless_files_keep_their_samples(suffix: str) -> None:
    samples = as_int16(tone(0.513))
    values = encoded(sound_file(samples, 16_000, *FORMATS[suffix]))
    assert values.dtype == np.int16 and values.shape == (26, 320)  # 8,208 samples are 25.65 positions
    assert np.array_equal(values.reshape(-1)[: len(samples)], samples)
    assert not values.reshape(-1)[len(samples) :].any()


@pytest.mark.parametrize(("suffix", "least"), [(".opus", 20.0), (".mp3", 20.0)])
def test_lossy_files_come_close(suffix: str, least: float) -> None:
    samples = tone(1.0)
    got = encoded(sound_file(samples, 16_000, *FORMATS[suffix])).reshape(-1)[:16_000] / 32768
    error = got[1000:-1000] - samples[1000:-1000]  # an MP3 decoder needs some samples to settle
    assert 10 * np.log10((samples**2).mean() / (error**2).mean()) > least  # decibels


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("block", [1 << 18, 1000])
def test_resampling_in_blocks_equals_torchaudio_on_the_whole(rate: int, block: int, monkeypatch) -> None:
    from torchaudio.functional import resample

    monkeypatch.setattr(speech_files, "BLOCK", block)
    samples = tone(0.7, rate).astype(np.float32)
    got = encoded(sound_file(samples, rate, "WAV", "FLOAT")).reshape(-1)
    exact = torch.from_numpy(samples).double()  # for float32 it makes a kernel that is off by 1e-5
    wanted = resample(exact, rate, 16_000, lowpass_filter_width=speech_files.ZEROS).numpy()
    assert len(got) == -(-len(wanted) // 320) * 320
    assert np.abs(got[: len(wanted)] - wanted * 32768).max() < 0.53  # half a step of rounding and that of float32
    assert not got[len(wanted) :].any()


def test_a_tone_keeps_its_pitch_and_images_are_gone() -> None:
    for rate in (8_000, 44_101, 48_000):  # 44,101 and 16,000 share no factor
        got = encoded(sound_file(tone(1.0, rate, hertz=1000), rate)).reshape(-1)[:16_000] / 32768
        power = np.abs(np.fft.rfft(got * np.hanning(16_000))) ** 2
        assert abs(int(power.argmax()) - 1000) <= 1
        assert rate != 8_000 or power[4400:].sum() < 1e-6 * power.sum()


@pytest.mark.parametrize("rate", [44_101, 47_999, 16_001, 4_001, 383_999])
def test_odd_rates_have_small_kernels_and_nearly_their_own_ratio(rate: int) -> None:
    old, new = speech_files.ratio(rate)
    assert max(old, new) <= speech_files.RATIO
    assert abs(old / new / (rate / 16_000) - 1) < 5e-4
    assert old == new or speech_files.kernel(old, new)[0].numel() < 4e6
    values = encoded(sound_file(tone(0.5, rate), rate))
    assert abs(values.size / 8000 - 1) < 0.05


def test_two_channels_at_96_khz_become_their_mean() -> None:
    left, right = tone(0.5, 96_000, 300), tone(0.5, 96_000, 700)
    modality = Speech()
    both = modality.encode(record(sound_file(np.stack([left, right], 1), 96_000, "WAV", "FLOAT")))
    mean = encoded(sound_file((left + right) / 2, 96_000, "WAV", "FLOAT"))
    assert np.abs(both.values.astype(int) - mean).max() <= 1
    assert both.counts == {"samples": 8000, "clipped": 0, "mixed": 1, "resampled": 1}


def test_peaks_are_cut_or_scaled() -> None:
    loud = tone(0.5, level=1.4).astype(np.float32)
    modality = Speech()
    result = modality.encode(record(sound_file(loud, 16_000, "WAV", "FLOAT")))
    assert np.array_equal(result.values.reshape(-1)[:8000], as_int16(loud))
    assert result.counts["clipped"] == np.count_nonzero(np.abs(loud) > 1) > 0
    scaled = encoded(sound_file(loud * 9000, 16_000, "WAV", "FLOAT"), peak="normalise").reshape(-1)[:8000]
    assert np.abs(scaled - loud / np.abs(loud).max() * 32767).max() < 0.6
    with pytest.raises(BadRecord, match=r"beyond full scale; scale it to -1 … 1, or set modality\.peak=normalise"):
        encoded(sound_file(loud * 9000, 16_000, "WAV", "FLOAT"))


def wav(samples: bytes, rate: int = 16_000, channels: int = 1, claimed: int | None = None) -> bytes:
    size = len(samples) if claimed is None else claimed
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels % 2**32, 2 * channels, 16)
    return b"".join(
        [b"RIFF", struct.pack("<I", min(size + 36, 2**32 - 1)), b"WAVEfmt ", struct.pack("<I", 16), form]
    ) + (b"data" + struct.pack("<I", size) + samples)


GOOD = as_int16(tone(0.5)).tobytes()
NAN, INFINITE = tone(0.5), tone(0.5)
NAN[4321], INFINITE[77] = np.nan, -np.inf
BAD = {
    "no samples": (wav(b""), "holds no samples"),
    "silence": (wav(bytes(16_000)), r"is digital silence \(8,000 equal samples\)"),
    "NaN samples": (sound_file(NAN, 16_000, "WAV", "FLOAT"), "sample 4321 is no finite number"),
    "infinite": (sound_file(INFINITE, 16_000, "WAV", "DOUBLE"), "sample 77 is no finite number"),
    "slow": (wav(GOOD, 3_999), "has 3,999 samples a second, not 4,000 to 384,000"),
    "fast": (wav(GOOD, 500_000), "has 500,000 samples a second"),
    "channels": (wav(GOOD, channels=100), "has 100 channels"),
    "truncated": (wav(GOOD[:9000], claimed=16_000), "is truncated: 9,000 of 16,000 bytes"),
    "text": (b"once upon a time\n" * 50, "cannot be decoded"),
    "another format": (sound_file(tone(0.5), 16_000, "MAT5"), "is a MAT5 file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_recordings_are_refused_in_one_line(kind: str) -> None:
    data, message = BAD[kind]
    with pytest.raises(BadRecord, match=f"^x.wav: record 'r' .*{message}.*; .*\\.$") as error:
        encoded(data)
    assert "\n" not in str(error.value) and error.value.reason
    if kind == "NaN samples":
        with pytest.raises(BadRecord, match="sample 4321"):
            encoded(data, peak="normalise")


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**31 - 1])
def test_a_wav_header_written_to_a_pipe_is_believed_only_as_far_as_there_is_data(claimed: int) -> None:
    assert np.array_equal(encoded(wav(GOOD, claimed=claimed)).reshape(-1)[:8000], np.frombuffer(GOOD, np.int16))


@pytest.mark.parametrize("suffix", [".flac", ".opus", ".mp3"])
def test_what_decodes_only_in_part_is_refused(suffix: str) -> None:
    data = sound_file(tone(3.0), 16_000, *FORMATS[suffix])
    encoded(data)
    half = len(data) // 2
    damaged = [data[: len(data) * 2 // 3], data[:half] + data[half + 500 :]]
    if suffix != ".mp3":  # an MP3 has no check sums: a flipped bit is another sound
        damaged.append(data[:half] + bytes([data[half] ^ 16]) + data[half + 1 :])
    for some in damaged:
        with pytest.raises(BadRecord, match=r"damaged|cannot be decoded") as error:
            encoded(some)
        assert error.value.reason == "damaged"


def test_an_opus_file_without_its_end_mark_is_whole() -> None:
    """opusenc leaves the mark out now and then; the last page then ends with a whole packet (480 samples at 48 kHz)."""
    data = bytearray(sound_file(tone(2.5), 16_000, *FORMATS[".opus"]))
    whole = encoded(bytes(data))
    last = data.rindex(b"OggS")
    assert data[last + 5] & 4
    data[last + 5] &= ~4
    length = struct.unpack("<q", data[last + 6 : last + 14])[0]
    data[last + 6 : last + 14] = struct.pack("<q", -(-length // 480) * 480)
    data[last + 22 : last + 26] = bytes(4)
    data[last + 22 : last + 26] = struct.pack("<I", ogg_checksum(data[last:]))
    assert np.array_equal(encoded(bytes(data))[: len(whole) - 1], whole[:-1])


def ogg_checksum(page: bytearray) -> int:
    """RFC 3533: CRC-32 by 0x04c11db7, most significant bit first, from zero."""
    total = 0
    for byte in page:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1 ^ (0x04C11DB7 if total >> 31 else 0)) & 0xFFFFFFFF
    return total


def test_a_file_is_one_record_named_by_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "hello.there.flac"
    path.write_bytes(sound_file(tone(0.5), 16_000, "FLAC"))
    (only,) = Speech().read(path, stop)
    assert (only.name, only.source, only.tags) == ("hello.there", str(path), {})
    assert only.data == path.read_bytes()
    assert len(Speech().encode(only).values) == 25


def test_a_large_file_is_mapped_and_gives_the_same(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(sound_file(tone(0.5)))
    (small,) = Speech().read(path, stop)
    monkeypatch.setattr(speech_files, "MAPPED_FROM", 1000)
    (large,) = Speech().read(path, stop)
    assert not isinstance(large.data, bytes)
    assert np.array_equal(Speech().encode(large).values, Speech().encode(small).values)


def test_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.parquet").touch()
    for name, message in (("a.wav", "is empty"), ("b.parquet", "is empty"), ("c.wav", "cannot be read")):
        with pytest.raises(BadRecord, match=f"{name}: {message}"):
            list(Speech().read(tmp_path / name, stop))


@pytest.mark.parametrize("pairs", [False, True])
def test_parquet_columns_of_files(tmp_path: Path, pairs: bool) -> None:
    sounds = [sound_file(tone(0.5, hertz=200 + 100 * i), 16_000, *FORMATS[".opus"]) for i in range(3)]
    column = [{"bytes": sound, "path": None} for sound in sounds] if pairs else sounds
    table = {"id": ["a", "b", "c"], "audio": column, "speaker": [19, 26, 27], "split": ["train", "train", "test"]}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(table), path)
    records = list(Speech().read(path, stop))
    assert [(r.name, r.data, r.tags) for r in records] == [
        (name, sound, {"speaker": speaker, "split": split})
        for name, sound, speaker, split in zip(
            "abc", sounds, ("19", "26", "27"), ("train", "train", "test"), strict=True
        )
    ]
    named = list(Speech().read(path, stop, column="audio", id_column="row"))
    assert [r.name for r in named] == ["row1", "row2", "row3"]
    with pytest.raises(SuiteError, match="'speaker' holds int64, not encoded files"):
        list(Speech().read(path, stop, column="speaker"))


def test_rows_without_sound_are_counted(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"audio": pa.array([sound_file(tone(0.5)), None, b""], pa.binary())}), tmp_path / "t.parquet"
    )
    faults = FaultCounter("skip")
    assert len(list(Speech().read(tmp_path / "t.parquet", faults))) == 1
    assert dict(faults.counts) == {"no sound": 2}


def test_pickles_and_writes_what_a_reader_needs(tmp_path: Path) -> None:
    modality = pickle.loads(pickle.dumps(Speech()))
    modality.save(tmp_path)
    assert '"sampling_rate": 16000' in (tmp_path / "preprocessor_config.json").read_text()
    modality.load(tmp_path)
    assert modality.codebook is None
    assert modality.identity(encoded(wav(GOOD))) == modality.identity(encoded(wav(GOOD)))
    assert modality.identity(encoded(wav(GOOD))) != modality.identity(encoded(wav(GOOD[2:])))


def test_a_long_recording_is_decoded_in_flat_memory() -> None:
    """A hundred seconds of two channels at 48 kHz: 38 MB of float32 samples, of which 3 MB of result remain."""
    import tracemalloc

    second = np.stack([tone(1.0, 48_000), tone(1.0, 48_000, 500)], 1)
    data = sound_file(np.tile(as_int16(second), (100, 1)), 48_000, "FLAC")
    tracemalloc.start()
    values = encoded(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.shape == (5_000, 320)
    assert peak < 2 * values.nbytes + 12 * (1 << 20)


def test_the_built_in_sample() -> None:
    (path,) = sorted((folder("samples") / "speech").glob("*.parquet"))
    assert path.stat().st_size < 900_000
    modality = Speech()
    records = list(modality.read(path, stop))
    assert len(records) == 160
    assert {r.tags["language"] for r in records} == {"en", "es", "fr", "it", "ru"}
    assert len({r.tags["speaker"] for r in records}) == 4
    some = records[::16]
    lengths = [len(modality.encode(r).values) for r in some]
    assert min(lengths) > 40 and max(lengths) < 400


@pytest.mark.shared
def test_every_recording_at_hand_decodes() -> None:
    import os

    import soundfile

    modality, seconds = Speech(), 0.0
    for path in sorted((Path(os.environ["SSL_DATA_DIR"]) / "media" / "speech").glob("*.parquet")):
        for number, r in enumerate(modality.read(path, stop, id_column="row")):
            if number % 25 == 0:
                duration = soundfile.info(io.BytesIO(r.data)).duration
                assert abs(len(modality.encode(r).values) - duration * 50) <= 1
                seconds += duration
    assert seconds > 500
