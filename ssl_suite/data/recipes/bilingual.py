"""Sentences with their translations and word pairs of dictionaries, and English beside its copy in other letters.

The copy is the controlled setting of Dufter and Schütze 2020 (arXiv:2005.00396): a language with the grammar of
English that shares no token with it, whose every word has a known translation. They shift the ids of tokens; here each
letter is one of another script, so that a tokeniser trained on both halves learns the same pieces twice.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

LANGUAGES = {"deu": "de", "fra": "fr", "spa": "es", "cmn": "zh", "rus": "ru", "ara": "ar", "jpn": "ja"}
# Georgian: 26 letters without capitals, accents, or compositions, so that no normalisation tells the halves apart.
COPY = str.maketrans({chr(ord("a") + i): chr(0x10D0 + i) for i in range(26)})


def letters(text: str) -> str:
    """The English words of a text, lower-case, with single spaces: all that the copy has letters for."""
    return " ".join(re.findall("[a-z]+", text.lower()))


def copied(text: str) -> str:
    """``letters`` in the copy's script."""
    return letters(text).translate(COPY)


def fake_english(paths: list[Path]) -> pa.Table:
    """Documents of English in turn as they are and as the copy, so that the halves are no translations.

    Columns ``id``, ``language`` (en, fake) and ``sentences``.

    Args:
        paths: tables with a column ``sentences``.
    """
    import pyarrow as pa

    documents = [[*filter(None, map(letters, row["sentences"]))] for path in paths for row in _rows(path)]
    rows = []
    for number, sentences in enumerate(filter(None, documents)):
        fake = number % 2 == 1
        made = [copied(sentence) for sentence in sentences] if fake else sentences
        rows.append({"id": str(number), "language": "fake" if fake else "en", "sentences": made})
    return pa.Table.from_pylist(rows)


def bilingual(paths: list[Path]) -> pa.Table:
    """Rows of English beside another language: ``kind`` (sentence, word), ``language``, ``en``, ``other``.

    Args:
        paths: PUD's sentences side by side, Tatoeba's pairs, then MUSE's dictionaries ``muse_en_LANGUAGE.parquet``.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for row in _rows(paths[0]):
        others = {key: text for key, text in row.items() if key in LANGUAGES.values()}
        rows += [_row("sentence", key, row["en"], text) for key, text in others.items()]
    rows += [
        _row("sentence", LANGUAGES[row["lang"]], row["english"], row["sentence"])
        for row in _rows(paths[1])
        if row["lang"] in LANGUAGES
    ]
    for path in paths[2:]:
        rows += [_row("word", path.stem[-2:], row["src"], row["tgt"]) for row in _rows(path)]
    return pa.Table.from_pylist(rows)


def _row(kind: str, language: str, en: str, other: str) -> dict[str, str]:
    return {"kind": kind, "language": language, "en": en, "other": other}


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
