"""What a prepared store holds, and whether its validation data leaks into its training data.

Shapes: S windows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_suite.data.near_copies import near_copies
from ssl_suite.data.store import SPLITS, Store, Windows
from ssl_suite.data.windows import silent_tokens
from ssl_suite.modalities.base import Modality

if TYPE_CHECKING:
    from rich.table import Table

AT_ONCE = 1 << 24  # tokens looked at together
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}


def verify(store: Store, modality: Modality) -> dict[str, Any]:
    """Count what a user should know before training.

    Equality is ``Modality.identity``: for DNA a window equals its reverse complement.

    Returns:
        records, tokens, record_lengths (quantiles), duplicate_records (further copies of a record), and for each split
        windows, tokens, lengths and duplicates; of tokens (not of frames, which have none that say nothing)
        silent_rate (those outside the vocabulary's targets) and unknown_rate ([UNK]); ``overlap`` with
        shared_windows (validation windows that equal a training window, and their share), shared_records (validation
        records that equal a training record), shared_tokens (positions of the store that lie in windows of both
        splits, always 0), near_copies (see ``data.near_copies``) and speakers (see ``shared_speakers``).
    """
    digests = store.record_digests[:, 0]
    result: dict[str, Any] = {
        "store": str(store.folder),
        "split": store.report["split"],
        "records": store.records,
        "tokens": len(store.values),
        "record_lengths": quantiles(store.record_lengths),
        "duplicate_records": len(digests) - len(np.unique(digests)),
        "skipped": sum(store.report["skipped"].values()),
    }
    identities = {}
    silent = unknown = tokens = 0
    for name in SPLITS:
        windows = store.split(name)
        identities[name] = window_identities(store, windows, modality)
        count = int(windows.lengths_S.sum(dtype=np.int64))
        result[name] = {
            "windows": len(windows),
            "tokens": count,
            "lengths": quantiles(windows.lengths_S),
            "duplicates": len(windows) - len(np.unique(identities[name])),
        }
        tokens += count
        if modality.frame is None:
            targets = modality.vocabulary.targets
            silent += int(silent_tokens(store.values, windows.starts_S, windows.lengths_S, *targets).sum())
            unknown += count_token(store.values, windows, modality.vocabulary.unk)
    if modality.frame is None:
        result |= {"silent_rate": silent / tokens, "unknown_rate": unknown / tokens}
    shared = np.isin(identities["valid"], identities["train"])
    result["overlap"] = {
        "shared_windows": int(shared.sum()),
        "shared_windows_share": float(shared.mean()),
        "shared_records": shared_records(store),
        "shared_tokens": shared_tokens(store.split("train"), store.split("valid")),
        "near_copies": near_copies(store, modality),
        "speakers": shared_speakers(store),
    }
    return result


def quantiles(lengths: np.ndarray) -> dict[str, int]:
    """Five numbers of a distribution, each a length that occurs."""
    values = np.quantile(lengths, list(QUANTILES.values()), method="inverted_cdf")
    return {name: int(value) for name, value in zip(QUANTILES, values, strict=True)}


def window_identities(store: Store, windows: Windows, modality: Modality) -> np.ndarray:
    """(S,) the first eight bytes of each window's identity."""
    identities = np.empty(len(windows), dtype=np.uint64)
    for i, (start, length) in enumerate(zip(windows.starts_S.tolist(), windows.lengths_S.tolist(), strict=True)):
        digest = modality.identity(np.asarray(store.values[start : start + length]))
        identities[i] = int.from_bytes(digest[:8], "little")
    return identities


def count_token(values: np.ndarray, windows: Windows, token: int) -> int:
    """How often a token occurs in windows, each position counted once."""
    total = 0
    for begin, end in zip(*merge_windows(windows), strict=True):
        for start in range(int(begin), int(end), AT_ONCE):
            total += int(np.count_nonzero(values[start : min(start + AT_ONCE, int(end))] == token))
    return total


def shared_speakers(store: Store) -> dict[str, int] | None:
    """Speakers of each split, how many of the validation's are in training too, and their validation records.

    None where no validation record has a ``speaker`` tag.
    """
    valid = speakers(store, "valid")
    if not valid:
        return None
    train = speakers(store, "train")
    shared = valid.keys() & train.keys()
    return {
        "train": len(train),
        "valid": len(valid),
        "shared": len(shared),
        "shared_records": sum(valid[name] for name in shared),
    }


def speakers(store: Store, split: str) -> Counter[str]:
    """Records of each speaker in a split."""
    tags = (store.record_tags(i) for i in np.unique(store.split(split).records_S).tolist())
    return Counter(tag["speaker"] for tag in tags if "speaker" in tag)


def shared_records(store: Store) -> int:
    """Validation records of which a training record is a copy; a record cut into blocks is no copy of itself."""
    train, valid = (np.unique(store.split(name).records_S) for name in SPLITS)
    only_train, only_valid = np.setdiff1d(train, valid), np.setdiff1d(valid, train)
    digests = store.record_digests[:, 0]
    return int(np.isin(digests[only_valid], digests[only_train]).sum())


def shared_tokens(train: Windows, valid: Windows) -> int:
    """Tokens of the store that lie in a training window and in a validation window."""
    starts, ends = merge_windows(train)
    total = 0
    for begin, end in zip(*merge_windows(valid), strict=True):
        first, last = np.searchsorted(ends, begin, side="right"), np.searchsorted(starts, end, side="left")
        over = np.minimum(ends[first:last], end) - np.maximum(starts[first:last], begin)
        total += int(over.sum())
    return total


def merge_windows(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """The stretches that windows cover, without overlap: their starts and ends, increasing."""
    order = np.argsort(windows.starts_S, kind="stable")
    starts = np.asarray(windows.starts_S)[order]
    reach = np.maximum.accumulate(starts + np.asarray(windows.lengths_S)[order])
    opens = np.concatenate([[True], starts[1:] > reach[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return starts[opens], reach[closes]


def table(result: dict[str, Any]) -> Table:
    """``verify``'s result for a terminal."""
    from rich.table import Table

    shown = Table(title=f"{result['store']}: split by {result['split']}", title_justify="left")
    for column in ("", "all", *SPLITS):
        shown.add_column(column, justify="left" if not column else "right")
    shown.add_row("records", f"{result['records']:,}", "", "")
    shown.add_row("tokens", f"{result['tokens']:,}", *(f"{result[name]['tokens']:,}" for name in SPLITS))
    shown.add_row("windows", "", *(f"{result[name]['windows']:,}" for name in SPLITS))
    for quantile in QUANTILES:
        lengths = (f"{result[name]['lengths'][quantile]:,}" for name in SPLITS)
        shown.add_row(f"length, {quantile}", f"{result['record_lengths'][quantile]:,}", *lengths)
    shown.add_row(
        "repeated", f"{result['duplicate_records']:,}", *(f"{result[name]['duplicates']:,}" for name in SPLITS)
    )
    if "silent_rate" in result:
        shown.add_row("ambiguous or unknown", f"{result['silent_rate']:.4%}", "", "")
        shown.add_row("unknown", f"{result['unknown_rate']:.4%}", "", "")
    shown.add_row("skipped records", f"{result['skipped']:,}", "", "")
    overlap = result["overlap"]
    shared = f"{overlap['shared_windows']:,} ({overlap['shared_windows_share']:.2%})"
    shown.add_row("windows also in training", "", "", shared)
    shown.add_row("records also in training", "", "", f"{overlap['shared_records']:,}")
    shown.add_row("tokens also in training", "", "", f"{overlap['shared_tokens']:,}")
    if overlap["near_copies"] is not None:
        near = overlap["near_copies"]
        rule = f"near copies in training ({near['kinship']}, {near['similarity']:.0%})"
        looked_at = f" of {near['looked_at']:,}" if near["looked_at"] < result["valid"]["windows"] else ""
        shown.add_row(rule, "", "", f"{near['windows']:,}{looked_at} ({near['share']:.2%})")
    if overlap["speakers"] is not None:
        speakers = overlap["speakers"]
        shown.add_row("speakers", "", f"{speakers['train']:,}", f"{speakers['valid']:,}")
        shown.add_row("speakers also in training", "", "", f"{speakers['shared']:,}")
    return shown
