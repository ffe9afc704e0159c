"""A web server on this machine that misbehaves on request, for tests of downloads."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `content` at every path, with ranges and a tag, unless `answer` does otherwise.

    answer: called with the handler and the number of this request (from 0) before anything is
    sent; returns True if it has answered.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.answer: Callable[[Handler, int], bool | None] = lambda handler, number: False
        self.ranges: list[str | None] = []  # the Range header of each request
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.files = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def files(self) -> FileServer:
        return self.server.files  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        number = len(self.files.ranges)
        self.files.ranges.append(self.headers["Range"])
        try:
            if not self.files.answer(self, number):
                self.send_file()
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True

    def send_file(
        self,
        ranges: bool = True,
        stop_after: int | None = None,
        tag: str | None = '"one"',
        pause_seconds: float = 0.0,
        piece_bytes: int = 1 << 16,
    ) -> None:
        """The file, or what the request asks of it; closes early after `stop_after` bytes."""
        content = self.files.content
        start, asked = 0, self.headers["Range"]
        if ranges and asked and self.headers["If-Range"] in (None, tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            whole = len(content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:] if stop_after is None else content[start : start + stop_after]
        for place in range(0, len(body), piece_bytes):
            self.wfile.write(body[place : place + piece_bytes])
            self.wfile.flush()
            time.sleep(pause_seconds)

    def send_status(self, code: int, **headers: str) -> bool:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        return True

    def log_message(self, *_: object) -> None:
        pass
