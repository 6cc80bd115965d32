"""One file over HTTP: tried again after a passing fault a bounded number of times, resumed, checked, then named.

What has come lies in ``NAME.part``. It is gone on with, in the same call and in the next, where the file's SHA-256 is
known: that tells whether all pieces are of one version, and where they are not the file is got again in one piece. A
file without a known SHA-256 begins anew at each try.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ssl_suite import __version__
from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.data import cache
from ssl_suite.data.catalogue import Download
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


def download(item: Download, target: Path, meter: Meter, waits: tuple[float, ...] = WAITS) -> str:
    """Download ``item`` to ``target``; returns its SHA-256.

    Raises:
        Unreachable: there is no network.
        SuiteError: the server refuses or lacks the file, or it is not the one wanted, or the disk is full.
    """
    part, answered = target.with_name(f"{target.name}.part"), False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for number, wait in enumerate([*waits, None], 1):
            try:
                digest = attempt(item, part, meter)
                atomic.sync(part)
                os.replace(part, target)
                atomic.sync(target.parent)
                return digest
            except Passing as fault:
                answered = answered or fault.answered
                if not answered and number > UNREACHABLE_TRIES:
                    raise Unreachable(str(fault)) from None
                if wait is None:
                    raise SuiteError(
                        f"{item.address}: {fault}, {count(number, 'try', 'tries')}; run the command again later."
                    ) from None
                pause = min(max(wait, fault.wait), LONGEST_WAIT)
                meter.say(f"{fault}; trying again in {pause:.0f} s")
                time.sleep(pause)
    except OSError as error:  # of the disk: those of the network are Passing
        why = f"{error.filename or target}: cannot be written ({error.strerror or error})"
        raise SuiteError(f"{why}; free space, or choose another data.root.") from None
    finally:
        if item.sha256 is None:
            part.unlink(missing_ok=True)
    raise AssertionError("the last try returns or raises")


def attempt(item: Download, part: Path, meter: Meter) -> str:
    """Make the partial file whole by one request, and check it; returns its SHA-256.

    Raises:
        Passing: it ended too early, or its pieces do not fit together.
        SuiteError: trying again would not help.
    """
    have = part.stat().st_size if part.exists() else 0
    if item.sha256 is None or have > (item.bytes or LARGEST):
        part.unlink(missing_ok=True)
        have = 0
    if have == 0 or have != item.bytes:
        receive(item, part, have, meter)
    size, digest = part.stat().st_size, cache.sha256(part)
    if item.bytes in (None, size) and item.sha256 in (None, digest):
        return digest
    part.unlink()
    if have:
        raise Passing("the file at the source has changed, starting again")
    raise SuiteError(
        f"{item.address}: what came has SHA-256 {digest}, the catalogue says {item.sha256}; the file has changed at "
        "its source or on the way, nothing was kept."
    )


def receive(item: Download, part: Path, have: int, meter: Meter) -> None:
    """Ask for what comes behind the first ``have`` bytes, and append it."""
    headers = {"User-Agent": f"ssl_suite/{__version__}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(item.link, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        response = opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # nothing is left to come
                return
            raise refused(item, error) from None
    except urllib.error.URLError as error:
        raise unreachable(item, error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise Passing(f"the connection broke ({reason_of(error)})") from None
    with response:
        if have and response.status != 206:
            meter.say(f"the server sends all of it again instead of the rest ({have:,} bytes were here)")
            part.unlink()
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else item.bytes
        if total is not None and item.bytes not in (None, total):
            part.unlink(missing_ok=True)
            raise SuiteError(
                f"{item.address}: has {total:,} bytes there, the catalogue says {item.bytes:,}; "
                "the file has changed at its source, nothing was kept."
            )
        if total is None and item.sha256 is None and not response.chunked:
            raise SuiteError(
                f"{item.address}: the server does not say how long it is, and no SHA-256 is known: "
                "whether all of it comes cannot be told; get it by other means."
            )
        check_space(part, (total or have) - have)
        meter.begin(have, total)
        with open(part, "ab") as file:
            while piece := read(response):
                file.write(piece)
                have += len(piece)
                meter.advance(len(piece))
                if have > (LARGEST if total is None else total):
                    part.unlink()
                    raise SuiteError(f"{item.address}: sends more than {total or LARGEST:,} bytes; nothing was kept.")
    if total is not None and have < total:
        raise Passing(f"the connection broke after {have:,} of {total:,} bytes")


def read(response: Any) -> bytes:
    """The next piece of a body; a fault of the network raises ``Passing``, so that others are of the disk."""
    try:
        return response.read1(PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise Passing(f"the connection broke ({reason_of(error)})") from None


def refused(item: Download, error: urllib.error.HTTPError) -> Exception:
    """What an answer that is no file means."""
    if error.code in PASSING:
        after = error.headers.get("Retry-After", "")
        return Passing(f"the server answers {error.code} {error.reason}", float(after) if after.isdigit() else 0.0)
    what = "is not there (any more)" if error.code in (404, 410) else "is refused by the server"
    return SuiteError(f"{item.address}: {what}: HTTP {error.code} {error.reason}.")


def unreachable(item: Download, reason: Any) -> Exception:
    """What a connection that never came about means."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return SuiteError(f"{item.address}: the server's certificate is not valid ({reason.verify_message}).")
    if isinstance(reason, OSError):
        return Passing(f"no connection ({reason_of(reason)})", answered=isinstance(reason, ssl.SSLError))
    return SuiteError(f"{item.address}: cannot be asked for ({reason}).")


def reason_of(error: BaseException) -> str:
    """An error of the network in a few words."""
    if isinstance(error, socket.gaierror):
        return "the server's name cannot be looked up"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:.0f} s"
    return getattr(error, "strerror", None) or type(error).__name__


def opener() -> urllib.request.OpenerDirector:
    """Follows redirects and the usual proxy variables, and opens nothing but http and https."""
    director = urllib.request.OpenerDirector()
    kinds = ("ProxyHandler", "UnknownHandler", "HTTPHandler", "HTTPSHandler", "HTTPDefaultErrorHandler")
    for kind in (*kinds, "HTTPRedirectHandler", "HTTPErrorProcessor"):
        director.add_handler(getattr(urllib.request, kind)())
    return director


def check_space(path: Path, needed: int) -> None:
    """Raise ``SuiteError`` where the disk has less than ``needed`` bytes left for ``path``."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SuiteError(
            f"{folder}: {free / 1e9:,.1f} GB are free, {needed / 1e9:,.1f} GB are needed; "
            f"free space, or choose another data.root."
        )
