"""Words in sentences and the sense that each has there: one table for several published sets.

Every table has the columns ``id``, ``word``, ``sense``, ``text``, ``start`` and ``end`` (letters of ``text`` between
which the word stands) and ``split`` (train or test; test alone where a set has no parts).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

APPLE = re.compile(r"(?<![\w-])apple(?![\w-])", re.IGNORECASE)
FRUIT, COMPANY = "fruit", "company"

# Labelled by hand; the rule. Fruit: the fruit, its tree or what is made of it, meant literally. Company: Apple Computer
# or Apple Inc., or a thing that it makes. Only the word "apple" itself, since the plural would tell the sense. Left
# out: names of places (Big Apple, Apple Isle), of growers' associations, films and books, the Beatles' Apple Corps,
# moths, figures of speech (apple of his eye, bad apple), and what says the same as a sentence that is in.
# A place is ROW:SENTENCE of a corpus, or ROW:COLUMN of a table, both from 0.
LABELS: dict[str, dict[str, str]] = {
    FRUIT: {
        "en_books": "19:241 188:5 198:18",
        "en_brown": "115:101 115:103 166:85 192:125 202:8 202:27",
        "en_movie_reviews": "337:0 1083:7 1142:11 1744:25 1756:4 1765:11 1379:15",
        "en_news_speeches": "15:1 29:1 95:1 334:0 645:0 960:1 1637:1 1990:1 1990:4 2372:2 2652:10 2676:12 2976:21",
        "cola_train": "1997:sentence1 4900:sentence1 5931:sentence1",
        "extra_snli_dev": "3207:sentence1 7648:sentence2 7690:sentence2",
        "stsb_train": "74:sentence2 640:sentence1 641:sentence1",
        "stsb_dev": "375:sentence1",
        "stsb_test_stsbenchmark": "44:sentence1",
    },
    COMPANY: {
        "en_debian_docs": "7:13 36:5 36:6 62:50 113:0 113:3 207:28",
        "en_movie_reviews": "1991:11",
        "en_wikitext2_validtest": "39:93 106:37 106:38",
        "mnli_dev_matched": "4561:sentence2 7031:sentence1 8466:sentence2",
        "mrpc_train": "121:sentence1 266:sentence1 937:sentence1 955:sentence1 2020:sentence1 2100:sentence1 "
        "3287:sentence1 3617:sentence2",
        "rte_dev": "8:sentence1",
        "rte_train": "1290:sentence1",
        "qnli_dev": "209:sentence2 1081:sentence2 1547:sentence2 1665:sentence2",
        "extra_snli_dev": "647:sentence1 1745:sentence2",
        "stsb_train": "1006:sentence1 1101:sentence1 3831:sentence1 3911:sentence1 4372:sentence1 4684:sentence1 "
        "4885:sentence1",
        "stsb_dev": "633:sentence2",
        "stsb_test_stsbenchmark": "1163:sentence1 1178:sentence1",
    },
}


def apple(paths: list[Path]) -> pa.Table:
    """Sentences of English corpora with "apple", the fruit or the company; ``LABELS`` says which. All are test."""
    import pyarrow.parquet as pq

    rows = []
    for path in paths:
        table = pq.read_table(path)
        for sense, places in LABELS.items():
            for place in places.get(path.stem, "").split():
                row, _, part = place.partition(":")
                record = table.slice(int(row), 1).to_pylist()[0]
                text = record["sentences"][int(part)] if part.isdigit() else record[part]
                found = APPLE.search(text)
                assert found is not None, f"{path.stem} {place} has no apple: {text}"  # the file's hash was checked
                rows.append(_row(f"{path.stem}:{place}", "apple", sense, text, *found.span()))
    return _table(rows)


def senseval(paths: list[Path]) -> pa.Table:
    """SENSEVAL-2's hard, interest, line and serve; the tokens joined by spaces."""
    import pyarrow.parquet as pq

    rows = []
    for i, row in enumerate(pq.read_table(paths[0]).to_pylist()):
        tokens, at = row["tokens"], row["target_index"]
        start = sum(len(token) + 1 for token in tokens[:at])
        end, split = start + len(tokens[at]), "train" if row["split"] == "train" else "test"
        rows.append(_row(str(i), row["word"], row["sense"], " ".join(tokens), start, end, split))
    return _table(rows)


def homographs(paths: list[Path]) -> pa.Table:
    """Wikipedia's homographs: words that are said in two ways, by what they mean."""
    import pyarrow.parquet as pq

    rows = []
    for i, row in enumerate(pq.read_table(paths[0]).to_pylist()):
        split = "train" if row["split"] == "train" else "test"
        place = (row["char_start"], row["char_end"])
        rows.append(_row(str(i), row["homograph"], row["wordid"], row["sentence"], *place, split))
    return _table(rows)


def _row(name: str, word: str, sense: str, text: str, start: int, end: int, split: str = "test") -> dict[str, Any]:
    return {"id": name, "word": word, "sense": sense, "text": text, "start": start, "end": end, "split": split}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows)
