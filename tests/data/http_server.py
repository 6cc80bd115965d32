"""A small HTTP server on 127.0.0.1 that can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """What the server serves, and how.

    Attributes:
        files: path to content.
        ranges: whether it answers Range requests.
        cut: bytes after which each of the next answers breaks off.
        always: bytes after which every further answer breaks off; 0 for none does.
        lengths: whether Content-Length is said.
        codes: status codes of the next answers, instead of a file.
        headers: further ones of every answer.
        redirects: path to address.
        requests: (method, path, Range header) of each request.
        sent: bytes of bodies written.
        hook: called before each answer.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    always: int = 0
    lengths: bool = True
    codes: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: int = 0
    url: str = ""
    hook: Callable[[Site], None] = lambda site: None


class Handler(BaseHTTPRequestHandler):
    """Answers for the ``Site`` of its server."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def end_headers(self) -> None:
        self.send_header("Connection", "close")  # said, or a client may use the connection again while it closes
        super().end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.hook(site)
        site.requests.append((self.command, self.path, self.headers.get("Range")))
        self.close_connection = True
        if site.codes:
            return self.short(site.codes.pop(0))
        if self.path in site.redirects:
            return self.short(302, Location=site.redirects[self.path])
        if self.path not in site.files:
            return self.short(404)
        content = site.files[self.path]
        start, code = 0, 200
        asked = self.headers.get("Range") if site.ranges else None
        if asked:
            start, code = int(asked.removeprefix("bytes=").split("-")[0]), 206
            if start >= len(content):
                return self.short(416, **{"Content-Range": f"bytes */{len(content)}"})
        self.send_response(code)
        if site.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in site.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            body = content[start:]
            body = body[: site.cut.pop(0)] if site.cut else body[: site.always or None]
            self.wfile.write(body)
            site.sent += len(body)
        return None

    def short(self, code: int, **headers: str) -> None:
        """An answer without a body."""
        self.send_response(code)
        self.send_header("Content-Length", "0")
        for name, value in {**self.server.site.headers, **headers}.items():  # type: ignore[attr-defined]
            self.send_header(name, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Silent about clients that go away."""

    def handle_error(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Site]:
    """A running server's site."""
    server = Server(("127.0.0.1", 0), Handler)
    site = Site()
    server.site = site  # type: ignore[attr-defined]
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
