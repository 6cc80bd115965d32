"""Archives made to do harm, and honest ones."""

from __future__ import annotations

import gzip
import io
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.data import archives
from ssl_suite.data.archives import unpack

COUNT = 100  # mutations of a kind
HONEST = {"a.txt": b"one", "deep/er/b.bin": bytes(5000), "deep/empty": b""}


def zipped(path: Path, members: dict[str, bytes], kinds: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (kinds or {}).get(name, stat.S_IFREG | 0o600) << 16
            file.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w:gz", **special: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o7777
            file.addfile(info, io.BytesIO(content))
        for info in special.values():
            file.addfile(info)
    return path


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


MAKERS: dict[str, Callable[[Path], Path]] = {
    "zip": lambda path: zipped(path, HONEST),
    "tar": lambda path: tarred(path, HONEST, "w"),
    "gz": lambda path: tarred(path, HONEST, "w:gz"),
    "bz2": lambda path: tarred(path, HONEST, "w:bz2"),
    "xz": lambda path: tarred(path, HONEST, "w:xz", folder=entry("deep/none", tarfile.DIRTYPE)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_in_an_archive_comes_out(kind: str, tmp_path: Path) -> None:
    result = unpack(MAKERS[kind](tmp_path / "archive"), tmp_path / "deep/into", note={".note.json": {"x": 1}})
    assert (result.files, result.bytes) == (3, 5003)
    assert content(tmp_path / "deep/into") == {**HONEST, ".note.json": b'{\n "x": 1\n}\n'}
    modes = {path.stat().st_mode & 0o7111 for path in (tmp_path / "deep/into").rglob("*") if path.is_file()}
    assert modes == {0}  # neither setuid nor executable, whatever the archive says


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a/..", "..\\x", "C:/x", "a\nb", "", "."])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_outside(name: str, make: Callable, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = make(tmp_path / "archive", {"good": b"1", name: b"evil"})
    with pytest.raises(SuiteError, match=r"archive: (not unpacked: |is damaged)") as caught:
        unpack(archive, tmp_path / "in/to")
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == {"archive": archive.read_bytes()}
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.parametrize(
    "special",
    [
        entry("link", tarfile.SYMTYPE, "/etc"),
        entry("link", tarfile.SYMTYPE, "good"),
        entry("link", tarfile.LNKTYPE, "/etc/passwd"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("disk", tarfile.BLKTYPE),
    ],
)
def test_links_and_devices_in_a_tar(special: tarfile.TarInfo, tmp_path: Path) -> None:
    archive = tarred(tmp_path / "archive", {"good": b"1"}, special=special)
    with pytest.raises(SuiteError, match=f"not unpacked: '{special.name}' is a link or device"):
        unpack(archive, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip(kind: int, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"good": b"1", "link": b"/etc/passwd"}, {"link": kind | 0o777})
    with pytest.raises(SuiteError, match="'link' is a link or device"):
        unpack(archive, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("make", [zipped, tarred])
def test_bombs(make: Callable, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {"a": bytes(20_000_000), "b": b"1"})
    assert archive.stat().st_size < 20_000_000 / archives.RATIO
    with pytest.raises(SuiteError, match="would unpack to"):
        unpack(archive, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    with pytest.raises(SuiteError, match=r"20,000,000( bytes)? allowed"):
        unpack(archive, tmp_path / "into", 20_000_000)
    assert unpack(archive, tmp_path / "into", 20_000_001).bytes == 20_000_001


def test_a_zip_that_lies_about_a_length(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"a": bytes(2_000_000)})
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace(struct.pack("<L", 2_000_000), struct.pack("<L", 10)))
    with pytest.raises(SuiteError, match="is damaged"):
        unpack(archive, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBERS", 2)
    with pytest.raises(SuiteError, match="more than 2 files"):
        unpack(zipped(tmp_path / "archive", HONEST), tmp_path / "into")


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(("names", "words"), [(("a/b", "a/./b"), "twice"), (("a", "a/b"), "archive: ")])
def test_names_in_each_others_way(make: Callable, names: tuple[str, str], words: str, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", dict.fromkeys(names, b"1"))
    with pytest.raises(SuiteError, match=words):
        unpack(archive, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"hello", b"PK\3\4" + bytes(40), gzip.compress(b"no tar"), gzip.compress(b"")[:12]],
    ids=["empty", "words", "zip", "gzip", "gzip cut"],  # gzip's bytes hold the time: no name two processes share
)
def test_no_archive(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(raw)
    with pytest.raises(SuiteError, match="is damaged"):
        unpack(tmp_path / "archive", tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "xz"])
def test_mutated_archives_unpack_or_stop_with_one_line(kind: str, tmp_path: Path) -> None:
    """Seeded mutations: bit flips and truncations. Nothing but ``SuiteError`` comes out, and nothing is left."""
    raw, draw = MAKERS[kind](tmp_path / "archive").read_bytes(), random.Random(0)
    survived = 0
    for _ in range(COUNT):
        changed = bytearray(raw[: draw.randrange(1, len(raw))] if draw.random() < 0.3 else raw)
        for _ in range(draw.randrange(1, 5)):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        (tmp_path / "archive").write_bytes(changed)
        try:
            unpack(tmp_path / "archive", tmp_path / "into", 1 << 20)
        except SuiteError:
            assert not (tmp_path / "into").exists()
            continue
        survived += 1
        for path in sorted((tmp_path / "into").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "into").rmdir()
    assert survived < COUNT
    assert {path.name for path in tmp_path.iterdir()} == {"archive"}
