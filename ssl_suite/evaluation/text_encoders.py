"""Encoders of ``transformers`` and what a domain's symbols are to them: their own tokens, random words, or new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_suite.errors import SuiteError
from ssl_suite.evaluation.references import HF, Reference
from ssl_suite.modalities.base import Modality, Vocabulary
from ssl_suite.models.wrapped import Wrapped, untrained

FIRST_WORD = 1000  # ids below are [unused] and single characters in BERT's vocabulary; Kao & Lee leave them out


def wrapped(
    reference: Reference, modality: Modality, seed: int, scratch: bool, dropout: float | None, keep_special: bool
) -> Wrapped:
    """The encoder that ``hf:NAME_OR_PATH`` and its additions name; the arguments are ``encoders.open_encoder``'s.

    Raises:
        SuiteError: it cannot be opened, has too few positions or words, or lacks a symbol.
    """
    model, tokenizer = load_hf(reference.name, scratch, dropout, seed)
    check_positions(model, modality.max_length, reference)
    own_VD = model.get_input_embeddings().weight.detach()
    v = modality.vocabulary
    if reference.reembed:
        std = getattr(model.config, "initializer_range", 0.02)
        table_VD = torch.randn(len(v), own_VD.shape[1], generator=torch.Generator().manual_seed(seed)) * std
        return Wrapped(model, v.pad, table=table_VD)
    if reference.map:
        words_V = mapping(v, tokenizer, seed if reference.map_seed is None else reference.map_seed, keep_special)
        return Wrapped(model, v.pad, table=own_VD[torch.from_numpy(words_V)])
    return Wrapped(model, v.pad, native_V=torch.from_numpy(native(v, tokenizer, reference)))


def check_positions(model: Any, needed: int, reference: Reference) -> None:
    """Raise ``SuiteError`` where the encoder has fewer positions than the longest sequence."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return
    # RoBERTa and MPNet begin to count behind their padding id.
    behind = hasattr(getattr(model, "embeddings", None), "create_position_ids_from_inputs_embeds")
    positions -= (model.config.pad_token_id or 0) + 1 if behind else 0
    if needed > positions:
        raise SuiteError(
            f"encoder={reference.short} has {positions} positions, the task needs {needed}: "
            f"choose an encoder with more, or a task with shorter sequences."
        )


def load_hf(name: str, scratch: bool, dropout: float | None, seed: int) -> tuple[Any, Any]:
    """A bare ``transformers`` encoder and its tokeniser, from a folder or the hub.

    Raises:
        SuiteError: there is none, weights are missing in it, or they look untrained.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        settings = AutoConfig.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
        changes = {key: dropout for key in vars(settings) if "dropout" in key and dropout is not None}
        changes = {key: value for key, value in changes.items() if isinstance(getattr(settings, key), float)}
        if scratch:
            torch.manual_seed(seed)
            for key, value in changes.items():
                setattr(settings, key, value)
            return AutoModel.from_config(settings, dtype=torch.float32), tokenizer
        model, report = AutoModel.from_pretrained(name, output_loading_info=True, dtype=torch.float32, **changes)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise SuiteError(f"encoder={HF}{name} cannot be opened by transformers ({reason}).") from None
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    faults = missing + sorted(str(key) for key in report["mismatched_keys"])
    if faults:
        shown = ", ".join(faults[:3])
        raise SuiteError(f"encoder={HF}{name}: {len(faults)} of its weights are not in its files ({shown}, …).")
    if untrained(model):
        raise SuiteError(
            f"encoder={HF}{name}: its weights are as a constructor leaves them; for random ones write protocol=scratch."
        )
    return model, tokenizer


def mapping(v: Vocabulary, tokenizer: Any, seed: int, keep_special: bool) -> np.ndarray:
    """(V,) int64: the word of the text encoder that stands for each of the domain's ids, no word for two of them.

    Words are drawn from the ids from 1,000 on, special tokens left out.

    Raises:
        SuiteError: the vocabulary has too few words.
    """
    special = set(tokenizer.all_special_ids)
    words = np.array([i for i in range(FIRST_WORD, len(tokenizer)) if i not in special], np.int64)
    if len(words) < len(v):
        raise SuiteError(
            f"the text encoder's vocabulary has {len(words):,} words from id {FIRST_WORD:,} on, the task {len(v):,} "
            f"symbols: choose an encoder with more words, or +reembed."
        )
    words_V = np.random.default_rng(seed).permutation(words)[: len(v)]
    if keep_special:
        for own, theirs in _specials(v, tokenizer).items():
            words_V[own] = theirs
    return words_V


def native(v: Vocabulary, tokenizer: Any, reference: Reference) -> np.ndarray:
    """(V,) int64: the encoder's own id of each of the domain's tokens, spelled alike or in lower case.

    Raises:
        SuiteError: a token that can be predicted has none.
    """
    own, specials = tokenizer.get_vocab(), _specials(v, tokenizer)
    found = np.full(len(v), specials[v.unk], np.int64)
    low, high = v.targets
    lacking = []
    for i, token in enumerate(v.tokens):
        place = specials.get(i, own.get(token, own.get(token.lower())))
        if place is not None:
            found[i] = place
        elif low <= i < high:
            lacking.append(token)
    if lacking:
        shown = ", ".join(lacking[:5])
        raise SuiteError(
            f"encoder={reference.short} has no token for {len(lacking):,} of the task's symbols ({shown}): "
            f"write encoder={reference.short}+map to put random words in their place, or +reembed."
        )
    return found


def _specials(v: Vocabulary, tokenizer: Any) -> dict[int, int]:
    """The domain's special ids and the text encoder's; one that it lacks is its [UNK], or else its padding."""
    spare = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id or 0
    pairs = {
        v.pad: tokenizer.pad_token_id,
        v.unk: tokenizer.unk_token_id,
        v.cls: tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id,
        v.sep: tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id,
        v.mask: tokenizer.mask_token_id,
    }
    return {own: spare if theirs is None else theirs for own, theirs in pairs.items()}


def note(name: str) -> str:
    """What a reader of its number must know."""
    tuned = (Path(name) / "config_sentence_transformers.json").is_file() or name.startswith("sentence-transformers/")
    return "tuned for sentence similarity after its pre-training" if tuned else ""
