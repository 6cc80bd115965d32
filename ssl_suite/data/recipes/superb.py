"""Tables of the local SUPERB tasks that keep each recording's bytes, and a pre-training mix that is clean of them.

No recording and no speaker of a dev or test split here is in ``mix_clean``; ``ssl_suite data verify … tasks=superb``
counts it. Every table has ``split`` (train, dev or test) and, where it is known, ``speaker``.

    phones, letters   LibriSpeech: speakers 19 and 26 train, 27 is dev (chapter 123349) and test (124992)
    digits            spoken digits: three speakers train, one is dev, two are test
    voices            EmoDB, who speaks: sentences of test and dev are not in train
    trials            EmoDB, pairs: dev of the six training speakers on sentences that are kept out of train, test the
                      published list of the four others
    values            Picovoice, slots in the order of their names, each a mark and its value. A mark is ONE capital
                      letter (``MARKS``), values are small letters and spaces:
                      {"size": "large", "coffeeDrink": "latte"} is ``ClatteSlarge``
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

FSDD = {"george": "train", "jackson": "train", "nicolas": "train", "yweweler": "dev", "theo": "test", "lucas": "test"}
LIBRISPEECH = {"19": "train", "26": "train"}
CHAPTERS = {"123349": "dev", "124992": "test"}  # of speaker 27
SENTENCES = {"b09": "dev", "b10": "test", "a07": "test", "b03": "test"}  # of EmoDB; the other six train
DEV_TRIALS = 600
MARKS = {
    "coffeeDrink": "C",
    "milkAmount": "M",
    "numberOfShots": "N",
    "roast": "R",
    "size": "S",
    "sugarAmount": "G",
}
"""The capital letter that stands before a value, by the slot's name in ``slots_json``."""

Row = dict[str, Any]


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a parquet file."""
    return pq.read_table(path, columns=list(columns)).to_pylist()


def table(rows: Iterable[Row], **types: pa.DataType) -> pa.Table:
    """Rows of equal keys; all columns are text but those named."""
    rows = list(rows)
    schema = pa.schema([(key, types.get(key, pa.binary() if key == "audio" else pa.string())) for key in rows[0]])
    return pa.Table.from_pylist(rows, schema)


def _librispeech_part(row: Row) -> str:
    return LIBRISPEECH.get(row["speaker"]) or CHAPTERS[row["chapter"]]


def phones(paths: list[Path]) -> pa.Table:
    """LibriSpeech utterances whose words are all in the dictionary; ``phones`` without the bars between words."""
    rows = read(paths[0], ("id", "speaker", "chapter", "phones", "oov", "audio"))
    return table(
        {
            "id": row["id"],
            "speaker": row["speaker"],
            "phones": " ".join(phone for phone in row["phones"].split() if phone != "|"),
            "split": _librispeech_part(row),
            "audio": row["audio"],
        }
        for row in rows
        if not row["oov"]
    )


def letters(paths: list[Path]) -> pa.Table:
    """LibriSpeech, and in train the English prompts of the second file; ``text`` of capitals, apostrophes and spaces.

    Prompts with digits are left out: what is said for them is not written.
    """
    columns = ("id", "speaker", "chapter", "text", "audio")
    books = [row | {"split": _librispeech_part(row)} for row in read(paths[0], columns)]
    prompts = [
        row | {"id": f"en/{row['id']}", "speaker": "Allison Smith", "split": "train"}
        for row in read(paths[1], ("id", "lang", "split", "text", "audio"))
        if (row["lang"], row["split"]) == ("en", "train") and not re.search(r"\d", row["text"])
    ]
    return table(
        {key: row[key] for key in ("id", "speaker", "split", "audio")}
        | {"text": " ".join(re.sub(r"[^A-Z']", " ", row["text"].upper()).split())}
        for row in (*books, *prompts)
    )


def digits(paths: list[Path]) -> pa.Table:
    """Spoken digits by speaker."""
    rows = read(paths[0], ("id", "digit", "speaker", "audio"))
    return table(row | {"digit": str(row["digit"]), "split": FSDD[row["speaker"]]} for row in rows)


def voices(paths: list[Path]) -> pa.Table:
    """EmoDB by sentence."""
    rows = read(paths[0], ("id", "speaker", "sentence", "audio"))
    return table(row | {"split": SENTENCES.get(row["sentence"], "train")} for row in rows)


def trials(paths: list[Path]) -> pa.Table:
    """EmoDB: a row of train is a recording and its speaker; one of dev or test two recordings, and 1 or 0.

    ``split`` test_same_sex has the trials of test within one sex once more. Trials of dev are drawn like those of test:
    half of one speaker, none of one sentence.
    """
    rows = read(paths[0], ("id", "speaker", "sex", "sentence", "split"))
    known = {row["id"]: row for row in rows}
    mine = [row for row in rows if row["split"] == "train"]
    kept_out = [row for row in mine if row["sentence"] in SENTENCES]
    found = [
        {"enrol": row["id"], "test": "", "label": row["speaker"], "split": "train"}
        for row in mine
        if row["sentence"] not in SENTENCES
    ]
    pairs = [(a, b) for a, b in itertools.combinations(kept_out, 2) if a["sentence"] != b["sentence"]]
    pairs.sort(key=lambda pair: hashlib.sha256(f"{pair[0]['id']} {pair[1]['id']}".encode()).digest())
    for label, same in (("1", True), ("0", False)):
        some = [pair for pair in pairs if (pair[0]["speaker"] == pair[1]["speaker"]) == same][: DEV_TRIALS // 2]
        found += [{"enrol": a["id"], "test": b["id"], "label": label, "split": "dev"} for a, b in some]
    listed = [
        {key: str(trial[key]) for key in ("enrol", "test", "label")} for trial in csv.read_csv(paths[1]).to_pylist()
    ]
    found += [trial | {"split": "test"} for trial in listed]
    found += [
        trial | {"split": "test_same_sex"}
        for trial in listed
        if known[trial["enrol"]]["sex"] == known[trial["test"]]["sex"]
    ]
    for row in found:
        row["enrol_speaker"] = known[row["enrol"]]["speaker"]
        row["test_speaker"] = known[row["test"] or row["enrol"]]["speaker"]
    return table(found)


def values(paths: list[Path]) -> pa.Table:
    """Picovoice: ``slots``, the marks and values that are spoken."""
    rows = read(paths[0], ("id", "slots_json", "split", "audio"))
    return table(
        {
            "id": row["id"],
            "slots": "".join(f"{MARKS[name]}{value}" for name, value in sorted(json.loads(row["slots_json"]).items())),
            "split": {"valid": "dev"}.get(row["split"], row["split"]),
            "audio": row["audio"],
        }
        for row in rows
    )


def mix_clean(paths: list[Path]) -> pa.Table:
    """Recordings for pre-training: of each set those of speakers that no dev or test split has.

    LibriSpeech, spoken digits, Speech Commands, the prompts of ``letters`` and AMI. EmoDB is left out: all its speakers
    are in a test split. So is Picovoice: its speakers have no names, so nothing could be shown of them.
    """
    sets = ("librispeech", "fsdd", "speech_commands", "asterisk", "ami")
    columns = (("speaker",), ("speaker",), ("speaker", "split"), ("lang", "split"), ("split",))
    keep = {
        "librispeech": lambda row: row["speaker"] in LIBRISPEECH,
        "fsdd": lambda row: FSDD[row["speaker"]] == "train",
    }
    voices = {
        "en": "Allison Smith",
        "es": "Allison Smith",
        "fr": "June Wallack",
        "it": "Carlo Flora",
        "ru": "ivrvoice.ru",
    }
    found = []
    for name, path, more in zip(sets, paths, columns, strict=True):
        for row in read(path, ("id", *more, "audio")):
            if keep.get(name, lambda row: row["split"] == "train")(row):
                place = f"{name}/{row['lang']}/{row['id']}" if "lang" in row else f"{name}/{row['id']}"
                speaker = voices[row["lang"]] if "lang" in row else row.get("speaker")
                found.append({"id": place, "speaker": speaker, "audio": row["audio"]})
    return table(found)
