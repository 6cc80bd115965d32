"""Every pair of modality and objective that the suite offers, at a size that trains in a second."""

from __future__ import annotations

from ssl_suite.commands.objectives import matrix
from ssl_suite.settings import config

TINY = [
    "model.layers=1",
    "model.width=32",
    "model.heads=2",
    "model.mlp_width=48",
    "train.steps=30",
    "train.tokens_per_batch=512",
    "train.tokens_per_row=256",
    "train.eval_tokens=1024",
    "train.eval_every=30",
    "train.checkpoint_every=15",
    "train.log_every=1",
    "train.lr=5e-3",
    "train.threads=1",
]
# Smaller codebooks, vocabularies and sequences than the defaults, so that fitting and a step take little.
OWN = {
    "text": ["modality.vocab_size=400", "modality.max_length=64"],
    "dna": ["modality.max_length=64"],
    "protein": ["modality.max_length=64"],
    "music": ["modality.max_length=64"],
    "image": ["modality.codes=16"],
    "speech": ["modality.codes=16", "modality.max_length=64"],
}
# Contrasts need sequences to tell apart, and a temperature at which a few of them do not decide everything.
CONTRAST = ["train.tokens_per_batch=2112", "train.tokens_per_row=528", "train.lr=2e-3"]
OBJECTIVE: dict[str, list[str]] = {
    "electra": ["objective.generator_width=1.0"],
    "simclr": [*CONTRAST, "objective.temperature=0.5"],
    "byol": CONTRAST,
}
# Pooled words of two views of prose agree from the start; what [CLS] makes of them has to be learned.
PAIR = {("text", "simclr"): ["objective.pooling=cls", "objective.temperature=0.1"]}


def offered() -> list[tuple[str, str]]:
    """(modality, objective) of each pair that is not refused."""
    return [(modality, name) for name, reasons in matrix().items() for modality in reasons if not reasons[modality]]


def settings(modality: str, objective: str, *words: str) -> dict:
    own = [*OWN.get(modality, []), *OBJECTIVE.get(objective, []), *PAIR.get((modality, objective), [])]
    return config.compose([f"modality={modality}", f"objective={objective}", *TINY, *own, *words])
