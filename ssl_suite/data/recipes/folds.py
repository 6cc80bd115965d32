"""Splits for cross-validation of a table that is too small for one test set."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

FOLDS = 5


def dna_folds(paths: list[Path]) -> pa.Table:
    """The rows of one table (``sequence``, ``label``) with columns ``fold1`` … ``fold5``: ``test`` in one of them, else
    ``train``.

    Copies of a sequence, and its reverse complement, are in one fold; each label is spread over the folds evenly, in
    the order of the sequences' SHA-256.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from Bio.Seq import reverse_complement

    table = pq.read_table(paths[0])
    texts = table["sequence"].to_pylist()
    strands = [min(text, reverse_complement(text)) for text in texts]
    by_label: dict[str, dict[str, None]] = defaultdict(dict)
    seen: set[str] = set()
    for strand, label in zip(strands, table["label"].to_pylist(), strict=True):
        if strand not in seen:
            by_label[label][strand] = None
            seen.add(strand)
    fold_of: dict[str, int] = {}
    for _, some in sorted(by_label.items()):
        ordered = sorted(some, key=lambda strand: hashlib.sha256(strand.encode()).digest())
        fold_of |= {strand: i % FOLDS for i, strand in enumerate(ordered)}
    for k in range(FOLDS):
        column = ["test" if fold_of[strand] == k else "train" for strand in strands]
        table = table.append_column(f"fold{k + 1}", pa.array(column))
    return table
