"""What a causal model learns from examples in its prompt alone (Brown et al. 2020): greedy answers, exact match.

The shots of a draw are the same for all items; they go through the model once, and its keys and values are kept.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssl_suite.analysis import icl_items
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.evaluation import encoders, references
from ssl_suite.evaluation.references import HF, Reference

SPARE = 2  # tokens an answer may take beyond the longest right one
AT_ONCE = 32  # items of one ``generate``


@dataclass(frozen=True)
class Speaker:
    """A causal model with its words.

    Attributes:
        model: an ``…ForCausalLM`` in evaluation mode.
        ids: of a text, without what opens it; text: of ids.
        start: ids before every text.
        end, pad: the ids that end a text and fill a row.
        never: ids that are never written.
        breaks: what parts two examples: a line break, or a space where the tokeniser keeps none.
        window: positions, or None where the model does not say.
    """

    model: Any
    ids: Callable[[str], list[int]]
    text: Callable[[list[int]], str]
    start: list[int]
    end: int
    pad: int
    never: list[int]
    breaks: str
    window: int | None


def open_speaker(reference: Reference, modality: Any) -> Speaker:
    """A run of ``objective=clm``, or ``hf:`` with a causal model.

    Raises:
        SuiteError: it has no causal head.
    """
    from ssl_suite.modalities import text_pretrained

    opened = encoders.open_causal(reference, modality).encoder
    model = opened.model.eval()
    v, window = modality.vocabulary, getattr(model.config, "max_position_embeddings", None)
    if reference.kind == "hf":
        words = text_pretrained.opened(f"{HF}{reference.name}", reference.name)
        end = words.eos_token_id if words.eos_token_id is not None else words.bos_token_id
        cut: Any = lambda text: words(text, add_special_tokens=False).input_ids  # noqa: E731
        return Speaker(model, cut, words.decode, opened.start, end, end, [], "\n", window)
    never = sorted({v.pad, v.mask, v.cls, v.unk} - {v.sep})
    own: Any = lambda text: modality.encode(Record("prompt", text, "prompt")).values.tolist()  # noqa: E731
    told: Any = lambda ids: modality.decode(np.array(ids, np.int32))  # noqa: E731
    return Speaker(model, own, told, opened.start, v.sep, v.pad, never, " ", modality.max_length)


@torch.no_grad()
def answers(speaker: Speaker, shots: str, prompts: Sequence[str], longest: int, cached: bool = True) -> list[str]:
    """What the model writes behind ``shots`` and each prompt, greedily, up to the end of the line.

    Args:
        longest: tokens that are written at most.
        cached: keep the keys and values of the shots; else every prompt goes through the model whole.

    Raises:
        SuiteError: the prompt is longer than the model's window.
    """
    from transformers import DynamicCache

    prefix = [*speaker.start, *(speaker.ids(shots) if shots else [])]
    asked = [speaker.ids(prompt) for prompt in prompts]
    size = len(prefix) + max(map(len, asked)) + longest
    if speaker.window is not None and size > speaker.window:
        raise SuiteError(
            f"{size:,} tokens of shots, prompt and answer do not fit the model's window of {speaker.window:,}: "
            "take fewer shots."
        )
    kept = None
    if prefix and cached:
        kept = DynamicCache(config=speaker.model.config)
        speaker.model(input_ids=torch.tensor([prefix]), past_key_values=kept, use_cache=True, logits_to_keep=1)
    found = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(asked[i]))
    for _, same in itertools.groupby(order, key=lambda i: len(asked[i])):  # equal lengths need no padding
        places = list(same)
        for some in (places[i : i + AT_ONCE] for i in range(0, len(places), AT_ONCE)):
            ids_JT = torch.tensor([[*prefix, *asked[i]] for i in some])
            given: dict[str, Any] = {}
            if kept is not None:
                given["past_key_values"] = copy.deepcopy(kept)
                given["past_key_values"].batch_repeat_interleave(len(some))
            written = speaker.model.generate(
                ids_JT,
                attention_mask=torch.ones_like(ids_JT),
                do_sample=False,
                max_new_tokens=longest,
                eos_token_id=speaker.end,
                pad_token_id=speaker.pad,
                suppress_tokens=speaker.never or None,
                **given,
            )
            for i, row in zip(some, written[:, ids_JT.shape[1] :].tolist(), strict=True):
                row = row[: row.index(speaker.end)] if speaker.end in row else row
                found[i] = speaker.text(row).partition("\n")[0].strip()
    return found


def measure(
    speaker: Speaker, task: icl_items.Prompts, shots: Sequence[int], draws: int, items: int, seed: int
) -> list[dict[str, Any]]:
    """A row a number of shots: exact match over items and draws of the shots, its interval, and the draws' range.

    The items are the same everywhere and none of them is a shot. The interval (Wilson, 95 %) takes one trial an item:
    the draws of its shots are not independent of one another.
    """
    from ssl_suite.analysis.senses import interval

    rng = np.random.default_rng(seed)
    pool = icl_items.pairs(task, rng)
    if len(pool) < items + max(shots):
        raise SuiteError(
            f"task={task.name} has {len(pool)} examples; {items} items and {max(shots)} shots need more: lower one."
        )
    asked, others = pool[:items], pool[items:]
    longest = max(len(speaker.ids(answer)) for _, answer in pool) + SPARE
    rows = []
    for count in shots:
        right_DI = []
        for _ in range(draws if count else 1):
            chosen = [others[i] for i in rng.permutation(len(others))[:count]]
            text = "".join(f"{prompt}{answer}{speaker.breaks}" for prompt, answer in chosen)
            said = answers(speaker, text, [prompt for prompt, _ in asked], longest)
            right_DI.append([one == answer.strip() for one, (_, answer) in zip(said, asked, strict=True)])
        means_D = np.mean(right_DI, axis=1)
        low, high = interval(round(float(means_D.mean()) * items), items)
        rows.append(
            {"task": task.name, "shots": count, "draws": len(right_DI), "items": items}
            | {"accuracy": float(means_D.mean()), "low": low, "high": high}
            | {"lowest_draw": float(means_D.min()), "highest_draw": float(means_D.max())}
            | {"majority": icl_items.majority(asked), "example": asked[0][0].strip(), "said": said[0][:40]}
        )
    return rows


def held_out(speaker: Speaker, most: int, seed: int) -> list[dict[str, Any]]:
    """How many sums of each part of ``data=sums`` a model writes right without a shot: those it was trained on, and
    those that were kept back; ``carries`` tells them apart.

    The control is the share of right answers when the same answers are dealt out to other sums.
    """
    from ssl_suite.analysis.senses import interval
    from ssl_suite.data.recipes import sums

    rng, rows = np.random.default_rng(seed), []
    for part, pairs in sums.parts().items():
        chosen = [pairs[i] for i in rng.permutation(len(pairs))[:most]]
        texts = [sums.written(a, b, 3 if part == "longer" else 2) for a, b in chosen]
        asked = [f"{text.partition('=')[0]}=" for text in texts]
        right = [text.partition("=")[2].strip() for text in texts]
        said = answers(speaker, "", asked, max(map(len, right)))
        match_N = np.array([one == other for one, other in zip(said, right, strict=True)])
        carries_N = np.array([sums.carries(a, b) for a, b in chosen])
        dealt = float(np.mean([said[i] == right[j] for i, j in enumerate(rng.permutation(len(right)))]))
        for carries in ("all", *map(int, np.unique(carries_N))):
            own_N = match_N if carries == "all" else match_N[carries_N == carries]
            low, high = interval(int(own_N.sum()), len(own_N))
            rows.append(
                {"part": part, "carries": carries, "items": len(own_N), "accuracy": float(own_N.mean())}
                | {"low": low, "high": high, "dealt": dealt if carries == "all" else None}
                | {"example": asked[0], "said": said[0]}
            )
    return rows


def open_text(encoder: str) -> tuple[Reference, Any]:
    """The reference, and the modality of its texts."""
    from ssl_suite.settings import config

    reference = references.parse(encoder)
    section = config.option("modality", "text")
    return reference, encoders.modality_for(reference, section, "icl")
