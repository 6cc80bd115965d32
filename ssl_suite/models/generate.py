"""Writing with a causal run: ``transformers``' ``generate`` on the model that the run exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.wording import count
from ssl_suite.models import decoder_hub
from ssl_suite.models.encoder import Encoder


@dataclass(frozen=True)
class Generated:
    """One sequence.

    Attributes:
        ids: of prompt and continuation, without [CLS] and [SEP].
        prompt: how many of them were given.
        ended: whether the model ended it with [SEP]; else it had reached the length.
    """

    ids: list[int]
    prompt: int
    ended: bool


def causal_model(encoder: Encoder, objective: Any, vocabulary: Vocabulary, max_length: int) -> Any:
    """The ``ModernBertDecoderForCausalLM`` of a causal encoder and its objective's head, on the encoder's device."""
    from transformers import ModernBertDecoderConfig, ModernBertDecoderForCausalLM

    settings = ModernBertDecoderConfig(**decoder_hub.decoder_config(encoder.spec, vocabulary, max_length))
    model = ModernBertDecoderForCausalLM(settings)
    weights = {f"model.{name}": x for name, x in encoder.state_dict().items()} | objective.hub_weights()[1]
    missing, unexpected = model.load_state_dict(decoder_hub.to_decoder(weights), strict=False)
    if set(missing) - {"decoder.weight"} or unexpected:  # the decoder's weight is the embeddings'
        raise SuiteError(f"the run's weights do not fill {decoder_hub.CAUSAL_LM}: {[*missing, *unexpected][:3]}.")
    model.tie_weights()
    return model.eval().to(next(encoder.parameters()).device)


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    max_length: int,
    length: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    told: Callable[[list[int]], None] | None = None,
) -> list[Generated]:
    """Go on from each prompt until [SEP], or until the length is reached.

    Prompts of one length are written together; the draws follow from the seed and the prompts that are given.

    Args:
        model: as ``causal_model`` gives it.
        prompts: ids without special tokens; an empty one starts from [CLS] alone.
        vocabulary: [PAD], [MASK], [CLS] and [UNK] are never written; [SEP] ends.
        max_length: positions of a sequence, [CLS] and [SEP] included, that the model was trained for.
        length: most new ids of each; None fills the window.
        temperature: logits are divided by it; 0 takes the likeliest id (greedy).
        top_k: only the k likeliest ids; None is all.
        top_p: only the likeliest ids that together have this probability (Holtzman et al. 2019, arXiv:1904.09751).
        told: of a single prompt: takes all ids so far as each is written.

    Raises:
        SuiteError: a prompt, or a prompt and ``length``, that do not fit into the window.
    """
    budgets = {size: _budget(size, length, max_length) for size in dict.fromkeys(map(len, prompts))}
    never = {vocabulary.pad, vocabulary.mask, vocabulary.cls, vocabulary.unk} - {vocabulary.sep}
    draws: dict[str, Any] = {"do_sample": False}
    if temperature > 0:  # top_k = 0 turns the filter off; the library's default is 50
        draws = {"do_sample": True, "temperature": temperature, "top_p": top_p or 1.0, "top_k": top_k or 0}
    found: dict[int, Generated] = {}
    torch.manual_seed(seed)
    for size, budget in sorted(budgets.items()):
        places = [i for i, prompt in enumerate(prompts) if len(prompt) == size]
        if not budget:
            found |= {i: Generated(list(prompts[i]), size, False) for i in places}
            continue
        ids = torch.tensor([[vocabulary.cls, *prompts[i]] for i in places], device=model.device)
        written = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=budget,
            suppress_tokens=sorted(never),
            eos_token_id=vocabulary.sep,
            pad_token_id=vocabulary.pad,
            streamer=Streamer(told, vocabulary.sep) if told and len(prompts) == 1 else None,
            **draws,
        )
        for i, row in zip(places, written.tolist(), strict=True):
            new = row[size + 1 :]
            ended = vocabulary.sep in new
            new = new[: new.index(vocabulary.sep)] if ended else new
            found[i] = Generated([*prompts[i], *new], size, ended)
    return [found[i] for i in range(len(prompts))]


class Streamer:
    """What ``transformers``' ``generate`` tells of each id; passes on the ids between [CLS] and [SEP]."""

    def __init__(self, told: Callable[[list[int]], None], end: int) -> None:
        self.told, self.stop = told, end
        self.ids: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        self.ids += value.flatten().tolist()
        if self.ids[-1] != self.stop or len(self.ids) == 1:
            self.told(self.ids[1:])

    def end(self) -> None:
        """Nothing is left to say."""


def _budget(prompt: int, length: int | None, max_length: int) -> int:
    """How many ids may follow a prompt of so many; raises ``SuiteError`` where the window holds fewer."""
    room = max_length - 2  # [CLS] and [SEP]
    if prompt >= room and (prompt > room or length is None or length > 0):
        raise SuiteError(
            f"The prompt has {count(prompt, 'token')} and the model's window holds {room}: give a shorter one."
        )
    if length is not None and prompt + length > room:
        raise SuiteError(
            f"length={length} after a prompt of {count(prompt, 'token')} is more than the model's window, which "
            f"holds {room}: give at most length={room - prompt}."
        )
    return room - prompt if length is None else length
