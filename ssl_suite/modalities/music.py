"""Music: MIDI files to REMI, TSD or pitch tokens, and their random views."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from ssl_suite.core import atomic
from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import Encoded, Record, Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import STRICT, Share
from ssl_suite.modalities import music_decode, music_files, music_tokens, music_views
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.music_bpe import Bpe

FIRST = music_tokens.FIRST
GRAM = 8  # intervals of a near-duplicate feature: two pieces by one composer share few, two copies most
FEWEST = 16  # intervals by which a piece is known; below, all of its tokens count


@dataclass(config=STRICT, eq=False)
class Music(Modality):
    """Symbolic music."""

    tokenizer: Literal["remi", "tsd", "pitch"] = "remi"
    """``remi`` (bars and positions), ``tsd`` (time shifts) or ``pitch`` (one token a note, percussion left out)."""
    resolution: Literal[4, 8, 12, 16, 24] = 12
    """Grid steps of a beat; 12 holds sixteenths and triplets. Not for ``pitch``."""
    programs: Literal["change", "note", "none"] = "change"
    """A Program token where the instrument ``change``s or before every ``note``; ``none`` reads all instruments as one
    and leaves percussion out."""
    velocities: Annotated[int, Field(ge=0, le=127)] = 32
    """Levels of loudness; 0 leaves it out."""
    tempos: Annotated[int, Field(ge=0, le=256)] = 32
    """Levels of tempo between 20 and 250 a minute; 0 leaves it out."""
    vocab_size: int | None = None
    """Tokens of a BPE that miditok trains on the training split (remi, tsd), special tokens included; null for
    none."""
    max_length: int = 256
    """Positions of a window, [CLS] and [SEP] included."""
    overlap: int = 0
    """Tokens that neighbouring windows of a long piece share."""
    transpose_down: Annotated[int, Field(ge=0, le=60)] = 6
    """Views: semitones at most (not for BPE)."""
    transpose_up: Annotated[int, Field(ge=0, le=60)] = 5
    """Views: semitones at most (not for BPE)."""
    tempo: Share = 0.2
    """Views: the tempo is scaled by 1/1.2 to 1.2 (not for BPE)."""
    velocity: Share = 0.2
    """Views: the loudness is scaled by 1/1.2 to 1.2 (not for BPE)."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Views: smallest share of a sequence that is kept; 1 keeps all."""

    name = "music"
    suffixes = music_files.SUFFIXES
    parallel_from = 8 << 20  # bytes: two seconds of work
    near_duplicate_kind = f"runs of {GRAM} intervals"

    def __post_init__(self) -> None:
        if self.tempos == 1:
            raise SuiteError("modality.tempos=1 should be 0, or 2 to 256.")
        self._miditok: Any = None
        if self.tokenizer != "pitch":
            self._miditok = music_tokens.tokenizer(
                self.tokenizer, self.resolution, self.velocities, self.tempos, self.programs
            )
        self._ids = music_tokens.ids_of(self._miditok)
        self._bpe: Bpe | None = None
        self._vocabulary: Vocabulary | None = None
        if self.vocab_size is None:
            self._vocabulary = Vocabulary(self._ids.tokens, (FIRST, len(self._ids.tokens)))
        elif self.tokenizer not in ("remi", "tsd"):
            raise SuiteError(f"modality.vocab_size={self.vocab_size} is for tokenizer=remi or tsd; set it to null.")
        elif self.vocab_size < len(self._ids.tokens) + 2:
            least = len(self._ids.tokens) + 2  # the base tokens, the mark of a bar, and a merge
            raise SuiteError(f"modality.vocab_size={self.vocab_size} should be at least {least}, or null for no BPE.")

    @property
    def vocabulary(self) -> Vocabulary:
        """The ids; with BPE only after ``fit`` or ``load``."""
        if self._vocabulary is None:
            raise SuiteError(
                "the BPE of modality.vocab_size has not been trained: prepare the data or load a run first."
            )
        return self._vocabulary

    read = staticmethod(music_files.read)

    @property
    def learns(self) -> bool:
        return self.vocab_size is not None

    def content(self, record: Record) -> tuple[bytes, int]:
        """Of the ids before BPE."""
        values = self._base(record)[0]
        return self.identity(values), len(values)

    def fit(self, records: Iterator[Record]) -> None:
        """Train the BPE, unless it has been trained or loaded; without one ``records`` are not touched."""
        if self.vocab_size is None or self._bpe is not None:
            return
        chosen = music_tokens.tokenizer(self.tokenizer, self.resolution, self.velocities, self.tempos, self.programs)
        self._take(Bpe.trained((self._base_or_nothing(record) for record in records), chosen, self.vocab_size))

    def _base_or_nothing(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self._base(record)[:2]
        except BadRecord:  # raised again, or counted, when the record is encoded
            return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def _take(self, bpe: Bpe) -> None:
        tokens = bpe.tokens(self._ids.tokens)
        self._bpe, self._vocabulary = bpe, Vocabulary(tokens, (FIRST, len(tokens)))

    def encode(self, record: Record) -> Encoded:
        """Token ids, with counts of notes, and of what was left out. ``bounds`` are the tokens that begin bars.

        Raises:
            BadRecord: no MIDI file, a damaged one, or one without a note that is kept.
        """
        _ = self.vocabulary  # says so where nothing has been trained
        values, bounds, counts = self._base(record)
        if self._bpe is not None:
            values, bounds = self._bpe.encode(values, bounds)
        return Encoded(values, counts, bounds if len(bounds) else None)

    def _base(self, record: Record) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Ids before BPE, the bounds of bars (empty where unknown), and counts."""
        piece = music_files.parse(record)
        counts = dict(piece.counts)
        whole = self.tokenizer != "pitch" and self.programs != "none"
        counts["percussion left out"] = 0 if whole else int(np.count_nonzero(piece.program == music_files.DRUMS))
        if counts["percussion left out"] == len(piece.time):
            raise BadRecord(
                f"{record.source}: record '{record.name}' holds only percussion, which modality.tokenizer="
                f"{self.tokenizer} with modality.programs={self.programs} leaves out; remove it, or use "
                "modality.tokenizer=remi with modality.programs=change.",
                "only percussion",
            )
        if self.tokenizer == "pitch":
            return music_tokens.pitches(piece), np.zeros(0, np.int64), counts
        values, bounds = music_tokens.encoded(piece, self._miditok, not whole)
        written = sum(int(self._ids.has(kind, values).sum()) for kind in ("Pitch", "PitchDrum"))
        counts["repeated notes left out"] = len(piece.time) - counts["percussion left out"] - written
        return values, bounds, counts

    def _flat(self, values: np.ndarray) -> np.ndarray:
        """Ids with BPE undone."""
        values = np.asarray(values, np.int64)
        return values if self._bpe is None else self._bpe.flat(values)

    def identity(self, values: np.ndarray) -> bytes:
        """A digest (16 bytes) of the intervals: equal in any key, at any tempo and loudness, for any instruments.

        A record of few notes is known by all of its tokens, pitches counted from its first.
        """
        flat = self._flat(values)
        found = music_decode.intervals(flat, self._ids)
        if len(found) < FEWEST:
            pitched = self._ids.has("Pitch", flat)
            found = np.where(pitched, flat - flat[np.argmax(pitched)] - 1000, flat) if len(flat) else flat
        return hashlib.blake2b(found.astype("<i4").tobytes(), digest_size=16).digest()

    def near_duplicate_features(self, values: np.ndarray) -> np.ndarray:
        """(n,) uint64, the distinct runs of ``GRAM`` intervals, hashed."""
        found = music_decode.intervals(self._flat(values), self._ids)
        if len(found) < GRAM:
            return np.zeros(0, np.uint64)
        powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, GRAM + 1, dtype=np.uint64)  # odd: no run is lost to 0
        windows = np.lib.stride_tricks.sliding_window_view((found + 128).astype(np.uint64), GRAM)
        return np.unique((windows * powers).sum(axis=1, dtype=np.uint64))

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """A crop of each sequence, transposed, with its tempo and loudness scaled (BPE: the crop alone).

        A crop begins and ends at a bar line (REMI) or an onset (TSD), or at an end of the window.
        """
        ids = self._ids
        opens = (
            None
            if self._bpe is not None
            else {"remi": ids.range("Bar"), "tsd": ids.range("TimeShift")}.get(self.tokenizer)
        )
        values_N = music_views.crop(batch, rng, self.vocabulary, self.crop, opens)
        if self._bpe is not None:
            return batch.with_values(values_N)
        values_N = music_views.transpose(
            values_N, batch, rng, ids.range("Pitch"), self.transpose_down, self.transpose_up
        )
        if self.tempo > 0 and self.tempos:
            step = np.log(music_tokens.TEMPO_RANGE[1] / music_tokens.TEMPO_RANGE[0]) / (self.tempos - 1)
            most = round(np.log1p(self.tempo) / step)
            values_N = music_views.scale(values_N, batch, rng, ids.range("Tempo"), most)
        if self.velocity > 0 and self.velocities:
            values_N = music_views.stretch(values_N, batch, rng, ids.range("Velocity"), self.velocity)
        return batch.with_values(values_N)

    def score(self, values: np.ndarray) -> Any:
        """A ``symusic.Score`` of ids; pitches alone become even eighths. Incomplete notes are passed over."""
        return music_decode.score(self._flat(values), self._ids, self._miditok)

    def write_midi(self, values: np.ndarray, path: Path) -> int:
        """Write ``score``'s music as a MIDI file; gives the number of its notes."""
        score = self.score(values)
        atomic.write(path, score.dumps_midi())
        return int(score.note_num())

    def fingerprint(self) -> dict[str, Any]:
        """The settings that change ids; for a trained BPE its digest, before that only how it will be trained."""
        settings: dict[str, Any] = {"name": self.name, "tokenizer": self.tokenizer}
        if self.tokenizer != "pitch":
            settings |= {"resolution": self.resolution, "programs": self.programs}
            settings |= {"velocities": self.velocities, "tempos": self.tempos}
            settings["tokens"] = hashlib.sha256(" ".join(self._ids.tokens).encode("utf-8")).hexdigest()
        if self.vocab_size is not None:
            settings |= {"vocab_size": self.vocab_size, "trained": self._bpe and self._bpe.digest()}
        return settings

    def save(self, folder: Path) -> None:
        """Write a tokeniser that reads token texts separated by spaces (as ``decode`` writes them), and miditok's own.

        ``transformers.AutoTokenizer`` opens the folder; ``miditok.REMI(params=folder / "miditok.json")`` and TSD read
        MIDI files to the same ids.
        """
        from tokenizers import pre_tokenizers

        from ssl_suite.modalities import tokenizers

        found = tokenizers.word_level(self.vocabulary.tokens, None, pre_tokenizers.WhitespaceSplit())
        tokenizers.write(found, folder, self.max_length)
        if self.tokenizer in ("remi", "tsd"):
            settings = (self._bpe.miditok if self._bpe is not None else self._miditok).to_dict()
            text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
            (folder / "miditok.json").write_text(text, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take the trained BPE of a folder; other tokenisers have nothing to restore, but must be the same.

        Raises:
            SuiteError: the folder holds no tokeniser, or one of another vocabulary.
        """
        from ssl_suite.modalities import tokenizers

        vocabulary = tokenizers.read(folder).get_vocab()
        if self.vocab_size is not None:
            self._take(Bpe.load(folder / "miditok.json", music_tokens.CLASSES[self.tokenizer], self._ids.tokens))
        if vocabulary != {token: i for i, token in enumerate(self.vocabulary.tokens)}:
            raise SuiteError(
                f"{folder}: tokeniser has other tokens than modality.tokenizer={self.tokenizer} with these settings "
                f"({len(vocabulary):,}, not {len(self.vocabulary):,}); use the settings it was written with."
            )
