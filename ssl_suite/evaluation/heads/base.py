"""What stands on an encoder for a task: a supervised objective, trained by the trainer of everything else.

A head says how its targets are read from a task's label columns, what it computes from an encoder, its loss, and how
outputs become the predictions that metrics are computed from.

Shapes: S sequences of a split, I items (a piece of music is an item of several sequences), C outputs of a head; B, N
and D as in ``core.batch``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.evaluation import items
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.base import Metrics, Objective

if TYPE_CHECKING:
    from ssl_suite.evaluation.tables import Rows
    from ssl_suite.evaluation.task_data import Split, TaskData
    from ssl_suite.evaluation.tasks import Task
    from ssl_suite.modalities.base import Modality

IGNORED = -100
Granularity = Literal["sequence", "pair", "token", "frame"]


class Labels(NamedTuple):
    """The labels of all rows, and the names of the classes.

    Attributes:
        values_R: (rows,) class numbers, values, or objects as the head's predictions are; anything for rows of no part.
        classes: of the full train split, sorted as text; the place of a class is its number. () where there are none.
        more_R: (rows,) objects that training needs beside the values.
    """

    values_R: np.ndarray
    classes: tuple[str, ...] = ()
    more_R: np.ndarray | None = None

    def constant(self, labels_I: np.ndarray) -> str:
        """The only label of a split, from which nothing is learnt; "" where labels differ, or are objects."""
        if labels_I.dtype == object or len(np.unique(labels_I)) > 1:
            return ""
        return str(self.classes[labels_I[0]] if self.classes else labels_I[0])


class Head(Objective):
    """The base of all heads.

    Args:
        encoder: whose width it reads.
        data: the task's; the labels of its training items are the targets.
        pooling: what a sequence's vector is: the ``mean`` of its states, that of [CLS] (``cls``), or BERT's ``pooler``,
            tanh of a dense map of [CLS] that starts from the encoder's own weights where it has some.
        dropout: before the last map.
        noisy: the encoder has dropout of its own, whose draws are then a function of the seed and the step.
        norm: a LayerNorm without parameters before the last map; none behind a pooler. Vectors of an encoder that was
            tuned for cosines differ by 0.05 from one sequence to another, and a map that starts at 0.02 hardly sees
            them: MiniLM on splice reached 85 % of dev with it and 61 % without, after 110,000 tokens at 3e-4.

        projection: width of a linear map of a sequence's vector before the last one, as SUPERB's heads of utterances
            have (256, before their mean, which is the same); none without it.

    Attributes:
        predicts: of a head from another package: what its predictions are, a key of ``predictions.KINDS``.
        version: changes with anything in the head that changes a number; it is part of the protocol in a row.
        granularity: what it reads of an encoder: a vector a ``sequence``, those of two sequences (``pair``), or the
            states of ``token`` or ``frame`` positions.
        layout: how an item becomes sequences, of one input and of two.
        trained: False where there is nothing to train, as in retrieval.
        causal: it asks a causal language model (``causal.Causal``) in the place of an encoder.
        positions: its outputs are of positions, not of sequences.
        recorded: settings of its own that a row has.
    """

    pooled: ClassVar[bool] = True
    predicts_ids: ClassVar[bool] = False
    wraps: ClassVar[bool] = True
    predicts: ClassVar[str] = ""
    version: ClassVar[int] = 2
    granularity: ClassVar[Granularity] = "sequence"
    layout: ClassVar[tuple[type[items.Single], type[items.Single]]] = (items.Single, items.Joined)
    trained: ClassVar[bool] = True
    causal: ClassVar[bool] = False
    positions: ClassVar[bool] = False
    recorded: dict[str, Any] = {}

    def __init__(
        self,
        encoder: Any,
        data: TaskData,
        pooling: Literal["mean", "cls", "pooler"] = "mean",
        dropout: float = 0.0,
        noisy: bool = False,
        norm: bool = True,
        projection: int | None = None,
    ) -> None:
        super().__init__()
        self.pooling, self.noisy, self._seeded = pooling, noisy or dropout > 0, -1
        self.drop = nn.Dropout(dropout)
        if pooling == "pooler":
            self.pooler = encoder_pooler(encoder)
        plain = not norm or pooling == "pooler"
        self.norm = nn.Identity() if plain else nn.LayerNorm(encoder.width, elementwise_affine=False)
        self.narrow = nn.Linear(encoder.width, projection) if projection else nn.Identity()
        self.output = nn.Linear(projection or encoder.width, self.outputs(data))
        nn.init.trunc_normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    @classmethod
    def read_labels(cls, task: Task, rows: Rows) -> Labels:
        """The labels of the task's columns. Raises SuiteError: one is missing, of the wrong kind, or a class that no
        row of train has."""
        raise NotImplementedError

    @classmethod
    def fit_label(cls, label: Any, inputs: tuple[Any, ...], where: str) -> Any:
        """The label of an item whose inputs are read; one that does not fit is refused. ``where`` begins messages."""
        return label

    @classmethod
    def refuse_pieces(cls, task: Task) -> None:
        """Refuse items in pieces, for a head whose label is of the item's positions from the first on."""
        if task.overflow != "truncate":
            raise SuiteError(
                f"task {task.name}: overflow={task.overflow} leaves positions that head={task.head['name']} cannot "
                "match with its labels; use overflow: truncate, and a max_length that holds the items."
            )

    @classmethod
    def majority(cls, data: TaskData, part: Split) -> np.ndarray:
        """(I,) predictions that need no input: what is commonest in train. Raises SuiteError: the head has no such
        answer."""
        raise SuiteError(f"task {data.task}: there is no answer without an input; leave out protocol=majority.")

    def start_targets(self, part: Split) -> np.ndarray:
        """(S,) what a linear model is fitted to where a budget starts heads from one. Raises SuiteError: the head has
        no such start."""
        raise SuiteError(f"{type(self).__name__} heads start at random; choose a budget without head: linear.")

    def answer(
        self, encoder: Any, modality: Modality, data: TaskData, task: Task
    ) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
        """By part the (I,) predictions of a head with nothing to train, and what was chosen on dev, as a row has it."""
        raise NotImplementedError

    def outputs(self, data: TaskData) -> int:
        """C."""
        raise NotImplementedError

    def read(self, encoder: Any, batch: Batch) -> Tensor:
        """(B, C) of sequences or (N, C) of positions: the head's outputs."""
        return self.output(self.drop(self.vectors(encoder, batch)))

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """The sum over targets, their count, and metrics, from float32 outputs; training sequences are ``index_B``."""
        raise NotImplementedError

    def decode(self, outputs_S: Sequence[np.ndarray], data: TaskData, part: Split) -> np.ndarray:
        """(I,) predictions of a part's items.

        Args:
            outputs_S: of each sequence: (C,), or (length, C) of its positions between [CLS] and [SEP].
        """
        raise NotImplementedError

    def confidence(self, outputs_S: Sequence[np.ndarray], data: TaskData, part: Split) -> list[Any] | None:
        """(I,) the probability of what ``decode`` gives of each item, or of each of its words; None where the head has
        none."""
        return None

    def places(self, outputs_S: Sequence[np.ndarray], data: TaskData, part: Split) -> list[tuple[int, int]] | None:
        """(I,) where in each item's text that stands which ``decode`` gives; None of heads that do not cut it out."""
        return None

    def forward(self, encoder: Any, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The loss of the sequences whose numbers (``index_B``) are training sequences'."""
        if self.noisy and rng.step != self._seeded:  # the passes of one step go on in one stream
            torch.manual_seed(hash((rng.seed, rng.step, batch.tokens, batch.squares)) % 2**63)
            self._seeded = rng.step
        return self.loss(self.read(encoder, batch).float(), batch)

    def vectors(self, encoder: Any, batch: Batch) -> Tensor:
        """(B, D) or (N, D): what the last map reads."""
        if self.positions:
            return self.norm(encoder(batch))
        if self.pooling == "mean":
            return self.narrow(self.norm(encoder.pooled(batch)))
        vectors_BD = encoder(batch)[batch.offsets_B1[:-1].long().clamp(max=len(batch.values) - 1)]
        return self.narrow(self.norm(self.pooler(vectors_BD).tanh() if self.pooling == "pooler" else vectors_BD))

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder, and of the head's matrices."""
        count = batch.tokens if self.positions else len(batch.lengths)
        weights = sum(p.numel() for p in self.parameters() if p.dim() == 2)
        return 3 * (encoder_flops(model, batch) + 2.0 * count * weights)

    def described(self, name: str) -> dict[str, Any]:
        """What a row says of the head."""
        return {"name": name, "version": self.version, **self.settings()}

    def settings(self) -> dict[str, Any]:
        """What a row says of the head beside its name and version."""
        if not self.trained:
            return self.recorded
        found: dict[str, Any] = {"pooling": self.pooling, "norm": not isinstance(self.norm, nn.Identity)}
        found |= {} if isinstance(self.narrow, nn.Identity) else {"projection": self.narrow.out_features}
        return found | self.recorded


def encoder_pooler(encoder: Any) -> nn.Linear:
    """The dense map of BERT's pooler: a copy of the encoder's own, or a random one (std 0.02) where it has none."""
    dense = nn.Linear(encoder.width, encoder.width)
    own = getattr(getattr(getattr(encoder, "model", None), "pooler", None), "dense", None)
    if own is not None and bool(own.weight.any()):  # zeros are weights that the checkpoint lacks
        dense.load_state_dict(own.state_dict())
    else:
        nn.init.trunc_normal_(dense.weight, std=0.02)
        nn.init.zeros_(dense.bias)
    return dense


def of_sequences(values_I: np.ndarray, part: Split) -> np.ndarray:
    """(S,): the value of each sequence's item."""
    return values_I[part.windows.records_S]


def places_in_values(batch: Batch, starts_S: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) int64: of each position between [CLS] and [SEP] its place in the data's ``values``; (N,) bool: whether it
    is such a position of a sequence that carries data.

    Args:
        starts_S: where each training sequence begins in ``values``.
    """
    ids_N, inside_N = inner_positions(batch)
    keys_N = batch.index_B[ids_N].clamp(min=0)
    return torch.where(inside_N, starts_S[keys_N] + batch.positions_N() - 1, 0), inside_N


def inner_positions(batch: Batch) -> tuple[Tensor, Tensor]:
    """(N,) int64: the number of each position's sequence; (N,) bool: whether it stands between [CLS] and [SEP] of one
    that carries data.
    """
    ids_N, places_N = batch.sequence_ids_N(), batch.positions_N()
    return ids_N, batch.real_B[ids_N] & (places_N > 0) & (places_N < batch.offsets_B1.diff()[ids_N] - 1)


def refuse_missing(task: Task, rows: Rows, values_R: Sequence[Any], column: str, what: str = "label") -> None:
    """Raise ``SuiteError`` where a labelled row has no label."""
    for row in rows.labelled():
        if values_R[row] in (None, "") or values_R[row] != values_R[row]:
            raise SuiteError(f"task {task.name}: {rows.places[row]} has no {what} (column '{column}').")


def class_numbers(task: Task, rows: Rows, values_R: Sequence[Any], what: str = "label") -> Labels:
    """Class numbers of a column of labels. Raises SuiteError: a label is missing, or does not occur in train."""
    where, used = f"task {task.name}", rows.labelled()
    refuse_missing(task, rows, values_R, ", ".join(task.label), what)
    classes = tuple(sorted({str(values_R[row]) for row in rows.of("train")}))
    numbers = {label: i for i, label in enumerate(classes)}
    unseen = Counter((rows.names[rows.parts[row]], str(values_R[row])) for row in used)
    for (part, label), count in sorted(unseen.items(), key=lambda pair: -pair[1]):
        if label not in numbers:
            more = len({other for _, other in unseen if other not in numbers}) - 1
            others = f" (and {more} {'other' if more == 1 else 'others'})" if more else ""
            raise SuiteError(
                f"{where}: {count:,} {'row' if count == 1 else 'rows'} of {part} have the {what} '{label}'{others}, "
                "which no row of train has; no model could learn it: correct the table or leave them out of the split."
            )
    found = np.zeros(len(values_R), np.int64)
    found[used] = [numbers[str(values_R[row])] for row in used]
    return Labels(found, classes)
