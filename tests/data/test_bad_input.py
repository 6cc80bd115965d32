"""Bad input: one line that names file, record, fault and remedy, and nothing half-made."""

from __future__ import annotations

import gzip
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import shards
from ssl_suite.modalities.dna import DNA
from tests.data.fasta import random_bases, run, write

LEAVE_OUT = "To leave bad records out and count them, set data.on_error=skip."


def fault(path: Path, dna: DNA | None = None, **data: object) -> str:
    with pytest.raises(SuiteError) as caught:
        run(path, dna, **data)
    assert "\n" not in str(caught.value)
    left = list((path.parent / "cache").glob("dna-*")) if (path.parent / "cache").is_dir() else []
    assert left == []  # nothing half-made is visible
    return str(caught.value)


def test_protein_given_as_dna(tmp_path: Path) -> None:
    path = write(tmp_path / "p.fa", ok=random_bases(3000, 0), sp="MKVLEFPQ")
    message = fault(path)
    assert message.startswith(f"{path}: record 'sp': ")
    assert message.endswith(f"if this is protein, use modality=protein. {LEAVE_OUT}")
    store, lines = run(path, on_error="skip")
    assert store.report["skipped"] == {"protein given as DNA": 1}
    assert store.report["examples"] == [message.partition(" To leave")[0]]
    assert "left out: 1 protein given as DNA" in lines[-1]


def test_a_record_of_one_base_is_left_out_and_counted(tmp_path: Path) -> None:
    store, lines = run(write(tmp_path / "x.fa", a=random_bases(3000, 0), b="A", c="ACGTACG"))
    assert store.records == 1
    assert store.report["left_out"]["records shorter than data.min_tokens=8"] == 2
    assert "2 records shorter than data.min_tokens=8" in lines[-1]
    message = fault(write(tmp_path / "other" / "x.fa", b="A"))
    assert "holds no usable record: 1 shorter than data.min_tokens=8" in message


@pytest.mark.parametrize("fewest", [1, 3, 7])
def test_short_records_are_used_where_they_are_asked_for(tmp_path: Path, fewest: int) -> None:
    """The remedy of the message, followed; the last window of a longer record adds as many, too."""
    texts = {f"r{i}": random_bases(1 + i % 9, i) for i in range(300)} | {"long": random_bases(105, 0)}
    store, _ = run(write(tmp_path / "x.fa", **texts), min_tokens=fewest, valid_fraction=0.2)
    lengths = [len(text) for text in texts.values() if len(text) >= fewest]
    assert store.record_lengths.tolist() == lengths
    expected = sorted([*lengths[:-1], 100, *[5] * (fewest <= 5)])
    windows = [store.split(side).lengths_S for side in ("train", "valid")]
    assert sorted(np.concatenate(windows).tolist()) == expected
    assert store.report["left_out"][f"records shorter than data.min_tokens={fewest}"] == 301 - len(lengths)


def test_windows_longer_than_every_record_hold_whole_records(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", **{f"r{i}": random_bases(20 + i, i) for i in range(10)})
    store, _ = run(path, DNA(max_length=512))
    lengths = np.concatenate([store.split("train").lengths_S, store.split("valid").lengths_S])
    assert sorted(lengths.tolist()) == list(range(20, 30))


def test_too_little_for_two_splits(tmp_path: Path) -> None:
    message = fault(write(tmp_path / "x.fa", a="ACGTACGTACGT"))
    assert "1 window leaves none for validation; give more data, lower modality.max_length" in message
    message = fault(write(tmp_path / "y.fa", a="ACGT" * 10 + "N" * 300))
    assert "4 of 4 windows are left out: more than modality.max_ambiguous=0.5 of their tokens are N" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 7}, "modality.max_length=7 should be at least 8."),
        (
            {"max_length": 12, "overlap": 10},
            "modality.overlap=10 should be at least 0 and below max_length - 2 = 10.",
        ),
        ({"overlap": -1}, "modality.overlap=-1"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict, message: str) -> None:
    assert fault(write(tmp_path / "x.fa", a="ACGT" * 100), DNA(**settings)).startswith(message)


def test_a_damaged_file_among_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_RECORDS", 2)  # some of its records are in finished shards by then
    write(tmp_path / "in" / "a.fa", a=random_bases(3000, 0))
    bad = tmp_path / "in" / "b.fa.gz"
    text = "".join(f">r{i}\n{random_bases(90_000, i)}\n" for i in range(12))
    bad.write_bytes(gzip.compress(text.encode())[:-5000])
    assert fault(tmp_path / "in") == f"{bad}: gzip file is truncated; copy or download it again. {LEAVE_OUT}"
    store, _ = run(tmp_path / "in", on_error="skip")
    assert [store.record_name(i) for i in range(store.records)] == ["a.fa:a"]
    assert store.report["skipped"] == {"file: truncated": 1}


def test_an_unreadable_file_among_good_ones() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        write(folder / "in" / "a.fa", a=random_bases(3000, 0))
        write(folder / "in" / "b.fa", b=random_bases(3000, 1)).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # permissions do not bind root
        try:
            message = fault(folder / "in")
            store, _ = run(folder / "in", on_error="skip")
        finally:
            if user == 0:
                os.seteuid(user)
        said = f"{folder / 'in' / 'b.fa'}: cannot be read (Permission denied); check the path and its rights."
        assert message == f"{said} {LEAVE_OUT}"
        assert (store.records, store.report["skipped"]) == (1, {"file: unreadable": 1})


def test_all_faults_of_a_process_pool_arrive(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.fa", a=random_bases(3000, 0))
    write(tmp_path / "in" / "b.fa", b="MKVLEFPQ")
    assert "record 'b': " in fault(tmp_path / "in", workers=2)


def test_a_full_disk_is_one_line_and_leaves_no_store(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails with EFBIG instead of ENOSPC."""
    path = write(tmp_path / "x.fa", a=random_bases(200_000, 0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # Python ignores the signal that comes with it
    try:
        message = fault(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert message.endswith("cannot be written (File too large); free space or set data.cache.")
    assert run(path)[0].report["tokens"] == 200_000
