"""Folds: every item is a test item once, copies stay together, labels are spread evenly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from Bio.Seq import Seq

from ssl_suite.data.recipes.folds import dna_folds


def test_every_item_is_tested_once_and_copies_stay_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGT"), 12)) for _ in range(97)]
    labels = ["EI" if i % 3 else "N" for i in range(97)]
    texts += [texts[5], str(Seq(texts[6]).reverse_complement())]
    labels += [labels[5], labels[6]]
    pq.write_table(pa.table({"sequence": texts, "label": labels}), tmp_path / "x.parquet")
    table = dna_folds([tmp_path / "x.parquet"])
    of = np.array([table[f"fold{k}"].to_pylist() for k in range(1, 6)])
    assert ((of == "test").sum(0) == 1).all() and set(of.flat) == {"train", "test"}
    fold_I = (of == "test").argmax(0)
    assert fold_I[5] == fold_I[97] and fold_I[6] == fold_I[98]
    for label in ("EI", "N"):
        counts = np.bincount(fold_I[:97][np.array(labels[:97]) == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert dna_folds([tmp_path / "x.parquet"]).equals(table)
