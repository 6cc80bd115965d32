"""Retrieval without training: queries against candidates by the states of one layer, which dev chooses.

    method: dtw      query by example, as in SUPERB: subsequence dynamic time warping of positions
    method: cosine   of the means of both's positions

Rows are queries, candidates or both; a row's candidates are those of its part, without itself.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import encode, frozen, metrics
from ssl_suite.evaluation.heads.base import Granularity, Head, Labels
from ssl_suite.evaluation.predictions import objects

AT_ONCE = 1 << 22  # distances in memory: candidates that are padded together
ROLES = {"query": (True, False), "candidate": (False, True), "": (True, True)}


class Retrieval(Head):
    """A score a candidate. The first label column has the classes of a row, one or a list: a candidate is right where
    it shares one with the query. The second, where there is one, has ``query``, ``candidate`` or nothing, for both.

    An item's label and prediction are arrays over its candidates, in the order of the rows; empty where it is no query.

    Args:
        method: a key of ``METHODS``.
        shortest: a query of fewer positions is left out and counted; SUPERB has 5.
    """

    granularity: ClassVar[Granularity] = "frame"
    trained: ClassVar[bool] = False

    def __init__(self, encoder: Any, data: Any, method: Literal["dtw", "cosine"] = "dtw", shortest: int = 0) -> None:
        super(Head, self).__init__()
        if method not in METHODS:
            raise SuiteError(f"task {data.task}: head.method={method} should be {' or '.join(METHODS)}.")
        self.method = method
        self.recorded = {"method": method}
        self._kept: dict[str, list[np.ndarray]] = {}
        if shortest:
            pairs = {name: zip(part.more, part.labels_I, strict=True) for name, part in data.parts.items()}
            short = {name: sum(query and not len(label) for (query, _), label in each) for name, each in pairs.items()}
            self.recorded |= {"shortest": shortest, "queries_left_out": short}

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        cls.refuse_pieces(task)
        shortest = task.head.get("shortest", 0)
        if not isinstance(shortest, int) or shortest < 0:
            raise SuiteError(f"task {task.name}: head.shortest={shortest} should be a whole number of positions.")
        given, roles = rows.columns[task.label[0]], rows.columns[task.label[1]] if len(task.label) > 1 else None
        found, more = np.empty(len(given), object), np.empty(len(given), object)
        for row in rows.used():
            role = str(roles[row] or "") if roles is not None else ""
            if given[row] in (None, "", []) or role not in ROLES:
                fault = f"the role '{role}', not query or candidate" if role not in ROLES else "no label"
                raise SuiteError(f"task {task.name}: {rows.places[row]} has {fault} ({', '.join(task.label)}).")
            more[row] = ROLES[role]
        for part in rows.names:
            mine = [row for row in rows.of(part) if rows.keep[row]]
            classes = {row: given[row] if isinstance(given[row], list) else [given[row]] for row in mine}
            others = [(row, set(map(str, classes[row]))) for row in mine if more[row][1]]
            for row in mine:
                own = set(map(str, classes[row]))
                right = [not own.isdisjoint(theirs) for other, theirs in others if other != row]
                found[row] = np.array(right if more[row][0] else [], np.int64), shortest
            if part != "train" and not any(found[row][0].any() for row in mine):
                raise SuiteError(f"task {task.name}: no query of {part} has a candidate with a label of its own.")
        return Labels(found, (), more)

    @classmethod
    def fit_label(cls, label: Any, inputs: tuple[Any, ...], where: str) -> np.ndarray:
        """Whether each candidate is right; of none where the query is too short."""
        right_C, shortest = label
        return right_C if len(inputs[0]) >= shortest else right_C[:0]

    def answer(
        self, encoder: Any, modality: Any, data: Any, task: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
        metric = metrics.find(task.select)
        sign = 1 if metric.higher_is_better else -1
        per_layer: dict[int, float] = {}
        for layer in range(len(getattr(encoder, "layers", ())) + 1):
            answers = self._scores(encoder, modality, data, layer, "dev")
            try:
                per_layer[layer] = metric.compute(data.parts["dev"].labels_I, answers)
            except metrics.Undefined:  # every candidate alike
                continue
        if not per_layer:
            raise SuiteError(f"task {task.name}: {task.select} on dev is undefined for every layer.")
        best = max(per_layer, key=lambda layer: (sign * per_layer[layer], layer))
        found = {part: self._scores(encoder, modality, data, best, part) for part in data.tested}
        chosen = {"split": "dev", "metric": task.select, "value": per_layer[best], "layer": best}
        return found, chosen | {"per_layer": {str(layer): value for layer, value in per_layer.items()}}

    def _scores(self, encoder: Any, modality: Any, data: Any, layer: int, part: str) -> np.ndarray:
        """(I,) the scores of each query's candidates; dimensions are standardised by train."""
        train_TD = np.concatenate(self._states(encoder, modality, data, "train", layer)).astype(np.float64)
        mean_D, deviation_D = train_TD.mean(0), np.maximum(train_TD.std(0), 1e-6)
        vectors_I = [unit((x - mean_D) / deviation_D) for x in self._states(encoder, modality, data, part, layer)]
        candidates = [i for i, (_, candidate) in enumerate(data.parts[part].more) if candidate]
        score, answers = METHODS[self.method], []
        for i, label in enumerate(data.parts[part].labels_I):
            others = [vectors_I[other] for other in candidates if other != i] if len(label) else []
            answers.append(score(vectors_I[i], others).astype(np.float32) if others else np.zeros(0, np.float32))
        return objects(answers)

    def _states(self, encoder: Any, modality: Any, data: Any, part: str, layer: int) -> list[np.ndarray]:
        """(T, D) of each sequence: of all layers at once and then kept, where they take no more memory than
        ``frozen.CACHE``, so that the encoder reads a part once and not once a layer."""
        rows: encode.Granularity = "position" if self.method == "dtw" else "sequence"
        sequences, count = encode.sequences_of(data, part), len(getattr(encoder, "layers", ())) + 1
        if 4 * len(data.values) * count * int(encoder.width) > frozen.CACHE:
            return [np.atleast_2d(x) for _, x in encode.states(encoder, modality, sequences, rows, layer)]
        if part not in self._kept:
            self._kept[part] = [x for _, x in encode.states(encoder, modality, sequences, rows)]
        return [x[None, layer] if x.ndim == 2 else x[:, layer] for x in self._kept[part]]


def unit(x_TD: np.ndarray) -> np.ndarray:
    """Rows of length 1, in float32."""
    return (x_TD / np.maximum(np.linalg.norm(x_TD, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def cosine(query_1D: np.ndarray, candidates: list[np.ndarray]) -> np.ndarray:
    """(C,)."""
    return np.concatenate(candidates) @ query_1D[0]


def warped(query_QD: np.ndarray, candidates: list[np.ndarray]) -> np.ndarray:
    """(C,) minus the least cost of a path, divided by Q.

    A path takes every row of the query once, and 0, 1 or 2 steps in the candidate from one to the next; it begins and
    ends anywhere in it. Its cost is of cosine distances, scaled to 0 … 1 in each row; 1 where a row's
    are all alike, as a candidate of one position has them, which else were the best of all.
    """
    found = []
    longest = max(map(len, candidates))
    step = max(1, AT_ONCE // (len(query_QD) * longest))
    for first in range(0, len(candidates), step):
        some = candidates[first : first + step]
        lengths_C = np.array([len(x_TD) for x_TD in some])
        distance_CQT = np.full((len(some), len(query_QD), int(lengths_C.max())), np.nan, np.float32)
        for distance_QT, x_TD in zip(distance_CQT, some, strict=True):
            own_QT = 1 - query_QD @ x_TD.T
            low_Q1, high_Q1 = own_QT.min(1, keepdims=True), own_QT.max(1, keepdims=True)
            scaled_QT = (own_QT - low_Q1) / np.maximum(high_Q1 - low_Q1, 1e-12)
            distance_QT[:, : len(x_TD)] = np.where(high_Q1 > low_Q1, scaled_QT, 1.0)
        cost_CT = distance_CQT[:, 0]
        for q in range(1, len(query_QD)):
            before_CT = np.pad(cost_CT, ((0, 0), (2, 0)), constant_values=np.inf)
            least_CT = np.minimum(np.minimum(before_CT[:, 2:], before_CT[:, 1:-1]), before_CT[:, :-2])
            cost_CT = distance_CQT[:, q] + least_CT
        found.append(-np.nanmin(cost_CT, 1) / len(query_QD))  # behind a candidate's end nothing is a number
    return np.concatenate(found)


METHODS = {"dtw": warped, "cosine": cosine}
