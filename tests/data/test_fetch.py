"""``data fetch``: from a server on this machine into a folder, checked and unpacked, or one line about what to do."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import catalogue
from ssl_suite.data.catalogue import Entry, read_source, state
from ssl_suite.data.fetch import fetch, offline
from ssl_suite.data.sources import resolve
from ssl_suite.modalities.dna import DNA
from tests.data.http_server import Site, serving

FASTA = b">x\n" + b"ACGT" * 5000 + b"\n"


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data folder, no proxy, no variable that forbids the network."""
    for name in ("SSL_DATA_DIR", "SSL_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def block(**changes: Any) -> dict[str, Any]:
    """A ``source`` block."""
    words = {"title": "a title", "modality": "dna", "use": "task", "official": "https://a.example/"}
    return {**words, "columns": {}, "splits": {"all": 1}, "licence": "none", "citation": "nobody", **changes}


def one(site: Site, content: bytes = FASTA, known: bool = True, **changes: Any) -> Entry:
    """An entry of one file to download."""
    site.files["/x.fa"] = content
    item = {"url": f"{site.url}/x.fa", "file": "deep/x.fa", "bytes": len(content), "sha256": sha(content)}
    item |= changes if known else {"bytes": None, "sha256": None}
    return Entry("known", read_source(block(files=[{"file": "deep/x.fa"}], downloads=[item]), "a.yaml"))


def packed(kind: str, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as file:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive(site: Site, raw: bytes, count: int | None = 2, **changes: Any) -> Entry:
    """An entry of an archive of FASTA files."""
    site.files["/x.tgz"] = raw
    item = {"url": f"{site.url}/x.tgz", "file": "x.tgz", "bytes": len(raw), "sha256": sha(raw), "unpack": "x"}
    files = [{"file": "x/top/*.fa", "count": count}]
    return Entry("known", read_source(block(files=files, downloads=[item | changes]), "a.yaml"))


def run(entry: Entry, *root: Path) -> list[str]:
    lines: list[str] = []
    fetch(entry, *root, report=lines.append, waits=(0.0,) * 3)
    return lines


def fault(entry: Entry, *root: Path) -> str:
    with pytest.raises(SuiteError) as caught:
        run(entry, *root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def data(entry: Entry, **more: Any) -> dict[str, Any]:
    """The ``data`` section that ``data=known`` composes to."""
    source = entry.source.model_dump()
    return {"name": entry.name, "path": None, "root": None, "source": source, **more}


def test_a_file_into_the_cache_where_runs_find_it(site: Site, tmp_path: Path) -> None:
    entry = one(site)
    with pytest.raises(
        SuiteError, match=r"deep/x.fa is not here; get it with `ssl_suite data fetch known` \(0\.0 MB\)"
    ):
        resolve(DNA(), data(entry))
    lines = run(entry)
    path = tmp_path / "cache/data/deep/x.fa"
    assert path.read_bytes() == FASTA
    assert lines == [f"known: all of it is here, below {tmp_path}/cache/data; use it with data=known"]
    assert resolve(DNA(), data(entry)).paths == [path]
    assert run(entry) == [f"known: all of it is here, below {tmp_path}/cache/data"]  # and asks the server nothing
    assert len(site.requests) == 1


def test_a_file_into_a_folder_of_ones_own(site: Site, tmp_path: Path) -> None:
    entry, root = one(site), tmp_path / "mine"
    assert run(entry, root)[-1].endswith(f"use it with data=known data.root={root}")
    assert resolve(DNA(), data(entry, root=str(root))).paths == [root / "deep/x.fa"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_unpacked_and_removed(kind: str, site: Site, tmp_path: Path) -> None:
    entry = archive(site, packed(kind, {"top/a.fa": FASTA, "./top/b.fa": FASTA, "top/notes": b"x"}))
    lines = run(entry)
    base = tmp_path / "cache/data"
    assert sorted(path.name for path in (base / "x/top").iterdir()) == ["a.fa", "b.fa", "notes"]
    assert not (base / "x.tgz").exists()
    assert any("3 files, 0.0 MB" in line for line in lines)
    assert json.loads((base / "x/.fetched.json").read_text())["address"] == f"{site.url}/x.tgz"
    assert resolve(DNA(), data(entry)).paths == [base / "x/top/a.fa", base / "x/top/b.fa"]
    run(entry)
    assert len(site.requests) == 1


def test_an_archive_with_other_things_in_it(site: Site, tmp_path: Path) -> None:
    entry = archive(site, packed("zip", {"top/a.fa": FASTA}))
    assert "x/top/*.fa finds 1 file instead of 2" in fault(entry)
    assert "does not hold x/top/*.fa" in fault(archive(site, packed("zip", {"a.fa": FASTA})), tmp_path / "other")


def test_an_archive_placed_by_hand_is_checked_unpacked_and_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = packed("tar", {"top/a.fa": FASTA, "top/b.fa": FASTA})
    entry, place = archive(site, raw), tmp_path / "cache/data/x.tgz"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = fault(entry)
    facts = f"{len(raw):,} bytes, SHA-256 {sha(raw)}"
    expected = (
        f"download {site.url}/x.tgz ({facts}) elsewhere, place it at {place} and run `ssl_suite data fetch known`"
    )
    assert line.startswith(f"known: HF_HUB_OFFLINE=1 forbids the network; {expected}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(raw[:-1])
    assert f"{place}: is not the catalogued file (its size differs)" in fault(entry)
    place.write_bytes(raw[:-1] + b"x")
    assert f"{place}: is not the catalogued file (its SHA-256 differs)" in fault(entry)
    place.write_bytes(raw)
    run(entry)
    assert place.exists()
    assert len(list(tmp_path.glob("cache/data/x/top/*.fa"))) == 2
    assert site.requests == []


def test_a_folder_in_the_way_is_left_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mine/x").mkdir(parents=True)
    (tmp_path / "mine/x/precious").write_text("1")
    raw = packed("zip", {"top/a.fa": FASTA, "top/b.fa": FASTA})
    assert "mine/x is in the way" in fault(archive(site, raw), tmp_path / "mine")
    assert (tmp_path / "mine/x/precious").exists()


def test_without_a_known_hash_nothing_is_taken_for_checked(site: Site, tmp_path: Path) -> None:
    entry = one(site, known=False)
    line = (
        f"x.fa: WARNING: no SHA-256 is known for {site.url}/x.fa: nobody has checked what came (SHA-256 {sha(FASTA)})"
    )
    assert line in run(entry)
    path = tmp_path / "cache/data/deep/x.fa"
    assert sorted(each.name for each in path.parent.iterdir()) == ["x.fa"]  # no note that a later call would believe
    path.unlink()
    other = FASTA + b"ACGT\n"  # the file has changed at its source
    assert any(sha(other) in line for line in run(one(site, other, known=False)))


def test_no_network(tmp_path: Path) -> None:
    with serving() as site:
        entry = one(site)
    line = fault(entry)  # the server has gone
    assert line.startswith("known: no connection (")
    assert f"place it at {tmp_path}/cache/data/deep/x.fa and run" in line


def test_a_full_disk_is_found_before_anything_is_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    raw = packed("zip", {"top/a.fa": FASTA, "top/b.fa": FASTA})
    assert "1.0 GB are free, 2.0 GB are needed" in fault(archive(site, raw, unpacked_bytes=2 * 10**9))
    assert site.requests == []


def test_an_unwritable_folder(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "known: " in fault(one(site), tmp_path / "file/below")


def test_what_is_published_nowhere_says_what_to_place_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [{"file": f"deep/{name}.fa", "bytes": len(FASTA), "sha256": sha(FASTA)} for name in "ab"]
    entry = Entry("known", read_source(block(files=files, instead="other"), "a.yaml"))
    monkeypatch.setenv("SSL_DATA_DIR", str(tmp_path / "mine"))
    line = fault(entry)
    assert f"place {tmp_path}/mine/deep/a.fa (20,004 bytes, SHA-256 {sha(FASTA)}) and 1 more" in line
    assert "or fetch data=other, or get the official data at https://a.example/" in line
    for item in files:
        path = tmp_path / "mine" / str(item["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FASTA)
    assert run(entry) == [f"known: all of it is here, below {tmp_path}/mine"]
    (tmp_path / "mine/deep/b.fa").write_bytes(FASTA[:-2] + b"C\n")
    assert "deep/b.fa is not the catalogued file (its SHA-256 differs)" in fault(entry)


def test_a_file_of_the_hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "c" * 40
    site.files["/elsewhere"] = FASTA  # the hub redirects to where it stores its files
    site.redirects[f"/datasets/owner/name/resolve/{commit}/sub/x.fa"] = f"{site.url}/elsewhere"
    item = {"hub": "owner/name", "revision": commit, "path": "sub/x.fa", "file": "x.fa"}
    item |= {"bytes": len(FASTA), "sha256": sha(FASTA)}
    entry = Entry("known", read_source(block(files=[{"file": "x.fa"}], downloads=[item]), "a.yaml"))
    line = f"download https://huggingface.co/datasets/owner/name/resolve/{commit}/sub/x.fa (20,004 bytes, SHA-256"
    with monkeypatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        assert f"HF_HUB_OFFLINE=1 forbids the network; {line}" in fault(entry, tmp_path / "mine")
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    run(entry)
    assert (tmp_path / "cache/data/x.fa").read_bytes() == FASTA


def test_offline_is_what_the_hub_takes_for_it() -> None:
    assert offline({"HF_HUB_OFFLINE": "1"}) == "HF_HUB_OFFLINE"
    assert offline({"HF_DATASETS_OFFLINE": "true"}) == "HF_DATASETS_OFFLINE"
    assert offline({"SSL_OFFLINE": "yes", "HF_HUB_OFFLINE": "1"}) == "SSL_OFFLINE"
    assert offline({"HF_HUB_OFFLINE": "0"}) is None
    assert offline({}) is None


def test_passwords_in_addresses_are_not_shown() -> None:
    item = catalogue.Download(file="f", bytes=1, sha256=None, url="https://me:secret@a.example/x?signature=s3cret#top")
    assert item.address == "https://a.example/x"
    content = block(files=[{"file": "f"}], downloads=[{**vars(item)}])
    with pytest.raises(SuiteError, match="hold no password") as caught:
        read_source(content, "a.yaml")
    assert "secret" not in str(caught.value)


def test_the_state_follows(site: Site, tmp_path: Path) -> None:
    entry, root = one(site), tmp_path / "mine"
    assert state(entry.source, [root]) == "absent"
    assert entry.shown == "fetch"
    run(entry, root)
    assert state(entry.source, [root]) == "here"
