"""Names in storage: what is shown, what is a key, where it leads."""

import os
import posixpath
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_core.errors import UsageError
from mimo_core.storage import (
    Store,
    check_key,
    check_keys,
    info_url,
    is_key,
    is_local,
    join,
    redact,
    redact_text,
    safe_key,
)
from mimo_core.storage import bucket as backend
from mimo_core.storage.names import TEMPORARY, creates_exclusively, join_raw, locate, split_bucket

PRESIGNED = (
    "https://bucket.example.com/a%20b/x.png?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F2026"
    "&X-Amz-Signature=deadbeef#frag"
)


POINT = "arn:aws:s3:eu-central-1:123456789012:accesspoint/photos"


@pytest.mark.parametrize(
    ("path", "bucket", "key"),
    [
        ("bucket", "bucket", ""),
        ("bucket/a/b.png", "bucket", "a/b.png"),
        ("bucket//b.png", "bucket", "/b.png"),
        (POINT, POINT, ""),
        (f"{POINT}/a/b.png", POINT, "a/b.png"),
        (f"{POINT.replace('/', ':')}/a/b.png", POINT.replace("/", ":"), "a/b.png"),
        ("arn:aws:s3::123456789012:accesspoint/many.mrap/x", "arn:aws:s3::123456789012:accesspoint/many.mrap", "x"),
    ],
)
def test_the_bucket_of_an_access_point_is_its_whole_name(path: str, bucket: str, key: str) -> None:
    assert split_bucket(path) == (bucket, key)
    assert locate(f"s3://{path}").path == path


def test_where_runs_can_be_kept() -> None:
    assert all(
        map(
            creates_exclusively,
            ("out", "/out", "file:///out", "s3://b/out", "gs://b/out", "az://b/out", "memory://out"),
        )
    )
    assert not any(map(creates_exclusively, ("hf://b/out", "sftp://h/out", "https://h/out")))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/plain/path?with=token&#.png", "/plain/path?with=token&#.png"),
        ("relative/path", "relative/path"),
        (PRESIGNED, "https://bucket.example.com/a%20b/x.png"),
        ("https://user:pass@host:8080/x?y", "https://host:8080/x"),
        ("https://host?token=1", "https://host"),
        ("s3://bucket/what?.png", "s3://bucket/what?.png"),
        ("s3://KEY:SECRET@bucket/x", "s3://bucket/x"),
        ("s3://bucket/x.png?X-Amz-Signature=1", "s3://bucket/x.png"),
        ("abfs://container@account/x?sig=abc&se=2030", "abfs://account/x"),
        ("ftp://u:p@host/dir/x.png", "ftp://host/dir/x.png"),
        ("HTTPS://User@Host/x?y", "HTTPS://Host/x"),
    ],
)
def test_redact_shows_no_credentials(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert redact(redact(url)) == shown


def test_redact_text_redacts_every_url_in_a_message() -> None:
    text = f"cannot read '{PRESIGNED}' nor s3://k:s@b/y, sorry"
    assert redact_text(text) == "cannot read 'https://bucket.example.com/a%20b/x.png' nor s3://b/y, sorry"


@given(st.text(min_size=1, max_size=30), st.text(string.ascii_letters + string.digits, min_size=8, max_size=20))
def test_no_secret_of_a_web_address_survives_redaction(path: str, secret: str) -> None:
    secret = f"Zz9{secret}"
    address = f"https://user:{secret}@host/{path.replace('@', '')}?a=1&X-Amz-Signature={secret}"
    if secret not in path:
        assert secret not in redact(address)


@pytest.mark.parametrize("key", ["a", "a/b.png", "ü ñ/#?%*[x].png", "..a/b..", "a:b/c", "x" * 300, " a "])
def test_keys_that_stay_inside_are_keys(key: str) -> None:
    assert check_key(key) == key
    assert safe_key(key) == key
    assert join("/base", key) == f"/base/{key}"
    assert join("s3://bucket/base/", key) == f"s3://bucket/base/{key}"


BAD_KEYS = [
    "", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a\\b", "..\\a", "a\0b", "C:/a", "c:",
    f"{TEMPORARY}/a", f"a/{TEMPORARY}/b", "\udcff.png",
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
def test_keys_that_might_leave_are_refused_everywhere(key: str) -> None:
    with pytest.raises(UsageError):
        check_key(key)
    with pytest.raises(UsageError):
        join("/base", key)
    with pytest.raises(UsageError):
        join("s3://bucket/base", key)


@pytest.mark.parametrize("name", BAD_KEYS)
def test_every_name_has_a_safe_key(name: str) -> None:
    assert is_key(safe_key(name))


@given(st.text(st.characters(blacklist_categories=[]), max_size=40))
def test_safe_keys_are_keys_and_stay_what_they_are(name: str) -> None:
    key = safe_key(name)
    assert is_key(key)
    assert safe_key(key) == key


@given(st.binary(max_size=30))
def test_names_that_are_not_unicode_have_safe_keys(raw: bytes) -> None:
    assert is_key(safe_key(os.fsdecode(raw)))


@given(st.text(st.sampled_from("a./\\:~ \0é"), max_size=12))
def test_joined_keys_never_leave_the_base(key: str) -> None:
    try:
        path = join("/base/folder", key)
    except UsageError:
        return
    assert posixpath.normpath(path) == path
    assert path.startswith("/base/folder/")


def test_join_below_a_web_address_escapes_the_key_and_keeps_its_query() -> None:
    assert join("https://host/a/?sig=1", "b c#/d?.png") == "https://host/a/b%20c%23/d%3F.png?sig=1"


def test_locations() -> None:
    assert locate("s3://bucket/a/b/").path == "bucket/a/b"
    assert locate("s3a://bucket").path == "bucket"
    assert locate("file:///tmp/a%20b").path == "/tmp/a b"
    assert locate("rel").path == str(Path.cwd() / "rel")
    assert is_local("file:///x")
    assert is_local("C:/x")
    assert not is_local("s3://b/x")


@pytest.mark.parametrize("url", ["", "s3://", "s3:///key", "s3://key:secret@bucket/x", "a\0b", "file://host/x"])
def test_urls_that_name_nothing_are_refused_without_showing_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(url)
    assert "secret" not in str(caught.value)


def test_a_local_name_that_is_not_unicode_becomes_a_url_that_leads_back() -> None:
    path = join_raw("/base", os.fsdecode(b"x\xff.png"))
    assert path == "file:///base/x%FF.png"
    assert os.fsencode(locate(path).path) == b"/base/x\xff.png"


ACCESS_POINTS = (
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/team",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint:team",
    "arn:aws:s3::123456789012:accesspoint/abc.mrap",
    "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01/accesspoint/team",
)


@pytest.mark.parametrize("bucket", [*ACCESS_POINTS, "bucket"])
def test_what_is_listed_below_an_access_point_is_asked_of_it(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of our own has access points: this is what goes to the client, which makes an address of it."""
    asked = []

    async def call(fs: Any, operation: str, **parameters: Any) -> Any:
        asked.append((operation, parameters["Bucket"], parameters.get("Prefix"), parameters.get("Key")))
        if operation == "head_object":
            return {"ContentLength": 1}
        return {"Contents": [{"Key": "in/a b/x.png", "Size": 1, "ETag": "1"}]}

    monkeypatch.setattr(backend, "call", call)
    store = Store(f"s3://{bucket}/in")
    (found,) = store.list("")
    assert store.url_of(found.key) == f"s3://{bucket}/in/a b/x.png"
    assert info_url(store.url_of(found.key)) is not None
    assert asked == [("list_objects_v2", bucket, "in/", None), ("head_object", bucket, None, "in/a b/x.png")]


def _refusal(check: Any, argument: Any) -> str | None:
    try:
        check(argument)
    except UsageError as error:
        return str(error)
    return None


PIECES = st.sampled_from(["", ".", "..", TEMPORARY, "a", "C:", "ü", "\ud800", "\n", "\0", "\\", "b.png", " ", "c:d"])


@given(st.lists(st.lists(PIECES, max_size=4).map("/".join), max_size=6))
def test_very_many_keys_are_checked_as_each_alone(keys: list[str]) -> None:
    alone = next((text for key in keys if (text := _refusal(check_key, key)) is not None), None)
    assert _refusal(check_keys, keys) == alone


@given(st.lists(PIECES, max_size=4).map("/".join))
def test_an_ordinary_key_is_one_by_every_rule(key: str) -> None:
    parts = key.split("/")
    faulty = any(part in ("", ".", "..", TEMPORARY) or set(part) & set("\0\\\ud800") for part in parts)
    assert is_key(key) == (not faulty and parts[0] != "C:")


@given(
    st.sampled_from(["/in", "/", "/\xfc/x", "s3://bucket/p", "memory://p/", "https://h/p?sig=1"]),
    PIECES.filter(str.isprintable),
)
def test_a_store_names_what_lies_in_it_as_names_are_joined(url: str, name: str) -> None:
    store = Store(url)
    assert store.url_of(name) == join_raw(store.url, name)
