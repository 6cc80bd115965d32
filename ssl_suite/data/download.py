"""One file over HTTP: resumed where it was cut off, tried again after a passing fault, hashed while it streams.

What has come lies in ``NAME.part``, and beside it in ``NAME.part.json`` by which mark the server knew that version of
the file (ETag or date). A later request asks for the rest only (RFC 9110, section 14), on condition that the file is
still that version; a server that cannot do so sends all of it again. The file gets its name when its length and
SHA-256 are right.
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ssl_suite import __version__
from ssl_suite.data.cache import sync, write_json
from ssl_suite.data.meter import Meter
from ssl_suite.errors import SuiteError

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each further try; a try that brought something starts them anew
UNREACHABLE_TRIES = 2  # of them, where no server has answered at all: there is no network, and a user waits
LONGEST_WAIT = 60.0  # seconds that a server's Retry-After is followed
TIMEOUT = 30.0  # seconds without a byte
PIECE = 1 << 16  # bytes taken off the connection at a time
PASSING = (408, 425, 429, 500, 502, 503, 504)


class Unreachable(SuiteError):
    """No server answered: offline, or the address is wrong. The text is the reason in a few words."""


class Passing(Exception):
    """A fault that may be gone at the next try.

    Args:
        why: in a few words.
        wait: seconds that the server asks to wait.
        answered: whether a server was reached.
    """

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
    """Download ``wanted`` to ``target``, going on with what an interrupted call has left.

    Raises:
        Unreachable: there is no network.
        SuiteError: the server refuses or lacks the file, or it is not the one wanted, or the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    transfer = Transfer(wanted, target, meter, waits)
    transfer.recover()
    failures, answered = 0, False
    while not transfer.complete:
        before = transfer.received
        try:
            transfer.attempt()
        except Passing as fault:
            failures = 1 if transfer.received > before else failures + 1
            answered = answered or fault.answered
            if not answered and failures > min(UNREACHABLE_TRIES, len(waits)):
                raise Unreachable(str(fault)) from None
            if failures > len(waits):
                raise SuiteError(f"{wanted.shown}: {fault}, {failures} times; run the command again later.") from None
            pause = min(max(waits[failures - 1], fault.wait), LONGEST_WAIT)
            meter.say(f"{fault}; trying again in {pause:.0f} s")
            time.sleep(pause)
    return transfer.finish()


class Transfer:
    """A file on its way.

    Attributes:
        have: bytes in the partial file; ``digest`` their SHA-256.
        received: bytes that came over the network.
        total: the file's length, once a server has said it.
        complete: whether all of it is there.
        resumed: whether it was put together from more than one answer.
    """

    def __init__(self, wanted: Wanted, target: Path, meter: Meter, waits: tuple[float, ...]) -> None:
        self.wanted, self.target, self.meter, self.waits = wanted, target, meter, waits
        self.part = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        self.have = self.received = 0
        self.digest = hashlib.sha256()
        self.marks: dict[str, str] = {}
        self.total: int | None = None
        self.complete = self.resumed = False

    def recover(self) -> None:
        """Take up what an earlier call has left of the same URL."""
        try:
            note = json.loads(self.note.read_text("utf-8"))
            if note["url"] != hashed(self.wanted.url):
                raise ValueError
            with open(self.part, "rb") as file:
                while piece := file.read(1 << 20):
                    self.digest.update(piece)
                    self.have += len(piece)
            self.marks, self.resumed = dict(note["marks"]), self.have > 0
            self.complete = self.have == self.wanted.bytes
            if self.wanted.bytes is not None and self.have > self.wanted.bytes:
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            self.forget()

    def forget(self) -> None:
        """Start from nothing."""
        self.have, self.digest, self.marks, self.resumed = 0, hashlib.sha256(), {}, False
        for path in (self.part, self.note):
            path.unlink(missing_ok=True)

    def attempt(self) -> None:
        """One request, and as much of its answer as comes.

        Raises:
            Passing: it ended too early.
            SuiteError: trying again would not help.
        """
        request = urllib.request.Request(self.wanted.url, headers=self.headers())
        try:
            with opener().open(request, timeout=TIMEOUT) as response:
                self.begin(response)
                with open_part(self.part, self.have) as file:
                    self.take(response, file)
        except urllib.error.HTTPError as error:
            with error:
                self.refused(error)
        except urllib.error.URLError as error:
            raise self.unreachable(error.reason) from None
        except (OSError, http.client.HTTPException) as error:  # timeouts and resets while the body comes
            raise Passing(f"the connection broke ({words(error)})") from None
        if self.total is not None and self.have < self.total:
            raise Passing(f"the connection broke after {self.have:,} of {self.total:,} bytes")
        self.complete = True

    def headers(self) -> dict[str, str]:
        """Of the request: for the rest of the file where some is here, and only if it is still the same file."""
        found = {"User-Agent": f"ssl_suite/{__version__}", "Accept-Encoding": "identity"}
        if self.have:
            found["Range"] = f"bytes={self.have}-"
            mark = self.marks.get("etag") or self.marks.get("modified")
            if mark and not mark.startswith("W/"):  # a weak ETag says nothing about bytes
                found["If-Range"] = mark
        return found

    def begin(self, response: Any) -> None:
        """Look at the head of an answer: does it go on where the partial file ends, and is it the file wanted?"""
        marks = {"etag": response.headers.get("ETag", ""), "modified": response.headers.get("Last-Modified", "")}
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            # Beside If-Range an answer may leave out what the first one said, so that only a different mark counts.
            other = any(marks[name] and marks[name] != known for name, known in self.marks.items() if known)
            if span is None or int(span[1]) != self.have or other:
                self.forget()
                raise Passing("the file at the source has changed, starting again")
            marks = {name: mark or self.marks.get(name, "") for name, mark in marks.items()}
            total, self.resumed = int(span[2]), True
        elif self.have:
            self.meter.say(f"the server sends all of it again instead of the rest ({self.have:,} bytes were here)")
            self.forget()
        if total is not None and self.wanted.bytes not in (None, total):
            self.forget()
            raise SuiteError(
                f"{self.wanted.shown}: has {total:,} bytes there, the catalogue says {self.wanted.bytes:,}; "
                f"the file has changed at its source, nothing was kept."
            )
        self.total, self.marks = self.wanted.bytes if total is None else total, marks
        enough(self.target, (self.total or self.have) - self.have)
        try:
            write_json(self.note, {"url": hashed(self.wanted.url), "marks": marks})
        except OSError as error:
            raise unwritable(self.note, error) from None
        self.meter.begin(self.have, self.total)

    def take(self, response: Any, file: IO[bytes]) -> None:
        """Append the body."""
        while piece := response.read1(PIECE):
            written(file, piece, self.part)
            self.digest.update(piece)
            self.have += len(piece)
            self.received += len(piece)
            self.meter.advance(len(piece))
            if self.total is not None and self.have > self.total:
                self.forget()
                raise SuiteError(f"{self.wanted.shown}: sends more than {self.total:,} bytes; nothing was kept.")

    def refused(self, error: urllib.error.HTTPError) -> None:
        """An answer that is no file. Returns where the partial file is already whole."""
        if error.code == 416:  # the range asked for begins at the end, or the file has become shorter
            whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if whole is not None and int(whole[1]) == self.have:
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
        """Check the whole file and give it its name.

        A wrong hash of a file that was put together from several answers is tried once more in one piece.
        """
        digest = self.digest.hexdigest()
        if self.wanted.bytes not in (None, self.have) or self.wanted.sha256 not in (None, digest):
            together, received = self.resumed, self.received
            self.forget()
            if together:
                self.meter.say("the file put together from several pieces is wrong; getting it again in one")
                again = download(self.wanted, self.target, self.meter, self.waits)
                return Done(again.bytes, again.sha256, again.received + received)
            raise SuiteError(
                f"{self.wanted.shown}: what came has SHA-256 {digest}, the catalogue says {self.wanted.sha256}; "
                f"the file has changed at its source or on the way, nothing was kept."
            )
        sync(self.part)
        os.replace(self.part, self.target)
        self.note.unlink(missing_ok=True)
        sync(self.target.parent)
        return Done(self.have, digest, self.received)


def opener() -> urllib.request.OpenerDirector:
    """Follows redirects and the usual proxy variables, and opens nothing but http and https."""
    director = urllib.request.OpenerDirector()
    kinds = ("ProxyHandler", "UnknownHandler", "HTTPHandler", "HTTPSHandler", "HTTPDefaultErrorHandler")
    for kind in (*kinds, "HTTPRedirectHandler", "HTTPErrorProcessor"):
        director.add_handler(getattr(urllib.request, kind)())
    return director


def hashed(url: str) -> str:
    """A URL as it is noted beside a partial file: it may hold a password."""
    return hashlib.sha256(url.encode("utf-8")).hexdigest()


def words(error: BaseException) -> str:
    """An error of the network in a few words."""
    if isinstance(error, socket.gaierror):
        return "the server's name cannot be looked up"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:.0f} s"
    return getattr(error, "strerror", None) or type(error).__name__


def open_part(path: Path, have: int) -> IO[bytes]:
    """The partial file, to be appended to."""
    try:
        return open(path, "ab" if have else "wb")
    except OSError as error:
        raise unwritable(path, error) from None


def written(file: IO[bytes], piece: bytes, path: Path) -> None:
    """Write; a full disk is no fault of the network."""
    try:
        file.write(piece)
    except OSError as error:
        with suppress(OSError):
            file.close()
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> SuiteError:
    return SuiteError(f"{path}: cannot be written ({error.strerror}); free space, or choose another data.root.")


def enough(path: Path, needed: int) -> None:
    """Raises ``SuiteError`` where the disk has less than ``needed`` bytes left."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise SuiteError(
            f"{path.parent}: {free / 1e9:,.1f} GB are free, {needed / 1e9:,.1f} GB are needed; "
            f"free space, or choose another data.root."
        )
