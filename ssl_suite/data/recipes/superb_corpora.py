"""The official corpora of SUPERB, read from their folders as published, by torchaudio's data set classes.

Who is in which part, and what the labels are, is torchaudio's reading of the corpus' own lists (``get_metadata``); the
sound is the file's bytes, for ``__getitem__`` would need torchcodec. A table holds its whole corpus, in memory while it
is made: 1.5 to 2.5 GB, 7 GB for LibriSpeech.

    keywords    Speech Commands v0.01: ten words, _unknown_ and _silence_; test is the official test set's own archive
    intents     Fluent Speech Commands: action, object and location
    emotions    IEMOCAP: neutral, happy with excited, angry, sad; ``fold1`` … ``fold5`` hold out one session each
    transcripts LibriSpeech: train-clean-100, dev-clean and test-clean
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ssl_suite.core.errors import SuiteError
from ssl_suite.data.recipes import superb

LARGE = {"audio": pa.large_binary()}  # plain binary ends at 2 GB
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
TEST_SET = "speech_commands_test_set_v0.01"
KEPT_FOR_DEV = 5  # every fifth second of noise
FEELINGS = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}


def keywords(paths: list[Path]) -> pa.Table:
    """Clips and their ``word``; silence of train and dev are seconds of the corpus' noises, every fifth is dev's."""
    from torchaudio.datasets import SPEECHCOMMANDS

    lists = _one(paths, "validation_list.txt")
    base = lists.parent
    rows = []
    for part, subset in (("train", "training"), ("dev", "validation")):
        some = SPEECHCOMMANDS(base.parents[1], base.name + ".tar.gz", base.parent.name, subset=subset)
        for i in range(len(some)):
            place, _, word, speaker, _ = some.get_metadata(i)
            audio = (base.parent / place).read_bytes()
            word = word if word in WORDS else UNKNOWN
            rows.append({"id": place, "word": word, "speaker": speaker, "split": part, "audio": audio})
    seconds = [
        piece for path in paths if path.parent.name == NOISE and path.suffix == ".wav" for piece in _seconds(path)
    ]
    for i, audio in enumerate(seconds):
        part = "train" if i % KEPT_FOR_DEV else "dev"
        rows.append({"id": f"{NOISE}/{i}", "word": SILENCE, "speaker": None, "split": part, "audio": audio})
    for path in paths:
        if path.parents[1].name == TEST_SET and path.suffix == ".wav":
            place = f"{TEST_SET}/{path.parent.name}/{path.name}"
            speaker = path.name.partition("_nohash_")[0] if "_nohash_" in path.name else None
            rows.append({"id": place, "word": path.parent.name, "speaker": speaker, "split": "test"})
            rows[-1]["audio"] = path.read_bytes()
    return superb.table(rows, **LARGE)


def _seconds(path: Path) -> list[bytes]:
    """A recording in pieces of a second, as FLAC; what is left at its end is dropped."""
    import soundfile

    x_S, rate = soundfile.read(path, dtype="int16")
    found = []
    for start in range(0, len(x_S) - rate + 1, rate):
        out = io.BytesIO()
        soundfile.write(out, x_S[start : start + rate], rate, format="FLAC", subtype="PCM_16")
        found.append(out.getvalue())
    return found


def intents(paths: list[Path]) -> pa.Table:
    """Commands and the three slots of each, by the corpus' own parts."""
    from torchaudio.datasets import FluentSpeechCommands

    base, rows = _one(paths, "train_data.csv").parents[1], []
    for part, subset in (("train", "train"), ("dev", "valid"), ("test", "test")):
        some = FluentSpeechCommands(base.parent, subset)
        for i in range(len(some)):
            place, _, name, speaker, text, *slots = some.get_metadata(i)
            row = {"id": name, "speaker": speaker, "text": text, "split": part}
            row |= dict(zip(("action", "object", "location"), slots, strict=True))
            rows.append(row | {"audio": (base / place).read_bytes()})
    return superb.table(rows, **LARGE)


def emotions(paths: list[Path]) -> pa.Table:
    """Utterances of four ``emotion``; of the folds' columns each is test in one session and train in the others."""
    from torchaudio.datasets import IEMOCAP

    base = next((parent for path in paths for parent in path.parents if parent.name == "IEMOCAP"), None)
    if base is None:
        raise SuiteError("the corpus should lie in a folder called IEMOCAP, with Session1 to Session5 in it.")
    rows = []
    for session in range(1, 6):
        some = IEMOCAP(base.parent, (session,))
        for i in range(len(some)):
            place, _, name, label, _ = some.get_metadata(i)
            if label in FEELINGS:
                row = {"id": name, "emotion": FEELINGS[label], "speaker": f"{session}{name.rsplit('_', 1)[1][0]}"}
                row |= {f"fold{fold}": "test" if fold == session else "train" for fold in range(1, 6)}
                # torchaudio's path begins where "Session" first stands in it.
                rows.append(row | {"audio": (base / place[place.rindex(f"Session{session}") :]).read_bytes()})
    return superb.table(rows, **LARGE)


def transcripts(paths: list[Path]) -> pa.Table:
    """Utterances and their ``text``, capitals as they are published."""
    from torchaudio.datasets import LIBRISPEECH

    rows = []
    for name, part in (("train-clean-100", "train"), ("dev-clean", "dev"), ("test-clean", "test")):
        place = next((path.parents[2] for path in paths if path.parents[2].name == name), None)
        if place is None:
            raise SuiteError(f"LibriSpeech: {name} is not among the files.")
        some = LIBRISPEECH(place.parents[1], name, place.parent.name)
        for i in range(len(some)):
            file, _, text, speaker, chapter, number = some.get_metadata(i)
            row = {"id": f"{speaker}-{chapter}-{number:04d}", "speaker": str(speaker), "text": text, "split": part}
            rows.append(row | {"audio": (place.parent / file).read_bytes()})
    return superb.table(rows, **LARGE)


def _one(paths: Sequence[Path], name: str) -> Path:
    """The file of that name."""
    found = next((path for path in paths if path.name == name), None)
    if found is None:
        raise SuiteError(f"{name} is not among the corpus' files; unpack its archive whole.")
    return found
