"""Tiny ``transformers`` encoders of several kinds, with a tokeniser, in folders; and what they say of one sequence."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary

POSITIONS = 100  # that each kind has, after what it keeps for itself
WIDTH, LAYERS, WORDS = 32, 2, 1300
SHAPES = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 48}
BERT_LIKE = {"[PAD]": "pad", "[UNK]": "unk", "[CLS]": "cls", "[SEP]": "sep", "[MASK]": "mask"}
ROBERTA_LIKE = {"<s>": "cls", "<pad>": "pad", "</s>": "sep", "<unk>": "unk"}
ESM_LIKE = {"<cls>": "cls", "<pad>": "pad", "<eos>": "eos", "<unk>": "unk"}  # no [SEP]
RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
KINDS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "bert": ("bert", BERT_LIKE, {"max_position_embeddings": POSITIONS}),
    "mpnet": ("mpnet", ROBERTA_LIKE, {"max_position_embeddings": POSITIONS + 2}),
    "roberta": ("roberta", ROBERTA_LIKE, {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}),
    "modernbert": (
        "modernbert",
        BERT_LIKE,
        {"max_position_embeddings": POSITIONS, "local_attention": 16, "global_attn_every_n_layers": 2},
    ),
    "esm": (  # like ESM-2
        "esm",
        ESM_LIKE,
        {"max_position_embeddings": POSITIONS, "position_embedding_type": "rotary", "token_dropout": True},
    ),
    "esm1": (  # like ESM-1b
        "esm",
        ESM_LIKE,
        {"max_position_embeddings": POSITIONS + 2, "emb_layer_norm_before": True, "token_dropout": True},
    ),
}


def vocabulary(kind: str, words: int = WORDS) -> list[str]:
    """Special tokens first, letters, words; the mask last where the family has it there."""
    _, special, _ = KINDS[kind]
    letters = RESIDUES if special is ESM_LIKE else string.ascii_lowercase
    tokens = [*special, *letters]
    tokens += [f"word{i}" for i in range(words - len(tokens))]
    return tokens if "[MASK]" in special else [*tokens[:words], "<mask>"]


def save(folder: Path, kind: str, words: int = WORDS, seed: int = 0, noise: float = 0.1, **changes: Any) -> Path:
    """A model whose weights look trained (``noise`` 0: as its constructor left them), with its tokeniser."""
    name, special, own = KINDS[kind]
    tokens = vocabulary(kind, words)
    ids = {token: i for i, token in enumerate(tokens)}
    roles = {"mask_token": "<mask>"} | {f"{role}_token": token for token, role in special.items()}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=roles["unk_token"]))  # type: ignore[call-arg]
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special is not ESM_LIKE:
        tokenizer.normalizer = normalizers.Lowercase()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    marks = {"pad_token_id": ids[roles["pad_token"]], "mask_token_id": ids[roles["mask_token"]]}
    marks |= dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    settings = AutoConfig.for_model(name, **{"vocab_size": len(tokens), **SHAPES, **marks, **own, **changes})
    torch.manual_seed(seed)
    model = AutoModel.from_config(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise)
    model.save_pretrained(folder)
    return folder


def alone(model: Any, ids: Tensor) -> list[Tensor]:
    """All hidden states, each (T, D), of one sequence of the model's own ids, without padding and without a mask."""
    with torch.no_grad():
        found = model.eval()(input_ids=ids[None], output_hidden_states=True)
    assert torch.equal(found.hidden_states[-1], found.last_hidden_state)
    return [state[0] for state in found.hidden_states]


def with_rows(model: Any, table_VD: Tensor, first: int) -> Any:
    """The model with a table's rows put in by hand in the place of its words from ``first`` on."""
    with torch.no_grad():
        model.get_input_embeddings().weight[first : first + len(table_VD)] = table_VD
    return model


def batch(lengths: list[int], v: Vocabulary, n: int = 0, slots: int = 0, max_length: int = POSITIONS) -> Batch:
    """A row: [CLS] random content [SEP] of each length, then padding up to ``n`` positions, and empty ``slots``."""
    draw, values = np.random.default_rng(len(lengths) + sum(lengths)), np.full(max(n, sum(lengths)), v.pad, np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    for start, length in zip(starts[:-1], lengths, strict=True):
        values[start : start + length] = draw.choice([v.unk, *range(v.targets[0], len(v))], length)
        values[start], values[start + length - 1] = v.cls, v.sep
    every = [*lengths, len(values) - int(starts[-1]), *[0] * slots]
    real_B = torch.arange(len(every)) < len(lengths)
    return Batch(
        values=torch.from_numpy(values),
        offsets_B1=torch.tensor([0, *every]).cumsum(0).int(),
        max_length=max_length,
        lengths=tuple(every),
        real_B=real_B,
        index_B=torch.where(real_B, torch.arange(len(every)), -1),
        tokens=sum(lengths),
        squares=sum(length**2 for length in lengths),
    )


def spans(given: Batch) -> list[slice]:
    """Where the real sequences of a batch are."""
    bounds = given.offsets_B1.tolist()
    return [slice(a, b) for a, b, real in zip(bounds, bounds[1:], given.real_B.tolist(), strict=False) if real]
