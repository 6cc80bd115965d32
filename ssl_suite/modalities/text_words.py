"""From sentences to ids by looking up the words met before.

On one busy core and 4 MB of English, BPE: the library's own loop over the sentences 1.0 MB/s, this 3.4 from nothing
and 5.8 when the words are known. A text is mostly the same few thousand words.

The ids are those of the whole text. That holds by construction for the tokenisers trained here, whose pieces
``text_letters.cut`` respects, and for a pretrained one where a trial shows that it never looks across white space (as
BERT's, byte-level and SentencePiece ones do not); any other is given whole sentences.
"""

from __future__ import annotations

import re
from itertools import chain, islice
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


class Index(dict[str, int]):
    """Numbers for words, in the order in which they were first looked up."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


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
        self._forget()

    def __reduce__(self) -> tuple[type[Words], tuple[Any, bool]]:
        return Words, (self.tokenizer, self.trained_here)

    def _forget(self) -> None:
        self._index, self._room = Index({text_letters.BETWEEN: 0}), ROOM  # which has no ids
        self._ids, self._begins = np.zeros(0, np.int32), np.zeros(2, np.int64)

    def _independent(self, text: str, lead: str) -> bool:
        first, *rest = text.split()
        apart = self._ask([first, *(lead + word for word in rest)])
        return self._ask([text])[0] == list(chain.from_iterable(apart))

    def _ask(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text. What looks like a special token in a user's text is text; copies forget that setting."""
        self.tokenizer.encode_special_tokens = True
        return [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _cut(self, sentences: list[str]) -> list[str]:
        """Words, and ``BETWEEN`` after each sentence."""
        if self.trained_here:
            return text_letters.cut(sentences)
        size, between = text_letters.CUT, text_letters.BETWEEN
        if self.exact:
            words = f" {between} ".join([*sentences, ""]).split()
        else:
            words = [word for sentence in sentences for word in (" ".join(sentence.split()), between)]
        if all(len(sentence) <= size for sentence in sentences):
            return words
        return [word[i : i + size] for word in words for i in range(0, len(word), size)]

    def _ids_of(self, words: list[str]) -> list[list[int]]:
        if not self.trained_here:
            return self._ask([self.lead + word for word in words])
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
        return found

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

    def _learn(self, new: list[str]) -> None:
        found = self._ids_of(new)
        self._ids = np.concatenate([self._ids, *(np.array(ids, np.int32) for ids in found)])
        ends = self._begins[-1] + np.cumsum(np.fromiter(map(len, found), np.int64, len(found)))
        self._begins = np.concatenate([self._begins, ends])
        self._room -= sum(map(len, new)) + 64 * len(new)

    def encode(self, sentences: list[str], first: bool) -> tuple[np.ndarray, np.ndarray]:
        """Ids of neighbouring sentences.

        Args:
            sentences: some text in order, none empty.
            first: it is the beginning of the text.

        Returns:
            (tokens,) int32 ids, and (sentences,) int64 how many belong to each.
        """
        if self._room < 0:
            self._forget()
        words = self._cut(sentences)
        known = len(self._index)
        numbers = np.fromiter(map(self._index.__getitem__, words), np.int64, len(words))
        if len(self._index) > known:
            self._learn(list(islice(self._index, known, None)))
        begins, lengths = self._begins[numbers], self._begins[numbers + 1] - self._begins[numbers]
        places = np.concatenate([[0], np.cumsum(lengths)])
        values = self._ids[np.repeat(begins - places[:-1], lengths) + np.arange(places[-1])]
        counts = np.diff(places[np.flatnonzero(numbers == 0)], prepend=0)
        if first and self.lead and words:
            opening = np.array(self._ask([words[0]])[0], np.int32)
            values = np.concatenate([opening, values[lengths[0] :]])
            counts[0] += len(opening) - lengths[0]
        return values, counts


def tidy(text: str) -> str:
    """Decoded WordPiece text without the spaces between Han letters, kana, and their punctuation."""
    wide = text_letters.UNSPACED + "”’"
    return re.sub(rf"(?<=[{wide}]) (?=[{wide}])", "", text)
