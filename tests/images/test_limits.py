"""No file is read beyond what its pixels may need, from a disk or from a server that does not tell its length."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from inprocess import run
from pictures import WHOLE

from mimo_core.datasets.imagelist import list_images
from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.cache import ImageFiles, max_bytes_of


def test_a_sparse_giant_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "giant.png"
    path.write_bytes(WHOLE["png"])
    with path.open("r+b") as file:
        file.truncate(3 << 30)
    with pytest.raises(ImageError) as caught:
        ImageFiles(1 << 20).read(str(path))
    assert caught.value.kind is ErrorKind.TOO_LARGE
    assert f"at most {max_bytes_of(1 << 20)} are read" in str(caught.value)


class _Endless(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        piece = bytes(1 << 20)
        try:
            for _ in range(4096):
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endless() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/endless.png"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_sends_without_end_is_read_to_the_limit(endless: str) -> None:
    with pytest.raises(ImageError) as caught:
        ImageFiles(1 << 10).read(endless)
    assert caught.value.kind is ErrorKind.TOO_LARGE


def test_names_that_are_no_utf8_and_paths_beyond_all_limits_cost_themselves_alone(tmp_path: Path) -> None:
    latin = b"caf\xe9.png"
    for name in (latin, b"plain.png"):
        (tmp_path / name.decode("utf-8", "surrogateescape")).write_bytes(WHOLE["png"])
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"plain.png\n" + latin + b"\n" + b"deep/" * 1000 + b"x.png\n" + b"n" * 300 + b".png\n")
    assert len(list(list_images(str(listed)))) == 4
    done = run(listed, tmp_path / "out", engine="identity")
    outcomes = sorted((record.status, record.error_kind or "") for record in done.records.values())
    assert [status for status, _ in outcomes].count("restored") == 2
    assert all(kind in ("not_found", "unsupported", "write") for status, kind in outcomes if status == "failed")
