"""GLUE's tasks (Wang et al. 2018, arXiv:1804.07461) as tables of one form, whatever layout the files have.

Layouts: GLUE's own TSV (no quoting; CoLA's train and dev without a header, MRPC's with a byte-order mark), the hub's
parquet (classes as numbers, -1 for none), and copies with the columns of the TSV. The columns of a table: ``split`` as
the file is called (train, dev, dev_matched, test_msr, …), ``idx``, ``sentence1``, ``sentence2`` of pairs, ``label``,
and ``group``: rows of a split with one number are linked by a sentence that they share.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.limits import unreadable

TEXTS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("#1 String", "#2 String"),
    ("premise", "hypothesis"),
    ("sentence", None),
    ("sentence1", None),
)
LABELS = ("gold_label", "label", "is_duplicate", "score", "Quality")  # MNLI's dev has label1 to label5 as well
COLA = ("source", "label", "star", "sentence")
PART = re.compile(r"(train|dev|validation|test)(_matched|_mismatched|_msr|_stsbenchmark)?")
DIAGNOSTIC = ("ax", "diagnostic")  # the names of its folder or file
NLI = ("entailment", "neutral", "contradiction")
ENTAILS = ("entailment", "not_entailment")
FEWEST_WORDS = 5  # of a phrase of SST-2 that is trained on


class Row(NamedTuple):
    """An item of one of the files; ``label`` None: it has none."""

    split: str
    idx: int
    sentence1: str
    sentence2: str | None
    label: str | None


def rows_of(path: Path, classes: Sequence[str] = ()) -> list[Row]:
    """The rows of one file.

    Args:
        classes: what the hub's numbers of classes stand for; () where they are the labels.

    Raises:
        SuiteError: it is none of the layouts, or a row of dev or test lacks a field. Rows of train that do are left
            out, as everywhere: QQP's has three.
    """
    names, table = _parquet(path) if path.suffix == ".parquet" else _tsv(path)
    texts = next((pair for pair in TEXTS if {*pair} - {None} <= {*names}), None)
    if texts is None:
        raise SuiteError(f"{path}: has the columns {', '.join(names)}, which no task of GLUE has; get the file again.")
    label = next((names.index(name) for name in LABELS if name in names), None)
    places = [names.index(name) for name in texts if name]
    split, found = split_of(path), []
    for number, fields in enumerate(table):
        if len(fields) < len(names):
            if split == "train":
                continue
            raise SuiteError(f"{path}: row {number + 1} has {len(fields)} fields of {len(names)}; get the file again.")
        sentences = [str(fields[place]) for place in places]
        said = None if label is None else _label(fields[label], classes)
        if said is None and not split.startswith(("test", "ax")):
            raise SuiteError(f"{path}: row {number + 1} has no label; get the file again.")
        found.append(Row(split, number, sentences[0], sentences[1] if len(sentences) > 1 else None, said))
    return found


def split_of(path: Path) -> str:
    """The part of the data that a file is by its name; ``ax`` of the diagnostic set.

    Raises:
        SuiteError: the name says none.
    """
    if {path.stem.lower(), path.parent.name.lower()} & {*DIAGNOSTIC}:
        return "ax"
    match = PART.search(path.stem)
    if match is None:
        raise SuiteError(f"{path}: its name says neither train, dev nor test; rename it as GLUE has it.")
    return match[1].replace("validation", "dev") + (match[2] or "")


def _parquet(path: Path) -> tuple[list[str], Iterable[Sequence[Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise SuiteError(f"{path}: parquet file is damaged ({str(error).splitlines()[0]}).") from None
    return table.column_names, zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True)


def _tsv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise (unreadable(path, error) if isinstance(error, OSError) else SuiteError(f"{path}: {error}.")) from None
    rows = [line.rstrip("\r").split("\t") for line in lines if line.strip()]
    bare = bool(rows) and len(rows[0]) == len(COLA) and rows[0][1] in ("0", "1")
    return (list(COLA), rows) if bare else (rows[0], rows[1:]) if rows else ([], [])


def _label(value: Any, classes: Sequence[str]) -> str | None:
    """A label as GLUE's site writes it, from the TSV or from the hub's number."""
    if value is None or value in (-1, -1.0, "", "-"):
        return None
    return classes[value] if classes and isinstance(value, int) else str(value)


def components(texts: Sequence[Sequence[str]]) -> list[int]:
    """Of each row the number of its connected component, where rows that hold one text are linked."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    known: dict[str, int] = {}
    pairs = [(i, known.setdefault(text, len(known))) for i, row in enumerate(texts) for text in row]
    rows, columns = np.array(pairs or [(0, 0)]).T
    size = len(texts) + len(known)
    links = coo_matrix((np.ones(len(rows)), (rows, len(texts) + columns)), shape=(size, size))
    return connected_components(links, directed=False)[1][: len(texts)].tolist()


def sentences(rows: Sequence[Row]) -> list[list[str]]:
    """What links rows: their sentences, in small letters."""
    return [[" ".join(text.lower().split()) for text in (row.sentence1, row.sentence2) if text] for row in rows]


def table(rows: Sequence[Row], number: bool = False, linked: Any = sentences) -> Any:
    """The table of some rows. ``number``: labels are numbers. ``linked``: rows -> of each the texts that link it."""
    import pyarrow as pa

    made: dict[str, list[Any]] = {name: [] for name in (*Row._fields, "group")}
    for split in dict.fromkeys(row.split for row in rows):
        mine = [row for row in rows if row.split == split]
        for row, group in zip(mine, components(linked(mine)), strict=True):
            for name, value in zip(made, (*row, group), strict=True):
                made[name].append(float(value) if number and name == "label" and value is not None else value)
    if not any(made["sentence2"]):
        del made["sentence2"]
    return pa.table(made)


def official(paths: list[Path], classes: Sequence[str] = (), number: bool = False) -> Any:
    """All labelled rows."""
    return table([row for path in paths for row in rows_of(path, classes) if row.label is not None], number)


def unlabelled(paths: list[Path]) -> Any:
    """The rows whose labels only the site knows."""
    chosen = [path for path in paths if split_of(path) in ("test", "test_matched", "test_mismatched", "ax")]
    if not chosen:
        raise SuiteError(f"{paths[0].parent}: items without labels (test.tsv) are not here; get them by `data fetch`.")
    return table([row._replace(label=None) for path in chosen for row in rows_of(path)])


def sst2(paths: list[Path]) -> Any:
    """SST-2: of train the phrases of five words and more, each once, without those that bear two labels.

    Phrases are the same if their letters and digits are. They are linked by any five words in a row, as the parts of
    one sentence are, so that no part of it stands in dev and another in train.
    """
    rows = [row for path in paths for row in rows_of(path) if row.label is not None]
    labels: dict[str, set[str | None]] = {}
    for row in rows:
        if row.split == "train":
            labels.setdefault(phrase(row), set()).add(row.label)
    kept, seen = [], set()
    for row in rows:
        key = phrase(row)
        if row.split == "train" and (key in seen or len(labels[key]) > 1 or len(row.sentence1.split()) < FEWEST_WORDS):
            continue
        if row.split == "train":
            seen.add(key)
        kept.append(row)
    return table(kept, linked=lambda mine: [five_words(row.sentence1) for row in mine])


def phrase(row: Row) -> str:
    """What tells phrases apart."""
    return " ".join(re.findall(r"\w+", row.sentence1.lower()))


def five_words(text: str) -> list[str]:
    """All runs of five words; a shorter text is its own."""
    words = text.lower().split()
    runs = [" ".join(words[i : i + FEWEST_WORDS]) for i in range(len(words) - FEWEST_WORDS + 1)]
    return runs or [" ".join(words)]


def premises(rows: Sequence[Row]) -> list[list[str]]:
    """What links rows whose second sentences say little, as "A man is outside." does in SNLI."""
    return [[" ".join(row.sentence1.lower().split())] for row in rows]


def proxy(paths: list[Path], share: float, linked: Any = sentences) -> Any:
    """One labelled file cut into ``train`` and ``eval``, of which ``share``, with no sentence in both.

    The components with the smallest SHA-256 of their first row's sentences are ``eval``. ``linked`` is ``table``'s.
    """
    rows = [row._replace(split="eval") for path in paths for row in rows_of(path)]
    groups = components(linked(rows))
    first: dict[int, str] = {}
    for row, group in zip(rows, groups, strict=True):
        first.setdefault(group, hashlib.sha256(f"{row.sentence1}\n{row.sentence2}".encode()).hexdigest())
    taken, sizes, count = set(), Counter(groups), 0
    for group in sorted(first, key=first.__getitem__):
        if count >= share * len(rows):
            break
        taken.add(group)
        count += sizes[group]
    return table(
        [row if group in taken else row._replace(split="train") for row, group in zip(rows, groups, strict=True)],
        linked=linked,
    )


def mnli(paths: list[Path]) -> Any:
    """MNLI's matched dev set cut by its ``proxy_split`` (by premise), and a part of the mismatched one as ``mm``.

    That part is in the Penn Treebank's tokens (``ca n't``, ``-LRB-``), which NLTK joins.
    """
    import pyarrow.parquet as pq

    matched, mismatched = paths
    splits = pq.read_table(matched).column("proxy_split").to_pylist()
    rows = [row._replace(split=split) for row, split in zip(rows_of(matched), splits, strict=True)]
    join = detokenizer()
    for row in rows_of(mismatched):
        rows.append(row._replace(split="mm", sentence1=join(row.sentence1), sentence2=join(row.sentence2 or "")))
    return table(rows)


def detokenizer() -> Callable[[str], str]:
    """Joins tokens of the Penn Treebank.

    Raises:
        SuiteError: NLTK is not installed.
    """
    try:
        from nltk.tokenize.treebank import TreebankWordDetokenizer
    except ImportError:
        raise SuiteError(
            "MNLI's mismatched part is in tokens that NLTK joins: pip install 'ssl_suite[glue]'."
        ) from None
    join = TreebankWordDetokenizer().detokenize
    return lambda text: join(text.split(), convert_parentheses=True)


stsb = partial(official, number=True)
mnli_official = partial(official, classes=NLI)
entailment = partial(official, classes=ENTAILS)
qqp_proxy = partial(proxy, share=0.15)
qnli_proxy = partial(proxy, share=0.25)
snli = partial(proxy, share=0.2, linked=premises)
