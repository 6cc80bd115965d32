"""Unpacking zip and tar archives that nobody vouches for.

Members are written by this module's own loop, never by ``extractall``: only plain files, only below the folder asked
for, never more bytes than allowed, and the folder appears whole or not at all. Links are refused, those within the
folder too: they were the way around Python's ``data`` filter (CVE-2025-4517), and no data set here has any.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError

# Where the catalogue does not say: so many times the archive's length, and this much from even the smallest one.
# Text packs about 4 times, tables up to 10, zip's own limit is about 1,000.
RATIO, LEAST = 50, 16 << 20
MEMBERS = 2_000_000  # Speech Commands has 105,829; more would rather exhaust the inodes
PIECE = 1 << 20  # bytes copied at a time


class Member(NamedTuple):
    """A plain file in an archive: its name as written there, its declared length, and how to open it."""

    name: str
    length: int
    open: Callable[[], IO[bytes] | None]


class Unpacked(NamedTuple):
    """What came out of an archive."""

    files: int
    bytes: int


def unpack(archive: Path, into: Path, limit: int | None = None, note: Mapping[str, Any] | None = None) -> Unpacked:
    """Unpack ``archive`` into the new folder ``into``.

    Args:
        archive: a zip file, or tar plain or packed with gzip, bzip2 or xz, by its content.
        into: appears when all is in it; it must not be there yet.
        limit: bytes that may come out; default: ``RATIO`` times the archive's length, ``LEAST`` at least.
        note: by file name, JSON to add to the folder.

    Raises:
        SuiteError: the archive is damaged, holds what must not be unpacked, or too much; nothing is left behind.
    """
    allowed = max(LEAST, RATIO * archive.stat().st_size) if limit is None else limit
    beside = into.with_name(f".{into.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        with faults_in_one_line(archive):
            result = write(archive, beside, allowed)
            for name, content in (note or {}).items():
                atomic.write_json(beside / name, content)
            atomic.sync(beside)
            beside.rename(into)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return result


@contextmanager
def faults_in_one_line(archive: Path) -> Iterator[None]:
    """What the libraries say of a damaged archive, and a full disk, as one line."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise SuiteError(f"{archive}: is damaged, or no zip or tar archive ({error}); download it again.") from None
    except RuntimeError as error:  # zipfile: encrypted, or a method it does not know
        raise SuiteError(f"{archive}: cannot be unpacked ({error}); unpack it by other means.") from None
    except OSError as error:
        if error.errno is None:  # gzip.BadGzipFile and bz2, about the content
            raise SuiteError(f"{archive}: is damaged ({error}); download it again.") from None
        why = f"{error.filename or archive}: {error.strerror}"
        raise SuiteError(f"{archive}: cannot be unpacked ({why}); free space, or choose another data.root.") from None


def refused(archive: Path, why: str) -> SuiteError:
    """The one line about an archive that is not unpacked at all."""
    return SuiteError(f"{archive}: not unpacked: {why}; the file is not what the catalogue means, do not use it.")


def members(archive: Path) -> Iterator[Member]:
    """The plain files of an archive, in one pass from front to back."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise refused(archive, f"'{info.filename}' is a link or device")
                if not info.filename.endswith("/"):  # is_dir() fails on an empty name
                    yield Member(info.filename, info.file_size, lambda info=info: packed.open(info))  # type: ignore[misc]
        return
    with tarfile.open(archive, "r|*") as tar:
        for item in tar:
            if not item.isreg() and not item.isdir():
                raise refused(archive, f"'{item.name}' is a link or device")
            if item.isreg():
                yield Member(item.name, item.size, lambda item=item: tar.extractfile(item))  # type: ignore[misc]


def write(archive: Path, into: Path, allowed: int) -> Unpacked:
    """Write the members below ``into``, and count. A member must have its declared length, whatever its packed data
    would give."""
    files = total = 0
    for member in members(archive):
        target = into / safe(archive, member.name)
        files += 1
        total += member.length
        if files > MEMBERS:
            raise refused(archive, f"it holds more than {MEMBERS:,} files")
        if total > allowed:
            raise refused(archive, f"it would unpack to more than the {allowed:,} bytes allowed")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            output = open(target, "xb")  # noqa: SIM115
        except (FileExistsError, IsADirectoryError):
            raise refused(archive, f"it holds '{member.name}' twice") from None
        count = 0
        with output, member.open() as source:  # type: ignore[union-attr]  # plain files can be opened
            while count <= member.length and (piece := source.read(min(PIECE, member.length - count + 1))):
                count += len(piece)
                output.write(piece)
        if count != member.length:
            raise SuiteError(
                f"{archive}: is damaged: '{member.name}' is not {member.length:,} bytes long as it says; download it "
                "again."
            )
    return Unpacked(files, total)


def safe(archive: Path, name: str) -> Path:
    """The relative path a member's name stands for.

    Raises:
        SuiteError: it is absolute, has ``..``, a backslash or control letters in it, or is empty.
    """
    path = PurePosixPath(name)
    odd = "\\" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    if not path.parts or path.is_absolute() or ".." in path.parts or odd or name[1:2] == ":":
        raise refused(archive, f"the name {name!a} in it leads outside, or is none")
    return Path(path)
