"""From sentences to ids by looking up what was met before: a text is mostly the same few thousand words.

On 4 MB of English and one core the library's own loop over the sentences does 1.0 MB/s, this 3.6 from nothing and 14
once the words are known.

The ids are those of the whole text. That holds by construction for the tokenisers trained here, which cut at white
space first, and for a pretrained one where a trial shows that it never looks across white space (as BERT's, byte-level
and SentencePiece ones do not); any other is given whole sentences.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import numpy as np

from ssl_suite.modalities import text_letters

ROOM = 1 << 24  # letters, 64 more for each word: 190,000 words of 24 letters, some 50 MB
CUT = 4096  # letters of a word: one that is longer is data, not a word, and is cut
PROBES = (
    "The quick brown fox, it's said (in 1984), jumps over 3.14 lazy dogs! Doesn't it?",
    "Größe, naïve café: „Straße“ — «да, нет». Ελληνικά και ένα ακόμη; 한국어 문장입니다.",
)


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
        self._known: dict[str, list[int]] = {}
        self._room = ROOM

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

    def cut(self, sentence: str) -> list[str]:
        """The words of a sentence: what the tokeniser takes by itself."""
        words = sentence.split() if self.exact else [" ".join(sentence.split())]
        if len(sentence) > CUT:
            words = [word[i : i + CUT] for word in words for i in range(0, len(word), CUT)]
        return words

    def look(self, words: list[str]) -> list[list[int]]:
        """The ids of each word, none of them the first of a text."""
        if self._room < 0:
            self._known, self._room = {}, ROOM
        if new := list(set(words).difference(self._known)):
            self._known.update(zip(new, self._ask([self.lead + word for word in new]), strict=True))
            self._room -= sum(map(len, new)) + 64 * len(new)
        return list(map(self._known.__getitem__, words))

    def encode(self, sentences: list[str], first: bool) -> tuple[np.ndarray, np.ndarray]:
        """Ids of neighbouring sentences.

        Args:
            sentences: some text in order, none empty.
            first: it is the beginning of the text.

        Returns:
            (tokens,) int32 ids, and (sentences,) int64 how many belong to each.
        """
        words = list(map(self.cut, sentences))
        found = self.look(list(chain.from_iterable(words)))
        if first and self.lead:
            found[0] = self._ask([words[0][0]])[0]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        counts = np.add.reduceat(lengths, np.cumsum([0, *map(len, words[:-1])]))
        return np.fromiter(chain.from_iterable(found), np.int32, int(lengths.sum())), counts


def tidy(text: str) -> str:
    """Decoded WordPiece text without the spaces between Han letters, kana, and their punctuation."""
    wide = text_letters.UNSPACED + "”’"
    return re.sub(rf"(?<=[{wide}]) (?=[{wide}])", "", text)
