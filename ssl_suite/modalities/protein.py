"""Proteins: sequence files to residues or BPE tokens, and their random views."""

from __future__ import annotations

import hashlib
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
from ssl_suite.modalities import kmers, protein_views, sequence_files, views
from ssl_suite.modalities.dna_letters import byte_table
from ssl_suite.modalities.letters import FIRST, LetterModality
from ssl_suite.modalities.protein_letters import CODES, GAP, LETTERS, RESIDUES, STOP, checked_letters, spelling

REST = CODES + STOP + GAP  # tokens that are no prediction targets
PIECE = 256  # BPE merges do not cross every 256th residue of a run: bounded cost a piece, one cut token in a hundred
CHUNK = 4096  # residues of a piece of the sample that BPE is trained on, see ``tokenizers.sample_pieces``
KIN = 6  # residues; unrelated proteins of 300 share 0.001 of 64 million 6-mers, relatives of 90 % identity a third
FILES = (".fa", ".fasta", ".fas", ".faa", ".pep", ".gp", ".gpff", *sequence_files.TABLES)
RESIDUE_CODES = bytes(RESIDUES.find(chr(i)) % 256 for i in range(256))  # 255 for what is no residue


@dataclass(config=STRICT, eq=False)
class Protein(LetterModality):
    """Amino acid sequences."""

    tokenizer: Literal["residue", "bpe"] = "residue"
    """``residue`` (one token a residue) or ``bpe`` (trained on the training split)."""
    vocab_size: Annotated[int, Field(gt=FIRST + len(LETTERS))] = 1024
    """Of BPE, special tokens, codes, stop and gap included."""
    max_length: int = 512
    """Positions of a window, [CLS] and [SEP] included."""
    overlap: int = 0
    """Tokens that neighbouring windows of a long record share."""
    ambiguous: Literal["keep", "x", "error"] = "keep"
    """B, Z, J, X and the rare residues U and O: ``keep`` gives each its own token, ``x`` reads all as X, ``error``
    refuses them."""
    soft_mask: Literal["upper", "x"] = "upper"
    """Lower case is read as upper case, or as X."""
    stops: Literal["keep", "cut", "error"] = "keep"
    """``*`` inside a protein: ``keep`` gives it a token, ``cut`` ends the protein there, as the ribosome does,
    ``error`` refuses it. A final one is always left out."""
    gaps: Literal["drop", "keep", "error"] = "drop"
    """``-`` and ``.``: ``drop``, ``keep`` (their own token) or ``error``."""
    max_ambiguous: Share = 0.5
    """Windows with a larger share of tokens that are none of the 20 residues are left out."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Views: smallest share of a sequence that is kept; 1 keeps all."""
    substitution: Share = 0.1
    """Views: probability that a residue is replaced by another, drawn by BLOSUM62; BPE tokens are left alone."""

    name = "protein"
    example = "MKTAYIAKQRQISFVKSHFSRQ[MASK]EERLGLIEVQAPILSRVGDGTQDNLSG"
    suffixes = sequence_files.suffixes(*FILES)
    first_target = FIRST + len(REST)
    near_duplicate_kind = "shared 6-mers"
    near_duplicate_similarity = 0.5

    def __post_init__(self) -> None:
        self._spelling = spelling(self.ambiguous, self.soft_mask, self.gaps)
        self._thresholds_on: dict[torch.device, Tensor] = {}
        one_letter = {letter: read for letter, read in self._spelling.items() if read}
        if self.tokenizer == "residue":
            ids = {letter: FIRST + i for i, letter in enumerate(LETTERS)}
            self._table = byte_table({letter: ids[read] for letter, read in one_letter.items()})
            self._vocabulary = Vocabulary((*SPECIAL_TOKENS, *LETTERS), (FIRST, FIRST + len(RESIDUES)))
        else:
            self._table = byte_table({letter: ord(read) for letter, read in one_letter.items()})

    def fit(self, records: Iterator[Record]) -> None:
        """Train the BPE, unless it has been trained or loaded; ``residue`` does not touch ``records``."""
        if self.tokenizer != "bpe" or self._bpe is not None:
            return
        from tokenizers import Regex, pre_tokenizers

        from ssl_suite.modalities import tokenizers

        runs = pre_tokenizers.Split(Regex(f"[{RESIDUES}]{{1,{PIECE}}}"), "removed", invert=True)
        size = self.vocab_size - FIRST - len(REST)
        tokens, merges = tokenizers.train_bpe(tokenizers.sample_pieces(self._chunks(records)), size, RESIDUES, runs)
        if len(tokens) == len(RESIDUES):
            raise SuiteError("the input has no two neighbouring residues to train a BPE on; give more proteins.")
        # What is no target stands before the residues, so that the ids that may be predicted are one range.
        all_tokens = (*SPECIAL_TOKENS, *REST, *tokens)
        self._take_bpe(tokenizers.bpe(all_tokens, merges, self._normaliser(), self._pieces()))

    def content(self, record: Record) -> tuple[bytes, int]:
        """Of the letters as they are read."""
        read = self._letters(record)[0].translate(self._table)
        return hashlib.blake2b(read, digest_size=16).digest(), len(read)

    def _chunks(self, records: Iterator[Record]) -> Iterator[str]:
        """Proteins joined by gaps, ``CHUNK`` letters each: a sample counts pieces, and most proteins are short."""
        held, size = [], 0
        for record in records:
            try:
                text = self._letters(record)[0].translate(self._table).decode("ascii")
            except BadRecord:  # raised again, or counted, when the record is encoded
                continue
            held.append(text)
            size += len(text) + 1
            if size >= CHUNK:
                yield GAP.join(held)
                held, size = [], 0
        yield GAP.join(held)

    @staticmethod
    def _pieces() -> Any:
        from tokenizers import Regex, pre_tokenizers

        return pre_tokenizers.Split(Regex(f"[{RESIDUES}]{{1,{PIECE}}}|[^{RESIDUES}]"), "isolated")

    def encode(self, record: Record) -> Encoded:
        """Token ids, with the counts of ``protein_letters.checked_letters``.

        Raises:
            BadRecord: the record is not protein.
        """
        raw, counts = self._letters(record)
        read = raw.translate(self._table)
        if self.tokenizer == "residue":
            return Encoded(np.frombuffer(read, np.uint8), counts)
        _ = self.vocabulary  # says so where nothing has been trained
        return Encoded(
            np.asarray(self._bpe.encode(read.decode("ascii"), add_special_tokens=False).ids, np.int32), counts
        )

    def _letters(self, record: Record) -> tuple[bytes, dict[str, int]]:
        return checked_letters(record, self.ambiguous, self.soft_mask, self.stops, self.gaps)

    def decode(self, values: np.ndarray) -> str:
        """The tokens' text, end to end."""
        return "".join(map(self.vocabulary.tokens.__getitem__, values.tolist()))

    def identity(self, values: np.ndarray) -> bytes:
        """A digest (16 bytes) of the tokens, whatever integer type holds them."""
        return hashlib.blake2b(values.astype(np.int32).tobytes(), digest_size=16).digest()

    def near_duplicate_features(self, values: np.ndarray) -> np.ndarray:
        """(n,) uint64, the distinct 6-mers of the 20 residues: five bits a letter."""
        if self.tokenizer == "residue":
            # Special tokens, if any, wrap around to large numbers, which are left out like codes and gaps.
            codes = values.astype(np.uint8) - np.uint8(FIRST)
        else:
            text = self.decode(values).encode("ascii")
            codes = np.frombuffer(text.translate(RESIDUE_CODES), np.uint8)
        return kmers.distinct(codes, len(RESIDUES), KIN)

    def augment(self, batch: Batch, rng: Rng) -> Batch:
        """A crop of each sequence and a few residues replaced by likely ones (BPE: the crop alone).

        Sequences keep their slots: what a crop leaves over at the end of a slot becomes [PAD], see ``views``.
        """
        values_N, place_N = views.crop_and_turn(batch, rng, self.vocabulary, self.crop, 0.0, None)
        if self.tokenizer == "residue" and self.substitution > 0:
            thresholds_T = self._thresholds(batch.values.device)
            values_N = protein_views.substitute(
                values_N, place_N, rng, batch.rows, FIRST, self.substitution, thresholds_T
            )
        return batch.with_values(values_N)

    def _thresholds(self, device: torch.device) -> Tensor:
        if device not in self._thresholds_on:  # copied once: a copy from pageable memory would wait for the device
            self._thresholds_on[device] = torch.from_numpy(protein_views.thresholds()).to(device)
        return self._thresholds_on[device]

    def fingerprint(self) -> dict[str, Any]:
        """The settings that change ids; for a trained BPE its digest, before that only how it will be trained."""
        settings: dict[str, Any] = {"name": self.name, "tokenizer": self.tokenizer}
        settings |= {"ambiguous": self.ambiguous, "soft_mask": self.soft_mask, "stops": self.stops, "gaps": self.gaps}
        return settings | self._bpe_settings(self.vocab_size, PIECE)

    def _exported(self) -> Any:
        """It gives the ids of ``encode`` but knows no settings: what ``error`` refuses gets its token there, and a
        ``*`` before [MASK] counts as final."""
        from tokenizers import Regex, pre_tokenizers

        from ssl_suite.modalities import tokenizers

        letters = pre_tokenizers.Split(Regex("."), "isolated")
        return tokenizers.word_level(self.vocabulary.tokens, self._normaliser(), letters)

    def _normaliser(self) -> Any:
        """Letters as they are read, without final stops (``stops=cut``: without all behind the first)."""
        from tokenizers import Regex, normalizers

        from ssl_suite.modalities import tokenizers

        final = r"\*(?=[*-]*\z)"
        stops = normalizers.Replace(Regex(final + (r"|\*.*\z" if self.stops == "cut" else "")), "")
        return normalizers.Sequence([tokenizers.letter_map(self._spelling), stops])
