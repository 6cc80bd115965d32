"""What DNA and proteins share: sequence files, one token a letter or a BPE trained on the input, and its export."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import SPECIAL_TOKENS, Vocabulary
from ssl_suite.modalities import sequence_files
from ssl_suite.modalities.base import Modality

FIRST = len(SPECIAL_TOKENS)


class LetterModality(Modality):
    """The base of modalities whose records are sequences of letters.

    Attributes:
        tokenizer: ``bpe`` is trained on the input, every other kind is known from construction.
        first_target: of a BPE: the id of the first token that may be predicted; what is no target stands before it, so
            that targets are one range.
    """

    tokenizer: str
    first_target: int = FIRST
    _bpe: Any = None  # a tokenizers.Tokenizer, once fitted or loaded
    _vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """Known from construction; for BPE after ``fit`` or ``load``."""
        if self._vocabulary is None:
            raise SuiteError("the BPE tokeniser has not been trained: prepare the data or load a run first.")
        return self._vocabulary

    @property
    def learns(self) -> bool:
        return self.tokenizer == "bpe"

    read = staticmethod(sequence_files.read)

    def _take_bpe(self, tokenizer: Any) -> None:
        ids = tokenizer.get_vocab()
        tokens = tuple(sorted(ids, key=ids.__getitem__))
        self._bpe = tokenizer
        self._vocabulary = Vocabulary(tokens, (self.first_target, len(tokens)))

    def _bpe_settings(self, vocab_size: int, piece: int) -> dict[str, Any]:
        """The part of the fingerprint: for a trained BPE its digest, before that only how it will be trained."""
        if self.tokenizer != "bpe":
            return {}
        trained = self._bpe and hashlib.sha256(self._bpe.to_str().encode("utf-8")).hexdigest()
        return {"vocab_size": vocab_size, "piece": piece, "trained": trained}

    def _exported(self) -> Any:
        """The ``tokenizers.Tokenizer`` of what is no BPE."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the tokeniser for ``transformers.AutoTokenizer``."""
        from ssl_suite.modalities import tokenizers

        tokenizers.write(self._bpe if self.tokenizer == "bpe" else self._exported(), folder, self.max_length)

    def load(self, folder: Path) -> None:
        """Take the trained BPE of a folder; other tokenisers have nothing to restore, but must be the same.

        Raises:
            SuiteError: the folder holds no tokeniser, or one of another vocabulary.
        """
        from ssl_suite.modalities import tokenizers

        found = tokenizers.read(folder)
        if self.tokenizer == "bpe":
            self._take_bpe(found)
        elif found.get_vocab_size() != len(self.vocabulary):
            raise SuiteError(
                f"{folder}: tokeniser has {found.get_vocab_size()} tokens, modality.tokenizer={self.tokenizer} "
                f"{len(self.vocabulary)}; use the settings it was written with."
            )
