"""Text: files in any language to subword tokens with sentence boundaries, and random views of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import SPECIAL_TOKENS, Encoded, Record, Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import STRICT, Share
from ssl_suite.modalities import text_letters, text_read, text_sentences, text_shingles, text_views, text_words, views
from ssl_suite.modalities.base import Fault, Modality

TRAINED = {"bpe": "BPE", "wordpiece": "WordPiece", "unigram": "Unigram"}
PREFIX = "hf:"
AT_ONCE = 1 << 18  # letters tokenised at a time: some 40 MB
SPACE = re.compile(r"\s")


@dataclass(config=STRICT, eq=False)
class Text(Modality):
    """Text in any language that UTF-8 holds."""

    tokenizer: str = "bpe"
    """``bpe``, ``wordpiece`` or ``unigram``, trained on the training split, or ``hf:NAME_OR_FOLDER``, any that
    ``transformers.AutoTokenizer`` opens."""
    vocab_size: Annotated[int, Field(ge=64, le=1 << 20)] = 8192
    """Of a trained tokeniser, special tokens included."""
    lower_case: bool = False
    """Trained tokenisers: read capitals as small letters."""
    strip_accents: bool = False
    """Trained tokenisers: read é as e."""
    documents: text_read.Cut = "file"
    """A plain file is one document (``file``), or one a paragraph (``blank``: between blank lines) or ``line``."""
    language: str | None = None
    """Of records that do not name theirs: a code such as en; ``file`` takes the file's name up to its first _ - ."""
    max_length: int = 128
    """Positions of a window, [CLS] and [SEP] included."""
    overlap: int = 0
    """Tokens that neighbouring windows of a long document share."""
    max_ambiguous: Share = 0.5
    """Windows with a larger share of [UNK] are left out."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Views: smallest share of a sequence that is kept; 1 keeps all."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Views: probability that a token is left out."""
    swap: Share = 0.05
    """Views: probability that a token changes places with the next one."""

    name = "text"
    suffixes = text_read.SUFFIXES
    cuts_words = True
    ngrams, aligned = (1, 2), False
    near_duplicate_kind = "5-word shingles"
    example = "She opened the [MASK] and went into the house."
    parallel_from = 32 << 20  # bytes: 11 MB took 6 to 7 s alone, and 9 to 13 with a helper where one core was busy

    def __post_init__(self) -> None:
        pretrained = self.tokenizer.startswith(PREFIX)
        if not pretrained and self.tokenizer not in TRAINED:
            raise SuiteError(
                f"modality.tokenizer={self.tokenizer} should be {', '.join(TRAINED)} or hf:NAME_OR_FOLDER."
            )
        for key in ("lower_case", "strip_accents"):
            if pretrained and getattr(self, key):
                raise SuiteError(f"modality.{key}=True should be false with a pretrained tokeniser, which decides.")
        self._words: text_words.Words | None = None  # the tokeniser, once fitted, fetched or loaded
        self._special: tuple[str, ...] = SPECIAL_TOKENS
        self._vocabulary: Vocabulary | None = None
        self._digest: str | None = None
        self._written: tuple[np.ndarray, text_shingles.Shingles] | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The ids; of a trained tokeniser only after ``fit`` or ``load``."""
        self._ready()
        assert self._vocabulary is not None
        return self._vocabulary

    def _ready(self) -> text_words.Words:
        """The tokeniser; a pretrained one is fetched when it is first needed."""
        if self._words is None:
            if self.tokenizer in TRAINED:
                kind = TRAINED[self.tokenizer]
                raise SuiteError(f"the {kind} tokeniser has not been trained: prepare the data or load a run first.")
            from ssl_suite.modalities import text_pretrained

            self._take(*text_pretrained.fetch(self.tokenizer))
        assert self._words is not None
        return self._words

    def _take(self, tokenizer: Any, special: tuple[str, ...]) -> None:
        from ssl_suite.modalities import text_pretrained

        self._words, self._special = text_words.Words(tokenizer, self.tokenizer in TRAINED), special
        self._vocabulary = text_pretrained.vocabulary(tokenizer, special)
        self._digest = hashlib.sha256(tokenizer.to_str().encode("utf-8")).hexdigest()
        self._written = None

    def read(
        self,
        path: Path,
        fault: Fault,
        column: str | None = None,
        id_column: str | None = None,
        max_record_mb: int | None = None,
    ) -> Iterator[Record]:
        """The records of one file, see ``text_read.read``."""
        return text_read.read(path, fault, self.documents, self.language, column, id_column, max_record_mb)

    @property
    def learns(self) -> bool:
        return self.tokenizer in TRAINED

    def content(self, record: Record) -> tuple[bytes, int]:
        """Of the text without regard to case and white space; with white space in the number of letters."""
        text = record.data if isinstance(record.data, str) else " ".join(record.data)
        plain = "".join(text.lower().split()).encode("utf-8", "replace")
        return hashlib.blake2b(plain, digest_size=16).digest(), len(text)

    divisible = True

    def divide(self, data: str | list[str], count: int, size: int) -> list[Any]:
        """Cut at white space (a list of sentences: between them), or anywhere in a stretch of ``size`` without any."""
        places = [size * i for i in range(1, count)]
        if isinstance(data, str):
            spaces = (SPACE.search(data, place, place + size) for place in places)
            cuts = [space.start() if space else place for space, place in zip(spaces, places, strict=True)]
        else:
            cuts = np.searchsorted(np.cumsum([len(sentence) + 1 for sentence in data]), places).tolist()
        return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def fit(self, records: Iterator[Record]) -> None:
        """Train the tokeniser, unless it has been trained or loaded; a pretrained one is fetched."""
        if self._words is not None or self.tokenizer not in TRAINED:
            self._ready()
            return
        from ssl_suite.modalities import text_training

        texts = (" ".join(record.data) if isinstance(record.data, list) else record.data for record in records)
        settings = (self.vocab_size, self.lower_case, self.strip_accents)
        whole = (text.encode("utf-8", "replace").decode("utf-8") for text in texts)  # see ``_sentences``
        self._take(text_training.train(self.tokenizer, whole, *settings), SPECIAL_TOKENS)

    def encode(self, record: Record) -> Encoded:
        """Token ids and where sentences begin, with counts of ``letters``, ``sentences`` and ``unknown`` tokens.

        The ids are those of the whole text; sentences of a list are taken as parted by spaces.

        Raises:
            BadRecord: it holds NUL, or half of a surrogate pair.
        """
        words, vocabulary = self._ready(), self.vocabulary
        sentences = self._sentences(record)
        values, counts = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        begin = size = 0
        for end, sentence in enumerate(sentences, start=1):
            size += len(sentence)
            if size >= AT_ONCE or end == len(sentences):
                some, each = words.encode(sentences[begin:end], first=begin == 0)
                values.append(some)
                counts.append(each)
                begin, size = end, 0
        ids, lengths = np.concatenate(values), np.concatenate(counts)
        bounds = (np.cumsum(lengths) - lengths)[lengths > 0]
        found = {"letters": sum(map(len, sentences)), "sentences": len(bounds)}
        found["unknown"] = int(np.count_nonzero(ids == vocabulary.unk))
        return Encoded(ids, found, bounds)

    def split_words(self, data: str) -> list[str]:
        """What stands between white space."""
        return data.split()

    def words(self, words: list[str]) -> list[np.ndarray]:
        """The ids of each word of a sentence; of one that is nothing to the tokeniser, [UNK]."""
        known, unk = self._ready(), self.vocabulary.unk
        parts = (known.look(known.cut(self._clean(word).strip())) for word in words)
        return [np.array(list(chain.from_iterable(found)) or [unk], np.int32) for found in parts]

    def located(self, record: Record) -> tuple[np.ndarray, np.ndarray, str]:
        """As ``Modality.located``; places count letters of the cleaned text."""
        text = self._clean(record.data if isinstance(record.data, str) else " ".join(record.data))
        made = self._ready().tokenizer.encode(text, add_special_tokens=False)
        if not made.ids:
            raise BadRecord(f"{record.source}: record '{record.name}' encodes to nothing; remove it.", "too short")
        return np.array(made.ids, np.int32), np.array(made.offsets, np.int32).reshape(-1, 2), text

    def _clean(self, text: str) -> str:
        clean = text_letters.cleaned if self.tokenizer in TRAINED else text_letters.uncontrolled
        return str(clean(text))

    def _sentences(self, record: Record) -> list[str]:
        data = record.data
        text = data if isinstance(data, str) else "\n".join(data)
        fault = "NUL characters" if "\0" in text else ""
        try:
            _ = text.isascii() or text.encode("utf-8")
        except UnicodeEncodeError:
            fault = "half of a surrogate pair"
        if fault:
            name = " ".join(record.name.split())
            raise BadRecord(f"{record.source}: record '{name}' holds {fault}; repair or remove it.", fault)
        plain = self._clean(text)
        if isinstance(data, str):
            return text_sentences.split(plain)
        parts = data if plain is text else map(self._clean, data)
        return [sentence for sentence in map(str.strip, parts) if sentence]

    def decode(self, values: np.ndarray) -> str:
        """The text of ids."""
        tokenizer = self._ready().tokenizer
        if tokenizer.decoder is None:
            return " ".join(self.vocabulary.tokens[i] for i in values.tolist())
        text = tokenizer.decode(values.tolist(), skip_special_tokens=False)
        return text_words.tidy(text) if type(tokenizer.decoder).__name__ == "WordPiece" else text

    def identity(self, values: np.ndarray) -> bytes:
        """A digest (16 bytes) of the text without regard to case and white space."""
        written, _ = self._tables()
        text = "".join(written[values].tolist()).lstrip()
        return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()

    def near_duplicate_features(self, values: np.ndarray) -> np.ndarray:
        """Hashes of all runs of five words (of a shorter text: of all), without regard to case or punctuation."""
        return self._tables()[1].of(values)

    def _tables(self) -> tuple[np.ndarray, text_shingles.Shingles]:
        if self._written is None:
            written = text_shingles.written(self._ready().tokenizer, self.vocabulary.tokens)
            # Strings as an array, from which a list of them comes in a third of the time of looking each up.
            self._written = np.array(written, object), text_shingles.Shingles(self.vocabulary, written)
        return self._written

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """A crop of each sequence, some of its tokens left out, some neighbours exchanged.

        Sequences keep their slots: what becomes free at the end of a slot is [PAD], see ``views``.
        """
        vocabulary = self.vocabulary
        values_N, place_N = views.crop_and_turn(batch, rng, vocabulary, self.crop, 0.0, None)
        if self.drop > 0:
            values_N, place_N = text_views.drop(batch, values_N, place_N, rng, vocabulary, self.drop)
        if self.swap > 0:
            values_N = text_views.swap(values_N, place_N, rng, batch.rows, self.swap)
        return batch.with_values(values_N)

    def fingerprint(self) -> dict[str, Any]:
        """What decides records, sentences and ids; of a tokeniser its digest, until there is one its settings."""
        settings: dict[str, Any] = {"name": self.name, "documents": self.documents, "language": self.language}
        if self.tokenizer not in TRAINED:
            self._ready()
            return settings | {"pretrained": self._digest}
        settings |= {"tokenizer": self.tokenizer, "vocab_size": self.vocab_size, "trained": self._digest}
        return settings | {"lower_case": self.lower_case, "strip_accents": self.strip_accents}

    def save(self, folder: Path) -> None:
        """Write the tokeniser for ``transformers.AutoTokenizer``, which gives the ids of ``encode`` between [CLS] and
        [SEP]. There, but not in ``encode``, a word like "[MASK]" in a text is that token."""
        from ssl_suite.modalities import tokenizers

        tokenizers.write(self._ready().tokenizer, folder, self.max_length, self._special)

    def load(self, folder: Path) -> None:
        """Take the tokeniser of a folder.

        Raises:
            SuiteError: the folder holds none, or one of another kind.
        """
        from ssl_suite.modalities import text_pretrained, tokenizers

        found = tokenizers.read(folder)
        kind = type(found.model).__name__
        if kind != TRAINED.get(self.tokenizer, kind):
            raise SuiteError(
                f"{folder}: holds a {kind} tokeniser, modality.tokenizer={self.tokenizer} is another; use the settings "
                "it was written with."
            )
        self._take(found, text_pretrained.special_of(folder))
