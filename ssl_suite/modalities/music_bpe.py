"""miditok's BPE over music tokens: merges of tokens inside a bar (Fradet et al. 2023, arXiv:2301.11975)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.music_tokens import FIRST

LETTER = 33  # miditok spells id i as the letter i + 33 (``miditok.constants.CHR_ID_START``)
OPENS = "▁"  # and begins each bar with this letter
SAMPLE = 1 << 16  # bars it is trained on, drawn evenly from an input of any size; some 20 MB


class Bpe:
    """A trained tokeniser.

    Args:
        miditok: the trained ``miditok`` tokeniser.

    Attributes:
        model: its ``tokenizers.Tokenizer``, over letters that stand for base ids.
    """

    def __init__(self, miditok: Any) -> None:
        self.miditok = miditok
        self.model = Tokenizer.from_str(miditok.to_dict()["_model"])
        ids = self.model.get_vocab()
        self.spelt = sorted(ids, key=ids.__getitem__)
        parts = [
            np.array([ord(letter) - LETTER for letter in text if letter != OPENS], np.int64) for text in self.spelt
        ]
        self.parts = np.concatenate(parts)
        self.sizes = np.array([len(part) for part in parts])
        self.starts = np.cumsum(self.sizes) - self.sizes

    @classmethod
    def trained(cls, pieces: Iterable[tuple[np.ndarray, np.ndarray]], miditok: Any, size: int) -> Bpe:
        """Train on (ids, bounds of bars) of pieces.

        Raises:
            SuiteError: there is nothing to train on.
        """
        draw, seen = np.random.default_rng(0), 0
        kept: list[str] = []
        for values, bounds in pieces:
            for bar in bars(values, bounds):
                if len(kept) < SAMPLE:
                    kept.append(bar)
                elif (place := int(draw.integers(seen + 1))) < SAMPLE:
                    kept[place] = bar
                seen += 1
        if not kept:
            raise SuiteError("the input has no bar to train modality.vocab_size on; give more music.")
        miditok.train(vocab_size=size, model="BPE", iterator=[kept])
        return cls(miditok)

    @classmethod
    def load(cls, path: Path, kind: str, base: tuple[str, ...]) -> Bpe:
        """Read a ``miditok.json``.

        Args:
            kind: of tokeniser ("REMI").
            base: its tokens before BPE.

        Raises:
            SuiteError: it is missing, damaged, of another kind or other tokens, or untrained.
        """
        import miditok

        try:
            settings = json.loads(path.read_text("utf-8"))
            if settings["tokenization"] != kind or "_model" not in settings:
                raise ValueError(f"it is a {settings['tokenization']} without a BPE, not a {kind} with one")
            found = getattr(miditok, kind)(params=path)
            if sorted(found.vocab, key=found.vocab.__getitem__)[FIRST:] != [*base[FIRST:]]:
                raise ValueError("it was trained on other tokens than these settings have")
            return cls(found)
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = (str(error).splitlines() or [""])[0]
            raise SuiteError(f"{path}: holds no tokeniser that can be used ({why}); write it again.") from None

    def tokens(self, base: tuple[str, ...]) -> tuple[str, ...]:
        """The text of each id: that of base tokens, joined by + where merged, with ▁ where a bar begins."""
        texts = [*base[:FIRST]]
        for text in self.spelt[FIRST:]:
            mark, letters = (OPENS, text[1:]) if text.startswith(OPENS) else ("", text)
            texts.append(mark + "+".join(base[ord(letter) - LETTER] for letter in letters))
        return tuple(texts)

    def encode(self, values: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Merge base ids; gives ids and the places where bars begin."""
        encoded = self.model.encode_batch_fast([[bar] for bar in bars(values, bounds)], is_pretokenized=True)
        ids = [one.ids for one in encoded]
        sizes = np.array([len(one) for one in ids], np.int64)
        return np.fromiter((i for one in ids for i in one), np.int64, int(sizes.sum())), np.cumsum(sizes) - sizes

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Base ids of merged ones; ``OPENS`` alone vanishes."""
        sizes = self.sizes[values]
        inside = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.parts[np.repeat(self.starts[values], sizes) + inside]

    def digest(self) -> str:
        """SHA-256 of what it has learnt."""
        return hashlib.sha256(self.model.to_str().encode("utf-8")).hexdigest()


def bars(values: np.ndarray, bounds: np.ndarray) -> list[str]:
    """Each bar as a string of letters."""
    text = (values + LETTER).astype("<u4").tobytes().decode("utf-32-le")
    ends = [*bounds[1:].tolist(), len(values)][: len(bounds)]
    return [text[start:end] for start, end in zip(bounds.tolist(), ends, strict=True)]
