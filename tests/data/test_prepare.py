"""Preparing: cached, parallel, resumable after a kill, safe side by side; bad input in one line."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from Bio.Seq import Seq

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Encoded, Record
from ssl_suite.data import parallel, shards
from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store
from ssl_suite.modalities.dna import DNA
from tests.data.fasta import random_bases, run, write


def bytes_of(store: Store) -> dict[str, bytes]:
    return {
        path.relative_to(store.folder).as_posix(): path.read_bytes()
        for path in sorted(store.folder.rglob("*"))
        if path.is_file() and path.name != "store.json"  # that one holds seconds
    }


def go_on() -> None:
    """Nothing happens. By name, so that a process can be told of it."""


class Counting(DNA):
    """DNA that counts what it encodes, and may stop the world at the n-th record."""

    def __init__(self, at: int = 0, act: Callable[[], None] = go_on, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.at, self.act, self.encoded = at, act, 0

    def encode(self, record: Record) -> Encoded:
        self.encoded += 1
        if self.encoded == self.at:
            self.act()
        return super().encode(record)


def test_a_second_run_opens_the_store_and_reads_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", a=random_bases(5000, 0))
    first, lines = run(path)
    assert lines[0] == f"data: preparing {path}"
    assert "5,000 tokens of 1 record" in lines[1]
    counting = Counting(max_length=102)
    again, lines = run(path, counting)
    assert (again.folder, counting.encoded) == (first.folder, 0)
    assert lines == [f"data: {path}, prepared before in {first.folder}"]
    moved = path.rename(tmp_path / "elsewhere.fa")
    moved.rename(path)
    os.utime(path)  # another time, the same content
    assert run(path)[0].key == first.key


def test_the_key_covers_input_tokeniser_windows_and_split(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", a=random_bases(9000, 0))
    keys = [run(path)[0].key]
    for dna in (
        DNA(max_length=101),
        DNA(max_length=102, overlap=3),
        DNA(max_length=102, max_ambiguous=0.4),
        DNA(max_length=102, ambiguous="keep"),
        DNA(max_length=102, soft_mask="n"),
        DNA(max_length=102, tokenizer="kmer"),
        DNA(max_length=102, tokenizer="kmer", k=5),
        DNA(max_length=102, tokenizer="kmer", k=6, stride=6),
    ):
        keys.append(run(path, dna)[0].key)
    for data in ({"valid_fraction": 0.1}, {"on_error": "skip"}):
        keys.append(run(path, **data)[0].key)
    write(path, a=random_bases(9000, 1))
    keys.append(run(path)[0].key)
    assert len(set(keys)) == len(keys)
    assert run(path, DNA(max_length=102, mutation=0.5, crop=0.9))[0].key == keys[-1]  # views are drawn later


def die() -> None:
    """End a helping process, not this one."""
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def many(folder: Path, monkeypatch: pytest.MonkeyPatch, files: int = 6) -> Path:
    """Files that are a task each."""
    monkeypatch.setattr(shards, "SMALL", 0)
    for i in range(files):
        write(folder / f"{i}.fa", **{f"r{j}": random_bases(700 + 10 * j, 10 * i + j) for j in range(4)})
    return folder


def test_with_helpers_and_alone_the_store_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process tokenises too, from the first moment, while they start; and each task once."""
    many(tmp_path / "in", monkeypatch)
    alone, _ = run(tmp_path / "in", cache=str(tmp_path / "one"), workers=1)
    counting = Counting(max_length=102)
    together, _ = run(tmp_path / "in", counting, cache=str(tmp_path / "two"), workers=2)
    assert 4 <= counting.encoded <= 24 and together.report["shards_reused"] == 0
    assert bytes_of(alone) == bytes_of(together)
    assert alone.key == together.key
    assert together.record_name(5) == "1.fa:r1"


def test_a_helper_that_is_killed_is_one_line_and_what_was_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path / "in", monkeypatch)
    with pytest.raises(
        SuiteError, match=r"ended from outside, perhaps for want of memory; set data\.workers"
    ) as caught:
        run(tmp_path / "in", Counting(at=1, act=die, max_length=102), workers=2)
    assert "\n" not in str(caught.value)
    counting = Counting(max_length=102)
    store, _ = run(tmp_path / "in", counting, workers=1)
    assert store.report["records"] == 24 and store.report["shards_reused"] > 0 and counting.encoded < 24


def test_small_input_is_not_worth_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pool was started")

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", refuse)
    monkeypatch.setattr(shards, "SMALL", 0)
    for i in range(3):
        write(tmp_path / "in" / f"{i}.fa", a=random_bases(2000, i))
    run(tmp_path / "in")
    with pytest.raises(AssertionError):
        run(tmp_path / "in", workers=2, valid_fraction=0.5)


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from ssl_suite.data import shards
from test_prepare import Counting
from ssl_suite.data.prepare import prepare
shards.SHARD_RECORDS = 10
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
prepare(Counting(at=int(sys.argv[3]), act=kill, max_length=102), dict(path=sys.argv[1], cache=sys.argv[2]))
"""


def test_a_killed_preparation_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_RECORDS", 10)
    texts = {f"r{i}": random_bases(300 + i, i) for i in range(64)}
    texts["r7"] = texts["r33"] = "ACG"  # too short
    texts["r20"] = texts["r41"] = ""
    path = write(tmp_path / "x.fa", **texts)
    path.write_text(path.read_text().replace(">r21\n", ">r3\n"))
    data = {"path": str(path), "on_error": "skip"}
    whole, _ = run(path, cache=str(tmp_path / "whole"), on_error="skip")
    program = KILLED.format(folder=str(Path(__file__).parent)).replace("dict(", "dict(on_error='skip', ")
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "killed"), "45"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert list((tmp_path / "killed").glob("dna-*")) == []
    counting = Counting(max_length=102)
    resumed = prepare(counting, {**data, "cache": str(tmp_path / "killed")}, report=lambda line: None)
    assert bytes_of(resumed) == bytes_of(whole)
    assert resumed.report["shards_reused"] == 4
    assert counting.encoded < 62 - 40 + 5
    same = ("records", "tokens", "composition", "counts", "skipped", "examples", "left_out", "windows")
    assert {name: resumed.report[name] for name in same} == {name: whole.report[name] for name in same}
    assert whole.report["skipped"] == {"no sequence": 2}
    assert whole.report["counts"]["repeated names"] == 1 and whole.record_name(19) == "x.fa:r3#2"
    assert whole.report["left_out"]["records shorter than data.min_tokens=8"] == 2
    assert [item.name for item in (tmp_path / "killed").iterdir() if item.name.endswith(".partial")] == []


@pytest.mark.parametrize("at", [1, 10, 11, 64])
def test_an_interrupted_preparation_resumes_from_any_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(shards, "SHARD_RECORDS", 10)
    path = write(tmp_path / "x.fa", **{f"r{i}": random_bases(100 + i, i) for i in range(64)})

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, Counting(at=at, act=stop, max_length=102))
    counting = Counting(max_length=102)
    resumed, _ = run(path, counting)
    assert counting.encoded == 64 - (at - 1) // 10 * 10
    assert bytes_of(resumed) == bytes_of(run(path, cache=str(tmp_path / "whole"))[0])


def test_a_shard_that_lost_its_end_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_RECORDS", 10)
    path = write(tmp_path / "x.fa", **{f"r{i}": random_bases(100 + i, i) for i in range(64)})

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, Counting(at=45, act=stop, max_length=102))
    third = sorted((tmp_path / "cache").glob(".dna-*.partial/*.values"))[2]
    third.write_bytes(third.read_bytes()[:-1])
    resumed, _ = run(path)
    assert resumed.report["shards_reused"] == 2
    assert bytes_of(resumed) == bytes_of(run(path, cache=str(tmp_path / "whole"))[0])


def replaced(path: Path, text: str) -> Callable[[], None]:
    """Put another file in the place of one, of the same size and time."""

    def act() -> None:
        status = path.stat()
        path.write_text(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return act


def test_an_input_that_is_replaced_while_it_is_prepared(tmp_path: Path) -> None:
    """Nothing stands under the key of another content; the next preparation reads the new one."""
    old, new = (">r\n" + random_bases(5000, seed) + "\n" for seed in (0, 1))
    path = tmp_path / "x.fa"
    path.write_text(old)
    with pytest.raises(SuiteError, match="changed while it was prepared; start again, or prepare a copy"):
        run(path, Counting(at=1, act=replaced(path, new), max_length=102))
    assert list((tmp_path / "cache").glob("*dna-*partial")) == []
    store, _ = run(path)
    assert DNA().decode(store.values) == new.split()[1]
    assert [folder.name for folder in (tmp_path / "cache").glob("dna-*")] == [store.folder.name]


def test_shards_of_another_file_are_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is replaced while it is prepared, the preparation is killed, and the file put back."""
    monkeypatch.setattr(shards, "SHARD_RECORDS", 1)
    old, new = ("".join(f">r{i}\n{random_bases(500, 10 * seed + i)}\n" for i in range(9)) for seed in (0, 1))
    path = tmp_path / "x.fa"
    path.write_text(new)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, Counting(at=5, act=stop, max_length=102))
    replaced(path, old)()
    replaced(path, new)()
    store, lines = run(path)
    assert any("changed since a preparation of it was interrupted" in line for line in lines)
    assert store.report["shards_reused"] == 0


def test_two_that_prepare_at_once_wait_for_each_other(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", **{f"r{i}": random_bases(500, i) for i in range(20)})
    inside, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        inside.set()
        assert go_on.wait(20)

    slow, quick = Counting(at=5, act=pause, max_length=102), Counting(max_length=102)
    stores: dict[str, Store] = {}
    lines: list[str] = []

    def second() -> None:
        def report(line: str) -> None:
            lines.append(line)
            if "waiting" in line:
                go_on.set()

        stores["quick"] = prepare(quick, {"path": str(path), "cache": str(tmp_path / "cache")}, report=report)

    first = threading.Thread(target=lambda: stores.update(slow=run(path, slow)[0]))
    first.start()
    assert inside.wait(20)
    other = threading.Thread(target=second)
    other.start()
    for thread in (first, other):
        thread.join(30)
    assert "another process is preparing" in lines[0]
    assert quick.encoded == 0
    assert stores["slow"].folder == stores["quick"].folder
    assert stores["slow"].report["records"] == 20


def test_without_locks_the_first_to_publish_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.fa", **{f"r{i}": random_bases(500, i) for i in range(20)})

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)

    def overtake() -> None:
        monkeypatch.setattr(os, "getpid", lambda: 1)  # as another process would be
        overtaker.append(run(path)[0])
        monkeypatch.undo()
        monkeypatch.setattr(fcntl, "flock", no_locks)

    overtaker: list[Store] = []
    slow, _ = run(path, Counting(at=5, act=overtake, max_length=102))
    assert slow.folder == overtaker[0].folder
    assert bytes_of(slow) == bytes_of(overtaker[0])
    assert [item.name for item in (tmp_path / "cache").glob("*.partial*")] == []
    assert len(list((tmp_path / "cache").glob("dna-*"))) == 1


def test_reverse_complements_stay_on_one_side(tmp_path: Path) -> None:
    texts = {f"r{i}": random_bases(100, i) for i in range(200)}
    turned = {f"t{i}": str(Seq(texts[f"r{i}"]).reverse_complement()) for i in range(200)}
    store, _ = run(write(tmp_path / "x.fa", **texts, **turned), valid_fraction=0.2)
    assert store.report["split"] == "whole records"
    sides = {}
    for name in ("train", "valid"):
        for record in store.split(name).records_S.tolist():
            sides[record] = name
    assert all(sides[i] == sides[200 + i] for i in range(200))
    assert set(sides.values()) == {"train", "valid"}


def test_a_split_column_is_honoured(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    words = ["train", "valid", "test", "train"]
    rows = [f"r{i},{random_bases(150, i)},{word}\n" for i, word in enumerate(words)]
    path.write_text("id,sequence,split\n" + "".join(rows))
    store, _ = run(path)
    assert store.split("train").records_S.tolist() == [0, 0, 3, 3]
    assert store.split("valid").records_S.tolist() == [1, 1]
    assert store.report["left_out"]["test records"] == 1
    path.write_text("id,sequence,split\n" + rows[0].replace("train", "trian"))
    with pytest.raises(SuiteError, match="record 'r0': split 'trian' is unknown"):
        run(path)


def test_columns_are_taken_from_the_data_section(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"key,letters\nfirst,{random_bases(300, 0)}\n")
    store, _ = run(path, column="letters", id_column="key")
    assert store.record_name(0) == "x.csv:first"
