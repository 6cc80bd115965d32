"""Cutting segments into windows, all by NumPy. Shapes: S windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ssl_suite.data.split import Segments
from ssl_suite.data.store import SPLITS, WINDOW_FIELDS

MINIMUM = 8  # data.min_tokens: what a record must have to be used, and what a last window must add to its neighbour
TOKENS_AT_ONCE = 1 << 20  # looked at together when ambiguous tokens are counted: 10 MB of memory


def cut(
    segments: Segments, window: int, overlap: int, min_tokens: int = MINIMUM
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Windows of at most ``window`` tokens; neighbours in a segment share ``overlap``.

    A shorter last window is kept where it brings at least ``min_tokens`` tokens (or a full step, where that is less)
    that no window before it holds; a segment shorter than a window becomes one window.

    Returns:
        starts_S, lengths_S, which segment each comes from, and how many tokens are in no window.
    """
    step, minimum = window - overlap, min(min_tokens, window)
    lengths = segments.lengths
    counts = 1 + np.maximum(0, -(-(lengths - window) // step))
    last_adds = lengths - (counts - 1) * step - overlap
    short_tail = (counts > 1) & (last_adds < min(minimum, step))  # a full window is never dropped
    too_short = lengths < minimum
    lost = int(last_adds.sum(where=short_tail) + lengths.sum(where=too_short))
    counts = np.where(too_short, 0, counts - short_tail)
    owner = np.repeat(np.arange(len(counts)), counts)
    inside = (np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)) * step
    return segments.starts[owner] + inside, np.minimum(window, lengths[owner] - inside), owner, lost


def silent_tokens(values: np.ndarray, starts_S: np.ndarray, lengths_S: np.ndarray, low: int, high: int) -> np.ndarray:
    """(S,) how many tokens of each window lie outside ``low <= id < high``. Starts must not decrease."""
    counts = np.zeros(len(starts_S), dtype=np.int64)
    first = 0
    while first < len(starts_S):
        begin = int(starts_S[first])
        last = max(first + 1, int(np.searchsorted(starts_S, begin + TOKENS_AT_ONCE)))
        end = int((starts_S[first:last] + lengths_S[first:last]).max())
        part = np.asarray(values[begin:end])
        silent = (part < low) | (part >= high)
        if silent.any():  # rare in a genome; the sums are ten times the work
            sums = np.concatenate([[0], np.cumsum(silent, dtype=np.int64)])
            at = starts_S[first:last] - begin
            counts[first:last] = sums[at + lengths_S[first:last]] - sums[at]
        first = last
    return counts


def write(
    folder: Path,
    parts: Iterable[Segments],
    values: np.ndarray | None,
    window: int,
    overlap: int,
    targets: tuple[int, int],
    max_silent: float,
    min_tokens: int,
) -> tuple[dict[str, int], Counter[str]]:
    """Write the windows of both splits under ``folder``.

    Args:
        parts: segments in the order of the tokens.
        values: (tokens,) ids; None for signals, whose frames all say something.
        targets: ids that say something, half-open.
        max_silent: windows with a larger share of other ids are left out.
        min_tokens: tokens, see ``cut``.

    Returns:
        The number of windows by split, and what was left out.
    """
    files = {}
    for split in SPLITS:
        (folder / split).mkdir()
        files[split] = [open(folder / split / f"{name}.bin", "wb") for name in WINDOW_FIELDS]  # noqa: SIM115
    windows, left_out = dict.fromkeys(SPLITS, 0), Counter[str]()
    try:
        for part in parts:
            starts_S, lengths_S, owner_S, lost = cut(part, window, overlap, min_tokens)
            silent_S = np.zeros_like(lengths_S)
            if values is not None:
                silent_S = silent_tokens(values, starts_S, lengths_S, *targets)
            keep_S = silent_S <= max_silent * lengths_S
            left_out["tokens in short tails"] += lost
            left_out["ambiguous windows"] += int(np.count_nonzero(~keep_S))
            for split, side_S in (("train", ~part.valid[owner_S]), ("valid", part.valid[owner_S])):
                use_S = keep_S & side_S
                columns = (starts_S[use_S], lengths_S[use_S], part.records[owner_S[use_S]])
                for file, column, dtype in zip(files[split], columns, WINDOW_FIELDS.values(), strict=True):
                    file.write(np.ascontiguousarray(column, dtype=dtype).data)
                windows[split] += int(np.count_nonzero(use_S))
    finally:
        for file in (*files["train"], *files["valid"]):
            file.close()
    return windows, left_out
