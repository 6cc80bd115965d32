"""Rows of vocabularies carried over to another one: by a token's string, never by its number.

Shapes: V ids of the new vocabulary, U of the one that the weights were trained with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_suite.core.records import Vocabulary


def rows(old: Vocabulary | None, new: Vocabulary, same_meaning: bool = True) -> Tensor:
    """(V,) int64: the old id of each token of ``new``; -1 where ``old`` has no such token.

    [PAD], [UNK], [CLS], [SEP] and [MASK] answer to each other under whatever strings.

    Args:
        old: None where nothing is known of it.
        same_meaning: False where equal strings stand for other things, as the units of two codebooks, or a base and an
            amino acid: then only the five special tokens are carried over.
    """
    if old is None:
        return torch.full((len(new),), -1)
    special = dict(zip(_special(new), _special(old), strict=True))
    known = {token: i for i, token in enumerate(old.tokens) if i not in special.values()} if same_meaning else {}
    return torch.tensor([special.get(i, known.get(token, -1)) for i, token in enumerate(new.tokens)])


def _special(v: Vocabulary) -> tuple[int, ...]:
    return v.pad, v.unk, v.cls, v.sep, v.mask


@torch.no_grad()
def over(weight: Tensor, trained: Tensor, rows_V: Tensor) -> None:
    """Copy the rows that ``rows_V`` names, of a table or of a bias an id; the others keep their start.

    Rows beyond the vocabulary (an objective's own symbols) keep theirs as well, and ids without a row, as those that
    were added behind a vocabulary after training.
    """
    held_V = (rows_V >= 0) & (rows_V < len(trained))
    weight[: len(rows_V)][held_V] = trained[rows_V[held_V]].to(weight)


def described(rows_V: Tensor) -> str:
    """How many rows were carried over, in a line."""
    known, total = int((rows_V >= 0).sum()), len(rows_V)
    if known == total:
        return f"the embeddings of all {total:,} tokens are carried over."
    return (
        f"the embeddings of {known:,} of {total:,} tokens are carried over by their strings; "
        f"{total - known:,} start at random."
    )
