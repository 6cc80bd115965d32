"""Units of signals: fit a codebook on the training frames, give every frame of a store its nearest entry.

Both are kept beside the prepared store: a codebook under a key of the store and of how it was fitted, the units under a
key of the store and of the codebook. Nothing happens for token modalities.

Shapes: N positions, U numbers a point, D width of the encoder of another run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core import atomic, codebook
from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.codebook import Codebook
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.data import seals
from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.signals import FIRST, RUN, SignalModality
from ssl_suite.training import checkpoint

FORMAT = 1
BOOK, REPORT = "codebook.safetensors", "report.json"
SEED = 0  # of every codebook, whatever the run's seed: runs that are compared predict the same units
POSITIONS = 8192  # looked at together: 164 s of sound, 128 pictures of CIFAR
Report = Callable[[str], None]
Points = Callable[[Batch], Tensor]
"""Gives (N, U) points of a batch's positions."""


def ensure_units(
    modality: Modality,
    store: Store,
    device: torch.device | str = "cpu",
    report: Report = print,
    saved: Path | None = None,
) -> dict[str, Any] | None:
    """Give a signal modality its codebook and its store their units, from the cache where they are there.

    Args:
        modality: gets its ``codebook``.
        store: gets its ``units``.
        device: for the features and the clustering.
        report: takes a line for a user.
        saved: a run's ``modality/`` folder; the codebook in it wins over fitting one.

    Returns:
        ``codebook.describe`` over all frames, with ``path`` and ``sha256`` of the codebook; None for token modalities.

    Raises:
        SuiteError: too few different frames, or a run that cannot give units.
    """
    if not isinstance(modality, SignalModality):
        return None
    device = torch.device(device)
    points = points_of(modality, device)
    book = saved / BOOK if saved is not None else None
    if book is None or not book.is_file():
        book = _fitted(modality, store, points, device, report)
    modality.codebook = Codebook.load(book)
    folder = store.folder.with_name(f"{store.folder.name}-units-{_digest(store.key, _sha(book), FORMAT)}")
    if folder.is_dir():
        seals.discard_damaged(folder, REPORT, report)
    if not folder.is_dir():
        _publish(folder, lambda beside: _assign(modality, store, points, device, beside))
    sealed = seals.read(folder, REPORT)
    facts = {name: value for name, value in sealed.items() if name not in (seals.DIGESTS, seals.OWN)}
    dtype = _unit_dtype(modality)
    store.units = np.memmap(folder / "units.bin", dtype=dtype, mode="r", shape=(len(store.values),)).view(np.ndarray)
    for line in describe(modality, facts):
        report(line)
    return facts | {"path": str(book), "sha256": _sha(book)}


def discard_damaged(store: Store, report: Report) -> None:
    """Hash all codebooks and units of a store; the damaged are removed, and made anew when they are next wanted."""
    for folder in sorted(store.folder.parent.glob(f"{store.folder.name}-*")):
        discard_damaged_book(folder / BOOK, report)
        if (folder / REPORT).is_file():
            seals.discard_damaged(folder, REPORT, report, thorough=True)


def discard_damaged_book(book: Path, report: Report) -> None:
    """Remove the folder of a codebook that does not match its own SHA-256."""
    try:
        if book.is_file():
            Codebook.load(book)
    except SuiteError as error:
        report(f"units: {error}")
        atomic.remove(book.parent)


def describe(modality: SignalModality, facts: dict[str, Any]) -> list[str]:
    """The codebook in a line, and a warning where it serves badly."""
    codes = facts["codes"]
    lines = [
        f"units: {codes} codes ({modality.units}) over {count(facts['points'], 'frame')}: {facts['used']} used, "
        f"perplexity {facts['perplexity']:.1f}, error {facts['error']:.3f} of the variance"
    ]
    if facts["collapsed"]:
        lines.append(
            f"units: warning: the codebook has collapsed (one code holds {facts['largest']:.0%} of the frames); "
            f"look for silent or blank records, or set modality.codes below {codes}"
        )
    elif facts["used"] < codes:
        lines.append(
            f"units: warning: {codes - facts['used']} of {count(codes, 'code')} used by no frame; "
            "set a lower modality.codes"
        )
    return lines


def points_of(modality: SignalModality, device: torch.device) -> Points:
    """What is clustered: the modality's own features, or the states of a layer of another run's encoder."""
    if not modality.units.startswith(RUN):
        return modality.unit_features
    from ssl_suite.training.restore import load_run

    path, _, layer = modality.units.removeprefix(RUN).rpartition("@")
    try:
        loaded = load_run(path, device=device)
    except SuiteError as error:
        raise SuiteError(f"modality.units={modality.units}: {error}") from None
    if not hasattr(loaded.encoder, "layer_states"):
        raise SuiteError(f"modality.units={modality.units}: a convnet has no states of positions; name another run.")
    depth = len(loaded.encoder.layers)
    if loaded.modality.fingerprint() != modality.fingerprint():
        raise SuiteError(f"modality.units={modality.units}: that run frames its signals otherwise; use its settings.")
    if not layer.isdigit() or int(layer) > depth:
        raise SuiteError(f"modality.units={modality.units}: choose a layer from 0 (the embedding) to {depth}.")
    if modality.max_length > loaded.modality.max_length:
        raise SuiteError(
            f"modality.units={modality.units}: that run saw {loaded.modality.max_length} positions at most; "
            f"set modality.max_length={loaded.modality.max_length}."
        )
    return lambda batch: loaded.encoder.layer_states(batch)[int(layer)].float()


def identified(modality: SignalModality, batch: Batch, points: Points) -> Batch:
    """The batch with the unit of each frame as its id.

    Args:
        modality: with its codebook.
        points: as ``points_of`` gives them.
    """
    assert modality.codebook is not None
    codes_N, _ = modality.codebook.to(batch.values.device).assign(points(batch))
    return batch.with_values(torch.where(batch.values >= FIRST, codes_N + FIRST, batch.values))


def _fitted(modality: SignalModality, store: Store, points: Points, device: torch.device, report: Report) -> Path:
    """The codebook file of these settings, fitted where it is not there."""
    how = [modality.codes, modality.units, _run_weights(modality.units), SEED, codebook.POINTS, FORMAT]
    folder = store.folder.with_name(f"{store.folder.name}-codebook-{_digest(store.key, *how)}")
    book = folder / BOOK
    discard_damaged_book(book, report)
    if not book.is_file():
        report(f"units: clustering frames into {count(modality.codes, 'code')} ({modality.units})")
        sample = _sample(modality, store, points, device)
        _publish(folder, lambda beside: codebook.fit(sample, modality.codes, SEED).save(beside / book.name))
    return book


def _run_weights(units: str) -> str:
    """Which weights a run's units come from: the manifests of its checkpoints, which hold their SHA-256."""
    if not units.startswith(RUN):
        return ""
    root = Path(units.removeprefix(RUN).rpartition("@")[0]) / "checkpoints"
    return "".join(_sha(path) for path in sorted(root.glob(f"*/{checkpoint.MANIFEST}")))


@torch.inference_mode()
def _sample(modality: SignalModality, store: Store, points: Points, device: torch.device) -> Tensor:
    """(up to ``codebook.POINTS``, U) points of random training windows."""
    windows = store.split("train")
    draw = np.random.default_rng(SEED)
    order = draw.permutation(len(windows))
    # Twice as many positions as are kept, so that no window is all there is of its neighbourhood.
    enough = np.searchsorted(np.cumsum(windows.lengths_S[order]), 2 * codebook.POINTS) + 1
    chosen = np.sort(order[:enough])
    pieces = list(zip(windows.starts_S[chosen].tolist(), windows.lengths_S[chosen].tolist(), strict=True))
    found = torch.cat([part for part, _ in _points(modality, store, points, pieces, device)])
    keep = draw.permutation(len(found))[: codebook.POINTS]
    return found[torch.from_numpy(np.sort(keep)).to(device)]


def _points(
    modality: SignalModality, store: Store, points: Points, pieces: list[tuple[int, int]], device: torch.device
) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
    """Points of stretches (start, length) of the store, special positions left out, ``POSITIONS`` at a time."""
    first = 0
    while first < len(pieces):
        last, size = first, 0
        while last < len(pieces) and (last == first or size + pieces[last][1] <= POSITIONS):
            size, last = size + pieces[last][1], last + 1
        some = pieces[first:last]
        frames = [store.values[start : start + length] for start, length in some]
        batch = ragged(frames, modality.vocabulary, modality.max_length).to(device)
        yield points(batch)[batch.values >= FIRST], some
        first = last


@torch.inference_mode()
def _assign(modality: SignalModality, store: Store, points: Points, device: torch.device, folder: Path) -> None:
    """Write ``units.bin`` (an id a position of the store) and ``report.json``."""
    assert modality.codebook is not None
    book = modality.codebook.to(device)
    pieces = _pieces(store.record_lengths, modality.max_length - 2)
    codes_N = torch.empty(len(store.values), dtype=torch.int64)
    squared_N = torch.empty(len(store.values))
    place = 0
    for part, _ in _points(modality, store, points, pieces, device):
        codes, squared = book.assign(part)
        codes_N[place : place + len(codes)] = codes.cpu()
        squared_N[place : place + len(codes)] = squared.cpu()
        place += len(codes)
    (codes_N + FIRST).numpy().astype(_unit_dtype(modality)).tofile(folder / "units.bin")
    facts = codebook.describe(codes_N, squared_N, book.entries_CU.shape[1], modality.codes)
    seals.seal(folder, REPORT, facts)


def _pieces(lengths: np.ndarray, window: int) -> list[tuple[int, int]]:
    """Records cut as the encoder sees them: stretches of at most ``window`` positions."""
    pieces, start = [], 0
    for length in lengths.tolist():
        pieces += [(start + i, min(window, length - i)) for i in range(0, length, window)]
        start += length
    return pieces


def _unit_dtype(modality: SignalModality) -> np.dtype:
    return np.dtype(np.uint16 if modality.codes + FIRST <= 1 << 16 else np.int32)


def _publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a new folder; another process that was first wins."""
    try:
        with atomic.replacing(folder) as unfinished:
            unfinished.mkdir()
            write(unfinished)
    except OSError:
        if not folder.is_dir():
            raise


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode("utf-8")).hexdigest()[:16]
