"""Tar and zip files as sources: their members are listed and read in place, by ranges, as if they were files."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import inprocess
import pytest
from fixtures_s3 import S3Server
from processes import ROOT

from mimo_core.datasets.imagelist import ImageEntry, list_images
from mimo_core.datasets.left_aside import LeftAside
from mimo_core.errors import ErrorKind, ImageError, UsageError
from mimo_core.storage import info_url, read_url, write_url
from mimo_core.storage.local import LocalFolder

FILES = {
    "000/cat.jpg": (ROOT / "samples" / "blurred" / "street.jpg").read_bytes(),
    "000/cat.txt": b"a caption",
    "001/dog.png": (ROOT / "samples" / "blurred" / "window.png").read_bytes(),
    "001/empty.png": b"",
}


def tar_of(files: dict[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=kind) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


KINDS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "pax.tar": tar_of,
    "gnu.tar": lambda files: tar_of(files, kind=tarfile.GNU_FORMAT),
    "ustar.tar": lambda files: tar_of(files, kind=tarfile.USTAR_FORMAT),
    "deflated.zip": zip_of,
    "stored.zip": lambda files: zip_of(files, zipfile.ZIP_STORED),
}


def container(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def listed(source: str) -> dict[str, ImageEntry]:
    return {entry.key: entry for entry in list_images(source)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_members_are_listed_and_read_as_files_are(
    kind: str, where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = (
        f"s3://{request.getfixturevalue('s3_bucket')}/{kind}" if where == "bucket" else str(tmp_path / f"a #1 {kind}")
    )
    write_url(path, KINDS[kind](FILES))
    aside = LeftAside()
    entries = list(list_images(path, aside=aside))
    assert [entry.key for entry in entries] == ["000/cat.jpg", "001/dog.png", "001/empty.png"]
    assert dict(aside.counted) == {".txt": 1}
    for entry in entries:
        data, read = read_url(entry.source)
        assert data == FILES[entry.key]
        assert entry.size == read.size == len(data)
        known = info_url(entry.source)
        assert known is not None
        assert entry.version == read.version == known.version is not None


@pytest.mark.parametrize("kind", ["pax.tar", "stored.zip"])
def test_of_a_large_container_only_what_is_asked_for_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number}.png": os.urandom(1 << 20) for number in range(16)}
    path = container(tmp_path, kind, KINDS[kind](files))
    taken: list[int] = []
    fetch = LocalFolder.fetch_range

    def counted(self: LocalFolder, key: str, start: int, length: int) -> bytes:
        data = fetch(self, key, start, length)
        taken.append(len(data))
        return data

    monkeypatch.setattr(LocalFolder, "fetch_range", counted)
    monkeypatch.setattr(LocalFolder, "fetch", lambda *_: pytest.fail("the whole container was read"))
    entries = listed(path)
    assert sum(taken) < 3 << 20, "listing reads headers, not images"
    taken.clear()
    assert read_url(entries["7.png"].source)[0] == files["7.png"]
    assert sum(taken) < (1 << 20) + 4096


def test_several_containers_keep_their_members_apart(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        container(tmp_path / "in", name, tar_of({"000.png": name.encode(), "./x/000.png": b"1"}))
    container(tmp_path / "in", "c.zip", zip_of({"000.png": b"2"}))
    entries = listed(f"{tmp_path}/in/*.tar")
    assert list(entries) == ["a.tar/000.png", "a.tar/./x/000.png".replace("./", ""), "b.tar/000.png", "b.tar/x/000.png"]
    assert read_url(entries["b.tar/000.png"].source)[0] == b"b.tar"


def test_names_that_would_leave_the_output_stay_inside(tmp_path: Path) -> None:
    names = ["../up.png", "/root.png", "back\\slash.png", "caf\udce9.png", "ok.png"]
    path = container(tmp_path, "a.tar", tar_of(dict.fromkeys(names, b"1"), kind=tarfile.GNU_FORMAT))
    assert list(listed(path)) == ["%2E%2E/up.png", "%2F/root.png", "back%5Cslash.png", "caf%E9.png", "ok.png"]


def test_links_and_folders_in_a_tar_are_no_images(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("d.png")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"1"))
    assert list(listed(container(tmp_path, "a.tar", out.getvalue()))) == ["d.png"]


def test_what_cannot_be_read_in_place_is_refused_by_name(tmp_path: Path) -> None:
    whole = tar_of(FILES)
    encrypted = bytearray(zip_of({"a.png": b"1"}))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    for name, data, reason in (
        ("packed.tar", tar_of(FILES, "w:gz"), "is no whole tar"),
        ("cut.tar", whole[: len(FILES["000/cat.jpg"]) // 2], "is no whole tar"),
        ("text.zip", b"no container", "is no whole zip"),
        ("lzma.zip", zip_of(FILES, zipfile.ZIP_LZMA), "packed by method 14"),
        ("secret.zip", bytes(encrypted), "a.png is encrypted"),
    ):
        with pytest.raises(UsageError, match=reason):
            listed(container(tmp_path, name, data))
    with pytest.raises(UsageError, match=r"nor a container \(.tar .zip\)"):
        listed(container(tmp_path, "a.tar.gz", b"x"))


def test_a_damaged_member_is_an_image_that_failed(tmp_path: Path) -> None:
    data = bytearray(zip_of(FILES))
    path = container(tmp_path, "a.zip", bytes(data))
    entries = listed(path)
    data[2000] ^= 1
    Path(path).write_bytes(bytes(data))
    with pytest.raises(ImageError, match="member of the container is truncated or damaged") as raised:
        read_url(entries["000/cat.jpg"].source)
    assert raised.value.kind is ErrorKind.TRUNCATED
    assert read_url(entries["001/dog.png"].source)[0] == FILES["001/dog.png"]
    with pytest.raises(ImageError) as raised:
        read_url(entries["001/dog.png"].source, max_bytes=100)
    assert raised.value.kind is ErrorKind.TOO_LARGE


def test_a_member_that_unpacks_to_more_than_was_told_is_stopped(tmp_path: Path) -> None:
    data = zip_of({"bomb.png": bytes(50_000_000)})
    told = (50_000_000).to_bytes(4, "little")
    path = container(tmp_path, "a.zip", data.replace(told, (1000).to_bytes(4, "little")))
    with pytest.raises(ImageError, match="1001 of 1000 bytes"):
        read_url(listed(path)["bomb.png"].source)


def test_a_tar_is_restored_like_the_folder_it_was_made_of(tmp_path: Path) -> None:
    images = {key: data for key, data in FILES.items() if data and not key.endswith(".txt")}
    for key, data in images.items():
        container(tmp_path / "folder", key, data)
    path = container(tmp_path, "a.tar", tar_of(images))
    plain = inprocess.run(tmp_path / "folder", tmp_path / "plain", weights="mimo-unet-lite", interpolation="bilinear")
    done = inprocess.run(Path(path), tmp_path / "done", weights="mimo-unet-lite", interpolation="bilinear")
    assert list(done.records) == list(plain.records)
    for key in images:
        assert done.output(key) == plain.output(key)
        assert done.records[key].source_sha256 == plain.records[key].source_sha256
        assert done.records[key].source.startswith(f"{path}#mimo-member=")
    # Another container in its place is not taken for the one that was planned.
    plan = inprocess.plan_of(Path(path), tmp_path / "later")
    Path(path).write_bytes(tar_of({"other.png": FILES["001/dog.png"], **images}))
    os.utime(path, ns=(1, 1))
    later = inprocess.run(Path(path), tmp_path / "later", plan=plan)
    assert {record.error_kind for record in later.records.values()} == {"changed"}


def test_a_container_that_is_not_there_is_said(s3_bucket: str, s3_env: S3Server) -> None:
    with pytest.raises(UsageError, match="there is nothing at"):
        listed(f"s3://{s3_bucket}/none.tar")
