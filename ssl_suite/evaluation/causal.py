"""Causal language models with their heads, as ``transformers`` classes: a run of ``objective=clm``, or ``hf:``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import encode, text_encoders
from ssl_suite.evaluation.references import HF, Reference
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.text_pretrained import refuse_code
from ssl_suite.models import generate, weights
from ssl_suite.models.wrapped import quiet

AT_ONCE = 2048  # positions of a pass, each with a logit a word of the vocabulary


class Causal(nn.Module):
    """A model of the next token.

    Args:
        model: an ``…ForCausalLM``.
        start: its ids before every text, as its tokeniser adds them; [] where that adds none, as GPT-2's.
        opening: the ids before a text without a prompt, which else had no probability of its first token: those of
            ``start``, or its beginning-of-text token (GPT-2's <|endoftext|>).
        native_V: its own id of each of the modality's; None where they are the same.
    """

    def __init__(
        self, model: Any, start: Sequence[int], opening: Sequence[int], native_V: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model, self.start, self.opening = model, list(start), list(opening)
        self.native_V: Tensor | None
        self.register_buffer("native_V", native_V)

    @torch.no_grad()
    def log_probabilities(self, sequences: Sequence[np.ndarray], prompted: bool) -> list[np.ndarray]:
        """(length,) natural logarithms: of each token given those before it; NaN of a first one behind nothing."""
        start = self.start if prompted else self.opening
        device, first = encode.device_of(self), len(start)
        found: list[Any] = [None] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
        for some in encode.split_by_size(order, [first + len(ids) for ids in sequences], AT_ONCE):
            longest = first + len(sequences[some[0]])
            ids_JT, mask_JT = torch.zeros(2, len(some), longest, dtype=torch.int64, device=device)
            for j, i in enumerate(some):
                ids = torch.from_numpy(sequences[i].astype(np.int64)).to(device)
                size = first + len(ids)
                ids_JT[j, :first] = torch.tensor(start, dtype=torch.int64)
                ids_JT[j, first:size] = ids if self.native_V is None else self.native_V[ids]
                mask_JT[j, :size] = 1
            logits_JTV = self.model(input_ids=ids_JT, attention_mask=mask_JT).logits[:, :-1].float()
            each_JT = logits_JTV.log_softmax(-1).gather(2, ids_JT[:, 1:, None])[:, :, 0].cpu().numpy()
            for j, i in enumerate(some):
                end = first + len(sequences[i]) - 1
                found[i] = each_JT[j, first - 1 : end] if first else np.append(np.float32(np.nan), each_JT[j, :end])
        return found


def _run(reference: Reference, modality: Modality) -> tuple[Causal, int | None, str]:
    from ssl_suite.training import restore

    loaded = restore.load_run(reference.name)
    name = loaded.config["objective"]["name"]
    if not hasattr(loaded.objective, "next_logits") or modality.frame is not None:
        raise SuiteError(
            f"encoder={reference.short} was trained with objective={name}; likelihoods need objective=clm."
        )
    v = modality.vocabulary
    model = generate.causal_model(loaded.encoder, loaded.objective, v, modality.max_length)
    return Causal(model, [v.cls], [v.cls]), loaded.step, f"pre-trained here with objective={name}"


def _hf(reference: Reference, modality: Modality) -> tuple[Causal, int | None, str]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = text_encoders.place_of(reference.name)
    refuse_code(Path(place), f"encoder={HF}{reference.name}")
    try:
        text_encoders.check_sizes(Path(place))
        tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        loader: Any = AutoModelForCausalLM
        given: dict[str, Any] = {"output_loading_info": True, "dtype": torch.float32}
        with quiet():
            model, report = loader.from_pretrained(place, trust_remote_code=False, **given)
    except Exception as error:  # of many kinds: no such name, no network, a damaged file, a model of another kind
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")[:200] or type(error).__name__
        raise SuiteError(f"encoder={reference.short} cannot be opened as a causal language model ({reason}).") from None
    missing = sorted(map(str, report["missing_keys"]))
    if missing or (wrong := weights.unfit(model.state_dict())):
        what = f"{len(missing)} are not in its files ({', '.join(missing[:3])})" if missing else wrong
        raise SuiteError(f"encoder={reference.short}: of its weights {what}; choose a model with a causal head.")
    if looks_ahead(model):
        raise SuiteError(f"encoder={reference.short} reads what follows a token: it gives no likelihoods of texts.")
    text_encoders.check_positions(model, modality.max_length, reference)
    rows = model.get_input_embeddings().num_embeddings
    native_V = torch.from_numpy(text_encoders.native(modality.vocabulary, tokenizer, rows, reference))
    plain, whole = tokenizer("a", add_special_tokens=False).input_ids, tokenizer("a").input_ids
    start = whole[: whole.index(plain[0])]
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return Causal(model.eval(), start, start or [begin] * (begin is not None), native_V), None, ""


def looks_ahead(model: Any) -> bool:
    """Whether the logits of a token change with what follows it: BERT has a ``ForCausalLM`` class, too."""
    ids_JT = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    with torch.no_grad():
        first_TV, second_TV = model.eval()(input_ids=ids_JT).logits[:, :3]
    return not torch.allclose(first_TV, second_TV, rtol=1e-3, atol=1e-4)


OPENERS = {"run": _run, "hf": _hf}
