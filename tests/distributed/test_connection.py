"""Connecting to Ray where the surroundings are not as it expects them, and noticing that a cluster is lost."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_core.distributed import connection
from mimo_core.distributed.cluster_watch import watch
from mimo_core.distributed.connection import cluster_address, require_answer
from mimo_core.errors import SystemFailure, UsageError


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.parametrize(
    ("given", "address"),
    [("", ""), ("local", ""), (" head:6379 ", "head:6379"), ("[::1]:6379", "[::1]:6379"), ("auto", "auto")],
)
def test_an_address_names_a_cluster_or_none(monkeypatch: pytest.MonkeyPatch, given: str, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    assert cluster_address() == address


@pytest.mark.parametrize("given", ["nonsense", "head:", "head:port", "a b:1"])
def test_what_names_no_place_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    with pytest.raises(UsageError, match="expected HOST:PORT, as `ray start --head` prints it"):
        cluster_address()


def test_an_address_for_clients_names_the_way_to_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UsageError, match="ray job submit"):
        cluster_address()


def test_a_place_where_nothing_answers_is_named_soon(server: socket.socket) -> None:
    port = server.getsockname()[1]
    require_answer(f"127.0.0.1:{port}", 1)
    server.close()
    with pytest.raises(SystemFailure, match=f"no Ray cluster answers at 127.0.0.1:{port} .*Connection refused"):
        require_answer(f"127.0.0.1:{port}", 0.1)
    with pytest.raises(SystemFailure, match=r"no Ray cluster answers at no\.such\.host\.invalid:1"):
        require_answer("no.such.host.invalid:1", 60)


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_temporary_folder_with_a_long_name_is_replaced(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setenv(variable, "/tmp/" + "long" * 30)
    connection._shorten_temporary_folder()
    assert os.environ["RAY_TMPDIR"] == "/tmp"


def test_where_no_folder_has_a_short_name_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "long" * 30)
    monkeypatch.setattr(connection, "_SHORT_FOLDERS", ())
    with pytest.raises(UsageError, match="name one of at most 36 bytes with RAY_TMPDIR"):
        connection._shorten_temporary_folder()


def test_a_token_that_no_folder_can_keep_goes_through_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        # Set before it is deleted, so that it is deleted again in the end.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    connection._make_token_without_home()
    assert "RAY_AUTH_TOKEN" not in os.environ, "Ray keeps it in the user's folder"
    monkeypatch.setenv("HOME", "/proc/nothing")
    connection._make_token_without_home()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 32
    given = os.environ["RAY_AUTH_TOKEN"]
    connection._make_token_without_home()
    assert os.environ["RAY_AUTH_TOKEN"] == given


@pytest.mark.parametrize(("failures", "starts"), [(1, 2), (2, 2)])
def test_a_start_that_takes_too_long_is_tried_once_more(
    monkeypatch: pytest.MonkeyPatch, failures: int, starts: int
) -> None:
    """With a double for Ray, whose own processes are late only on a machine that is busy beyond measure."""
    monkeypatch.setattr(os, "environ", {**os.environ})
    begun: list[dict[str, object]] = []

    class LateRay:
        @staticmethod
        def init(**settings: object) -> None:
            begun.append(settings)
            if len(begun) <= failures:
                raise Exception("The current node timed out during startup. This could happen because ...")

        @staticmethod
        def shutdown() -> None:
            pass

    monkeypatch.setattr(connection, "ray", LateRay)
    if failures < starts:
        connection._start("auto", 0)
    else:
        with pytest.raises(SystemFailure, match=r"Ray does not start on this machine: .* timed out .*mimo doctor"):
            connection._start("auto", 0)
    assert len(begun) == starts
    assert begun[0] == begun[-1]


def test_a_cluster_counts_as_lost_when_nothing_has_answered_for_so_long(server: socket.socket) -> None:
    said: list[str] = []
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(*server.getsockname(), "head:1", 0.4, over, said.append))
    watcher.start()
    # It answers.
    watcher.join(1)
    assert watcher.is_alive()
    server.close()
    watcher.join(30)
    assert said == ["the Ray cluster (head:1) has not answered for 0 s"]


def test_nobody_is_told_after_the_end(server: socket.socket) -> None:
    over = threading.Event()
    over.set()
    server.close()
    watch("127.0.0.1", 9, "head:1", 0.0, over, pytest.fail)
