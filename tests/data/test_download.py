"""Downloads from a server that misbehaves: what is resumed, tried again, started anew, and refused."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import download as module
from ssl_suite.data.catalogue import Download
from ssl_suite.data.download import Unreachable, download
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


def get(
    site: Site, target: Path, said: list[str], size: int | None = len(CONTENT), digest: str | None = DIGEST
) -> None:
    item = Download(file="f.bin", url=f"{site.url}/f.bin", bytes=size, sha256=digest)
    found = download(item, target, Meter("f.bin", said.append), WAITS)
    assert (target.read_bytes(), found) == (CONTENT, DIGEST)


def fault(site: Site, target: Path, *known: object, path: str = "/f.bin") -> str:
    size, digest = known or (len(CONTENT), DIGEST)
    item = Download(file="f", url=path if "://" in path else site.url + path, bytes=size, sha256=digest)
    with pytest.raises(SuiteError) as caught:
        download(item, target, Meter("f.bin", lambda line: None), WAITS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("known", [(len(CONTENT), DIGEST), (None, None)])
def test_a_whole_file(site: Site, tmp_path: Path, said: list[str], known: tuple) -> None:
    get(site, tmp_path / "deep/f", said, *known)
    assert (left(tmp_path / "deep"), said, site.sent) == (["f"], [], len(CONTENT))


def test_a_dropped_connection_goes_on_where_it_was(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.cut = [300_000, 1]
    get(site, tmp_path / "f", said)
    assert [asked for _, _, asked in site.requests] == [None, "bytes=300000-", "bytes=300001-"]
    assert site.sent == len(CONTENT)  # not a byte twice
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
    assert left(tmp_path) == ["f.part"]
    here = (tmp_path / "f.part").stat().st_size
    assert here > 200_000
    get(site, tmp_path / "f", said)
    assert site.requests[-1][2] == f"bytes={here}-"
    assert left(tmp_path) == ["f"]


@pytest.mark.parametrize("known", [len(CONTENT), None])
def test_a_file_that_only_lacked_its_name(site: Site, tmp_path: Path, said: list[str], known: int | None) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    get(site, tmp_path / "f", said, known)
    assert [asked for _, _, asked in site.requests] == ([] if known else ["bytes=600000-"])


def test_a_server_without_range_starts_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.ranges, site.cut = False, [250_000]
    get(site, tmp_path / "f", said)
    assert site.sent == len(CONTENT) + 250_000
    assert any("all of it again" in line for line in said)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("known", [(len(CONTENT), DIGEST), (None, None)])
def test_a_file_that_changes_on_the_way_is_never_put_together(
    site: Site, tmp_path: Path, said: list[str], known: tuple, ranges: bool
) -> None:
    site.ranges, site.cut = ranges, [100_000]
    site.files["/f.bin"] = bytes(len(CONTENT))  # the version before
    site.hook = lambda site: site.files.update({"/f.bin": CONTENT}) if site.requests else None
    get(site, tmp_path / "f", said, *known)
    assert left(tmp_path) == ["f"]


@pytest.mark.parametrize("digest", [DIGEST, None])
def test_a_server_that_always_breaks_off(site: Site, tmp_path: Path, said: list[str], digest: str | None) -> None:
    """It is asked a bounded number of times; where the SHA-256 is known the next call goes on, else nothing is left."""
    site.always = 1000
    message = fault(site, tmp_path / "f", len(CONTENT), digest)
    assert message.startswith(f"{site.url}/f.bin: the connection broke after ")
    assert message.endswith(" of 600,000 bytes, 4 tries; run the command again later.")
    assert left(tmp_path) == (["f.part"] if digest else [])
    assert [asked for _, _, asked in site.requests] == [None] + [
        f"bytes={i}000-" if digest else None for i in (1, 2, 3)
    ]
    site.always, site.sent = 0, 0
    get(site, tmp_path / "f", said, digest=digest)
    assert site.sent == len(CONTENT) - (4000 if digest else 0)


def test_an_answer_whose_end_cannot_be_told(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.lengths = False
    assert "does not say how long it is, and no SHA-256 is known" in fault(site, tmp_path / "f", None, None)
    get(site, tmp_path / "f", said, None)  # the SHA-256 tells whether all of it came


def test_more_than_any_file_holds(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100_000)
    site.lengths = False
    assert "sends more than 100,000 bytes; nothing was kept" in fault(site, tmp_path / "f", None, DIGEST)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("size", "digest", "words"),
    [
        (len(CONTENT), "0" * 64, f"what came has SHA-256 {DIGEST}, the catalogue says 000"),
        (len(CONTENT) + 1, DIGEST, "has 600,000 bytes there, the catalogue says 600,001"),
    ],
)
def test_another_file_leaves_nothing(site: Site, tmp_path: Path, size: int, digest: str, words: str) -> None:
    assert words in fault(site, tmp_path / "f", size, digest)
    assert left(tmp_path) == []
    assert len(site.requests) == 1


def test_passing_faults_are_tried_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.codes = [500, 503, 429]
    get(site, tmp_path / "f", said)
    assert [line.split(";")[0] for line in said] == [
        "f.bin: the server answers 500 Internal Server Error",
        "f.bin: the server answers 503 Service Unavailable",
        "f.bin: the server answers 429 Too Many Requests",
    ]
    site.codes = [500] * 9
    assert "500 Internal Server Error, 4 tries; run the command again" in fault(site, tmp_path / "g")
    assert len(site.requests) == 8


@pytest.mark.parametrize(("code", "words"), [(404, "is not there"), (410, "is not there"), (403, "is refused")])
def test_final_faults_are_not(site: Site, tmp_path: Path, code: int, words: str) -> None:
    site.codes = [code]
    message = fault(site, tmp_path / "f")
    assert message.startswith(f"{site.url}/f.bin: {words}") and f"HTTP {code}" in message
    assert len(site.requests) == 1


def test_redirects_lead_to_http_only(site: Site, tmp_path: Path) -> None:
    site.redirects = {"/r": f"{site.url}/f.bin", "/file": "file:///etc/passwd", "/ftp": "ftp://127.0.0.1/x"}
    item = Download(file="f", url=f"{site.url}/r", bytes=len(CONTENT), sha256=DIGEST)
    assert download(item, tmp_path / "f", Meter("f", print), WAITS) == DIGEST
    for path in ("/file", "/ftp", "file:///etc/passwd"):
        fault(site, tmp_path / "g", None, None, path=path)
    assert not (tmp_path / "g").exists()


def test_nobody_answers(tmp_path: Path, said: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/f"  # nobody listens on it
        item = Download(file="f", url=url, bytes=None, sha256=None)
        with pytest.raises(Unreachable, match="no connection"):
            download(item, tmp_path / "f", Meter("f", said.append), (0.0,) * 9)
    assert len(said) == module.UNREACHABLE_TRIES


def test_a_full_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    words = "0.0 GB are free, 0.0 GB are needed; free space, or choose another data"
    assert words in fault(site, tmp_path / "f")
    assert not (tmp_path / "f").exists()
