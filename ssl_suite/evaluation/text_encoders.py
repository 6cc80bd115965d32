"""Encoders of ``transformers`` and what a domain's symbols are to them: their own tokens, random words, or new ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.core.records import Vocabulary
from ssl_suite.evaluation.references import HF, Reference
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.text_pretrained import refuse_code
from ssl_suite.models import hub, weights
from ssl_suite.models.weights import digest
from ssl_suite.models.wrapped import Wrapped, dropouts, native_ids, positions_of, quiet, specials, unread, untrained

FIRST_WORD = 1000  # ids below are special or [unused] in BERT's vocabulary; Kao & Lee leave them out
PATIENCE = 5.0  # seconds for the hub's answer


def wrapped(
    reference: Reference, modality: Modality, seed: int, scratch: bool, dropout: float | None, keep_special: bool
) -> Wrapped:
    """The encoder that ``hf:NAME_OR_PATH`` and its additions name; the arguments are ``encoders.open_encoder``'s.
    Raises SuiteError: it cannot be opened, has too few positions or words, or lacks a symbol."""
    model, tokenizer = load_hf(reference.name, scratch, dropout, seed)
    check_positions(model, modality.max_length, reference)
    origin = None if scratch else digest(model)
    found = _with_embeddings(reference, modality.vocabulary, model, tokenizer, seed, keep_special)
    found.origin = origin
    return found


def _with_embeddings(
    reference: Reference, v: Vocabulary, model: Any, tokenizer: Any, seed: int, keep_special: bool
) -> Wrapped:
    own_VD = model.get_input_embeddings().weight.detach()
    if reference.reembed:
        std = getattr(model.config, "initializer_range", 0.02)
        table_VD = torch.randn(len(v), own_VD.shape[1], generator=torch.Generator().manual_seed(seed)) * std
        return Wrapped(model, v.pad, table=table_VD)
    if reference.map:
        words_V = mapping(v, tokenizer, len(own_VD), reference, seed, keep_special)
        return Wrapped(model, v.pad, table=own_VD[torch.from_numpy(words_V)])
    return Wrapped(model, v.pad, native_V=torch.from_numpy(native(v, tokenizer, len(own_VD), reference)))


def check_positions(model: Any, needed: int, reference: Reference) -> None:
    """Raise ``SuiteError`` where the encoder has fewer positions than the longest sequence."""
    positions = positions_of(model)
    if positions is not None and needed > positions:
        raise SuiteError(
            f"encoder={reference.short} has {positions} positions, the task needs {needed}: "
            f"choose an encoder with more, or a task with shorter sequences."
        )


def load_hf(name: str, scratch: bool, dropout: float | None, seed: int) -> tuple[Any, Any]:
    """A bare ``transformers`` encoder and its tokeniser, from a folder or the hub. Raises SuiteError: there is none, it
    does not read tokens alone, weights are missing in it, or they look untrained."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    place = place_of(name)
    refuse_code(Path(place), f"encoder={HF}{name}")
    report: dict[str, Any] = {"missing_keys": (), "mismatched_keys": ()}
    try:
        check_sizes(Path(place))
        settings = AutoConfig.from_pretrained(place, trust_remote_code=False)
        if settings.is_encoder_decoder:
            raise ValueError(f"{settings.model_type} has a decoder too; BERT, MPNet, ModernBERT or ESM have none")
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        changes: dict[str, Any] = {} if dropout is None else dict.fromkeys(dropouts(settings), dropout)
        if scratch:
            torch.manual_seed(seed)
            for key, value in changes.items():
                setattr(settings, key, value)
            model = AutoModel.from_config(settings, trust_remote_code=False, dtype=torch.float32)
        else:
            changes |= {"output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": torch.float32}
            with quiet():
                model, report = AutoModel.from_pretrained(place, trust_remote_code=False, **changes)
        idle = unread(model)
    except Exception as error:  # of many kinds: no such name, no network, a damaged file, a model of pictures
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")[:200] or type(error).__name__
        raise SuiteError(f"encoder={HF}{name} cannot be opened by transformers as a text encoder ({reason}).") from None
    missing = {str(key) for key in report["missing_keys"]}
    faults = sorted(missing - idle) + sorted(str(key[0]) for key in report["mismatched_keys"])
    if faults:
        shown = ", ".join([*faults[:3], *["…"] * (len(faults) > 3)])
        raise SuiteError(f"encoder={HF}{name}: of its weights {len(faults)} are not in its files ({shown}).")
    if wrong := weights.unfit(model.state_dict()):
        raise SuiteError(f"encoder={HF}{name}: of its weights {wrong}; copy the folder again, or choose another.")
    if not scratch and untrained(model):
        raise SuiteError(
            f"encoder={HF}{name}: its weights are as a constructor leaves them; for random ones write protocol=scratch."
        )
    with torch.no_grad():  # a pooler that is missing is random: nobody reads it, but the digest would follow the seed
        for key in missing & idle:
            model.get_parameter(key).zero_()
    return model, tokenizer


def place_of(name: str) -> str:
    """The folder that ``hf:NAME_OR_PATH`` stands for, or the name on the hub. Raises SuiteError: there is no such
    folder; or the name was never fetched, and the hub cannot be asked."""
    from huggingface_hub import try_to_load_from_cache

    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise SuiteError(f"encoder={HF}{name}: there is no such folder; give hf:FOLDER or a name on the hub.")
    if not hub_answers() and not isinstance(try_to_load_from_cache(name, "config.json"), str):
        raise SuiteError(
            f"{HF}{name} is not on this machine, and the hub cannot be asked (no network, or HF_HUB_OFFLINE=1): "
            "name a folder that holds an encoder, as in text=hf:FOLDER or encoder=hf:FOLDER."
        )
    return name


def hub_answers() -> bool:
    """Whether the hub can be asked. Where it gives no answer, its client is offline from then on, in this process and
    those it starts: it would try again for half a minute at every file."""
    from huggingface_hub import constants

    if not constants.is_offline_mode() and not _answered(constants.ENDPOINT):
        os.environ["HF_HUB_OFFLINE"], constants.HF_HUB_OFFLINE = "1", True
    return not constants.is_offline_mode()


@cache
def _answered(address: str) -> bool:
    from huggingface_hub.utils import get_session

    try:
        get_session().head(address, timeout=PATIENCE)
    except Exception:  # of its HTTP library, which is not this suite's to know
        return False
    return True


@contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's client to what is on this machine."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def check_sizes(folder: Path) -> None:
    """Raise ``SuiteError`` where a folder's ``config.json`` has sizes for which its weights are too small.

    ``transformers`` would ask for the memory first: of a damaged file, more than the machine has.
    """
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        sizes = hub.hub_sizes(read_json(folder / "config.json", "copy it again"))
        stored = weights.read(folder / "model.safetensors", "copy it again")
        if stored and (wrong := weights.implausible(sizes, stored)):
            raise SuiteError(f"{wrong} is not of its weights")


def mapping(
    v: Vocabulary, tokenizer: Any, rows: int, reference: Reference, seed: int, keep_special: bool
) -> np.ndarray:
    """(V,) int64: the word of the text encoder that stands for each of the domain's ids, no word for two of them.

    Words are drawn from the ids from 1,000 on, special tokens left out, by the reference's seed or else the run's.

    Args:
        rows: of the encoder's embeddings; a tokeniser may know more words.

    Raises SuiteError: the vocabulary has too few words.
    """
    seed = seed if reference.map_seed is None else reference.map_seed
    special = set(tokenizer.all_special_ids)
    words = np.array([i for i in range(FIRST_WORD, min(len(tokenizer), rows)) if i not in special], np.int64)
    if len(words) < len(v):
        raise SuiteError(
            f"encoder={reference.short}: its vocabulary has {len(words):,} words from id {FIRST_WORD:,} on, the task "
            f"{len(v):,} symbols: choose an encoder with more words, or +reembed."
        )
    words_V = np.random.default_rng(seed).permutation(words)[: len(v)]
    if keep_special:
        for own, theirs in specials(v, tokenizer).items():
            words_V[own] = theirs
    return words_V


def native(v: Vocabulary, tokenizer: Any, rows: int, reference: Reference) -> np.ndarray:
    """(V,) int64: ``wrapped.native_ids``. Raises SuiteError: a token that can be predicted has none."""
    found, lacking = native_ids(v, tokenizer, rows)
    if lacking:
        raise SuiteError(
            f"encoder={reference.short} has no token for {len(lacking):,} of the task's symbols "
            f"({', '.join(lacking[:5])}): write encoder={reference.short}+map to put random words in their place, or "
            "+reembed."
        )
    return np.array(found)


def note(name: str) -> str:
    """What a reader of its number must know."""
    tuned = (Path(name) / "config_sentence_transformers.json").is_file() or name.startswith("sentence-transformers/")
    return "tuned for sentence similarity after its pre-training" if tuned else ""
