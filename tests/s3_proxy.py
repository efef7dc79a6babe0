"""A proxy in front of the tests' S3 server that drops, delays, damages or answers itself what a test chooses."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fixtures_s3 import S3Server


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the real server, except where `meddle(handler, number)` answers instead."""

    daemon_threads = True

    def __init__(self, endpoint: str, meddle: Callable[["Handler", int], bool]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = endpoint.removeprefix("http://")
        self.meddle = meddle
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    body = b""

    def _any(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.server.meddle(self, len(self.server.requests)):
            self.answer(*self.forward())

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815

    def forward(self) -> tuple[int, dict[str, str], bytes]:
        # The host was signed by the client as it sees it; the server takes it from this header.
        connection = HTTPConnection(self.server.target)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        headers["X-Forwarded-Host"] = self.headers["Host"]
        connection.request(self.command, self.path, self.body or None, headers)
        response = connection.getresponse()
        data = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() != "transfer-encoding"}
        connection.close()
        return response.status, kept, data

    def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        if self.command != "HEAD":
            headers = {**headers, "Content-Length": headers.get("Content-Length", str(len(data)))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[Handler, int], bool]) -> Iterator[Proxy]:
    with Proxy(server.endpoint, meddle) as passing:
        thread = threading.Thread(target=passing.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", passing.endpoint)
        try:
            yield passing
        finally:
            passing.shutdown()
            thread.join()


def slow_down(handler: Handler) -> None:
    body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
    handler.answer(503, {"Content-Type": "application/xml"}, body)
