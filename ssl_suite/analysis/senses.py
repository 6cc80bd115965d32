"""Does context change a word? Its contextual vectors in sentences, and how well the nearest one tells its sense.

After the lecture's two apples. Shapes: N sentences, L + 1 hidden states (0 is the embedder's output, which knows the
word and its place alone), D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.data.loader import FRAME
from ssl_suite.evaluation import encode, items
from ssl_suite.modalities.base import Modality

AT_ONCE = 1024  # positions of a forward pass: all layers' states of a pool of passes are in memory
SHUFFLES = 20
SAME = 1e-6  # of a vector's length: two that differ by less are the same, but for rounding


@dataclass(frozen=True)
class Use:
    """A word in a sentence.

    Attributes:
        sense: its label.
        start, end: letters of ``text``, which is lower-case, between which the word stands.
        train: whether it is of the part that others are compared with; a set without one compares all with all.
    """

    name: str
    word: str
    sense: str
    text: str
    start: int
    end: int
    train: bool


def read(source: str, word: str | None, most: int | None, seed: int, place: dict[str, Any]) -> list[Use]:
    """The uses of a set: a CSV or parquet file, a built-in set (``samples/senses``), or a name of the catalogue.

    Columns: ``text`` (or ``sentence``), ``sense``; optionally ``word`` (else ``word=`` is looked for), ``start`` and
    ``end`` (else the word's first place counts), ``id`` and ``split``.

    Args:
        most: of each word and part only so many, drawn by ``seed``.

    Raises:
        SuiteError: no such set, a column is missing, or a sentence lacks its word.
    """
    path, name = Path(source).expanduser(), f"sentences={source}"
    if not path.is_file():
        path = resources.folder("samples") / "senses" / f"{source}.csv"
    if not path.is_file():
        path = _of_catalogue(source, place)
    rows = [{("text" if key == "sentence" else key): row[key] for key in row} for row in _rows(path, name)]
    for column in ("text", "sense", *([] if word else ["word"])):
        if not all(row.get(column) for row in rows):
            also = " or word=WORD" if column == "word" else ""
            raise SuiteError(f"{name}: needs the column '{column}' filled in every row{also}.")
    numbered = [(i, row) for i, row in enumerate(rows) if not word or row.get("word", word) == word]
    if not numbered:
        raise SuiteError(f"{name}: holds no sentence with word={word}.")
    kept: list[int] = []
    taken: Counter[tuple] = Counter()
    for at in np.random.default_rng(seed).permutation(len(numbered)):
        key = tuple(numbered[at][1].get(column) for column in ("word", "split"))
        taken[key] += 1
        if not most or taken[key] <= most:
            kept.append(int(at))
    return [_use(numbered[at][1], word, f"{name}, row {numbered[at][0] + 1}") for at in sorted(kept)]


def _rows(path: Path, name: str) -> list[dict[str, Any]]:
    """Of a CSV file all values are text; an empty one is ""."""
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            return pq.read_table(path).to_pylist()
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:100]
        raise SuiteError(f"{name}: is no table in CSV (UTF-8) or parquet ({reason}).") from None


def _of_catalogue(name: str, place: dict[str, Any]) -> Path:
    from ssl_suite.data import sources
    from ssl_suite.modalities.text import Text
    from ssl_suite.settings import config

    try:
        entry = config.option("data", name)
    except SuiteError:
        known = ", ".join(path.stem for path in sorted((resources.folder("samples") / "senses").glob("*.csv")))
        raise SuiteError(
            f"sentences={name}: no such file, built-in set ({known}) or data set; `ssl_suite data list` shows those."
        ) from None
    return sources.resolve_entry(Text(), entry | place).paths[0]


def _use(row: dict[str, Any], word: str | None, where: str) -> Use:
    own, text = word or row["word"], row["text"]
    if row.get("start") in (None, ""):
        start = text.lower().find(own.lower())
        length = len(own)
    else:
        start, length = len(text[: int(row["start"])].lower()), len(text[int(row["start"]) : int(row["end"])].lower())
    if start < 0:
        raise SuiteError(f"{where}: '{own}' does not stand in '{text[:60]}'; repair the row or remove it.")
    name, train = str(row.get("id") or where.rpartition(" ")[2]), row.get("split") == "train"
    return Use(name, own, str(row["sense"]), text.lower(), start, start + length, train)


def vectors(uses: Sequence[Use], encoder: Any, modality: Modality) -> np.ndarray:
    """(N, L + 1, D) float32: the mean state of each word's tokens, per layer. A long sentence is cut around its word.

    Raises:
        SuiteError: no token of a sentence is the word's.
    """
    made, spans = [], []
    room = modality.max_length - FRAME
    for use in uses:
        ids_T, places_T2, text = modality.located(Record(use.name, use.text, "sentences"))
        form = use.text[use.start : use.end]
        shift = use.start if text == use.text else text.find(form, max(0, use.start - use.text.count("\u200b") - 8))
        inside = np.flatnonzero((places_T2[:, 0] < shift + len(form)) & (places_T2[:, 1] > shift))
        if shift < 0 or not len(inside):
            raise SuiteError(f"sentences, {use.name}: the tokeniser keeps nothing of '{form}'; remove the row.")
        first = int(np.clip(inside[0] - room // 2, 0, max(0, len(ids_T) - room)))
        made.append(items.Sequence(ids_T[first : first + room]))
        spans.append(inside[inside < first + room] - first)
    found = encode.states(encoder, modality, enumerate(made), "position", at_once=AT_ONCE)
    return np.stack([states_TLD[spans[i]].mean(0) for i, states_TLD in found])


def cosines(vectors_ND: np.ndarray, mean_D: np.ndarray) -> np.ndarray:
    """(N, N) cosines of vectors from which their mean was taken; those of a vector that is the mean are 0."""
    left_ND = vectors_ND.astype(np.float64) - mean_D
    norms_N1 = np.linalg.norm(left_ND, axis=1, keepdims=True)
    some_N1 = norms_N1 > SAME * np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND = np.divide(left_ND, norms_N1, out=np.zeros_like(left_ND), where=some_N1)
    return unit_ND @ unit_ND.T


def nearest(cosines_NN: np.ndarray, train_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of the T tested, and (T, N) the share that each other one has of being the nearest: equally near ones
    share it. Others are those of train, or where that is empty all."""
    tested_T = np.flatnonzero(~train_N)
    known_N = train_N if train_N.any() else np.ones_like(train_N)
    near_NN = np.where(known_N[None], cosines_NN, -np.inf)
    np.fill_diagonal(near_NN, -np.inf)
    near_TN = near_NN[tested_T]
    tied_TN = near_TN >= near_TN.max(1, keepdims=True) - SAME
    return tested_T, tied_TN / tied_TN.sum(1, keepdims=True)


def accuracies(uses: Sequence[Use], vectors_NLD: np.ndarray, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row a layer: 1-NN sense accuracy over the tested uses of all words, and the same with shuffled labels.

    Returns:
        the rows, and the controls that no layer changes: tested uses, words, and the majority's share.
    """
    rng, by_word = np.random.default_rng(seed), _by_word(uses)
    rows: list[dict[str, Any]] = []
    for layer in range(vectors_NLD.shape[1]):
        right, chance, same, other = [], [], [], []
        for place_N in by_word.values():
            senses_N, train_N = _labels(uses, place_N)
            own_ND = vectors_NLD[place_N, layer]
            cosines_NN = cosines(own_ND, own_ND[train_N if train_N.any() else slice(None)].mean(0))
            tested_T, shares_TN = nearest(cosines_NN, train_N)
            right += _matches(senses_N, tested_T, shares_TN).tolist()
            mixed = (rng.permutation(senses_N) for _ in range(SHUFFLES))
            chance.append(sum(_matches(mixed_N, tested_T, shares_TN).sum() for mixed_N in mixed))
            alike_NN = senses_N[:, None] == senses_N
            off_NN = ~np.eye(len(senses_N), dtype=bool)
            same.append(cosines_NN[alike_NN & off_NN])
            other.append(cosines_NN[~alike_NN])
        low, high = interval(round(sum(right)), len(right))
        rows.append(
            {"layer": layer, "right": sum(right), "tested": len(right), "accuracy": sum(right) / len(right)}
            | {"low": low, "high": high, "shuffled": float(sum(chance)) / SHUFFLES / len(right)}
            | {"cosine_same": float(np.concatenate(same).mean()), "cosine_other": float(np.concatenate(other).mean())}
        )
    most = []
    for place_N in by_word.values():
        senses_N, train_N = _labels(uses, place_N)
        names, counts = np.unique(senses_N[train_N if train_N.any() else slice(None)], return_counts=True)
        most += (senses_N[~train_N] == names[counts.argmax()]).tolist()
    return rows, {"words": len(by_word), "majority": sum(most) / len(most)}


def _matches(senses_N: np.ndarray, tested_T: np.ndarray, shares_TN: np.ndarray) -> np.ndarray:
    """(T,) how much of the nearest has the same sense: 1 or 0, or between where several are equally near."""
    return (shares_TN * (senses_N[tested_T, None] == senses_N)).sum(1)


def _by_word(uses: Sequence[Use]) -> dict[str, np.ndarray]:
    """The places of each word's uses; of a word without a tested use none."""
    words = np.array([use.word for use in uses])
    tested = {use.word for use in uses if not use.train}
    return {word: np.flatnonzero(words == word) for word in dict.fromkeys(words.tolist()) if word in tested}


def _labels(uses: Sequence[Use], place_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.array([uses[i].sense for i in place_N]), np.array([uses[i].train for i in place_N])


def interval(right: int, of: int) -> tuple[float, float]:
    """95 %, of a share (Wilson 1927)."""
    from scipy.stats import binomtest

    found = binomtest(right, of).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
