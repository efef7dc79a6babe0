"""A bucket as a store, over HTTP against a real server: pages, errors, credentials, and a network that fails."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_s3 import S3Server
from s3_proxy import Handler, proxy, slow_down

from mimo_core.errors import ErrorKind, ImageError, MimoError, SystemFailure, UsageError
from mimo_core.storage import Retries, Store, bucket, read_url

pytestmark = pytest.mark.s3

QUICK = Retries(attempts=2, first_s=0.01, alone_s=0, patience_s=0)


# The server's own pages have a thousand keys, which take half a minute to write.
@pytest.mark.parametrize("page", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_keys_are_listed_over_pages(
    page: int, s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = bucket.call

    def ask_for_a_page(fs: object, operation: str, **parameters: object) -> object:
        return ask(fs, operation, **parameters, **({"MaxKeys": page} if operation == "list_objects_v2" else {}))

    monkeypatch.setattr(bucket, "call", ask_for_a_page)
    store = Store(f"s3://{s3_bucket}/many")
    names = [f"d{number % 7}/{number:05d}.png" for number in range(2 * page + 1)]
    for name in names:
        store.write(name, b"")
    with proxy(s3_env, monkeypatch, lambda handler, number: False) as passing:
        entries = store.list()
        first = next(entries)
        assert len(passing.requests) <= 2, "a page and the one after it, not the whole listing"
        found = [first.key] + [entry.key for entry in entries]
        assert len(passing.requests) == 3
    assert found == sorted(names)
    store.delete_tree("d3")
    assert sorted(entry.key for entry in store.list()) == sorted(name for name in names if not name.startswith("d3/"))


def test_placeholders_of_folders_are_not_listed(s3_bucket: str, s3_env: S3Server) -> None:
    client = s3_env.client()
    client.put_object(Bucket=s3_bucket, Key="p/folder/", Body=b"")
    client.put_object(Bucket=s3_bucket, Key="p/folder/x.png", Body=b"1")
    assert [entry.key for entry in Store(f"s3://{s3_bucket}/p").list()] == ["folder/x.png"]


def test_the_root_of_a_bucket_is_a_store(s3_bucket: str) -> None:
    store = Store(f"s3://{s3_bucket}/")
    store.write("x/y", b"1")
    assert [entry.key for entry in store.list()] == ["x/y"]
    assert store.show("x/y") == f"s3://{s3_bucket}/x/y"


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody-knows"}, "InvalidAccessKeyId"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "NoCredentialsError"),
        ({"AWS_PROFILE": "no-such-profile"}, "ProfileNotFound"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_failures_of_the_whole_store_stop_the_run_without_secrets(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None], text: str
) -> None:
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    for act in (
        *(lambda: store.read("k"), lambda: store.write("k", b"1"), lambda: store.create("k", b"1")),
        *(lambda: next(store.list()), lambda: store.exists("k")),
    ):
        with pytest.raises(SystemFailure) as caught:
            act()
        message = str(caught.value)
        assert text in message
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        for secret in ("wrong-secret", "testsecret", "X-Amz"):
            assert secret not in message


def test_a_missing_bucket_stops_the_run(s3_env: S3Server) -> None:
    store = Store("s3://no-such-bucket-anywhere/x", retries=QUICK)
    for act in (lambda: store.read("k"), lambda: store.write("k", b"1"), lambda: next(store.list())):
        with pytest.raises(SystemFailure, match="no bucket 'no-such-bucket-anywhere'"):
            act()


def test_who_may_only_read_reads_and_cannot_write(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    store.write("k", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_env.reader_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_env.reader_secret)
    assert store.read("k") == b"1"
    assert len(list(store.list())) == 1
    for act in (store.write, store.create):
        with pytest.raises(SystemFailure, match="no permission to write") as caught:
            act("new", b"2")
        assert caught.value.kind is ErrorKind.NO_PERMISSION


def test_a_profile_in_the_usual_files_is_enough(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(f"[profile team]\nregion = us-east-1\nendpoint_url = {s3_env.endpoint}\n")
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = {s3_env.access_key}\naws_secret_access_key = {s3_env.secret_key}\n"
    )
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    store = Store(f"s3://{s3_bucket}/x")
    store.write("k", b"profile")
    assert store.read("k") == b"profile"


@pytest.mark.parametrize("failure", [slow_down, Handler.drop])
def test_what_fails_for_a_while_is_tried_again(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, failure: Callable[[Handler], None]
) -> None:
    def meddle(handler: Handler, number: int) -> bool:
        if number % 3 == 0:
            return False
        failure(handler)
        return True

    store = Store(f"s3://{s3_bucket}/x", retries=Retries(attempts=4, first_s=0.01))
    with proxy(s3_env, monkeypatch, meddle) as passing:
        store.write("k", b"1")
        assert store.read("k") == b"1"
        assert [entry.key for entry in store.list()] == ["k"]
        assert store.exists("k")
        assert len(passing.requests) == 12


def test_what_fails_for_ever_ends(s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(handler: Handler, _: int) -> bool:
        slow_down(handler)
        return True

    store = Store(f"s3://{s3_bucket}/x", retries=Retries(attempts=3, first_s=0.01, patience_s=0))
    with proxy(s3_env, monkeypatch, always) as passing:
        acts = (lambda: store.read("k"), ErrorKind.STORAGE), (lambda: store.write("k", b""), ErrorKind.WRITE)
        for act, kind in acts:
            passing.requests.clear()
            # A server that serves nobody is nobody's own failure.
            with pytest.raises(SystemFailure, match="SlowDown") as caught:
                act()
            assert caught.value.kind is kind
            assert 3 <= len(passing.requests) <= 4


def test_a_body_that_breaks_off_is_read_again(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 400

    def meddle(handler: Handler, number: int) -> bool:
        if number == 2:
            status, headers, body = handler.forward()
            handler.answer(status, headers, body[:1000])
            handler.drop()
        return number == 2

    store = Store(f"s3://{s3_bucket}/x", retries=Retries(first_s=0.01))
    with proxy(s3_env, monkeypatch, meddle) as passing:
        store.write("k", data)
        assert store.read("k") == data
        assert len(passing.requests) == 3


def test_a_creation_whose_answer_is_lost_is_still_won_once(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_answer(handler: Handler, number: int) -> bool:
        if number == 1:
            handler.forward()
            handler.drop()
        return number == 1

    store = Store(f"s3://{s3_bucket}/x", retries=Retries(first_s=0.01))
    with proxy(s3_env, monkeypatch, lose_answer):
        assert store.create("k", b"same")
        assert not store.create("k", b"same")


def test_a_server_that_ignores_the_condition_is_found_out(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ignore(handler: Handler, _: int) -> bool:
        if "If-None-Match" not in handler.headers:
            return False
        handler.answer(200, {"ETag": '"x"'}, b"")
        return True

    store = Store(f"s3://{s3_bucket}/x")
    store.check_exclusive()
    with proxy(s3_env, monkeypatch, ignore), pytest.raises(SystemFailure, match="exclusive"):
        store.check_exclusive()


def presigned(server: S3Server, bucket: str, key: str, seconds: int = 600) -> str:
    return str(
        server.client().generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
    )


def test_presigned_addresses_are_read_and_never_shown(s3_bucket: str, s3_env: S3Server) -> None:
    store = Store(f"s3://{s3_bucket}/x")
    key = "ü b+c/#1?.png"
    store.write(key, b"signed")
    address = presigned(s3_env, s3_bucket, f"x/{key}")
    data, entry = read_url(address)
    assert data == b"signed"
    assert entry.version == store.info(key).version
    assert "Signature" not in entry.key
    broken = address.replace("Signature=", "Signature=0")
    missing = presigned(s3_env, s3_bucket, "x/nothing.png")
    for url, kind in ((broken, ErrorKind.NO_PERMISSION), (missing, ErrorKind.NOT_FOUND)):
        with pytest.raises(ImageError) as caught:
            read_url(url, retries=QUICK)
        assert caught.value.kind is kind
        assert "Signature" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert caught.value.__cause__ is None
    with pytest.raises(ImageError) as caught:
        read_url(address, max_bytes=3)
    assert caught.value.kind is ErrorKind.TOO_LARGE


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/x.png?sig=secret", "http://no-such-host.invalid/x.png?sig=secret", "http://[/x?sig=secret"],
)
def test_web_addresses_that_cannot_be_reached_fail_alone(url: str) -> None:
    with pytest.raises(MimoError) as caught:
        read_url(url, retries=QUICK)
    assert isinstance(caught.value, ImageError | UsageError)
    assert "secret" not in str(caught.value)


def test_the_web_is_read_only() -> None:
    store = Store("https://host/folder")
    for act in (lambda: store.list(), lambda: store.write("x", b""), lambda: store.create("x", b"")):
        with pytest.raises(UsageError):
            act()


def test_an_s3fs_without_the_private_name_is_refused_with_the_versions_that_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import s3fs

    from mimo_core.storage import s3_client

    monkeypatch.delattr(s3fs.S3FileSystem, "_call_s3")
    with pytest.raises(
        SystemFailure, match=r"S3FileSystem\._call_s3 is missing\): install .*pip install 's3fs>="
    ) as caught:
        s3_client._connect()
    assert caught.value.kind is ErrorKind.STORAGE
