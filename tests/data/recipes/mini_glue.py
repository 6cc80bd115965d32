"""A miniature of GLUE's folder in its own TSV layout, with its quirks, and of the hub's parquet with the same items."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ANIMALS, VERBS, PLACES = ("cat", "dog", "bird", "fox"), ("sat", "ran", "slept"), ("mat", "hill", "sea", "roof")
NLI = ("entailment", "neutral", "contradiction")
HUB = {  # of each folder: the hub's name, its columns of text, its classes where the TSV has names
    "CoLA": ("cola", ["sentence"], ()),
    "SST-2": ("sst2", ["sentence"], ()),
    "MRPC": ("mrpc", ["sentence1", "sentence2"], ()),
    "STS-B": ("stsb", ["sentence1", "sentence2"], ()),
    "QQP": ("qqp", ["question1", "question2"], ()),
    "MNLI": ("mnli", ["premise", "hypothesis"], NLI),
    "QNLI": ("qnli", ["question", "sentence"], ("entailment", "not_entailment")),
    "RTE": ("rte", ["sentence1", "sentence2"], ("entailment", "not_entailment")),
    "WNLI": ("wnli", ["sentence1", "sentence2"], ()),
}


def items(folder: str, part: str, count: int) -> list[tuple[str, str, str]]:
    """(first, second, label as the TSV has it) of a part; quotation marks stand in some of them."""
    draw = random.Random(f"{folder} {part}")
    classes = HUB[folder][2] or ("0", "1")
    made = []
    for _ in range(count):
        a, b = (f'The {draw.choice(ANIMALS)} {draw.choice(VERBS)} on the "{draw.choice(PLACES)} .' for _ in range(2))
        label = f"{draw.randrange(0, 26) / 5:.3f}" if folder == "STS-B" else draw.choice(classes)
        made.append((f"{a} {draw.randrange(10**6)}", f"{b} {draw.randrange(10**6)}", label))
    return made


def columns(folder: str, i: int, a: str, b: str, label: str | None) -> dict[str, str]:
    """The columns of a row of the TSV, in order; those of test, without a label."""
    place = {"index": str(i)}
    said = {} if label is None else {"label": label}
    if folder == "CoLA":
        return {**place, "sentence": a} if label is None else {"source": "gj04", "label": label, "star": "", "s": a}
    if folder == "SST-2":
        return {**place, "sentence": a} if label is None else {"sentence": a, **said}
    if folder == "MRPC":
        first = place if label is None else {"Quality": label}
        return {**first, "#1 ID": "7", "#2 ID": "8", "#1 String": a, "#2 String": b}
    if folder == "STS-B":
        score = {} if label is None else {"score": label}
        return {**place, "genre": "main", "source1": "x", "source2": "y", "sentence1": a, "sentence2": b, **score}
    if folder == "QQP":
        ids = {"id": str(i)} if label is None else {"id": str(i), "qid1": "1", "qid2": "2"}
        return {**ids, "question1": a, "question2": b, **({} if label is None else {"is_duplicate": label})}
    if folder == "MNLI":
        gold = {} if label is None else {"label1": "neutral", "gold_label": label}
        return {**place, "genre": "x", "sentence1_parse": "( x )", "sentence1": a, "sentence2": b, **gold}
    if folder == "QNLI":
        return {**place, "question": a, "sentence": b, **said}
    return {**place, "sentence1": a, "sentence2": b, **said}


def parts(folder: str) -> list[str]:
    names = ["train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched"]
    return names if folder == "MNLI" else ["train", "dev", "test"]


def size(part: str) -> int:
    return 60 if part == "train" else 12


def write_tsv(root: Path, folder: str) -> Path:
    """``FOLDER/train.tsv``, …; CoLA without a header but in test, MRPC with a byte-order mark."""
    for part in parts(folder):
        made = items(folder, part, size(part))
        rows = [columns(folder, i, a, b, None if "test" in part else c) for i, (a, b, c) in enumerate(made)]
        bare = folder == "CoLA" and part != "test"
        lines = ([] if bare else ["\t".join(rows[0])]) + ["\t".join(row.values()) for row in rows]
        path = root / folder / f"{part}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if folder == "MRPC" else "utf-8")
    if folder == "MNLI":
        path = root / "AX" / "AX.tsv"
        path.parent.mkdir()
        path.write_text("index\tsentence1\tsentence2\n0\tA cat sat .\tAn animal sat .\n1\tA dog ran .\tIt slept .\n")
    return root / folder


def write_hub(root: Path, folder: str) -> Path:
    """``name/train-00000-of-00001.parquet``, …: classes as numbers, -1 in test."""
    name, texts, classes = HUB[folder]
    for part in parts(folder):
        table: dict[str, list] = {column: [] for column in [*texts, "label", "idx"]}
        for i, (a, b, label) in enumerate(items(folder, part, size(part))):
            for column, text in zip(texts, (a, b), strict=False):
                table[column].append(text)
            number = float(label) if folder == "STS-B" else classes.index(label) if classes else int(label)
            table["label"].append((-1.0 if folder == "STS-B" else -1) if "test" in part else number)
            table["idx"].append(i)
        path = root / name / f"{part.replace('dev', 'validation')}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table).replace_schema_metadata({"huggingface": json.dumps({})}), path)
    return root / name
