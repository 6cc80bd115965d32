"""DNA: sequence files to base, k-mer or BPE tokens, and their random views."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import SPECIAL_TOKENS, Encoded, Record, Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import STRICT, Share
from ssl_suite.modalities import dna_words, kmers, sequence_files, views
from ssl_suite.modalities.dna_letters import (
    AMBIGUOUS,
    BASES,
    COMPLEMENT,
    LETTERS,
    byte_table,
    checked_letters,
    spelling,
)
from ssl_suite.modalities.letters import FIRST, LetterModality

PIECE = 64  # BPE merges do not cross every 64th base of a run: bounded cost a piece, one cut token in ten or so
BPE_CHUNK = 1024 * PIECE  # bases given to the tokeniser library at a time; a multiple of PIECE cuts where pieces end
BPE_CHUNKS = 64  # chunks in memory at a time
LARGEST_K = 8  # 65,536 words
KIN = 16  # bases: two unrelated windows of 500 share one in 2 ** 14 pairs, and those of 95 % identity 0.44 of theirs
BASE_CODES = bytes(BASES.find(chr(i)) % 256 for i in range(256))  # 255 for what is no base
OPPOSITE_LETTERS = byte_table({letter: ord(other) for letter, other in COMPLEMENT.items()})


@dataclass(config=STRICT, eq=False)
class DNA(LetterModality):
    """Nucleotide sequences."""

    tokenizer: Literal["base", "kmer", "bpe"] = "base"
    """``base`` (one token a base), ``kmer``, or ``bpe`` (trained on the training split)."""
    k: Annotated[int, Field(ge=2, le=LARGEST_K)] = 6
    """Bases of a k-mer."""
    stride: int = 1
    """Bases between k-mers: 1 (overlapping) or ``k``."""
    vocab_size: Annotated[int, Field(gt=FIRST + len(LETTERS))] = 4096
    """Of BPE, special tokens and ambiguity codes included."""
    max_length: int = 512
    """Positions of a window, [CLS] and [SEP] included."""
    overlap: int = 0
    """Tokens that neighbouring windows of a long record share."""
    ambiguous: Literal["n", "keep", "error"] = "n"
    """IUPAC ambiguity codes: ``n`` reads all as N, ``keep`` gives each its own token (base and BPE; a k-mer with any is
    [UNK]), ``error`` refuses them."""
    soft_mask: Literal["upper", "n"] = "upper"
    """Lower case is read as upper case, or as N."""
    max_ambiguous: Share = 0.5
    """Windows with a larger share of tokens that say nothing (N, [UNK]) are left out."""
    reverse_complement: Share = 0.5
    """Views: probability for each sequence; BPE tokens have no complement."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Views: smallest share of a sequence that is kept; 1 keeps all."""
    mutation: Share = 0.01
    """Views: probability that a base is replaced; BPE tokens are left alone."""

    name = "dna"
    example = "ACGTACGT[MASK]ACGTACGT"
    suffixes = sequence_files.SUFFIXES
    first_target = FIRST + len(AMBIGUOUS)
    near_duplicate_kind = "shared 16-mers of either strand"
    near_duplicate_similarity = (
        0.3  # a copy that is cut at another place shares half its bases, J = 1/3, with one of two windows
    )

    def __post_init__(self) -> None:
        k = self.k
        if self.stride not in (1, k):
            raise SuiteError(f"modality.stride={self.stride} should be 1 (overlapping) or k = {k}.")
        self._spelling = spelling(self.ambiguous, self.soft_mask)
        self._encode = {"base": self._encode_base, "kmer": self._encode_kmer, "bpe": self._encode_bpe}[self.tokenizer]
        self._opposite: np.ndarray | None = None
        self._opposite_on: dict[torch.device, Tensor] = {}
        if self.tokenizer == "base":
            ids = {letter: FIRST + i for i, letter in enumerate(LETTERS)}
            self._table = byte_table({letter: ids[read] for letter, read in self._spelling.items()})
            self._vocabulary = Vocabulary((*SPECIAL_TOKENS, *LETTERS), (FIRST, FIRST + len(BASES)))
            pairs = [ids[COMPLEMENT[letter]] for letter in LETTERS]
            self._opposite = np.concatenate([np.arange(FIRST), pairs])
            self._opposite_bytes = bytes(self._opposite.tolist()).ljust(256)
        elif self.tokenizer == "kmer":
            self._table = byte_table({letter: (BASES + "N").find(read) % 5 for letter, read in self._spelling.items()})
            reach = k if self.stride == 1 else 1
            self._vocabulary = Vocabulary((*SPECIAL_TOKENS, *dna_words.words(k)), (FIRST, FIRST + 4**k), reach=reach)
            self._opposite = dna_words.complement(k)
        else:
            self._table = byte_table({letter: ord(read) for letter, read in self._spelling.items()})

    @property
    def opposite(self) -> np.ndarray | None:
        """(V,) the id of each token's reverse complement, or None where tokens have none (BPE)."""
        return self._opposite

    def fit(self, records: Iterator[Record]) -> None:
        """Train the BPE, unless it has been trained or loaded; other tokenisers do not touch ``records``."""
        if self.tokenizer != "bpe" or self._bpe is not None:
            return
        from ssl_suite.modalities import tokenizers

        runs = (run for record in records for run in re.findall(f"[{BASES}]+", self._text_or_nothing(record)))
        size = self.vocab_size - FIRST - len(AMBIGUOUS)
        tokens, merges = tokenizers.train_bpe(tokenizers.sample_pieces(runs), size, BASES, self._pieces())
        if len(tokens) == len(BASES):
            raise SuiteError("the input has no two neighbouring bases to train a BPE on; give more DNA.")
        # Ambiguity codes stand before the letters, so that the ids that may be predicted are one range.
        all_tokens = (*SPECIAL_TOKENS, *AMBIGUOUS, *tokens)
        self._take_bpe(tokenizers.bpe(all_tokens, merges, tokenizers.letter_map(self._spelling), self._pieces()))

    def content(self, record: Record) -> tuple[bytes, int]:
        """Of the letters or their reverse complement."""
        text = self._spell_out(self._letters(record)[0]).encode("ascii")
        forward, backward = text, text.translate(OPPOSITE_LETTERS)[::-1]
        return hashlib.blake2b(min(forward, backward), digest_size=16).digest(), len(text)

    divisible = True

    def divide(self, data: str | bytes, count: int, size: int) -> list[str | bytes]:
        """Stretches of ``size`` bases."""
        return [data[i * size : (i + 1) * size if i + 1 < count else None] for i in range(count)]

    def _text_or_nothing(self, record: Record) -> str:
        try:
            return self._spell_out(self._letters(record)[0])
        except BadRecord:  # raised again, or counted, when the record is encoded
            return ""

    @staticmethod
    def _pieces() -> Any:
        from tokenizers import Regex, pre_tokenizers

        return pre_tokenizers.Split(Regex(f"[{BASES}]{{1,{PIECE}}}|[^{BASES}]"), "isolated")

    def encode(self, record: Record) -> Encoded:
        """Token ids, with counts of ``bases``, ``ambiguous``, ``soft_masked``, ``unknown`` and ``dropped`` bases.

        Raises:
            BadRecord: the record is not DNA.
        """
        raw, counts = self._letters(record)
        return self._encode(raw, counts)

    def _letters(self, record: Record) -> tuple[bytes, dict[str, int]]:
        return checked_letters(record, self.ambiguous, self.soft_mask)

    def _spell_out(self, raw: bytes) -> str:
        return raw.translate(self._table).decode("ascii")

    def _encode_base(self, raw: bytes, counts: dict[str, int]) -> Encoded:
        return Encoded(np.frombuffer(raw.translate(self._table), np.uint8), counts)

    def _encode_kmer(self, raw: bytes, counts: dict[str, int]) -> Encoded:
        values = dna_words.encode(np.frombuffer(raw.translate(self._table), np.uint8), self.k, self.stride)
        counts["unknown"] = int(np.count_nonzero(values == dna_words.UNKNOWN))
        counts["dropped"] = len(raw) % self.k if self.stride > 1 else 0
        return Encoded(values, counts)

    def _encode_bpe(self, raw: bytes, counts: dict[str, int]) -> Encoded:
        _ = self.vocabulary  # says so where nothing has been trained
        chunks = re.findall(f"[{BASES}]{{1,{BPE_CHUNK}}}|[^{BASES}]+", self._spell_out(raw))
        parts: list[np.ndarray] = [np.zeros(0, np.int32)]
        for start in range(0, len(chunks), BPE_CHUNKS):
            some = self._bpe.encode_batch_fast(chunks[start : start + BPE_CHUNKS], add_special_tokens=False)
            parts += [np.asarray(one.ids, dtype=np.int32) for one in some]
        return Encoded(np.concatenate(parts), counts)

    def decode(self, values: np.ndarray) -> str:
        """The tokens' text, end to end (overlapping k-mers: separated by spaces, the form their tokeniser reads)."""
        tokens = self.vocabulary.tokens
        return (" " if self.vocabulary.reach > 1 else "").join(tokens[i] for i in values.tolist())

    def identity(self, values: np.ndarray) -> bytes:
        """A digest (16 bytes) that a sequence shares with its reverse complement.

        Non-overlapping k-mers of a sequence whose length is no multiple of k lose their last bases, and its reverse
        complement loses others: such a pair is not recognised.
        """
        if self._opposite is None:
            text = "".join(map(self.vocabulary.tokens.__getitem__, values.tolist())).encode("ascii")
            forward, backward = text, text.translate(OPPOSITE_LETTERS)[::-1]
        elif self.tokenizer == "base":
            forward = values.astype(np.uint8).tobytes()
            backward = forward.translate(self._opposite_bytes)[::-1]
        else:
            forward = values.astype(np.int32).tobytes()
            backward = self._opposite.astype(np.int32).take(values[::-1]).tobytes()
        return hashlib.blake2b(min(forward, backward), digest_size=16).digest()

    def near_duplicate_features(self, values: np.ndarray) -> np.ndarray:
        """(n,) uint64, the distinct 16-mers, each the smaller of itself and its reverse complement."""
        if self.tokenizer == "base":
            codes = values.astype(np.uint8) - np.uint8(FIRST)
        elif self.vocabulary.reach > 1:  # the first base of each word; the last k - 1 bases are left out
            codes = np.where(values < FIRST, 255, (values.astype(np.int64) - FIRST) >> 2 * (self.k - 1))
        else:
            text = "".join(map(self.vocabulary.tokens.__getitem__, values.tolist())).encode("ascii")
            codes = np.frombuffer(text.translate(BASE_CODES), np.uint8)
        return kmers.distinct(codes, len(BASES), KIN, both_strands=True)

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """A crop of each sequence, half of them reverse-complemented, a few bases replaced (BPE: the crop alone).

        Sequences keep their slots: what a crop leaves over at the end of a slot becomes [PAD], see ``views``.
        """
        opposite_V = self._opposite_tensor(batch.values.device)
        values_N, place_N = views.crop_and_turn(
            batch, rng, self.vocabulary, self.crop, self.reverse_complement, opposite_V
        )
        if opposite_V is not None and self.mutation > 0:
            k = self.k if self.tokenizer == "kmer" else 1
            values_N = views.substitute_bases(values_N, place_N, rng, batch.rows, self.vocabulary, k, self.mutation)
        return batch.with_values(values_N)

    def _opposite_tensor(self, device: torch.device) -> Tensor | None:
        if self._opposite is None:
            return None
        if device not in self._opposite_on:  # copied once: a copy from pageable memory would wait for the device
            self._opposite_on[device] = torch.from_numpy(self._opposite.astype(np.int64)).to(device)
        return self._opposite_on[device]

    def fingerprint(self) -> dict[str, Any]:
        """The settings that change ids; for a trained BPE its digest, before that only how it will be trained."""
        settings: dict[str, Any] = {"name": self.name, "tokenizer": self.tokenizer}
        settings |= {"ambiguous": self.ambiguous, "soft_mask": self.soft_mask}
        if self.tokenizer == "kmer":
            settings |= {"k": self.k, "stride": self.stride}
        return settings | self._bpe_settings(self.vocab_size, PIECE)

    def _exported(self) -> Any:
        """It gives the ids of ``encode``, but for overlapping k-mers, which the library cannot cut: their tokeniser
        reads words separated by white space, as ``decode`` writes them."""
        from tokenizers import Regex, pre_tokenizers

        from ssl_suite.modalities import tokenizers

        tokens = self.vocabulary.tokens
        if self.vocabulary.reach > 1:
            return tokenizers.word_level(tokens, None, pre_tokenizers.WhitespaceSplit())
        rules = tokenizers.letter_map(self._spelling)
        if self.tokenizer == "base":
            return tokenizers.word_level(tokens, rules, pre_tokenizers.Split(Regex("."), "isolated"))
        whole = pre_tokenizers.Split(Regex(f".{{{self.k}}}"), "removed", invert=True)  # drops a short last word
        return tokenizers.word_level(tokens, rules, whole)
