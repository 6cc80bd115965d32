"""Predictions of any type: what a row's numbers follow from, and the parquet file that holds them.

A column ``label`` and a column ``seed_N`` a seed, a row an item. What they hold is the kind of the task's head
(``KINDS``). In memory numbers are plain arrays, everything else arrays of objects. Shapes: I items, S seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ssl_suite.core.errors import SuiteError

CLUSTERS = ("cluster", "cluster_2")  # columns
MOST_CLASSES = int(np.iinfo(np.int16).max)


class Predictions(NamedTuple):
    """The values that a file holds.

    Attributes:
        labels_I: of the kind's labels.
        by_seed: seed -> (I,) of the kind's predictions.
        items_I: int32, each item's position among the full split's rows.
        classes: the names of class numbers; () where there are none.
        kind: a key of ``KINDS``.
        clusters_I: int64, numbers of the clusters that items are resampled by, (I, 2) of trials that belong to two;
            None where items are independent.
    """

    labels_I: np.ndarray
    by_seed: dict[int, np.ndarray]
    items_I: np.ndarray
    classes: tuple[str, ...] = ()
    kind: str = "classes"
    clusters_I: np.ndarray | None = None

    def stacked(self) -> np.ndarray:
        """(S, I), the seeds in their stored order."""
        return np.stack(list(self.by_seed.values()))

    def by_item(self) -> Predictions:
        """The same in the order of their items."""
        order_I = np.argsort(self.items_I, kind="stable")
        return self._replace(
            labels_I=self.labels_I[order_I],
            by_seed={seed: x_I[order_I] for seed, x_I in self.by_seed.items()},
            items_I=self.items_I[order_I],
            clusters_I=None if self.clusters_I is None else self.clusters_I[order_I],
        )


@dataclass(frozen=True)
class Kind:
    """How one kind of labels and predictions is held.

    Attributes:
        label, prediction: (values, classes, what) -> the array that memory holds; raises what cannot be stored.
        label_type, prediction_type: of a pyarrow column; ``number`` is the smallest that holds the class numbers.
    """

    label: Callable[[Any, Sequence[str], str], np.ndarray]
    prediction: Callable[[Any, Sequence[str], str], np.ndarray]
    label_type: str
    prediction_type: str


def finite(x_I: Any, what: str) -> np.ndarray:
    """Float64 numbers. Raises SuiteError: one is NaN or infinite."""
    x_I = np.asarray(x_I, dtype=np.float64)
    if bad := int((~np.isfinite(x_I)).sum()):
        raise SuiteError(f"{bad} of the {x_I.size:,} {what} are NaN or infinite: no row is written for them.")
    return x_I


def _single(x_I: Any, classes: Sequence[str], what: str) -> np.ndarray:
    """Numbers as float32 holds them."""
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        return finite(np.asarray(x_I).astype(np.float32), what)


def _numbers(x_I: Any, classes: Sequence[str], what: str) -> np.ndarray:
    x_I = np.asarray(x_I)
    if x_I.dtype.kind not in "iu":
        return _single(x_I, classes, what)  # a score in the place of a class, which the metric will refuse
    if x_I.size and not (x_I.min() >= 0 and x_I.max() < len(classes)):
        raise ValueError(f"{what}: a class number is not one of the {len(classes)} classes")
    return x_I.astype(np.int64)


def _classes(x_I: Any, classes: Sequence[str], what: str) -> np.ndarray:
    return _numbers(np.asarray(x_I).astype(np.int64), classes, what)


def objects(values: Sequence[Any]) -> np.ndarray:
    """(I,) an array of objects, whatever they are."""
    found = np.empty(len(values), object)
    for i, value in enumerate(values):
        found[i] = value
    return found


def _lists(dtype: Any) -> Callable[[Any, Sequence[str], str], np.ndarray]:
    """Of arrays of numbers, each item's as long as it likes."""

    def make(x_I: Any, classes: Sequence[str], what: str) -> np.ndarray:
        found = [np.asarray(x).astype(dtype) for x in x_I]
        if np.dtype(dtype).kind == "f":
            for x in found:
                finite(x, what)
        return objects(found)

    return make


def _texts(x_I: Any, classes: Sequence[str], what: str) -> np.ndarray:
    return objects([str(x) for x in x_I])


KINDS: dict[str, Kind] = {
    "classes": Kind(_classes, _numbers, "int16", "number"),
    "values": Kind(lambda x, c, w: finite(x, w), _single, "double", "float"),
    # Numbers of classes: of each word; of each slot.
    "tags": Kind(_lists(np.int64), _lists(np.int64), "list<int16>", "list<int16>"),
    "slots": Kind(_lists(np.int64), _lists(np.int64), "list<int16>", "list<int16>"),
    "answers": Kind(
        lambda x, c, w: objects([[str(text) for text in each] for each in x]), _texts, "list<string>", "string"
    ),  # the accepted ones; the given one
    "texts": Kind(_texts, _texts, "string", "string"),
    "activity": Kind(_lists(np.int64), _lists(np.int64), "list<int16>", "list<int16>"),  # bits a frame
    "scores": Kind(lambda x, c, w: np.asarray(x).astype(np.int64), _single, "int16", "float"),
    # Of each candidate whether it is right, and its score.
    "rankings": Kind(_lists(np.int64), _lists(np.float32), "list<int16>", "list<float>"),
}


def stored(
    labels_I: Any,
    by_seed: Mapping[int, Any],
    items_I: Any,
    classes: Sequence[str] = (),
    kind: str | None = None,
    clusters_I: Any = None,
) -> Predictions:
    """The values that the file will hold: predicted numbers are rounded to float32. Score these.

    Args:
        kind: a key of ``KINDS``; without one ``classes`` where there are any, else ``values``.

    Raises SuiteError: a number is NaN or infinite, or there are too many classes to store. Raises ValueError: lengths
    differ, an item comes twice, or a class number has no class (a defect of the caller).
    """
    kind = kind or ("classes" if classes else "values")
    items_I = np.asarray(items_I)
    if any(len(x_I) != len(items_I) for x_I in (labels_I, *by_seed.values())) or items_I.ndim != 1:
        raise ValueError("labels, items and every seed's predictions should be of one shape (items,)")
    if len(np.unique(items_I)) != len(items_I):
        raise ValueError("an item has two predictions")
    if len(classes) > MOST_CLASSES:
        raise SuiteError(f"{len(classes):,} classes are more than predictions are stored for ({MOST_CLASSES:,}).")
    held, names = KINDS[kind], tuple(classes)
    seeds = {int(seed): held.prediction(x_I, names, f"predictions of seed {seed}") for seed, x_I in by_seed.items()}
    groups = None if clusters_I is None else np.asarray(clusters_I).astype(np.int64)
    return Predictions(held.label(labels_I, names, "labels"), seeds, items_I.astype(np.int32), names, kind, groups)


def encode(predictions: Predictions) -> bytes:
    """A parquet file. It holds no time and no name of a machine: the same input gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held, count = KINDS[predictions.kind], len(predictions.classes)
    columns = {"item": pa.array(predictions.items_I, pa.int32())}
    if predictions.clusters_I is not None:
        for name, numbers_I in zip(CLUSTERS, np.atleast_2d(predictions.clusters_I.T), strict=False):
            columns[name] = pa.array(numbers_I, pa.int32())
    columns["label"] = _arrow(predictions.labels_I, held.label_type, count)
    for seed, x_I in predictions.by_seed.items():
        wanted = "float" if x_I.dtype.kind == "f" and predictions.kind == "classes" else held.prediction_type
        columns[f"seed_{seed}"] = _arrow(x_I, wanted, count)
    facts = {"classes": json.dumps(list(predictions.classes))}
    if predictions.kind not in ("classes", "values"):
        facts["kind"] = predictions.kind
    table = pa.table(columns).replace_schema_metadata(facts)
    out = pa.BufferOutputStream()
    # 27,000 items, 3 seeds: classes 39 kB instead of 141 kB with the defaults, numbers 516 kB instead of 824 kB.
    small = {"use_dictionary": False, "write_statistics": False, "column_encoding": {"item": "DELTA_BINARY_PACKED"}}
    pq.write_table(table, out, compression="zstd", compression_level=19, **small)
    return out.getvalue().to_pybytes()


def _arrow(x_I: np.ndarray, name: str, classes: int) -> Any:
    import pyarrow as pa

    types = {"number": pa.uint8() if classes <= 256 else pa.int16()}
    types |= {"int16": pa.int16(), "float": pa.float32(), "double": pa.float64()}
    types |= {"string": pa.string(), "list<string>": pa.list_(pa.string())}
    types |= {"list<int16>": pa.list_(pa.int16()), "list<float>": pa.list_(pa.float32())}
    wanted = types[name]
    return pa.array(x_I.tolist() if x_I.dtype == object else x_I.astype(wanted.to_pandas_dtype()), wanted)


def decode(content: bytes) -> Predictions:
    """The predictions of a file's bytes. Raises what pyarrow and ``stored`` raise on bytes that are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    facts = table.schema.metadata or {}
    classes = json.loads(facts[b"classes"])
    kind = facts[b"kind"].decode() if b"kind" in facts else "classes" if classes else "values"
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        columns[name] = column.to_numpy() if plain else column.to_pylist()
    labels_I, items_I = columns.pop("label"), columns.pop("item")
    numbers = [columns.pop(name) for name in CLUSTERS if name in columns]
    clusters_I = None if not numbers else numbers[0] if len(numbers) == 1 else np.stack(numbers, 1)
    seeds = {int(name.removeprefix("seed_")): x_I for name, x_I in columns.items()}
    return stored(labels_I, seeds, items_I, classes, kind, clusters_I)
