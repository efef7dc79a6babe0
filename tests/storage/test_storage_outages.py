"""A storage that is away is waited for, by everybody and aloud, and not without end."""

from collections.abc import Callable

import pytest
from fixtures_s3 import S3Server
from s3_proxy import Handler, proxy, slow_down

from mimo_core.errors import SystemFailure
from mimo_core.storage import Retries, Store, outages

pytestmark = pytest.mark.s3

# Gives up within a second where nobody waits.
HASTY = Retries(attempts=2, first_s=0.01, cap_s=0.05, alone_s=0.2)
AWAY = pytest.mark.parametrize("away", [Handler.drop, slow_down])


def acts(store: Store) -> dict[str, Callable[[], object]]:
    """Everything that drivers and workers ask of a store."""
    return {
        "read": lambda: store.read("k"),
        "write": lambda: store.write("k", b"1"),
        "list": lambda: [entry.key for entry in store.list("")],
        "create": lambda: store.create("new", b"1"),
        "exists": lambda: store.exists("k"),
        "delete": lambda: store.delete("new"),
    }


@AWAY
def test_an_outage_is_waited_for_aloud_whatever_is_asked(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, away: Callable[[Handler], None]
) -> None:
    store = Store(f"s3://{s3_bucket}/x", retries=HASTY)
    store.write("k", b"1")
    said: list[str] = []
    answers = {}
    left = 0

    def meddle(handler: Handler, number: int) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        away(handler)
        return True

    with proxy(s3_env, monkeypatch, meddle), outages.patient(60, said.append):
        for name, act in acts(store).items():
            # Far more than are tried where nobody waits.
            left = 8
            answers[name] = act()
            assert outages.waited_for() is None
    assert answers["read"] == b"1"
    assert answers["list"] == ["k"]
    assert answers["create"] is True
    assert len(said) == 2 * len(answers)
    for begin, end in zip(said[::2], said[1::2], strict=True):
        assert begin.startswith(f"s3://{s3_bucket} does not answer (")
        assert begin.endswith("; waiting up to 60 s for it")
        assert end.startswith(f"s3://{s3_bucket} answers again after ")


def test_what_is_read_once_the_storage_is_back_does_not_pass_for_waiting(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: who waits while others are served is left out of a run."""
    store = Store(f"s3://{s3_bucket}/x", retries=HASTY)
    store.write("k", b"1")
    waited: list[str | None] = []

    def meddle(handler: Handler, number: int) -> bool:
        if number <= 12:
            handler.drop()
            return True
        if handler.command == "GET":
            waited.append(outages.waited_for())
        return False

    said: list[str] = []
    with proxy(s3_env, monkeypatch, meddle), outages.patient(60, said.append):
        assert store.read("k") == b"1"
    assert waited == [None]
    assert len(said) == 2


@AWAY
def test_a_storage_that_stays_away_is_given_up_and_no_object_is_blamed(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, away: Callable[[Handler], None]
) -> None:
    def meddle(handler: Handler, number: int) -> bool:
        away(handler)
        return True

    said: list[str] = []
    store = Store(f"s3://{s3_bucket}/x", retries=HASTY)
    with proxy(s3_env, monkeypatch, meddle), outages.patient(0.3, said.append):
        for act in acts(store).values():
            with pytest.raises(SystemFailure):
                act()
    assert outages.waited_for() is None
    assert all("does not answer" in line for line in said), "nothing answered again"


def test_what_a_server_cannot_give_while_it_comes_back_is_not_laid_to_the_object(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gate is open before its disks are there."""
    store = Store(f"s3://{s3_bucket}/x", retries=HASTY)
    store.write("k", b"1")
    asked: list[str] = []

    def meddle(handler: Handler, number: int) -> bool:
        asked.append(handler.command)
        if len(asked) <= 12:
            handler.drop()
            return True
        if handler.command == "GET" and asked.count("GET") < 14:
            slow_down(handler)
            return True
        return False

    with proxy(s3_env, monkeypatch, meddle), outages.patient(60, lambda text: None):
        patient = Store(store.url, retries=Retries(attempts=2, first_s=0.01, cap_s=0.05, alone_s=20))
        assert patient.read("k") == b"1"


def test_who_only_looks_does_not_wait(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert outages.patience() == 0
    with pytest.raises(SystemFailure, match="cannot be reached"):
        Store(f"s3://{s3_bucket}/x", retries=HASTY).read("k")
