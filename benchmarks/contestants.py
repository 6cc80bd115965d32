"""The models that throughput.py sets side by side, each as a training step over the same real records.

Ours is the suite's own step: rows from a store, masks, forward, backward, clipping, AdamW, as the trainer runs it. A
peer is a ``transformers`` model as its users train it: sequences padded to the longest of their batch, labels at 15 %
of the positions, the same AdamW and clipping. Batches hold the same number of tokens, padding not counted.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.data.loader import Collator, RowOrder
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.mlm import MaskedLM
from ssl_suite.training.distributed import DistributedContext, reduce_gradients
from ssl_suite.training.learner import Learner
from ssl_suite.training.optimiser import adamw
from ssl_suite.training.sums import COUNT, StepSums

RATE, PAD, CLS, SEP, MASK = 0.15, 0, 2, 3, 4
TRAIN = {"lr": 1e-4, "weight_decay": 0.1, "betas": (0.9, 0.98), "eps": 1e-8}


@dataclass(frozen=True)
class Work:
    """The same task for all.

    Attributes:
        layers, width, heads, mlp_width: of ours and of ModernBERT; BERT's inner width is 1.5 times the last, which
            gives its plain MLP the same parameters and FLOPs as the gated one.
        vocabulary: V.
        max_length: longest sequence, [CLS] and [SEP] included.
        lengths: tokens of each record, without them.
        values: ids of all records end to end.
        batch: tokens of a step.
    """

    layers: int
    width: int
    heads: int
    mlp_width: int
    vocabulary: int
    max_length: int
    lengths: np.ndarray
    values: np.ndarray
    batch: int


class Ours:
    """The suite's step."""

    def __init__(self, work: Work, row: int) -> None:
        vocabulary = Vocabulary(tuple(map(str, range(work.vocabulary))), targets=(5, work.vocabulary))
        section = {name: getattr(work, name) for name in ("layers", "width", "heads", "mlp_width")}
        section |= {"rope_theta": None, "init_std": None}
        self.spec = EncoderSpec.from_section(section, work.vocabulary, work.max_length)
        modality = types.SimpleNamespace(vocabulary=vocabulary)
        self.learner = Learner(Encoder(self.spec), MaskedLM(modality, self.spec, mask_rate=RATE))
        self.optimiser = adamw(self.learner, TRAIN)
        self.parameters = list(self.learner.parameters())
        self.group = DistributedContext()
        starts = np.concatenate([[0], np.cumsum(work.lengths)[:-1]])
        windows = types.SimpleNamespace(starts_S=starts, lengths_S=work.lengths)
        store = types.SimpleNamespace(values=work.values, ids=work.values, split=lambda name: windows)
        self.order = RowOrder(work.lengths + 2, row, seed=0)
        self.collator = Collator(store, "train", vocabulary, row, self.order.slots, work.max_length)
        self.rows, self.step_number = work.batch // row, 0

    def step(self) -> tuple[int, float]:
        """One optimiser step; (tokens that carry data, model FLOPs)."""
        sums = StepSums(self.group.device)
        tokens, flops = 0, 0.0
        for r in range(self.rows):
            batch = self.collator.rows([self.order.items(self.step_number * self.rows + r)])
            loss, count, metrics = self.learner(batch, Rng(0, self.step_number, torch.tensor([r])))
            loss.backward()
            cost = self.learner.objective.flops(vars(self.spec), batch)
            sums.add(loss, count, metrics, batch, cost)
            tokens, flops = tokens + batch.tokens, flops + cost
        reduce_gradients(self.parameters, sums.vector[COUNT], 1.0, self.group)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step_number += 1
        return tokens, flops


class Peer:
    """A ``transformers`` model for masked language modelling."""

    def __init__(self, work: Work, model: nn.Module, parts: int) -> None:
        self.work, self.model, self.parts = work, model.train(), parts
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
        self.batches = self._batches()

    def _batches(self) -> Iterator[list[np.ndarray]]:
        """Records in random order, ``batch`` tokens together, as a length-blind loader gives them."""
        starts = np.concatenate([[0], np.cumsum(self.work.lengths)])
        draw = np.random.default_rng(0)
        while True:
            batch: list[np.ndarray] = []
            tokens = 0
            for i in draw.permutation(len(self.work.lengths)):
                batch.append(self.work.values[starts[i] : starts[i + 1]])
                tokens += len(batch[-1]) + 2
                if tokens >= self.work.batch:
                    yield batch
                    batch, tokens = [], 0

    def collate(self, records: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """Pad to the longest, hide 15 % as BERT does."""
        longest = max(map(len, records)) + 2
        ids = torch.full((len(records), longest), PAD)
        for row, record in zip(ids, records, strict=True):
            row[: len(record) + 2] = torch.tensor([CLS, *record.tolist(), SEP])
        hidden = (torch.rand(ids.shape) < RATE) & (ids > MASK)
        labels = ids.masked_fill(~hidden, -100)
        case = torch.rand(ids.shape)
        shown = torch.where(hidden & (case < 0.8), MASK, ids)
        shown = torch.where(hidden & (case >= 0.9), torch.randint(5, self.work.vocabulary, ids.shape), shown)
        return {"input_ids": shown, "labels": labels, "attention_mask": (ids != PAD).long()}

    def step(self) -> tuple[int, float]:
        """One optimiser step over ``parts`` forward passes; (tokens that carry data, 0)."""
        records = next(self.batches)
        each = -(-len(records) // self.parts)
        for first in range(0, len(records), each):
            loss = self.model(**self.collate(records[first : first + each])).loss
            (loss / self.parts).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return sum(map(len, records)) + 2 * len(records), 0.0


def bert(work: Work, dropout: float) -> nn.Module:
    """BertForMaskedLM of equal size."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=work.vocabulary,
        hidden_size=work.width,
        num_hidden_layers=work.layers,
        num_attention_heads=work.heads,
        intermediate_size=work.mlp_width * 3 // 2,
        max_position_embeddings=work.max_length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForMaskedLM(config)


def modernbert(work: Work) -> nn.Module:
    """ModernBertForMaskedLM of equal shape, global attention in every layer; its dropouts are 0 by default."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    config = ModernBertConfig(
        vocab_size=work.vocabulary,
        hidden_size=work.width,
        num_hidden_layers=work.layers,
        num_attention_heads=work.heads,
        intermediate_size=work.mlp_width,
        max_position_embeddings=work.max_length,
        layer_types=["full_attention"] * work.layers,
        pad_token_id=PAD,
        bos_token_id=CLS,
        cls_token_id=CLS,
        eos_token_id=SEP,
        sep_token_id=SEP,
    )
    return ModernBertForMaskedLM(config)


CONTESTANTS = {
    "ours": Ours,
    "bert": lambda work, row: Peer(work, bert(work, 0.0), 1),
    "modernbert": lambda work, row: Peer(work, modernbert(work), 1),
    "bert_default": lambda work, row: Peer(work, bert(work, 0.1), 1),
    # The peers in as many forward passes as ours, so that smaller working sets cannot explain a difference.
    "bert_parts": lambda work, row: Peer(work, bert(work, 0.0), work.batch // row),
    "modernbert_parts": lambda work, row: Peer(work, modernbert(work), work.batch // row),
}
