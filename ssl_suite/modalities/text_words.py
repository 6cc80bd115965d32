"""From sentences to ids by looking up what was met before: whatever stands between white space, and of that its pieces.

A text is mostly the same few thousand words. On one busy core and 4 MB of English, BPE, the library's own loop over
the sentences does 1.0 MB/s; looking up pieces, which a pattern has to find, 2.8 from nothing and 5.3 when they are
known; looking up what stands between white space, 3.0 and 7.3.

The ids are those of the whole text. That holds by construction for the tokenisers trained here, whose pieces
``text_letters.cut`` respects, and for a pretrained one where a trial shows that it never looks across white space (as
BERT's, byte-level and SentencePiece ones do not); any other is given whole sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain, count
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ssl_suite.modalities import text_letters

ROOM = 1 << 24  # letters, 64 more for each word: 190,000 words of 24 letters, some 40 MB
BEFORE = ","  # what an unmarked piece is shown behind
PROBES = (
    "The quick brown fox, it's said (in 1984), jumps over 3.14 lazy dogs! Doesn't it?",
    "Größe, naïve café: „Straße“ — «да, нет». Ελληνικά και ένα ακόμη; 한국어 문장입니다.",
)

Ask = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]


class Index(dict[str, int]):
    """Numbers for words, in the order in which they were first looked up.

    Attributes:
        new: the words that have got a number since this was emptied.
    """

    def __init__(self, *words: str) -> None:
        super().__init__(zip(words, count()))
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self.new.append(word)
        return number


class Row:
    """Numbers that are appended to; the room doubles, so that many short texts do not copy it all each time."""

    def __init__(self, values: list[int], dtype: str) -> None:
        self.held, self.size = np.array(values, dtype), len(values)

    def extend(self, values: np.ndarray) -> None:
        """Append."""
        end = self.size + len(values)
        if end > len(self.held):
            self.held = np.concatenate([self.held[: self.size], np.zeros(end, self.held.dtype)])
        self.held[self.size : end] = values
        self.size = end


class Table:
    """Words and the ids of each.

    Args:
        ask: the ids of new words and how many belong to each, called with some words that are all different.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.forget()

    def forget(self) -> None:
        """Begin anew, with ``BETWEEN`` as number 0, which has no ids."""
        self.index, self.room = Index(text_letters.BETWEEN), ROOM
        self.ids, self.begins = Row([], "int32"), Row([0, 0], "int64")

    def look(self, words: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids,) int32; (words,) int64 how many ids each has; (``BETWEEN``s,) int64 how many ids stand before it and
        behind the one before."""
        if self.room < 0:
            self.forget()
        numbers = np.fromiter(map(self.index.__getitem__, words), np.int64, len(words))
        if self.index.new:
            self._learn(self.index.new)
            self.index.new = []
        begins = self.begins.held[numbers]
        lengths = self.begins.held[numbers + 1] - begins
        places = np.concatenate([[0], np.cumsum(lengths)])
        values = self.ids.held[np.repeat(begins - places[:-1], lengths) + np.arange(places[-1])]
        counts = places[np.flatnonzero(numbers == 0)]
        counts[1:] -= counts[:-1].copy()  # np.diff takes 20 us, as long as the rest of a short text
        return values, lengths, counts

    def _learn(self, new: list[str]) -> None:
        ids, lengths = self.ask(new)
        self.begins.extend(self.ids.size + np.cumsum(lengths))
        self.ids.extend(ids)
        self.room -= sum(map(len, new)) + 64 * len(new)


class Words:
    """A tokeniser, and the ids of the words it has met.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        trained_here: it follows ``text_letters.pieces``.

    Attributes:
        exact: whether ids do not depend on how a text is cut at white space.
        lead: what stands before a word that is not a text's first, where a pretrained tokeniser tells the two apart.
    """

    def __init__(self, tokenizer: Any, trained_here: bool) -> None:
        self.tokenizer, self.trained_here = tokenizer, trained_here
        self.lead, self.exact = "", trained_here
        for lead in () if trained_here else ("", " "):
            if all(self._independent(text, lead) for text in PROBES):
                self.lead, self.exact = lead, True
                break
        if trained_here:
            self._shown = len(self._ask([BEFORE])[0])
            self._model = Tokenizer(tokenizer.model)
            self._lower = tokenizer.normalizer.normalize_str("A") == "a"
            self._mark = "" if tokenizer.model.__class__.__name__ == "WordPiece" else text_letters.MARK
        self._pieces, self._chunks = Table(self._ids_of), Table(self._ids_of_chunks)

    def __reduce__(self) -> tuple[type[Words], tuple[Any, bool]]:
        return Words, (self.tokenizer, self.trained_here)

    def _independent(self, text: str, lead: str) -> bool:
        first, *rest = text.split()
        apart = self._ask([first, *(lead + word for word in rest)])
        return self._ask([text])[0] == list(chain.from_iterable(apart))

    def _ask(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text. What looks like a special token in a user's text is text; copies forget that setting."""
        self.tokenizer.encode_special_tokens = True
        return [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _look(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``Table.look`` for what the sentences are cut into."""
        between, size = text_letters.BETWEEN, text_letters.CUT
        if not self.exact:
            words = [word for sentence in sentences for word in (" ".join(sentence.split()), between)]
        else:
            text = f" {between} ".join([*sentences, ""])
            # What is written without spaces, a sentence in one piece, is hardly met twice.
            if self.trained_here and not text.isascii() and text_letters.beside_quotes(text):
                return self._pieces.look(text_letters.cut(sentences))
            words = text.split()
        if not self.trained_here and any(len(sentence) > size for sentence in sentences):
            words = [word[i : i + size] for word in words for i in range(0, len(word), size)]
        return self._chunks.look(words)

    def _ids_of_chunks(self, chunks: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Of what stands between white space: of the tokenisers trained here by its pieces."""
        if self.trained_here:
            values, _, lengths = self._pieces.look(text_letters.cut(chunks))
            return values, lengths
        return flat(self._ask([self.lead + chunk for chunk in chunks]))

    def _ids_of(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Of what ``text_letters.cut`` gives."""
        found: list[list[int]] = [[]] * len(words)
        runs: list[tuple[int, str]] = []
        others: list[tuple[int, str]] = []
        for place, word in enumerate(words):
            run = self._run(word)
            (others if run is None else runs).append((place, run or word))
        # A run is a piece, so the model alone can take it: a third of the time of normalising and cutting it again.
        for (place, _), one in zip(runs, self._model.encode_batch_fast([run for _, run in runs]), strict=True):
            found[place] = one.ids
        # A tokeniser marks the beginning of what it is given; a piece without mark is shown behind a sign.
        shown = self._ask([word if word[0].isspace() else BEFORE + word for _, word in others])
        for (place, word), ids in zip(others, shown, strict=True):
            found[place] = ids if word[0].isspace() else ids[self._shown :]
        return flat(found)

    def _run(self, word: str) -> str | None:
        """The piece that a word of letters and digits becomes; None for others."""
        run = word.lstrip()
        if not run.isascii():
            run = self.tokenizer.normalizer.normalize_str(run)
        elif self._lower:
            run = run.lower()
        if not run.isalnum() or text_letters.unspaced(run):
            return None
        return self._mark + run if word[0].isspace() else run

    def encode(self, sentences: list[str], first: bool) -> tuple[np.ndarray, np.ndarray]:
        """Ids of neighbouring sentences.

        Args:
            sentences: some text in order, none empty.
            first: it is the beginning of the text.

        Returns:
            (tokens,) int32 ids, and (sentences,) int64 how many belong to each.
        """
        values, lengths, counts = self._look(sentences)
        if first and self.lead and len(lengths):
            word = sentences[0].split()[0][: text_letters.CUT]
            opening = np.array(self._ask([word])[0], np.int32)
            values = np.concatenate([opening, values[lengths[0] :]])
            counts[0] += len(opening) - lengths[0]
        return values, counts


def flat(found: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """All ids in a row, and how many each word has."""
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    return np.fromiter(chain.from_iterable(found), np.int32, int(lengths.sum())), lengths


def tidy(text: str) -> str:
    """Decoded WordPiece text without the spaces between Han letters, kana, and their punctuation."""
    wide = text_letters.UNSPACED + "”’"
    return re.sub(rf"(?<=[{wide}]) (?=[{wide}])", "", text)
