"""What a masked model has learned, to look at: held-out passages with holes, and what it puts into them.

Shapes: T tokens of a passage, K holes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ssl_suite.training.evaluate import Evaluator
from ssl_suite.training.report import BASELINES, VALIDATION, save

if TYPE_CHECKING:
    from ssl_suite.objectives.mlm import MaskedLM
    from ssl_suite.training.restore import Loaded

RIGHT, WRONG = BASELINES[1], VALIDATION  # green and orange
COLUMNS, POINTS, DPI = 100, 9.0, 120
ROOM = 30  # letters of an example on each side of its hole
ADVANCE = 0.602  # of a letter of DejaVu Sans Mono, in font sizes
HEIGHT = 2.4  # of a line with room for the truth below it, in font sizes


@dataclass(frozen=True)
class Piece:
    """A token's text: as it stands in the data, and what was put into the hole in its place (None: it was shown)."""

    text: str
    guess: str | None = None

    @property
    def right(self) -> bool:
        return self.guess == self.text


@torch.no_grad()
def passages(loaded: Loaded, evaluator: Evaluator, count: int) -> list[list[Piece]]:
    """The first ``count`` whole windows that are evaluated, with the holes of the evaluation: none is chosen.

    Unlike there every hole shows [MASK]: nothing is left as it is, and no random symbol stands for it.

    Args:
        loaded: a run of a masked objective on tokens, on the CPU.
    """
    found: list[list[Piece]] = []
    whole = dataclasses.replace(evaluator.group, rank=0, world=1, device=torch.device("cpu"), bf16=False)
    encoder: Any = loaded.encoder.eval()
    objective, modality = cast("MaskedLM", loaded.objective), loaded.modality
    for batch, rng in evaluator.batches(whole):
        picks_K, labels_K, _ = objective.corrupt(batch, rng)
        picks_K = picks_K[labels_K != -100]
        shown_N = batch.values.index_fill(0, picks_K, modality.vocabulary.mask)
        guess_N = batch.values.clone()
        states_ND = objective.states(encoder, batch, picks_K, shown_N, rng)
        guess_N[picks_K] = objective.logits(encoder, states_ND[picks_K]).argmax(-1)
        hidden_N = torch.zeros_like(shown_N, dtype=torch.bool).index_fill(0, picks_K, True)
        ends = np.cumsum(batch.lengths)
        for end, length, key in zip(ends.tolist(), batch.lengths, batch.index_B.tolist(), strict=True):
            inside = slice(end - length + 1, end - 1)
            if key >= 0 and length > 2 and len(found) < count:
                parts = (x[inside].cpu().numpy() for x in (batch.values, guess_N, hidden_N))
                found.append(list(_pieces(modality, *parts)))
        if len(found) == count:
            break
    return found


def _pieces(modality: Any, values_T: np.ndarray, guess_T: np.ndarray, hidden_T: np.ndarray) -> Iterator[Piece]:
    """Each token's text is what it adds to that of the tokens before it, for tokenisers write spaces in many ways."""
    before = ""
    for i, (guess, hidden) in enumerate(zip(guess_T, hidden_T, strict=True)):
        upto = modality.decode(values_T[: i + 1])
        # A space at the very beginning is not written: there is nothing to see of it or of its hole.
        seen = hidden and len(upto) > len(before)
        other = modality.decode(np.append(values_T[:i], guess))[len(before) :] if seen else None
        yield Piece(upto[len(before) :].replace("\n", " "), None if other is None else other.replace("\n", " "))
        before = upto


def lines(pieces: Sequence[Piece]) -> list[str]:
    """A passage for a terminal: with its holes, and filled: ``[x]`` is right, ``(x|y)`` wrong where y is the truth."""
    holes = "".join("_" * max(1, len(p.text)) if p.guess is not None else p.text for p in pieces)
    said = [p.text if p.guess is None else f"[{p.text}]" if p.right else f"({p.guess}|{p.text})" for p in pieces]
    return [holes.strip(), "".join(said).strip()]


def example(found: Sequence[Sequence[Piece]], mask: str = "[MASK]") -> str:
    """What stands around the first hole that was filled rightly; empty where there is none.

    Where there are words the hole is a whole one: `fill` encodes what stands on its two sides apart.
    """
    for pieces in found:
        texts = [piece.text for piece in pieces]
        for i, piece in enumerate(pieces[:-1]):
            before, after = "".join(texts[:i])[-ROOM:], "".join(texts[i + 1 :])[:ROOM]
            words = " " in before + after
            alone = not words or (piece.text[:1] == " " and texts[i + 1][:1] == " ")
            if piece.guess is not None and piece.right and alone and min(len(before), len(after)) == ROOM:
                return f"{before}{' ' * words}{mask}{after}"
    return ""


def draw(found: Sequence[Sequence[Piece]], shares: Mapping[str, float], title: str, picture: Path) -> None:
    """Passages with coloured guesses, the truth below those that are wrong; below them bars of how often is right.

    Args:
        shares: the model's and those of guessing by counts, by name.
        picture: the PNG to write (beside, then renamed).
    """
    from matplotlib.figure import Figure

    placed = list(_placed(found))
    rows = placed[-1][1] + 2 if placed else 1
    width, cell = 8.3, POINTS * ADVANCE / 72
    text_height, bars_height = rows * POINTS * HEIGHT / 72, 0.3 * len(shares) + 0.6
    height = text_height + bars_height + 0.5
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.text(0.02, 1 - 0.25 / height, title, fontsize=11, va="center")
    axes = figure.add_axes((0.02, bars_height / height, 0.96, text_height / height))
    axes.set_xlim(0, 0.96 * width / cell)
    axes.set_ylim(rows, 0)
    axes.axis("off")
    style: dict[str, Any] = {"family": "DejaVu Sans Mono", "fontsize": POINTS, "va": "center"}
    for x, y, piece in placed:
        if piece.guess is None:
            axes.text(x, y + 0.3, piece.text, color="#333333", **style)
            continue
        shown, colour = piece.guess or "∅", RIGHT if piece.right else WRONG
        box = {"facecolor": colour, "alpha": 0.22, "edgecolor": "none", "pad": 1.2}
        axes.text(x, y + 0.3, shown, color=colour, weight="bold", bbox=box, **style)
        if not piece.right:
            axes.text(x, y + 0.75, piece.text.strip() or "␣", color="#777777", **style | {"fontsize": POINTS - 2.5})
    _bars(figure.add_axes((0.24, 0.15 / height, 0.6, 0.3 * len(shares) / height)), shares)
    save(figure, picture)


def _placed(found: Sequence[Sequence[Piece]]) -> Iterator[tuple[int, int, Piece]]:
    """(column, line, piece): a line is full at ``COLUMNS``, a passage begins a new one after half an empty one."""
    y = 0
    for pieces in found:
        x = 0
        for piece in pieces:
            size = max(len(piece.text), len(piece.guess or ""), 1)
            if x + size > COLUMNS:
                x, y = 0, y + 1
            if x or piece.guess is not None or piece.text.strip():
                yield x, y, piece
                x += size
        y += 2


def _bars(axes: Any, shares: Mapping[str, float]) -> None:
    names = list(shares)
    axes.barh(names, list(shares.values()), color=[RIGHT, *["#999999"] * (len(names) - 1)], height=0.6)
    for y, share in enumerate(shares.values()):
        axes.text(share + 0.01, y, f"{share:.1%}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.set_title("right, of all holes of the evaluation", loc="left", fontsize=9)
    axes.tick_params(left=False, labelsize=9)
    axes.spines[:].set_visible(False)
