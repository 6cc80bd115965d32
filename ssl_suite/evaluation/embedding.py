"""Records to vectors: one vector a record, in the order of the input, at a bounded amount of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.data.loader import FRAME
from ssl_suite.evaluation.encode import AT_ONCE, states
from ssl_suite.evaluation.items import Sequence

if TYPE_CHECKING:
    from ssl_suite.core.records import Record
    from ssl_suite.modalities.base import Fault, Modality


@dataclass(frozen=True)
class Embedded:
    """A record's vector.

    Attributes:
        name, source, occurrence: of the record.
        vector_D: (D,) float32.
        tokens: of the whole record, [CLS] and [SEP] not counted.
        windows: pieces it was cut into; 1 unless it is longer than the model's window.
    """

    name: str
    source: str
    vector_D: np.ndarray
    tokens: int
    windows: int
    occurrence: int = 1


def embed(
    records: Iterable[Record],
    encoder: Any,
    modality: Modality,
    fault: Fault,
    pooling: Literal["mean", "cls"] = "mean",
    layer: int = -1,
    batch_tokens: int = AT_ONCE,
    report: Callable[[int], None] | None = None,
) -> Iterator[Embedded]:
    """One result a record, in order.

    A record longer than the window is cut into windows that do not overlap; its vector is their mean, weighted by
    length, so mean pooling is the mean over all of its tokens.

    Args:
        encoder, modality: as ``ssl_suite.training.restore.load_run`` gives them; the encoder's device is used.
        fault: called with each record that cannot be encoded or has no token.
        pooling: ``mean`` over a record's tokens, or the state of [CLS].
        layer: 0 is the embedding, 1..L the layers, -1 the last one after the final norm (so is L), -2 the one before.
            A convnet has one vector a picture and no states of positions: ``mean`` and -1 stand for it.
        batch_tokens: positions of a forward pass.
        report: takes the tokens of each forward pass when it is done.

    Raises SuiteError: the encoder has no such layer, or no [CLS].
    """
    check(encoder, pooling, layer)
    sum_D: Any = 0.0
    pieces = _pieces(records, modality, fault)
    for piece, vector_D in states(encoder, modality, pieces, "sequence", layer, pooling, batch_tokens, report):
        sum_D = sum_D + vector_D.astype(np.float64) * piece.length
        if piece.last:
            record = piece.record
            vector_D = (sum_D / piece.of).astype(np.float32)
            yield Embedded(record.name, record.source, vector_D, piece.of, piece.windows, record.occurrence)
            sum_D = 0.0


def check(encoder: Any, pooling: str, layer: int) -> None:
    """Raise ``SuiteError`` where the encoder has no such layer, or no states of positions to pool."""
    if not hasattr(encoder, "layer_states") and (layer != -1 or pooling != "mean"):
        raise SuiteError(f"layer={layer} pooling={pooling}: a convnet gives one vector; use layer=-1 pooling=mean.")
    depth = len(encoder.layers)
    if not -depth - 1 <= layer <= depth:
        raise SuiteError(f"layer={layer} does not exist: choose one from {-depth - 1} to {depth}.")


class _Piece(NamedTuple):
    """A window of a record: its length, of how many tokens in how many windows, and whether it is the last."""

    record: Record
    length: int
    of: int
    windows: int
    last: bool


def _pieces(records: Iterable[Record], modality: Modality, fault: Fault) -> Iterator[tuple[_Piece, Sequence]]:
    """Each record's windows."""
    window = modality.max_length - FRAME
    for record in records:
        try:
            values = modality.encode(record).values
            if not len(values):
                raise BadRecord(f"{record.source}, record {record.name}: holds no whole token.", "no token")
        except SuiteError as error:
            fault(error)
            continue
        for start in range(0, len(values), window):
            some, of = values[start : start + window], len(values)
            yield _Piece(record, len(some), of, -(-of // window), start + window >= of), Sequence(some)
