"""Who helps whom: the gain of pre-training by source and by the modality of the tasks, as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from ssl_suite.evaluation.benchmark import Matrix
from ssl_suite.evaluation.significance import holm
from ssl_suite.leaderboard.table import Contrast


@dataclass(frozen=True)
class Heat:
    """The cells of a heat map.

    Attributes:
        arms: its lines that were measured.
        modalities: its columns, in the order of the tasks.
        cells: by (arm, modality) the differences of the tasks; their ``holm`` is over all off the diagonal, or on it.
    """

    arms: list[str]
    modalities: list[str]
    cells: dict[tuple[str, str], list[Contrast]]

    def mean(self, arm: str | None = None, modality: str | None = None, own: bool = True) -> float | None:
        """The mean gain over a line or a column, each cell counting once; without ``own`` off the diagonal alone."""
        chosen = [
            fmean(each.gain for each in found)
            for (a, m), found in self.cells.items()
            if arm in (None, a) and modality in (None, m) and (own or a != m)
        ]
        return fmean(chosen) if chosen else None

    def off_diagonal(self) -> list[Contrast]:
        """The differences of arms on tasks of another modality."""
        return [each for (arm, modality), found in self.cells.items() for each in found if arm != modality]


def build(asked: Matrix, contrasts: Callable[[str, str], Sequence[Contrast]]) -> Heat | None:
    """The heat map; None where no pair of its arms was measured.

    Args:
        contrasts: (a, b) -> the differences of two arms in every column that has both.
    """
    found = [each for arm in asked.arms for each in contrasts(arm, asked.against)]
    cells: dict[tuple[str, str], list[Contrast]] = {}
    for own in (False, True):
        family = [each for each in found if (each.first.arm == each.column.task["modality"]) == own]
        for each, p in zip(family, holm([each.p for each in family]), strict=True):
            cells.setdefault((each.first.arm, each.column.task["modality"]), []).append(replace(each, holm=p))
    modalities = list(dict.fromkeys(each.column.task["modality"] for each in found))
    return Heat([arm for arm in asked.arms if any(a == arm for a, _ in cells)], modalities, cells) if found else None


def shade(gain: float, most: float = 0.1) -> int:
    """-100 to 100: how strongly a gain is coloured; ``most`` of it, ten points, and above are full."""
    return round(100 * max(-1.0, min(1.0, gain / most)))
