"""One object that cannot be read whole is that object's failure, as long as the server answers."""

import base64
import hashlib
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_s3 import S3Server
from inprocess import run
from s3_proxy import Handler, proxy, slow_down
from test_storage_s3 import presigned

from mimo_core.errors import ErrorKind, ImageError, MimoError, SystemFailure
from mimo_core.storage import Retries, Store, persistence, read_url, s3_client

pytestmark = pytest.mark.s3

QUICK = Retries(attempts=3, first_s=0.01, alone_s=0, patience_s=0)
DATA = bytes(range(256)) * 400


def flipped(data: bytes) -> bytes:
    """The data with one bit in the middle turned over."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def reading(handler: Handler, key: str) -> bool:
    return handler.command == "GET" and handler.path.split("?")[0].endswith(key)


def flip(handler: Handler) -> None:
    status, headers, body = handler.forward()
    handler.answer(status, headers, flipped(body))


def flip_without_checksum(handler: Handler) -> None:
    """Leave only the etag to tell."""
    status, headers, body = handler.forward()
    kept = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum")}
    handler.answer(status, kept, flipped(body))


def spoil_checksum(handler: Handler) -> None:
    status, headers, body = handler.forward()
    kept = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum")}
    checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    handler.answer(status, {**kept, "x-amz-checksum-crc32": checksum}, flipped(body))


def break_off(handler: Handler) -> None:
    status, headers, body = handler.forward()
    handler.answer(status, headers, body[: len(body) // 2])
    handler.drop()


FAULTS = [flip, flip_without_checksum, spoil_checksum, break_off, Handler.drop, slow_down]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_object_that_stays_damaged_fails_alone(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Handler], None]
) -> None:
    def meddle(handler: Handler, number: int) -> bool:
        if not reading(handler, "/rotten"):
            return False
        fault(handler)
        return True

    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    store.write("rotten", DATA)
    store.write("sound", DATA)
    with proxy(s3_env, monkeypatch, meddle) as passing:
        with pytest.raises(ImageError) as caught:
            store.read("rotten")
        assert caught.value.kind is ErrorKind.STORAGE
        assert f"s3://{s3_bucket}/x/rotten" in str(caught.value)
        assert sum("rotten" in request for request in passing.requests) >= QUICK.attempts
        assert store.read("sound") == DATA


@pytest.mark.parametrize("fault", FAULTS)
def test_an_object_that_arrives_damaged_once_is_read_again(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Handler], None]
) -> None:
    met: list[int] = []

    def meddle(handler: Handler, number: int) -> bool:
        if met or not reading(handler, "/rotten"):
            return False
        met.append(number)
        fault(handler)
        return True

    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    store.write("rotten", DATA)
    with proxy(s3_env, monkeypatch, meddle):
        assert store.read("rotten") == DATA
    assert met


@pytest.mark.parametrize("whole", [False, True])
def test_a_stall_is_told_from_that_of_the_whole_server(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Neither takes longer than the storage is waited for, and neither is a hanging image."""
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.3)
    monkeypatch.setattr(persistence, "_PROBE_SECONDS", 0.3)
    over = threading.Event()

    def meddle(handler: Handler, number: int) -> bool:
        if not whole and not reading(handler, "/rotten"):
            return False
        over.wait(60)
        handler.drop()
        return True

    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    store.write("rotten", DATA)
    with proxy(s3_env, monkeypatch, meddle):
        try:
            with pytest.raises(MimoError) as caught:
                store.read("rotten")
        finally:
            over.set()
    assert isinstance(caught.value, SystemFailure if whole else ImageError)
    assert caught.value.kind is ErrorKind.STORAGE
    assert ("cannot be reached" if whole else "though the server answers") in str(caught.value)


def test_an_object_in_several_parts_is_read_without_an_md5(s3_bucket: str, s3_env: S3Server) -> None:
    client = s3_env.client()
    upload = client.create_multipart_upload(Bucket=s3_bucket, Key="x/parts")["UploadId"]
    parts = []
    for number, body in enumerate((bytes(5 << 20), DATA), 1):
        target = {"Bucket": s3_bucket, "Key": "x/parts", "UploadId": upload}
        etag = client.upload_part(**target, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    client.complete_multipart_upload(Bucket=s3_bucket, Key="x/parts", UploadId=upload, MultipartUpload={"Parts": parts})
    data, entry = Store(f"s3://{s3_bucket}/x").fetch("parts")
    assert entry.version is not None
    assert "-" in entry.version
    assert data == bytes(5 << 20) + DATA


def etag_instead(handler: Handler, headers: dict[str, str]) -> None:
    status, given, body = handler.forward()
    kept = {name: value for name, value in given.items() if name.lower() not in headers}
    handler.answer(status, {**kept, **headers}, body)


def test_an_etag_that_is_no_md5_blames_no_object(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that encrypt give tags of their own, and some give them always: then no object of theirs has its MD5."""

    def meddle(handler: Handler, number: int) -> bool:
        if handler.command != "GET" or "list-type" in handler.path:
            return False
        key = handler.path.split("?")[0]
        headers = {"etag": f'"{hashlib.md5(key.encode()).hexdigest()}"'}
        if key.endswith("encrypted"):
            headers["x-amz-server-side-encryption"] = "aws:kms"
        etag_instead(handler, headers)
        return True

    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    names = ("encrypted", "first", "second")
    with proxy(s3_env, monkeypatch, lambda handler, number: False):
        for name in names:
            store.write(name, DATA)
    with proxy(s3_env, monkeypatch, meddle):
        for name in names:
            assert store.read(name) == DATA


@pytest.mark.parametrize("neighbours", ["encrypted", "refused"])
def test_neighbours_that_tell_nothing_do_not_clear_a_damaged_object(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, neighbours: str
) -> None:
    """The etags of objects that are encrypted by a key are no sums, and what cannot be read says nothing."""

    def meddle(handler: Handler, number: int) -> bool:
        if reading(handler, "/rotten"):
            flip_without_checksum(handler)
        elif not reading(handler, "/neighbour"):
            return False
        elif neighbours == "refused":
            body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No</Message></Error>"
            handler.answer(403, {"Content-Type": "application/xml"}, body)
        else:
            tag = f'"{hashlib.md5(b"other").hexdigest()}"'
            etag_instead(handler, {"etag": tag, "x-amz-server-side-encryption": "aws:kms"})
        return True

    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    for name in ("neighbour", "rotten"):
        store.write(name, DATA)
    with proxy(s3_env, monkeypatch, meddle), pytest.raises(ImageError, match="damaged"):
        store.read("rotten")


def test_a_presigned_address_is_checked_as_its_object_is(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddle(handler: Handler, number: int) -> bool:
        if reading(handler, "/rotten"):
            flip(handler)
            return True
        return False

    store = Store(f"s3://{s3_bucket}/x", retries=QUICK)
    store.write("rotten", DATA)
    with proxy(s3_env, monkeypatch, meddle) as passing:
        address = presigned(S3Server(passing.endpoint), s3_bucket, "x/rotten")
        with pytest.raises(ImageError) as caught:
            read_url(address, retries=QUICK)
    assert caught.value.kind is ErrorKind.STORAGE
    assert "Signature" not in str(caught.value)


def test_a_flipped_bit_is_recorded_and_the_others_are_restored(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A JPEG decodes with most of its bits flipped, and looks almost right."""
    samples = Path(__file__).resolve().parents[2] / "samples" / "blurred"
    names = ("a.jpg", "rotten.jpg", "z.jpg")
    for name in names:
        Store(f"s3://{s3_bucket}/in").write(name, (samples / "seeds.jpg").read_bytes())
    (tmp_path / "list.csv").write_text("source,key\n" + "".join(f"s3://{s3_bucket}/in/{n},{n}\n" for n in names))

    def meddle(handler: Handler, number: int) -> bool:
        if reading(handler, "/rotten.jpg"):
            flip(handler)
            return True
        return False

    with proxy(s3_env, monkeypatch, meddle):
        records = run(tmp_path / "list.csv", tmp_path / "out").records
    kinds = {key: record.error_kind for key, record in records.items()}
    assert kinds == {"a.jpg": None, "rotten.jpg": "storage", "z.jpg": None}


def archive(bucket: str, folder: Path, names: tuple[str, ...]) -> Path:
    """A list of PNG images in a bucket."""
    image = (Path(__file__).resolve().parents[2] / "samples" / "blurred" / "window.png").read_bytes()
    for name in names:
        Store(f"s3://{bucket}/in").write(name, image)
    (folder / "list.csv").write_text("source,key\n" + "".join(f"s3://{bucket}/in/{name},{name}\n" for name in names))
    return folder / "list.csv"


@pytest.mark.parametrize(("times", "kind"), [(1, None), (9, "not_an_image")])
def test_damage_that_only_the_decoder_sees_is_read_once_more(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: int, kind: str | None
) -> None:
    """Without checksum, and under an etag that is no sum, as an object in several parts has it."""
    source = archive(s3_bucket, tmp_path, ("a.png", "odd.png", "z.png"))
    reads: list[int] = []

    def meddle(handler: Handler, number: int) -> bool:
        if not reading(handler, "/odd.png"):
            return False
        reads.append(number)
        status, headers, body = handler.forward()
        kept = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum")}
        damaged = b"GARBAGE!" + body[8:] if len(reads) <= times else body
        handler.answer(status, {**kept, "ETag": '"0123456789abcdef0123456789abcdef-2"'}, damaged)
        return True

    with proxy(s3_env, monkeypatch, meddle):
        records = run(source, tmp_path / "out").records
    assert {key: record.error_kind for key, record in records.items()} == {
        "a.png": None,
        "odd.png": kind,
        "z.png": None,
    }
    assert len(reads) == 2


def test_an_object_that_the_server_does_not_give_is_recorded_and_the_task_goes_on(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = archive(s3_bucket, tmp_path, ("a.png", "odd.png", "z.png"))
    monkeypatch.setattr(Retries.__init__, "__defaults__", (3, 0.01, 0.1, 0.0, None))

    def meddle(handler: Handler, number: int) -> bool:
        if not reading(handler, "/odd.png"):
            return False
        break_off(handler)
        return True

    with proxy(s3_env, monkeypatch, meddle):
        records = run(source, tmp_path / "out").records
    assert {key: record.error_kind for key, record in records.items()} == {
        "a.png": None,
        "odd.png": "storage",
        "z.png": None,
    }
    assert "though the server answers" in str(records["odd.png"].error)
