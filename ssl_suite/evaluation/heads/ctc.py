"""Transcripts by connectionist temporal classification (Graves et al. 2006), as SUPERB recognises phones and speech.

    layers: 0    a projection of each position and a linear map (SUPERB's phone recognition)
    layers: 2    BiLSTMs between the two (SUPERB's speech recognition)

The units are those of the training transcripts; the blank is output 0, unit i is output i + 1. Decoding is greedy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.heads import recurrent
from ssl_suite.evaluation.heads.base import Granularity, Head, Labels
from ssl_suite.evaluation.predictions import objects
from ssl_suite.models.padded import scattered
from ssl_suite.objectives.base import Metrics

BLANK = 0
UNITS = {"characters": "", "words": " "}  # and what stands between two of them


class Ctc(Head):
    """A softmax over units and the blank at every position, or at every pair of them. Labels are texts.

    Args:
        units: ``characters``, the space among them; or ``words``: phones, or words, with white space between them.
        unseen: a transcript of dev or test with a unit that no transcript of train has is refused (``refuse``), or
            kept: what no model could write then counts as ``wrong``.
        half: the states of two neighbouring positions are averaged first, so that there are half as many outputs.
        projection: width of the map before everything else.
        layers, hidden: BiLSTMs, and the width of each direction.
    """

    granularity: ClassVar[Granularity] = "frame"
    positions: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Any,
        data: Any,
        *others: Any,
        units: Literal["characters", "words"] = "characters",
        unseen: Literal["refuse", "wrong"] = "refuse",
        half: bool = False,
        projection: int = 256,
        layers: int = 0,
        hidden: int = 256,
        **more: Any,
    ) -> None:
        super().__init__(encoder, data, *others, **more)
        self.recorded = {"units": units, "half": half, "projection": projection, "layers": layers, "hidden": hidden}
        self.rate, self.between = 2 if half else 1, UNITS[units]
        self.project = nn.Linear(encoder.width, projection)
        self.lstm = recurrent.Lstm(projection, hidden, layers, both=True)
        self.output = nn.Linear(self.lstm.width, self.outputs(data))

        # Targets of training sequences, and those that have too few positions for theirs.
        part, numbers = data.parts["train"], {unit: i + 1 for i, unit in enumerate(data.classes)}
        targets = [[numbers[unit] for unit in spelled(text, units)] for text in part.labels_I]
        lengths_I = np.array([len(target) for target in targets], np.int64)
        targets_IM = np.zeros((len(targets), max(lengths_I, default=1)), np.int64)
        for target_M, target in zip(targets_IM, targets, strict=True):
            target_M[: len(target)] = target
        items_S = part.windows.records_S
        needs_I = np.array([len(t) + sum(a == b for a, b in itertools.pairwise(t)) for t in targets], np.int64)
        self.recorded["too_short"] = too_short = int((-(-part.windows.lengths_S // self.rate) < needs_I[items_S]).sum())
        if too_short == len(items_S):
            raise SuiteError(
                f"task {data.task}: every transcript of train has more units than its input has outputs of the model "
                f"({'set half: false, ' if half else ''}choose units: words, or raise max_length or length)."
            )
        self.register_buffer("targets_SM", torch.from_numpy(targets_IM[items_S]), persistent=False)
        self.register_buffer("lengths_S", torch.from_numpy(lengths_I[items_S]), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        cls.refuse_pieces(task)
        column, settings = rows.columns[task.label[0]], task.head
        kind = settings.get("units", "characters")
        if kind not in UNITS:
            raise SuiteError(f"task {task.name}: head.units={kind} should be {' or '.join(UNITS)}.")
        found = objects([" ".join(str(text or "").split()) for text in column])
        for row in rows.used():
            if not found[row]:
                raise SuiteError(f"task {task.name}: {rows.places[row]} has no text (column '{task.label[0]}').")
        classes = tuple(sorted({unit for row in rows.of("train") for unit in spelled(found[row], kind)}))
        known = set(classes)
        for row in rows.used() if settings.get("unseen", "refuse") == "refuse" else ():
            if missing := [unit for unit in spelled(found[row], kind) if unit not in known]:
                raise SuiteError(
                    f"task {task.name}: {rows.places[row]} has '{missing[0]}', which no transcript of train has; "
                    "correct it, leave the row out, or set unseen: wrong of the head to count it as an error."
                )
        return Labels(found, classes)

    def outputs(self, data: Any) -> int:
        return len(data.classes) + 1

    def read(self, encoder: Any, batch: Batch) -> Tensor:
        """(N, C): at every position between [CLS] and [SEP], or at the first of every two; zeros elsewhere."""
        states_ND = self.project(self.vectors(encoder, batch))
        places, parts = [], []
        for place_JK, seen_JK in recurrent.contents(batch):
            x_JKD, kept = states_ND[place_JK], slice(None, None, self.rate)
            if self.rate == 2:
                x_JKD = halved(x_JKD, seen_JK)
            outputs_JKC = self.output(self.drop(self.lstm(x_JKD, seen_JK[:, kept])))
            places.append((place_JK[:, kept], seen_JK[:, kept]))
            parts.append([outputs_JKC])
        return scattered(batch, places, parts)[0]

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """Torch's loss summed over sequences, 0 where a transcript does not fit, and the count of all their units.

        On a GPU torch reads the lengths on the host: one wait a pass.
        """
        ids_N, targets, lengths = batch.sequence_ids_N(), self.get_buffer("targets_SM"), self.get_buffer("lengths_S")
        loss, count = outputs.new_zeros(()), lengths.new_zeros(())
        for place_JK, seen_JK in recurrent.contents(batch):
            keys_J, real_J = batch.index_B[ids_N[place_JK[:, 0]]].clamp(min=0), seen_JK[:, 0]
            seen_JK = seen_JK[:, :: self.rate]
            shares_KJC = outputs[place_JK[:, :: self.rate]].log_softmax(-1).transpose(0, 1)
            # A sequence without data: one output, no unit.
            size_J, length_J = seen_JK.sum(1).clamp(min=1), lengths[keys_J] * real_J
            loss_J = F.ctc_loss(shares_KJC, targets[keys_J], size_J, length_J, BLANK, "none", zero_infinity=True)
            loss, count = loss + (loss_J * real_J).sum(), count + length_J.sum()
        return loss, count, {}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        """The unit of the largest output of each position, repeats and then blanks left out."""
        found = []
        for outputs_TC in outputs_S:
            best_K = outputs_TC[:: self.rate].argmax(1)
            kept = (best_K != BLANK) & (np.diff(best_K, prepend=BLANK) != 0)
            text = self.between.join(data.classes[unit - 1] for unit in best_K[kept].tolist())
            found.append(" ".join(text.split()))
        return objects(found)


def spelled(text: str, units: str) -> list[str]:
    """The units of a transcript with single spaces."""
    return text.split(" ") if units == "words" else list(text)


def halved(x_JKD: Tensor, seen_JK: Tensor) -> Tensor:
    """(J, ceil(K / 2), D): the mean of every two neighbours, of those that are seen."""
    odd = x_JKD.shape[1] % 2
    x_JKD, weight_JK = F.pad(x_JKD, (0, 0, 0, odd)), F.pad(seen_JK, (0, odd)).to(x_JKD.dtype)
    sums_JKD = (x_JKD * weight_JK[:, :, None]).unflatten(1, (-1, 2)).sum(2)
    return sums_JKD / weight_JK.unflatten(1, (-1, 2)).sum(2).clamp(min=1)[:, :, None]
