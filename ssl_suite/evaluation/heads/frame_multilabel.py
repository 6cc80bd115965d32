"""Who speaks when: several speakers at every position, in whatever order (Fujita et al. 2019, arXiv:1909.05952).

One LSTM over the encoder's states, as in SUPERB's diarisation. The speakers of a recording have no order, so its loss
is that of the best assignment of outputs to speakers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.heads import recurrent
from ssl_suite.evaluation.heads.base import Granularity, Head, Labels, places_in_values
from ssl_suite.evaluation.heads.regression import number
from ssl_suite.evaluation.predictions import objects
from ssl_suite.models.padded import scattered
from ssl_suite.objectives.base import Metrics

MOST = 6  # speakers: 720 assignments of a recording


class FrameMultilabel(Head):
    """A sigmoid a speaker at every position. A label is a list of ``[start, duration, speaker]`` in seconds, or its
    JSON; as an array it holds of each position its speakers as bits, numbered in the order in which they begin.

    Args:
        seconds: of a position; 20 ms for speech.
        speakers: the outputs. A recording of train with more is refused; one of dev or test has some missed.
        hidden: of the LSTM; 0 leaves it out.
    """

    granularity: ClassVar[Granularity] = "frame"
    positions: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Any,
        data: Any,
        *others: Any,
        seconds: float = 0.02,
        speakers: int = 2,
        hidden: int = 512,
        **more: Any,
    ) -> None:
        if not 1 <= speakers <= MOST:
            raise SuiteError(f"task {data.task}: head.speakers={speakers} should be from 1 to {MOST}.")
        self.speakers = speakers
        super().__init__(encoder, data, *others, **more)
        self.recorded = {"seconds": seconds, "speakers": speakers, "hidden": hidden}
        self.lstm = recurrent.Lstm(encoder.width, hidden, int(hidden > 0), both=False)
        self.output = nn.Linear(self.lstm.width, speakers)
        part, targets_TK = data.parts["train"], np.zeros((len(data.values), speakers), np.uint8)
        for item, start, length in part.windows.each():
            bits_T = part.labels_I[item][:length]
            if bits_T.max(initial=0) >> speakers:
                raise SuiteError(
                    f"{data.record_name(item)} has {int(bits_T.max()).bit_length()} speakers, the head {speakers}: "
                    "raise head.speakers, or leave it out of train."
                )
            targets_TK[start : start + length] = bits_T[:, None] >> np.arange(speakers) & 1
        orders = torch.tensor(list(itertools.permutations(range(speakers))))
        self.register_buffer("orders_PK", orders, persistent=False)
        self.register_buffer("targets_TK", torch.from_numpy(targets_TK), persistent=False)
        self.register_buffer("starts_S", torch.from_numpy(np.array(part.windows.starts_S)), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        cls.refuse_pieces(task)
        seconds = number(task.head.get("seconds", 0.02))
        if not seconds > 0:
            raise SuiteError(f"task {task.name}: head.seconds={task.head['seconds']} should be above 0.")
        column = rows.columns[task.label[0]]
        found = objects([None] * len(column))
        for row in rows.used():
            found[row] = (segments(column[row], f"task {task.name}: {rows.places[row]}"), seconds)
        return Labels(found)

    @classmethod
    def fit_label(cls, label: Any, inputs: tuple[Any, ...], where: str) -> np.ndarray:
        """(length,) int64 bits. A position has the speakers of its middle."""
        spoken, seconds = label
        middle_T = (np.arange(len(inputs[0])) + 0.5) * seconds
        names = list(dict.fromkeys(speaker for _, _, speaker in sorted(spoken, key=lambda segment: segment[:2])))
        if len(names) > 15:
            raise SuiteError(f"{where} has {len(names)} speakers, more than 15.")
        bits_T = np.zeros(len(middle_T), np.int64)
        for start, duration, speaker in spoken:
            bits_T[(start <= middle_T) & (middle_T < start + duration)] |= 1 << names.index(speaker)
        return bits_T

    @classmethod
    def majority(cls, data: Any, part: Any) -> np.ndarray:
        """Each speaker all the time, or never: whatever most positions of train have."""
        train_T = np.concatenate(list(data.parts["train"].labels_I))
        usual = sum(1 << k for k in range(15) if (train_T >> k & 1).mean() > 0.5)
        return objects([np.full(len(label), usual, np.int64) for label in part.labels_I])

    def outputs(self, data: Any) -> int:
        return self.speakers

    def read(self, encoder: Any, batch: Batch) -> Tensor:
        """(N, C): at every position between [CLS] and [SEP]; zeros elsewhere."""
        states_ND = self.vectors(encoder, batch)
        places, parts = [], []
        for place_JK, seen_JK in recurrent.contents(batch):
            places.append((place_JK, seen_JK))
            parts.append([self.output(self.drop(self.lstm(states_ND[place_JK], seen_JK)))])
        return scattered(batch, places, parts)[0]

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """Binary cross-entropies, a mean over speakers, of each sequence's best assignment; the count is of positions.

        All K x K pairs of output and speaker are summed over a sequence, and every assignment is a sum of K of them.
        """
        places_N, inside_N = places_in_values(batch, self.get_buffer("starts_S"))
        targets_NK = self.get_buffer("targets_TK")[places_N].to(outputs.dtype)
        shape = (*outputs.shape, self.speakers)
        pairs_NCK = F.binary_cross_entropy_with_logits(
            outputs[:, :, None].expand(shape), targets_NK[:, None].expand(shape), reduction="none"
        )
        sums_BCK = outputs.new_zeros(len(batch.real_B), self.speakers, self.speakers)
        sums_BCK = sums_BCK.index_add(0, batch.sequence_ids_N(), pairs_NCK * inside_N[:, None, None])
        orders_PK = self.get_buffer("orders_PK")
        each_BP = sums_BCK[:, torch.arange(self.speakers, device=outputs.device), orders_PK].sum(-1)
        return each_BP.amin(1).sum() / self.speakers, inside_N.sum(), {}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        """Speakers whose share is above one half; none at positions that the window leaves out."""
        found = objects([np.zeros(len(label), np.int64) for label in part.labels_I])
        for outputs_TK, item in zip(outputs_S, part.windows.records_S, strict=True):
            found[item][: len(outputs_TK)] = (outputs_TK > 0) @ (1 << np.arange(self.speakers))
        return found


def segments(value: Any, where: str) -> list[tuple[float, float, str]]:
    """Start, duration and speaker of each segment of a label. Raises SuiteError: it is no list of such three."""
    try:
        given = json.loads(value) if isinstance(value, (str, bytes)) else value
        found = [(number(start), number(duration), str(speaker)) for start, duration, speaker in given]
    except (ValueError, TypeError):
        found = [(np.nan, np.nan, "")]
    if not all(start >= 0 and 0 < duration < np.inf and start < np.inf for start, duration, _ in found):
        raise SuiteError(
            f"{where}: the label {str(value)[:60]!r} is not a list of [start, duration, speaker], in seconds."
        )
    return found
