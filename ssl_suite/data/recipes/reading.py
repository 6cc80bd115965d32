"""Questions joined with the texts that answer them: a row a question, as ``heads.span`` takes them.

Columns: ``split``, ``id``, ``title``, ``question``, ``context``, ``answers`` and ``answer_start`` (lists; in letters).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Rows = list[dict[str, Any]]
COLUMNS = ("split", "id", "title", "question", "context", "answers", "answer_start")
PROXY = {"train": "train", "eval": "test"}


def squad_proxy(paths: list[Path]) -> pa.Table:
    """SQuAD's dev questions as ``train`` and ``test``, no title in both, without the paragraphs that XQuAD has.

    Args:
        paths: the contexts, and the questions with ``proxy_split`` and ``in_xquad``.
    """
    return _table(_squad(*paths))


def cross_lingual(paths: list[Path]) -> pa.Table:
    """``squad_proxy``, XQuAD's questions under the codes of their languages, and those of CMRC 2018's dev as ``cmrc``.

    Args:
        paths: those of ``squad_proxy``; XQuAD's contexts and questions, both with ``lang``; and CMRC's table.
    """
    squad, (contexts, questions, cmrc) = _squad(*paths[:2]), map(_rows, paths[2:])
    texts = {(row["lang"], row["context_id"]): row for row in contexts}
    xquad = [
        {**texts[row["lang"], row["context_id"]], **row, "split": row["lang"], "answers": [row["answer"]]}
        | {"answer_start": [row["answer_start"]]}
        for row in questions
    ]
    return _table([*squad, *xquad, *({**row, "split": "cmrc"} for row in cmrc if row["split"] == "dev")])


def _squad(contexts: Path, questions: Path) -> Rows:
    texts = {row["context_id"]: row["context"] for row in _rows(contexts)}
    return [
        {**row, "context": texts[row["context_id"]], "split": PROXY[row["proxy_split"]]}
        for row in _rows(questions)
        if not row["in_xquad"]
    ]


def _rows(path: Path) -> Rows:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def _table(rows: Rows) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: [row[name] for row in rows] for name in COLUMNS})
