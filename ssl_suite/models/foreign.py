"""Encoders of ``transformers`` of another layout than this suite's, as starts of runs: opened, wrapped, written back.

A model continues with its own tokenizer, and masked language modelling with its own head. What is exported is a folder
of the model's own architecture, with its own tokenizer files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.files import read_json
from ssl_suite.core.records import Vocabulary
from ssl_suite.modalities.base import Modality
from ssl_suite.models import weights
from ssl_suite.models.wrapped import Wrapped, WrappedSpec, dropouts, native_ids, positions_of, quiet

LIBRARY, LARGER = "transformers", "mini"
REMEDY = "copy the folder again, or choose another start"
FILES = (  # of a tokenizer, in any of the formats that transformers reads
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model"),
)
OBJECTIVES = "mlm, whole_word, nsp or sop on tokens. For others start from a ModernBERT folder or a run"
KEPT = "tokenizer"  # the folder in a run's ``modality/`` with the model's own tokenizer files
OPENING = """from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder", trust_remote_code=False)
model = AutoModelForMaskedLM.from_pretrained("this folder", trust_remote_code=False)"""


def start(folder: Path, model: Mapping[str, Any], modality: Modality, objective: Any) -> Wrapped:
    """The encoder of a folder, wrapped, with its weights.

    Raises:
        SuiteError: the objective cannot train it, it cannot be opened, has too few positions, lacks a token that the
            modality predicts, or its weights are damaged.
    """
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    facts = read_json(folder / "config.json", REMEDY)
    check_use(model, objective, str(facts.get("model_type")), OBJECTIVES)
    settings = settings_of(folder, facts)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of many kinds
        raise SuiteError(f"transformers opens no tokenizer there ({reason(error)}); {REMEDY}.") from None

    # Tokens and positions.
    if tokenizer.mask_token_id is None:
        raise SuiteError("its tokenizer has no mask token, so nothing can be hidden from it.")
    native, lacking = native_ids(modality.vocabulary, tokenizer, settings.vocab_size)
    low, high = modality.vocabulary.targets
    if lacking or len(set(native[low:high])) < high - low:
        shown = f" ({', '.join(lacking[:5])})" if lacking else ""
        raise SuiteError(
            f"has no token of its own for each of the modality's{shown}; a wrapped model keeps its tokens: for text "
            "leave modality.tokenizer out, for proteins use tokenizer=residue."
        )

    # Weights, of a bare model or of one with a head.
    spec = WrappedSpec.of(json.loads(json.dumps(settings.to_dict())), modality.vocabulary.pad, native)
    whole, missing = with_weights(AutoModelForMaskedLM, folder, without_dropout(spec.settings))
    prefix = f"{whole.base_model_prefix}."
    refuse_missing(folder, [name for name in missing if name.startswith(prefix)])
    encoder = Wrapped.with_head(whole, spec)
    encoder.fresh_head, encoder.files = bool(missing), folder
    needed, held = modality.max_length, positions_of(encoder.model)
    if held is not None and needed > held:
        raise SuiteError(f"has {held} positions, modality.max_length={needed} is more: set modality.max_length={held}.")
    return encoder


def settings_of(folder: Path, facts: Mapping[str, Any]) -> Any:
    """The ``transformers`` configuration of a folder whose weights are sound and as large as its sizes say.

    Raises:
        SuiteError: they are not, or there is no such configuration.
    """
    from transformers import AutoConfig

    names = {"layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads"}
    sizes = {own: facts[name] for own, name in names.items() if name in facts}
    stored = weights.read(folder / "model.safetensors", REMEDY)
    if wrong := weights.implausible(sizes, stored) or weights.unfit(stored):
        raise SuiteError(f"weights do not fit {folder / 'config.json'}: {wrong}; {REMEDY}.")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of many kinds
        raise SuiteError(f"transformers opens no configuration there ({reason(error)}); {REMEDY}.") from None


def with_weights(kind: Any, folder: Path, settings: Any) -> tuple[Any, list[str]]:
    """A model of a class of ``transformers`` with the weights of a folder, and the names of those that are not there.

    Raises:
        SuiteError: the class opens no such model, or weights are of other shapes.
    """
    given: dict[str, Any] = {
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
        "dtype": torch.float32,
    }
    try:
        with quiet():
            model, report = kind.from_pretrained(folder, config=settings, trust_remote_code=False, **given)
    except Exception as error:  # of many kinds: no such class among them
        raise SuiteError(f"{kind.__name__} opens no model there ({reason(error)}); {REMEDY}.") from None
    refuse_missing(folder, [str(key[0]) for key in report["mismatched_keys"]])
    return model, [str(key) for key in report["missing_keys"]]


def refuse_missing(folder: Path, names: list[str]) -> None:
    """Raise ``SuiteError`` where there are names of weights that a folder should have."""
    if names:
        shown = min(names)
        raise SuiteError(f"{folder}: {len(names)} of its weights are missing or of other shapes, such as {shown}.")


def reason(error: Exception) -> str:
    """An error of another library in one line."""
    return " ".join(str(error).split())[:160]


def check_use(model: Mapping[str, Any], objective: Any, kind: str, objectives: str) -> None:
    """Raise ``SuiteError`` where a wrapped model of this kind cannot be trained so."""
    if not objective.wraps:
        raise SuiteError(f"is a {kind} model, which is wrapped as it is; that trains with objective={objectives}.")
    for key in ("dropout", "checkpointing"):
        if model.get(key):
            raise SuiteError(f"is a {kind} model, which is wrapped and knows no model.{key}; leave it out.")


def without_dropout(facts: Mapping[str, Any]) -> Any:
    """The configuration with which a model is trained: nothing is dropped, so that a run resumes to the bit."""
    from transformers import AutoConfig

    settings = AutoConfig.for_model(**facts)
    for key in [*dropouts(settings), *(key for key in vars(settings) if "layerdrop" in key)]:
        setattr(settings, key, 0.0)
    return settings


def of_shapes(facts: Mapping[str, Any], modality: Modality) -> Wrapped:
    """The wrapped encoder of these shapes, with random weights."""
    from transformers import AutoModelForMaskedLM

    spec = WrappedSpec(**facts)
    settings = without_dropout(spec.settings)
    whole = AutoModelForMaskedLM.from_config(settings, trust_remote_code=False, dtype=torch.float32)
    return Wrapped.with_head(whole, spec)


def moved(spec: WrappedSpec, model: Mapping[str, Any], modality: Modality, objective: Any) -> WrappedSpec:
    """The shapes of another run's wrapped encoder for this run.

    Raises:
        SuiteError: the objective cannot train it, or the tokens are others.
    """
    check_use(model, objective, str(spec.settings.get("model_type")), OBJECTIVES)
    if len(modality.vocabulary) != spec.vocabulary:
        raise SuiteError("is a wrapped model, which keeps its own tokens; leave model.init_tokens and tokenizers out.")
    return spec


def write(learner: Any, modality: Modality, folder: Path, max_length: int | None = None) -> None:
    """Put the model's own ``config.json``, ``model.safetensors`` and tokenizer files into a folder."""
    encoder: Any = learner.encoder
    for name in FILES:
        (folder / name).unlink(missing_ok=True)  # the modality's, which has other ids
    keep(encoder, folder)
    cfg = encoder.spec.settings | {"architectures": [encoder.architecture], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(cfg, indent=2), encoding="utf-8")
    save_file(encoder.hub_weights(), folder / "model.safetensors", metadata={"format": "pt"})


def opening(spec: Any, modality: Modality, architecture: str) -> str:
    """The lines of Python that open an exported folder."""
    return OPENING


def keep(encoder: Wrapped, folder: Path) -> None:
    """Copy the model's tokenizer files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if encoder.files is not None and (encoder.files / name).is_file() and encoder.files != folder:
            shutil.copyfile(encoder.files / name, folder / name)


def described(encoder: Wrapped, vocabulary: Vocabulary) -> str:
    """What was taken of a folder, in a line."""
    head = "a head that starts at random (the folder has none)" if encoder.fresh_head else "its own head"
    own, total = len(set(encoder.spec.native)), len(vocabulary)
    rest = "" if own == total else f" of {total:,}, the others are its [UNK]"
    return f"{encoder.architecture} with {head}, wrapped; it knows {own:,} tokens{rest}."
