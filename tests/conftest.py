"""Shared by all tests: few threads, no user cache, and the skip rule for tests on local data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_suite.core.batch import Batch


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shared: needs the local data folder named by SSL_DATA_DIR")
    # One thread a test process: xdist runs one process a core, and bit-exactness tests need a fixed number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SSL_DATA_DIR"):
        return
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="SSL_DATA_DIR is not set: no local data folder"))


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all tests of a process, so that the built-in sample is prepared once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("SSL_CACHE_DIR", str(session_cache))
    return session_cache


def ragged(lengths: list[int], low: int = 5, high: int = 9, rows: int = 1, max_length: int | None = None) -> Batch:
    """A batch of random ids with the given lengths; a sequence is [CLS] ids [SEP] where it has room for them."""
    generator = np.random.default_rng(sum(lengths))
    values = torch.from_numpy(generator.integers(low, high, sum(lengths)))
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    for start, length in zip(offsets.tolist(), lengths, strict=False):
        if length > 2:
            values[start], values[start + length - 1] = 2, 3
    return Batch(
        values=values,
        offsets_B1=offsets,
        max_length=max_length or max(lengths),
        lengths=tuple(lengths),
        real_B=torch.ones(len(lengths), dtype=torch.bool),
        index_B=torch.arange(len(lengths)),
        tokens=sum(lengths),
        squares=sum(n * n for n in lengths),
        rows=rows,
    )
