"""Causal encoders to and from ``transformers``' ModernBertDecoder.

The same blocks as ModernBERT's under a causal mask (Weller et al. 2025, "Seq vs Seq", arXiv:2507.11412), with two
differences in how they are stored: queries, keys and values have a matrix each, and the reach of a local layer counts
the position itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_suite.core.records import Vocabulary
from ssl_suite.models.encoder import EncoderSpec

MODEL_TYPE = "modernbert-decoder"
CAUSAL_LM, BARE = "ModernBertDecoderForCausalLM", "ModernBertDecoderModel"
PROJECTIONS = ("q_proj", "k_proj", "v_proj")  # the thirds of Wqkv, in this order
_JOINT = re.compile(r"(.*\.attn\.)Wqkv\.weight")
_FIRST = re.compile(rf"(.*\.attn\.){PROJECTIONS[0]}\.weight")


def to_decoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a causal encoder, with or without the prefix ``model.``, under the decoder's names.

    Every ``attn.Wqkv.weight`` (3D, D) becomes three of (D, D); all else, the objective's head included, is as it was.
    """
    found: dict[str, Tensor] = {}
    for name, weight in state.items():
        joint = _JOINT.fullmatch(name)
        if joint is None:
            found[name] = weight
            continue
        for projection, part in zip(PROJECTIONS, weight.chunk(3), strict=True):
            found[f"{joint[1]}{projection}.weight"] = part
    return found


def from_decoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back: the three matrices of each layer joined to one, all else as it was."""
    found = {}
    for name, weight in state.items():
        first = _FIRST.fullmatch(name)
        if first is not None:
            parts = [state[f"{first[1]}{projection}.weight"] for projection in PROJECTIONS]
            found[f"{first[1]}Wqkv.weight"] = torch.cat(parts)
        elif not name.endswith(tuple(f".attn.{projection}.weight" for projection in PROJECTIONS[1:])):
            found[name] = weight
    return found


def open_prompts(folder: Path, vocabulary: Vocabulary) -> None:
    """Make a folder's tokenizer put [CLS] before a text and no [SEP] behind it: the model would begin another one.

    Token types go too, which ``generate`` refuses. A folder without a tokenizer stays as it is.
    """
    from tokenizers import Tokenizer, processors

    path, beside = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not path.is_file():
        return
    tokenizer, cls = Tokenizer.from_file(str(path)), vocabulary.tokens[vocabulary.cls]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A", pair=f"{cls} $A $B:1", special_tokens=[(cls, vocabulary.cls)]
    )
    tokenizer.save(str(path))
    settings = json.loads(beside.read_text("utf-8")) | {"model_input_names": ["input_ids", "attention_mask"]}
    beside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def shapes(spec: EncoderSpec, vocabulary: Vocabulary, max_length: int) -> dict[str, Any]:
    """What the configurations of ModernBERT and of its decoder have in common."""
    kinds = ["full_attention" if window is None else "sliding_attention" for window in spec.windows]
    thetas = dict(zip(kinds, spec.thetas, strict=True))
    both = ("full_attention", "sliding_attention")
    return {
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp_width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "norm_eps": spec.eps,
        "max_position_embeddings": max_length,
        "layer_types": kinds,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": thetas.get(kind, 10_000.0)} for kind in both},
        "pad_token_id": vocabulary.pad,
        "bos_token_id": vocabulary.cls,
        "cls_token_id": vocabulary.cls,
        "eos_token_id": vocabulary.sep,
        "sep_token_id": vocabulary.sep,
        **dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout"), spec.dropout),
    }


def decoder_config(
    spec: EncoderSpec, vocabulary: Vocabulary, max_length: int, architecture: str = CAUSAL_LM
) -> dict[str, Any]:
    """``config.json`` for these shapes.

    Args:
        spec: of a causal encoder.
        vocabulary: for the ids of special tokens.
        max_length: positions of a sequence.
        architecture: the class that the weights fill: ``CAUSAL_LM``; any other name stands for ``BARE``, the encoder
            without a head.
    """
    from transformers import ModernBertDecoderConfig

    local = [window for window in spec.windows if window is not None]
    # Half of it is the number of keys that a position sees, itself among them; a window counts its neighbours.
    reach = 2 * (local[0] + 1) if local else 128
    config = ModernBertDecoderConfig(**shapes(spec, vocabulary, max_length), local_attention=reach)
    architecture = architecture if architecture == CAUSAL_LM else BARE
    return config.to_dict() | {"architectures": [architecture], "dtype": "float32"}
