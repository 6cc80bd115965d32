"""Tokenisers that others have trained, by name or folder, made to fit a ``Vocabulary``.

Each of [PAD], [UNK], [CLS], [SEP] and [MASK] is the tokeniser's own such token. A model without [CLS] or [SEP] lends
its beginning- or end-of-text token. What is missing after that, or would stand for two things at once (GPT-2's
``<|endoftext|>``), is added behind the vocabulary under its usual name; a model with that tokeniser then needs as
many more rows in its embedding table.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.core.records import SPECIAL_TOKENS, Vocabulary
from ssl_suite.modalities import text_letters, tokenizers

PREFIX = "hf:"
MARKS = ("Ġ", text_letters.MARK)  # what stands for the space before a word: byte-level BPE, SentencePiece
ENOUGH = 0.1  # share of a vocabulary that must carry a mark for it to be one


def fetch(reference: str) -> tuple[Any, tuple[str, ...]]:
    """The ``tokenizers.Tokenizer`` of ``hf:NAME_OR_FOLDER``, and its words for ``SPECIAL_TOKENS``.

    Raises:
        SuiteError: no such name or folder, offline, or a tokeniser that exists in Python only.
    """
    from ssl_suite.modalities.text_training import finished

    name = reference.removeprefix(PREFIX).strip()
    known = opened(reference, name)
    if not known.is_fast:
        raise SuiteError(
            f"modality.tokenizer={reference}: has no tokenizer.json that the tokenizers library reads; choose another."
        )
    special = special_tokens(known)
    return finished(Tokenizer.from_str(known.backend_tokenizer.to_str()), special), special


def opened(reference: str, name: str) -> Any:
    """What ``transformers.AutoTokenizer`` makes of a name or folder; code from it is never run."""
    local = Path(name).expanduser().is_dir()
    if not name or (not local and (name.startswith((".", "/", "~")) or name.count("/") > 1)):
        raise SuiteError(f"modality.tokenizer={reference}: there is no such folder; give hf:NAME or hf:FOLDER.")
    place = str(Path(name).expanduser()) if local else name
    refuse_code(Path(place), f"modality.tokenizer={reference}")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, use_fast=True, trust_remote_code=False)
    except Exception as error:
        why = " ".join(str(error).split())[:120]
        if local:
            message = f"modality.tokenizer={reference}: the folder holds no tokeniser that transformers opens ({why})."
        else:
            message = (
                f"modality.tokenizer={reference}: neither a folder here nor to be had from huggingface.co (offline, or "
                "no such name); put its tokenizer.json and tokenizer_config.json into a folder and give hf:FOLDER."
            )
        raise SuiteError(message) from None


def refuse_code(folder: Path, setting: str) -> None:
    """Refuse a folder whose configuration asks for Python files of its own (``auto_map``).

    ``trust_remote_code=False`` alone would open some of them as another class of the same ``model_type``.

    Raises:
        SuiteError: names the file, and ``setting``, the user's words.
    """
    for path in (folder / "config.json", folder / "tokenizer_config.json"):
        content: dict[str, Any] = {}
        with contextlib.suppress(SuiteError):  # what is no JSON names nothing; whoever opens it says so
            content = read_json(path, "")
        if "auto_map" in content:
            raise SuiteError(
                f"{setting}: {path} names Python code to run (auto_map), and foreign code is never run. Where "
                "transformers knows the architecture itself, delete that key; else choose another model."
            )


def special_tokens(known: Any) -> tuple[str, ...]:
    """Five different words, in the order of ``SPECIAL_TOKENS``: the tokeniser's own where it has them."""
    own = {
        "[SEP]": (known.sep_token, known.eos_token),
        "[CLS]": (known.cls_token, known.bos_token),
        "[PAD]": (known.pad_token,),
        "[MASK]": (known.mask_token,),
        "[UNK]": (known.unk_token,),
    }
    taken: dict[str, str] = {}
    for name, candidates in own.items():
        free = [str(word) for word in candidates if word is not None and str(word) not in taken.values()]
        taken[name] = free[0] if free else name
    return tuple(taken[name] for name in SPECIAL_TOKENS)


def special_of(folder: Path) -> tuple[str, ...]:
    """The words for ``SPECIAL_TOKENS`` in a folder that ``tokenizers.write`` wrote.

    Raises:
        SuiteError: its ``tokenizer_config.json`` is missing or does not name them.
    """
    path = folder / "tokenizer_config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        words = tuple(config[name] for name in tokenizers.NAMES)
        if all(isinstance(word, str) for word in words):
            return words
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise SuiteError(
        f"{path}: does not name the five special tokens; give a folder that a run or an export has written."
    )


def vocabulary(tokenizer: Any, special: tuple[str, ...]) -> Vocabulary:
    """The ids of a tokeniser.

    ``targets`` is the widest range of ids without a special token. BERT keeps its special tokens at 100 to 103, so its
    first 100 ids, all unused, are no targets.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True)
    tokens = [f"[no token {i}]" for i in range(max(ids.values()) + 1)]  # some vocabularies have gaps
    for token, i in ids.items():
        tokens[i] = token
    inside = {i for i, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    borders = sorted({-1, len(tokens), *inside, *(ids[word] for word in special)})
    width, low = max((b - a - 1, a + 1) for a, b in itertools.pairwise(borders))
    pad, unk, cls, sep, mask = (ids[word] for word in special)
    going_on = frozenset(i for i in continuing(tokenizer, tokens) if low <= i < low + width)
    return Vocabulary(
        tuple(tokens), (low, low + width), continues=going_on, pad=pad, unk=unk, cls=cls, sep=sep, mask=mask
    )


def continuing(tokenizer: Any, tokens: list[str]) -> list[int]:
    """Ids that go on with the word before them; none where the vocabulary does not tell (``</w>`` at words' ends)."""
    prefix = getattr(tokenizer.model, "continuing_subword_prefix", None)
    if prefix:
        return [i for i, token in enumerate(tokens) if token.startswith(prefix) and len(token) > len(prefix)]
    marked = {mark: sum(token.startswith(mark) for token in tokens) for mark in MARKS}
    mark = max(marked, key=marked.__getitem__)
    if marked[mark] < ENOUGH * len(tokens):
        return []
    # U+FFFD where a byte-level token begins inside a letter.
    written = [decoders.ByteLevel().decode([token]) for token in tokens] if mark == MARKS[0] else tokens
    return [
        i
        for i, (token, text) in enumerate(zip(tokens, written, strict=True))
        if not token.startswith(mark) and text_letters.begins_inside(text)
    ]
