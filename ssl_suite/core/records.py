"""What passes between a modality and everything after it: records, their encoding, a vocabulary, a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """The ids a token modality uses.

    Attributes:
        tokens: the text of each id; a token's place is its id.
        targets: ``(low, high)``, the half-open range of ids that may be masked, predicted, and drawn as a random
            replacement. Special tokens and symbols that say nothing (an N in DNA) lie outside it.
        reach: how many neighbouring tokens share a symbol: 1, or k for overlapping k-mers, whose masks must cover
            k tokens in a row or the answer is spelled out next door.
        continues: the ids that go on with the word before them ("##ing"), for whole-word masks; empty where a token
            is a word.
        pad, unk, cls, sep, mask: ids of the special tokens.
    """

    tokens: tuple[str, ...]
    targets: tuple[int, int]
    reach: int = 1
    continues: frozenset[int] = frozenset()
    pad: int = 0
    unk: int = 1
    cls: int = 2
    sep: int = 3
    mask: int = 4

    def __len__(self) -> int:
        return len(self.tokens)

    def widened(self, length: int) -> int:
        """The tokens to hide so that ``length`` symbols are seen nowhere: overlapping k-mers take k - 1 more. Those
        that share nothing are as many apart."""
        return length + self.reach - 1


SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Record:
    """One item of a user's file: a sequence, a piece, a picture, a recording.

    Attributes:
        name: its identifier; with ``occurrence`` unique within ``source``.
        data: what ``encode`` takes: ``str`` for sequences, a list of sentences for text, the undecoded ``bytes`` of a
            MIDI, image or sound file.
        source: the file it came from, for error messages.
        tags: what else is known of it, kept in the store: ``split``, ``language``, ``speaker``, ``label``.
        counts: what was met on the way to it (comment lines); the store adds them up and reports.
        occurrence: 1, or which one of its name it is in ``source``: the third is 3.
    """

    name: str
    data: Any
    source: str
    tags: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    occurrence: int = 1


@dataclass(frozen=True)
class Encoded:
    """A record as the model will see it, without [CLS] and [SEP].

    Attributes:
        values: (length,) integers for token modalities; (length, F) signal frames, of the modality's ``frame`` type,
            for images and speech.
        counts: what was met on the way (``{"ambiguous": 12, "unknown": 0}``); the store adds them up and reports.
        bounds: (sentences,) increasing places where sentences begin, the first 0; None where there are none.
    """

    values: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    bounds: np.ndarray | None = None


@dataclass(frozen=True)
class Frame:
    """What one position of a signal modality holds: ``width`` numbers of ``dtype`` (a patch's pixels, 20 ms of sound).

    Attributes:
        dtype: ``uint8`` or ``int16``: the signal as it is stored and moved to the device.
        width: F.
        features: numbers a position gives to the encoder's first linear map, after ``Modality.features``.
        grid: (rows, columns) of a picture's patches; None for a line. Cells have learnt places beside the rotary ones.
    """

    dtype: str
    width: int
    features: int
    grid: tuple[int, int] | None = None
