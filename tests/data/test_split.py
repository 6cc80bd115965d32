"""The split and the windows against naive loops, over random collections of records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import Record
from ssl_suite.data import windows
from ssl_suite.data.split import TEST, TRAIN, VALID, RecordTable, Segments, given_split, plan, segments


def table(lengths: list[int], digests: list[int] | None = None, given: list[int] | None = None) -> RecordTable:
    n = len(lengths)
    keys = np.asarray(digests if digests is not None else np.random.default_rng(n).permutation(n) + 1, dtype=np.uint64)
    return RecordTable(
        np.asarray(lengths, dtype=np.int64),
        np.stack([keys * np.uint64(0x9E3779B97F4A7C15), keys], axis=1),
        np.asarray(given if given is not None else np.zeros(n), dtype=np.uint8),
    )


def joined(records: RecordTable, **settings_: object) -> tuple[str, Segments]:
    chosen = plan(records, **settings_)  # type: ignore[arg-type]
    parts = list(segments(chosen, records))
    names = ("starts", "lengths", "records", "valid")
    return chosen.mode, Segments(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


USUAL = {"fraction": 0.1, "window": 20, "overlap": 0, "reach": 1}


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(8, 900), min_size=1, max_size=40),
    st.sampled_from([0.02, 0.1, 0.5, 0.9]),
    st.sampled_from([0, 5, 19]),
    st.sampled_from([1, 6]),
)
def test_blocks_tile_their_records(lengths: list[int], fraction: float, overlap: int, reach: int) -> None:
    records = table(lengths)
    mode, found = joined(records, fraction=fraction, window=20, overlap=overlap, reach=reach)
    assert mode == "blocks"
    owner = np.full(sum(lengths), -1)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    for start, length, record in zip(found.starts, found.lengths, found.records, strict=True):
        assert bounds[record] <= start
        assert start + length <= bounds[record + 1]
        assert (owner[start : start + length] == -1).all()
        owner[start : start + length] = record
    for record in range(len(lengths)):  # all tokens but the gaps between blocks
        blocks = int((found.records == record).sum())
        assert (owner[bounds[record] : bounds[record + 1]] == record).sum() == lengths[record] - (blocks - 1) * (
            reach - 1
        )
    if len(found.valid) > 1:
        assert 0 < found.valid.sum() < len(found.valid)
        wanted = fraction * len(found.valid)
        assert abs(found.valid.sum() - wanted) <= 1


def test_blocks_are_evenly_spread_and_hold_whole_windows() -> None:
    _, found = joined(table([100_000]), fraction=0.05, window=100, overlap=0, reach=1)
    cut_S, lengths_S, owner_S, lost = windows.cut(found, 100, 0)
    assert lost == 0
    assert (lengths_S == 100).all()
    assert len(cut_S) == 1000
    places = np.flatnonzero(found.valid)
    assert len(places) >= 8
    assert np.ptp(np.diff(places)) <= 1
    assert abs(found.valid[owner_S].mean() - 0.05) < 0.01


def test_a_repeated_record_is_used_once_where_blocks_are_split() -> None:
    records = table([100, 50, 100, 60], digests=[7, 8, 7, 9])
    _, found = joined(records, **USUAL)
    assert set(found.records.tolist()) == {0, 1, 3}


def test_many_records_are_split_whole_and_copies_stay_together() -> None:
    draw = np.random.default_rng(3)
    digests = draw.integers(1, 500, 1000).tolist()  # every record about twice
    records = table(draw.integers(10, 200, 1000).tolist(), digests)
    mode, found = joined(records, **USUAL)
    assert mode == "records"
    assert found.lengths.tolist() == records.lengths.tolist()
    sides: dict[int, set[bool]] = {}
    for digest, valid in zip(digests, found.valid.tolist(), strict=True):
        sides.setdefault(digest, set()).add(valid)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.05 < found.valid.mean() < 0.15
    naive = [int(key) < 0.1 * 2**64 for key in records.digests[:, 0]]
    assert found.valid.tolist() == naive


def test_one_giant_among_many_records_is_cut_into_blocks() -> None:
    assert joined(table([50] * 300), **USUAL)[0] == "records"
    mode, found = joined(table([50] * 300 + [100_000]), **USUAL)
    assert mode == "blocks"
    assert 0.05 < found.lengths[found.valid].sum() / found.lengths.sum() < 0.15


def test_copies_do_not_count_as_records() -> None:
    assert joined(table([50] * 300, digests=[i % 199 + 1 for i in range(300)]), **USUAL)[0] == "blocks"
    assert joined(table([50] * 300, digests=[i % 200 + 1 for i in range(300)]), **USUAL)[0] == "records"


def test_a_given_column_wins_and_test_records_are_never_used() -> None:
    records = table([50] * 6, given=[TRAIN, VALID, TEST, 0, TEST, VALID])
    mode, found = joined(records, **USUAL)
    assert mode == "column"
    assert found.records.tolist() == [0, 1, 3, 5]
    assert found.valid.tolist() == [False, True, False, True]
    mode, found = joined(table([500] * 6, given=[TRAIN, TRAIN, TEST, 0, TEST, 0]), **USUAL)
    assert mode == "blocks"
    assert set(found.records.tolist()) == {0, 1, 3, 5}


def test_words_of_a_split_column() -> None:
    words = {"": 0, "train": 1, "Valid": 2, "val": 2, "dev ": 2, "validation": 2, "test": 3}
    for word, number in words.items():
        assert given_split(Record("r", "A", "x", {"split": word})) == number
    assert given_split(Record("r", "A", "x")) == 0
    with pytest.raises(BadRecord, match="x: record 'r': split 'held' is unknown"):
        given_split(Record("r", "A", "x", {"split": "held"}))


def naive_windows(length: int, window: int, overlap: int) -> list[tuple[int, int]]:
    found, covered = [], 0
    for start in range(0, length, window - overlap):
        end = min(start + window, length)
        if end - covered >= (min(8, window, window - overlap) if start else min(8, window)):
            found.append((start, end - start))
            covered = end
        if end == length:
            break
    return found


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(6, 60), st.data())
def test_windows_agree_with_a_loop(lengths: list[int], window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    starts = np.cumsum(lengths) - lengths
    whole = Segments(starts, np.asarray(lengths), np.arange(len(lengths)), np.zeros(len(lengths), dtype=bool))
    starts_S, lengths_S, owner_S, lost = windows.cut(whole, window, overlap)
    expected = [
        (int(start) + begin, length, i)
        for i, start in enumerate(starts)
        for begin, length in naive_windows(lengths[i], window, overlap)
    ]
    assert list(zip(starts_S.tolist(), lengths_S.tolist(), owner_S.tolist(), strict=True)) == expected
    covered = np.zeros(sum(lengths), dtype=bool)
    for start, length, _ in expected:
        covered[start : start + length] = True
    assert lost == (~covered).sum()


def test_silent_tokens_agree_with_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "TOKENS_AT_ONCE", 1000)
    draw = np.random.default_rng(4)
    values = draw.integers(0, 20, 9000).astype(np.uint8)
    values[4000:7000] = 6  # a stretch without any
    starts_S = np.sort(draw.integers(0, 8800, 300))
    lengths_S = draw.integers(1, 200, 300)
    found = windows.silent_tokens(values, starts_S, lengths_S, 5, 9)
    assert found.tolist() == [
        sum(not 5 <= value < 9 for value in values[start : start + length].tolist())
        for start, length in zip(starts_S, lengths_S, strict=True)
    ]
