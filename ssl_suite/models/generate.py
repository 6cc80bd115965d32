"""Writing with a causal encoder: one id after the other, each drawn given all before it.

The keys and values of what has been read are kept (Shazeer 2019, arXiv:1911.02150, section 2.3), so a step costs one
position a sequence, however long the prefix. Prompts may differ in length: sequences begin at the left edge of the
cache, and what a shorter one leaves empty is overwritten before anything looks at it.

Shape legend: S sequences, T positions of the cache, P positions of one pass, L layers, H heads, E width of a head,
D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.wording import count
from ssl_suite.data.batch import ragged
from ssl_suite.data.rng import Rng
from ssl_suite.errors import SuiteError
from ssl_suite.modalities.base import Vocabulary
from ssl_suite.models.attention import rope_table, rotate
from ssl_suite.models.encoder import Encoder


@dataclass(frozen=True)
class Sampling:
    """How an id is drawn from the model's probabilities.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest id (greedy).
        top_k: only the k likeliest ids; None is all.
        top_p: only the likeliest ids that together have this probability (Holtzman et al. 2019, arXiv:1904.09751).

    Raises:
        SuiteError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise SuiteError(f"temperature={self.temperature} should be 0 (the likeliest id) or more; 1 is as learned.")
        if self.top_k is not None and self.top_k < 1:
            raise SuiteError(f"top_k={self.top_k} should be at least 1; leave it out for all ids.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise SuiteError(f"top_p={self.top_p} should be above 0 and at most 1; leave it out for all ids.")


@dataclass(frozen=True)
class Generated:
    """One sequence.

    Attributes:
        ids: of prompt and continuation, without [CLS] and [SEP].
        prompt: how many of them were given.
        ended: whether the model ended it with [SEP]; else it had reached the length.
        logits: (steps, V) float32 the model's own, before ids are banned and filtered; None unless asked for.
    """

    ids: list[int]
    prompt: int
    ended: bool
    logits: Tensor | None = None


class Cache:
    """The keys (rotated) and values of every layer, allocated once.

    Args:
        encoder: causal.
        sequences, positions: S and T.
    """

    def __init__(self, encoder: Encoder, sequences: int, positions: int) -> None:
        spec = encoder.spec
        weight = next(encoder.parameters())
        shape = (spec.layers, 2, sequences, spec.heads, positions, spec.width // spec.heads)
        self.kv_L2SHTE = weight.new_zeros(shape)  # not empty: what is masked is multiplied by 0, which keeps a NaN
        self.encoder = encoder
        places_T = torch.arange(positions, device=weight.device)
        self.ropes = {
            theta: tuple(table[:, 0, 0] for table in rope_table(places_T, shape[-1], theta)) for theta in spec.thetas
        }

    def read(self, ids_SP: Tensor, starts_S: Tensor, seen: int) -> Tensor:
        """Take P more ids of every sequence in.

        Args:
            ids_SP: (S, P) the ids.
            starts_S: (S,) the place of the first of them.
            seen: no sequence goes beyond this many positions (a host number).

        Returns:
            (S, P, D) states after the final norm.
        """
        encoder = self.encoder
        x_SPD = encoder.embeddings.norm(encoder.embeddings.tok_embeddings(ids_SP))
        places_SP = starts_S[:, None] + torch.arange(ids_SP.shape[1], device=ids_SP.device)
        back_SPT = places_SP[:, :, None] - torch.arange(seen, device=ids_SP.device)
        layers: Any = encoder.layers
        for index, layer in enumerate(layers):
            window = encoder.spec.windows[index]
            visible_SPT = back_SPT >= 0 if window is None else (back_SPT >= 0) & (back_SPT <= window)
            mixed_SPD = self._attend(index, layer, layer.attn_norm(x_SPD), places_SP, visible_SPT)
            x_SPD = x_SPD + mixed_SPD
            x_SPD = x_SPD + layer.mlp(layer.mlp_norm(x_SPD))
        return encoder.final_norm(x_SPD)

    def _attend(self, index: int, layer: Any, x_SPD: Tensor, places_SP: Tensor, visible_SPT: Tensor) -> Tensor:
        """Attention of P new positions to everything kept, after keeping their keys and values."""
        sequences, positions, width = x_SPD.shape
        heads = self.encoder.spec.heads
        qkv_SP3HE = layer.attn.Wqkv(x_SPD).view(sequences, positions, 3, heads, width // heads)
        cos, sin = (table[places_SP][:, :, None, None] for table in self.ropes[self.encoder.spec.thetas[index]])
        qk_SP2HE = rotate(qkv_SP3HE[:, :, :2], (cos, sin))
        keys_SHTE, values_SHTE = self.kv_L2SHTE[index]
        rows_S1 = torch.arange(sequences, device=x_SPD.device)[:, None]
        keys_SHTE.transpose(1, 2)[rows_S1, places_SP] = qk_SP2HE[:, :, 1]
        values_SHTE.transpose(1, 2)[rows_S1, places_SP] = qkv_SP3HE[:, :, 2]
        seen = visible_SPT.shape[-1]
        out_SHPE = F.scaled_dot_product_attention(
            qk_SP2HE[:, :, 0].transpose(1, 2),
            keys_SHTE[:, :, :seen],
            values_SHTE[:, :, :seen],
            attn_mask=visible_SPT[:, None],
        )
        return layer.attn.Wo(out_SHPE.transpose(1, 2).reshape(x_SPD.shape))


@torch.inference_mode()
def generate(
    encoder: Encoder,
    objective: Any,
    prompts: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    max_length: int,
    length: int | None = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    cached: bool = True,
    keep_logits: bool = False,
) -> list[Generated]:
    """Go on from each prompt until [SEP], or until the length is reached.

    Args:
        encoder: causal, in evaluation mode; its device is used.
        objective: with ``next_logits(encoder, states_KD)``.
        prompts: ids without special tokens; an empty one starts from [CLS] alone. They are written together.
        vocabulary: [PAD], [MASK], [CLS] and [UNK] are never written; [SEP] ends.
        max_length: positions of a sequence, [CLS] and [SEP] included, that the model was trained for.
        length: most new ids of each; None fills the window.
        sampling: see there.
        seed: a sequence draws from (seed, its number), whatever stands beside it and on any device.
        numbers: of the sequences; their places if None.
        cached: False reads the whole prefix again at every step, with the encoder's own forward pass.
        keep_logits: keep every step's.

    Raises:
        SuiteError: a prompt, or a prompt and ``length``, that do not fit into the window.
    """
    budgets = [budget(len(prompt), length, max_length) for prompt in prompts]
    texts = [[vocabulary.cls, *prompt] for prompt in prompts]
    reader = _cached(encoder, texts, budgets) if cached else _again(encoder, texts, vocabulary, max_length)
    device = next(encoder.parameters()).device
    rows_S = torch.tensor(range(len(prompts)) if numbers is None else numbers, device=device)
    never = {vocabulary.pad, vocabulary.mask, vocabulary.cls, vocabulary.unk} - {vocabulary.sep}
    never_X = torch.tensor(sorted(never), device=device)
    ended, kept = [False] * len(prompts), []
    for step in range(max(budgets, default=0)):
        logits_SV = objective.next_logits(encoder, reader()).float()
        if keep_logits:
            kept.append(logits_SV)
        allowed_SV = logits_SV[:, : len(vocabulary)].index_fill(1, never_X, -torch.inf)
        _take(texts, ended, draw(allowed_SV, sampling, Rng(seed, step, rows_S)).tolist(), step, budgets, vocabulary.sep)
        if all(done or step + 1 >= most for done, most in zip(ended, budgets, strict=True)):
            break
    return _results(texts, [len(prompt) for prompt in prompts], ended, kept)


def _take(
    texts: list[list[int]], ended: list[bool], chosen: list[int], step: int, budgets: list[int], sep: int
) -> None:
    """Put a step's ids behind the sequences that still go on."""
    for row, new in enumerate(chosen):
        if not ended[row] and step < budgets[row]:
            ended[row] = new == sep
            if not ended[row]:
                texts[row].append(new)


def _results(texts: list[list[int]], prompts: list[int], ended: list[bool], kept: list[Tensor]) -> list[Generated]:
    """Sequences without [CLS]; of the logits of all steps, those from which a sequence's own ids were drawn."""
    kept_STV = torch.stack(kept, 1) if kept else None
    results = []
    for row, (text, prompt, end) in enumerate(zip(texts, prompts, ended, strict=True)):
        steps = len(text) - 1 - prompt + end
        results.append(Generated(text[1:], prompt, end, None if kept_STV is None else kept_STV[row, :steps]))
    return results


def budget(prompt: int, length: int | None, max_length: int) -> int:
    """How many ids may follow a prompt of so many.

    Raises:
        SuiteError: more than the window holds.
    """
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


def draw(logits_SV: Tensor, sampling: Sampling, rng: Rng) -> Tensor:
    """(S,) int64 an id for each row, by one uniform number each."""
    if sampling.temperature == 0:
        return logits_SV.argmax(-1)
    logits_SV = logits_SV - logits_SV.amax(-1, keepdim=True)  # the largest stays 0 at any temperature
    logits_SV = filtered(logits_SV / sampling.temperature, sampling.top_k, sampling.top_p)
    below_SV = torch.softmax(logits_SV.double(), -1).cumsum(-1)
    target_S1 = rng.uniform(1).double()[:, None] * below_SV[:, -1:]
    return torch.searchsorted(below_SV, target_S1, right=True).flatten()


def filtered(logits_SV: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits with -inf at all but the likeliest ids; first by number, then by probability. Ties with the last stay."""
    if top_k is not None:
        least_S1 = logits_SV.topk(min(top_k, logits_SV.shape[-1])).values[:, -1:]
        logits_SV = logits_SV.masked_fill(logits_SV < least_S1, -torch.inf)
    if top_p is not None and top_p < 1:
        ascending_SV, ids_SV = logits_SV.sort(-1)
        unlikely_SV = ascending_SV.softmax(-1).cumsum(-1) <= 1 - top_p
        unlikely_SV[:, -1] = False  # the likeliest always stays
        logits_SV = logits_SV.masked_fill(unlikely_SV.scatter(1, ids_SV, unlikely_SV), -torch.inf)
    return logits_SV


def _cached(encoder: Encoder, texts: list[list[int]], budgets: list[int]) -> Callable[[], Tensor]:
    """A function that gives (S, D), the state of every sequence's last id; it reads what is new in ``texts``."""
    device = next(encoder.parameters()).device
    most = max(len(text) + budget for text, budget in zip(texts, budgets, strict=True))
    cache = Cache(encoder, len(texts), most)
    begun = False

    def states() -> Tensor:
        nonlocal begun
        longest = max(map(len, texts))
        last_S = torch.tensor([len(text) - 1 for text in texts], device=device)
        if begun:  # a sequence that has ended reads its last id again
            newest_S1 = torch.tensor([text[-1:] for text in texts], device=device)
            return cache.read(newest_S1, last_S, longest)[:, 0]
        begun = True
        ids_SP = torch.tensor([text + text[:1] * (longest - len(text)) for text in texts], device=device)
        states_SPD = cache.read(ids_SP, torch.zeros_like(last_S), longest)
        return states_SPD[torch.arange(len(texts), device=device), last_S]

    return states


def _again(encoder: Encoder, texts: list[list[int]], vocabulary: Vocabulary, max_length: int) -> Callable[[], Tensor]:
    """The same by the encoder's own forward pass over all of ``texts``."""
    device = next(encoder.parameters()).device

    def states() -> Tensor:
        batch = ragged([np.array(text[1:], np.int64) for text in texts], vocabulary, max_length).to(device)
        # Each sequence ends in [SEP], which nothing before it sees; the id in question stands before.
        return encoder(batch)[batch.offsets_B1[1:].long() - 2]

    return states
