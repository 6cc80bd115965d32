"""Sentences of Universal Dependencies and the tags of their words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

NOT_ANNOTATED = "_"  # of CoNLL-U, and of ``heads.tagging``


def tags(paths: list[Path]) -> pa.Table:
    """The rows of tables with ``sent_id``, ``tokens`` and ``upos``; ``split`` is a file's name (``en_ewt_train``).

    Sentences of the first file's treebank's test (``…_test``) that hold words which its train lacks stand a second time
    in the part ``unseen``, with the tags of those words alone.

    Args:
        paths: the first one is train, the second its test.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pq.read_table(path, columns=["sent_id", "tokens", "upos"]) for path in paths]
    parts = [
        table.append_column("split", pa.array([path.stem] * len(table)))
        for table, path in zip(tables, paths, strict=True)
    ]
    known = {word for words in tables[0]["tokens"].to_pylist() for word in words}
    unseen = []
    for row in tables[1].to_pylist():
        row["upos"] = [
            NOT_ANNOTATED if word in known else tag for word, tag in zip(row["tokens"], row["upos"], strict=True)
        ]
        if set(row["upos"]) != {NOT_ANNOTATED}:
            unseen.append({**row, "split": "unseen"})
    return pa.concat_tables([*parts, pa.Table.from_pylist(unseen, schema=parts[0].schema)])
