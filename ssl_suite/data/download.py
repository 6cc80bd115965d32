"""One file over HTTP: tried again after a passing fault a bounded number of times, resumed where that is safe.

What has come lies in ``NAME.part``. It is gone on with only where the server has given a mark by which it knows that
version of the file again (a strong ETag, else a date that is old enough; RFC 9110, sections 8.8 and 13.1.5), which is
kept in ``NAME.part.json``; otherwise each try begins anew, so that no file is put together from two versions. The file
gets its name when it is whole and its length and SHA-256 are those that are known.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from ssl_suite import __version__
from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.data.meter import Meter

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)  # seconds before each further try; after the last there is none
UNREACHABLE_TRIES = 2  # of them, where no server has answered at all: there is no network, and a user waits
LONGEST_WAIT = 60.0  # seconds that a server's Retry-After is followed
TIMEOUT = 30.0  # seconds without a byte
PIECE = 1 << 16  # bytes taken off the connection at a time
LARGEST = 64 << 30  # bytes of a file whose length nobody has said
PASSING = (408, 425, 429, 500, 502, 503, 504)


class Unreachable(SuiteError):
    """No server answered: offline, or the address is wrong. The text is the reason in a few words."""


class Passing(Exception):
    """A fault that may be gone at the next try; ``wait`` is what the server asks for, in seconds."""

    def __init__(self, why: str, wait: float = 0.0, answered: bool = True) -> None:
        super().__init__(why)
        self.wait, self.answered = wait, answered


@dataclass(frozen=True)
class Wanted:
    """What is asked for: the URL, how it is shown to a user, and length and SHA-256 where they are known."""

    url: str
    shown: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Done:
    """What came: length and SHA-256 of the file, and the bytes that crossed the network in this call."""

    bytes: int
    sha256: str
    received: int


def download(wanted: Wanted, target: Path, meter: Meter, waits: tuple[float, ...] = WAITS) -> Done:
    """Download ``wanted`` to ``target``, going on with what an interrupted call has left where that is safe.

    Raises:
        Unreachable: there is no network.
        SuiteError: the server refuses or lacks the file, or it is not the one wanted, or the disk is full.
    """
    transfer = Transfer(wanted, target, meter)
    answered = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for number, wait in enumerate([*waits, None], 1):
            try:
                transfer.attempt()
                return transfer.finish()
            except Passing as fault:
                answered = answered or fault.answered
                if not answered and number > UNREACHABLE_TRIES:
                    raise Unreachable(str(fault)) from None
                if wait is None:
                    raise SuiteError(
                        f"{wanted.shown}: {fault}, {count(number, 'try', 'tries')}; run the command again later."
                    ) from None
                pause = min(max(wait, fault.wait), LONGEST_WAIT)
                meter.say(f"{fault}; trying again in {pause:.0f} s")
                time.sleep(pause)
    except OSError as error:  # of the disk: those of the network are Passing
        why = f"{error.filename or target}: cannot be written ({error.strerror or error})"
        raise SuiteError(f"{why}; free space, or choose another data.root.") from None
    finally:
        if not transfer.note.exists():
            transfer.part.unlink(missing_ok=True)
    raise AssertionError("the last try returns or raises")


class Transfer:
    """A file on its way: ``received`` bytes came in this call; ``resumed`` if the last try went on with a part."""

    def __init__(self, wanted: Wanted, target: Path, meter: Meter) -> None:
        self.wanted, self.target, self.meter = wanted, target, meter
        self.part, self.note = (target.with_name(f"{target.name}.part{more}") for more in ("", ".json"))
        self.key = hashlib.sha256(wanted.url.encode("utf-8")).hexdigest()  # noted, as a URL may hold a password
        self.received, self.resumed = 0, False

    def here(self) -> tuple[int, str]:
        """Bytes of the partial file and the mark of its version; what cannot be gone on with is removed."""
        try:
            note = json.loads(self.note.read_text("utf-8"))
            have, mark = self.part.stat().st_size, str(note["mark"])
            if note["url"] == self.key and mark and 0 < have <= (self.wanted.bytes or LARGEST):
                return have, mark
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.forget()
        return 0, ""

    def forget(self) -> None:
        """Start from nothing."""
        for path in (self.part, self.note):
            path.unlink(missing_ok=True)

    def attempt(self) -> None:
        """One request; afterwards the partial file is whole.

        Raises:
            Passing: it ended too early.
            SuiteError: trying again would not help.
        """
        have, mark = self.here()
        self.resumed = have > 0
        if have and have == self.wanted.bytes:
            return
        asked = {"User-Agent": f"ssl_suite/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(
            self.wanted.url, headers=asked | ({"Range": f"bytes={have}-", "If-Range": mark} if have else {})
        )
        try:
            response = opener().open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                return self.refused(error, have)
        except urllib.error.URLError as error:
            raise self.unreachable(error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"the connection broke ({words(error)})") from None
        with response:
            self.take(response, have, mark)

    def take(self, response: Any, have: int, mark: str) -> None:
        """Append the body of an answer, or begin anew with it, and see that it is whole."""
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        now = version(response.headers)
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != have or (have and now != mark):
                self.forget()
                raise Passing("the file at the source has changed, starting again")
            total = int(span[2])
        else:
            if have:
                self.meter.say(f"the server sends all of it again instead of the rest ({have:,} bytes were here)")
            self.forget()
            have, mark, self.resumed = 0, now, False
        if total is not None and self.wanted.bytes not in (None, total):
            self.forget()
            raise SuiteError(
                f"{self.wanted.shown}: has {total:,} bytes there, the catalogue says {self.wanted.bytes:,}; "
                f"the file has changed at its source, nothing was kept."
            )
        total = self.wanted.bytes if total is None else total
        if total is None and self.wanted.sha256 is None and not response.chunked:
            raise SuiteError(
                f"{self.wanted.shown}: the server does not say how long it is, and no SHA-256 is known: "
                "whether all of it comes cannot be told; get it by other means."
            )
        enough(self.target, (total or have) - have)
        if mark:
            atomic.write_json(self.note, {"url": self.key, "mark": mark})
        self.meter.begin(have, total)
        with open(self.part, "ab") as file:
            for piece in pieces(response):
                file.write(piece)
                have += len(piece)
                self.received += len(piece)
                self.meter.advance(len(piece))
                if have > (LARGEST if total is None else total):
                    self.forget()
                    raise SuiteError(
                        f"{self.wanted.shown}: sends more than {total or LARGEST:,} bytes; nothing was kept."
                    )
        if total is not None and have < total:
            raise Passing(f"the connection broke after {have:,} of {total:,} bytes")

    def refused(self, error: urllib.error.HTTPError, have: int) -> None:
        """An answer that is no file. Returns where the partial file is already whole."""
        if error.code == 416:  # the range asked for begins at the end, or the file has become shorter
            if error.headers.get("Content-Range", "") == f"bytes */{have}":
                return
            self.forget()
            raise Passing("the file at the source has changed, starting again")
        if error.code in PASSING:
            after = error.headers.get("Retry-After", "")
            raise Passing(f"the server answers {error.code} {error.reason}", float(after) if after.isdigit() else 0.0)
        what = "is not there (any more)" if error.code in (404, 410) else "is refused by the server"
        raise SuiteError(f"{self.wanted.shown}: {what}: HTTP {error.code} {error.reason}.")

    def unreachable(self, reason: Any) -> Exception:
        """What a connection that never came about means."""
        if isinstance(reason, ssl.SSLCertVerificationError):
            return SuiteError(f"{self.wanted.shown}: the server's certificate is not valid ({reason.verify_message}).")
        if isinstance(reason, OSError):
            return Passing(f"no connection ({words(reason)})", answered=isinstance(reason, ssl.SSLError))
        return SuiteError(f"{self.wanted.shown}: cannot be asked for ({reason}).")

    def finish(self) -> Done:
        """Check the whole file and give it its name. A wrong one that came in pieces is got again in one."""
        with open(self.part, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = self.part.stat().st_size
        if self.wanted.bytes not in (None, size) or self.wanted.sha256 not in (None, digest):
            self.forget()
            if self.resumed:
                raise Passing("the file put together from several pieces is wrong, starting again")
            raise SuiteError(
                f"{self.wanted.shown}: what came has SHA-256 {digest}, the catalogue says {self.wanted.sha256}; "
                f"the file has changed at its source or on the way, nothing was kept."
            )
        atomic.sync(self.part)
        os.replace(self.part, self.target)
        self.note.unlink(missing_ok=True)
        atomic.sync(self.target.parent)
        return Done(size, digest, self.received)


def version(headers: Any) -> str:
    """The mark by which a server knows a version of a file byte by byte, for ``If-Range``; empty where there is none.

    A weak ETag says nothing about bytes. A date does only if the file was older than it can tell (a minute, as
    RFC 9110 advises).
    """
    etag, modified, now = (headers.get(name, "") for name in ("ETag", "Last-Modified", "Date"))
    if etag:
        return etag if etag.startswith('"') else ""
    try:
        age = parsedate_to_datetime(now) - parsedate_to_datetime(modified)
    except (TypeError, ValueError):
        return ""
    return modified if age.total_seconds() >= 60 else ""


def pieces(response: Any) -> Any:
    """The body as it comes; a fault of the network raises ``Passing``, so that others are of the disk."""
    while True:
        try:
            piece = response.read1(PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"the connection broke ({words(error)})") from None
        if not piece:
            return
        yield piece


def opener() -> urllib.request.OpenerDirector:
    """Follows redirects and the usual proxy variables, and opens nothing but http and https."""
    director = urllib.request.OpenerDirector()
    kinds = ("ProxyHandler", "UnknownHandler", "HTTPHandler", "HTTPSHandler", "HTTPDefaultErrorHandler")
    for kind in (*kinds, "HTTPRedirectHandler", "HTTPErrorProcessor"):
        director.add_handler(getattr(urllib.request, kind)())
    return director


def words(error: BaseException) -> str:
    """An error of the network in a few words."""
    if isinstance(error, socket.gaierror):
        return "the server's name cannot be looked up"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:.0f} s"
    return getattr(error, "strerror", None) or type(error).__name__


def enough(path: Path, needed: int) -> None:
    """Raises ``SuiteError`` where the disk has less than ``needed`` bytes left."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise SuiteError(
            f"{path.parent}: {free / 1e9:,.1f} GB are free, {needed / 1e9:,.1f} GB are needed; "
            f"free space, or choose another data.root."
        )
