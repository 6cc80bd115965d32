"""What one batch costs to read: this package's memory-mapped store beside the Arrow tables of `datasets`.

    python benchmarks/store_access.py [--path FASTA_OR_PARQUET] [--repeats 5]

Both hold the same windows of 510 base tokens on the same disk. A batch is 16 random windows (a CPU step of the mini
model, about 1.8 s) or 128 (a GPU step, about 20 ms); both end as one array of token ids. The median over repeats of
the mean over 200 batches is printed, with its share of such a step; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store
from ssl_suite.modalities.dna import DNA

BATCHES = 200
STEPS = {16: 1.8, 128: 0.020}  # seconds of a training step with so many windows: mini on 2 CPU cores, and on a GPU
LIMIT = 0.02  # of a step


def arrow_table(store: Store, folder: Path):
    """The training windows as a `datasets` table on disk, opened memory-mapped."""
    import datasets

    windows = store.split("train")

    def rows():
        for start, length in zip(windows.starts_S.tolist(), windows.lengths_S.tolist(), strict=True):
            yield {"ids": store.values[start : start + length]}

    features = datasets.Features({"ids": datasets.Sequence(datasets.Value("uint8"))})
    datasets.disable_progress_bars()
    built = datasets.Dataset.from_generator(rows, features=features, cache_dir=str(folder / "build"))
    built.save_to_disk(str(folder / "table"))
    return datasets.load_from_disk(str(folder / "table")).with_format("numpy")


def readers(store: Store, table) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Ways to read a batch by window numbers, each returning the ids end to end."""
    windows, values = store.split("train"), store.values

    def mapped(items: np.ndarray) -> np.ndarray:
        spans = zip(windows.starts_S[items].tolist(), windows.lengths_S[items].tolist(), strict=True)
        return np.concatenate([values[start : start + length] for start, length in spans])

    def row_by_row(items: np.ndarray) -> np.ndarray:
        return np.concatenate([table[int(i)]["ids"] for i in items])

    def listed(items: np.ndarray) -> np.ndarray:
        return np.concatenate(list(table[items.tolist()]["ids"]))

    return {"memmap": mapped, "datasets, row by row": row_by_row, "datasets, list of rows": listed}


def seconds(read: Callable[[np.ndarray], np.ndarray], batches: list[np.ndarray]) -> float:
    """Mean seconds a batch."""
    begun = time.perf_counter()
    for items in batches:
        read(items)
    return (time.perf_counter() - begun) / len(batches)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="FASTA or parquet; the built-in sample without it")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = prepare(DNA(), {"path": arguments.path, "cache": name})
        table = arrow_table(store, Path(name))
        ways = readers(store, table)
        draw = np.random.default_rng(0)
        count = len(store.split("train"))
        result: dict[str, dict[str, float]] = {}
        for size, step in STEPS.items():
            batches = [draw.integers(0, count, size) for _ in range(BATCHES)]
            reference = ways["memmap"](batches[0])
            assert all(np.array_equal(read(batches[0]), reference) for read in ways.values())
            # Interleaved, so that a busy machine slows all ways alike.
            times = {way: [] for way in ways}
            for _ in range(arguments.repeats):
                for way, read in ways.items():
                    times[way].append(seconds(read, batches))
            for way, some in times.items():
                median = statistics.median(some)
                result.setdefault(way, {})[str(size)] = round(1e6 * median, 1)
                verdict = "below" if median < LIMIT * step else "ABOVE"
                print(
                    f"{way:24s} {size:4d} windows {1e6 * median:9.1f} µs a batch = {median / step:8.4%} of {step} s, "
                    f"{verdict} the limit of {LIMIT:.0%}"
                )
        print(json.dumps({"windows": count, "microseconds_per_batch": result}))


if __name__ == "__main__":
    main()
