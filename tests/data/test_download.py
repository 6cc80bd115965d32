"""Downloads from a server that misbehaves: what is resumed, tried again, started anew, and refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import download as module
from ssl_suite.data.download import Unreachable, Wanted, download
from ssl_suite.data.meter import Meter
from tests.data.http_server import Site, serving

CONTENT = np.random.default_rng(0).bytes(600_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WAITS = (0.0, 0.0, 0.0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.files["/f.bin"] = CONTENT
        yield site


@pytest.fixture
def said() -> list[str]:
    return []


def get(site: Site, target: Path, said: list[str], size: int | None = len(CONTENT), digest: str | None = DIGEST):
    wanted = Wanted(f"{site.url}/f.bin", "the file", size, digest)
    return download(wanted, target, Meter("f.bin", said.append), WAITS)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(site: Site, tmp_path: Path, said: list[str]) -> None:
    done = get(site, tmp_path / "deep/f", said)
    assert (tmp_path / "deep/f").read_bytes() == CONTENT
    assert (done.bytes, done.sha256, done.received) == (len(CONTENT), DIGEST, len(CONTENT))
    assert (left(tmp_path / "deep"), said) == (["f"], [])
    done = get(site, tmp_path / "g", said, None, None)  # nothing is known of it beforehand
    assert (done.bytes, done.sha256) == (len(CONTENT), DIGEST)


def test_a_dropped_connection_goes_on_where_it_was(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.cut = [300_000, 1]
    done = get(site, tmp_path / "f", said)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [asked for _, _, asked in site.requests] == [None, "bytes=300000-", "bytes=300001-"]
    assert site.sent == done.received == len(CONTENT)  # not a byte twice
    assert "the connection broke after 300,000 of 600,000 bytes" in said[0]


def test_an_interrupted_call_goes_on_in_the_next(
    site: Site, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(meter: Meter, count: int) -> None:
        meter.done += count
        if meter.done > 200_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            get(site, tmp_path / "f", said)
    assert left(tmp_path) == ["f.part", "f.part.json"]
    here = (tmp_path / "f.part").stat().st_size
    assert here > 200_000
    assert site.url not in (tmp_path / "f.part.json").read_text()  # a URL can hold a password
    done = get(site, tmp_path / "f", said)
    assert done.received == len(CONTENT) - here
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert left(tmp_path) == ["f"]


@pytest.mark.parametrize("known", [len(CONTENT), None])
def test_a_file_that_only_lacked_its_name(site: Site, tmp_path: Path, said: list[str], known: int | None) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    key = hashlib.sha256(f"{site.url}/f.bin".encode()).hexdigest()
    (tmp_path / "f.part.json").write_text(json.dumps({"url": key, "mark": '"one"'}))
    assert get(site, tmp_path / "f", said, known).received == 0
    assert [asked for _, _, asked in site.requests] == ([] if known else ["bytes=600000-"])
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_part_of_another_url_is_not_used(site: Site, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 100)
    (tmp_path / "f.part.json").write_text('{"url": "other", "mark": "x"}')
    assert get(site, tmp_path / "f", said).received == len(CONTENT)


def test_a_server_without_range_starts_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.ranges, site.cut = False, [250_000]
    done = get(site, tmp_path / "f", said)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert done.received == site.sent == len(CONTENT) + 250_000
    assert any("all of it again" in line for line in said)


OLD = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
MARKS = {
    "etag": ('"one"', {}, True),
    "weak etag": ('W/"one"', OLD, False),
    "date": ("", OLD, True),
    "fresh date": ("", {"Last-Modified": formatdate(time.time() + 3600, usegmt=True)}, False),
    "nothing": ("", {}, False),
}


@pytest.mark.parametrize("liar", [False, True])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("marks", MARKS)
def test_a_file_that_changes_on_the_way_is_never_put_together(
    site: Site, tmp_path: Path, said: list[str], marks: str, known: bool, liar: bool
) -> None:
    """Whether or not a hash is known, and of a server that answers Range without a look at If-Range too."""
    site.etag, more, _ = MARKS[marks]
    site.headers, site.liar, site.cut = dict(more), liar, [100_000]
    site.files["/f.bin"] = bytes(len(CONTENT))  # the version before

    def change(site: Site) -> None:
        if site.requests:
            site.files["/f.bin"], site.etag = CONTENT, site.etag.replace("one", "two")
            if marks == "date":
                site.headers["Last-Modified"] = "Tue, 02 Jan 2024 00:00:00 GMT"

    site.hook = change
    get(site, tmp_path / "f", said, *(() if known else (None, None)))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert left(tmp_path) == ["f"]


@pytest.mark.parametrize("marks", MARKS)
def test_a_server_that_always_breaks_off(site: Site, tmp_path: Path, said: list[str], marks: str) -> None:
    """It is asked a bounded number of times; with a mark the next call goes on, without one nothing is left."""
    site.etag, site.headers, resumable = MARKS[marks]
    site.always = 1000
    with pytest.raises(
        SuiteError, match=r"^the file: the connection broke after [\d,]+ of 600,000 bytes, 4 tries; run"
    ):
        get(site, tmp_path / "f", said)
    assert len(site.requests) == len(WAITS) + 1
    assert left(tmp_path) == (["f.part", "f.part.json"] if resumable else [])
    assert [asked for _, _, asked in site.requests][1:] == [
        f"bytes={i}000-" if resumable else None for i in range(1, 4)
    ]
    site.always = 0
    assert get(site, tmp_path / "f", said).received == len(CONTENT) - 4000 * resumable
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_an_answer_whose_end_cannot_be_told(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.lengths = False
    with pytest.raises(SuiteError, match="does not say how long it is, and no SHA-256 is known"):
        get(site, tmp_path / "f", said, None, None)
    assert get(site, tmp_path / "f", said, None).sha256 == DIGEST  # which tells whether all of it came


def test_more_than_any_file_holds(site: Site, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100_000)
    site.lengths = False
    with pytest.raises(SuiteError, match="sends more than 100,000 bytes; nothing was kept"):
        get(site, tmp_path / "f", said, None)
    assert left(tmp_path) == []


def test_a_wrong_hash_leaves_nothing(site: Site, tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(SuiteError, match=f"the file: what came has SHA-256 {DIGEST}, the catalogue says 000") as caught:
        get(site, tmp_path / "f", said, digest="0" * 64)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []
    assert len(site.requests) == 1


def test_a_wrong_length_is_found_before_the_body(site: Site, tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(SuiteError, match="has 600,000 bytes there, the catalogue says 600,001"):
        get(site, tmp_path / "f", said, size=len(CONTENT) + 1)
    assert left(tmp_path) == []


def test_passing_faults_are_tried_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.codes = [500, 503, 429]
    get(site, tmp_path / "f", said)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [line.split(";")[0] for line in said] == [
        "f.bin: the server answers 500 Internal Server Error",
        "f.bin: the server answers 503 Service Unavailable",
        "f.bin: the server answers 429 Too Many Requests",
    ]


def test_but_not_for_ever(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.codes = [500] * 9
    with pytest.raises(
        SuiteError, match="the server answers 500 Internal Server Error, 4 tries; run the command again"
    ):
        get(site, tmp_path / "f", said)
    assert len(site.requests) == 4


@pytest.mark.parametrize(("code", "words"), [(404, "is not there"), (410, "is not there"), (403, "is refused")])
def test_final_faults_are_not(site: Site, tmp_path: Path, said: list[str], code: int, words: str) -> None:
    site.codes = [code]
    with pytest.raises(SuiteError, match=f"the file: {words}.*HTTP {code}"):
        get(site, tmp_path / "f", said)
    assert len(site.requests) == 1


def test_redirects_lead_to_http_only(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.redirects = {"/r": f"{site.url}/f.bin", "/file": "file:///etc/passwd", "/ftp": "ftp://127.0.0.1/x"}
    wanted = Wanted(f"{site.url}/r", "the file", len(CONTENT), DIGEST)
    assert download(wanted, tmp_path / "f", Meter("f", said.append), WAITS).sha256 == DIGEST
    for path in ("/file", "/ftp"):
        with pytest.raises(SuiteError):
            download(Wanted(site.url + path, "it"), tmp_path / "g", Meter("g", said.append), WAITS)
    with pytest.raises(SuiteError):
        download(Wanted("file:///etc/passwd", "it"), tmp_path / "g", Meter("g", said.append), WAITS)
    assert not (tmp_path / "g").exists()


def test_nobody_answers(tmp_path: Path, said: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/f"  # nobody listens on it
        with pytest.raises(Unreachable, match="no connection"):
            download(Wanted(url, "it"), tmp_path / "f", Meter("f", said.append), (0.0,) * 9)
    assert len(said) == module.UNREACHABLE_TRIES


def test_a_full_disk(site: Site, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(SuiteError, match=r"0\.0 GB are free, 0\.0 GB are needed; free space, or choose another data"):
        get(site, tmp_path / "f", said)
    assert site.sent <= len(CONTENT)
    assert not (tmp_path / "f").exists()
