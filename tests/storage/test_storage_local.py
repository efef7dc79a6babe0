"""A local folder as a store: what file systems hold that buckets do not, and what can go wrong on a disk."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_core.errors import ErrorKind, ImageError, SystemFailure
from mimo_core.storage import Entry, Retries, Store, info_url, read_url
from mimo_core.storage.names import TEMPORARY

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")


def keys_of(entries: Iterator[Entry]) -> list[str]:
    return [entry.key for entry in entries]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator["Mounter"]:
    mounter = Mounter(tmp_path)
    yield mounter
    mounter.unmount()


class Mounter:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mounted: list[Path] = []

    def tmpfs(self, name: str, options: str = "size=64k") -> Path:
        path = self._folder / name
        path.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a tmpfs here: {done.stderr.decode(errors='replace').strip()}")
        self._mounted.append(path)
        return path

    def remount(self, path: Path, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)

    def unmount(self) -> None:
        for path in reversed(self._mounted):
            subprocess.run(["umount", str(path)], check=True)


def special_files(folder: Path) -> dict[str, ErrorKind]:
    os.mkfifo(folder / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.png"))
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "folder.png").mkdir()
    (folder / "null.png").symlink_to("/dev/zero")
    return {
        "fifo.png": ErrorKind.NOT_AN_IMAGE,
        "s.png": ErrorKind.NOT_AN_IMAGE,
        "dangling.png": ErrorKind.NOT_FOUND,
        "loop.png": ErrorKind.NOT_FOUND,
        "folder.png": ErrorKind.NOT_AN_IMAGE,
        "null.png": ErrorKind.NOT_AN_IMAGE,
    }


def test_special_files_are_listed_but_never_opened(tmp_path: Path) -> None:
    kinds = special_files(tmp_path)
    store = Store(str(tmp_path))
    for name, kind in kinds.items():
        for read in (store.read, store.open, lambda name: read_url(str(tmp_path / name))):
            with pytest.raises(ImageError) as caught:
                read(name)
            assert caught.value.kind is kind, name
            assert name in str(caught.value)
    listed = list(store.list())
    assert {entry.key for entry in listed} == set(kinds) - {"folder.png"}
    assert all(entry.size is None and entry.version is None for entry in listed)
    assert not store.exists("fifo.png")


def test_links_are_followed_and_cycles_are_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    outside.mkdir()
    (outside / "far.png").write_bytes(b"far")
    (root / "a/near.png").write_bytes(b"near")
    (root / "link.png").symlink_to(root / "a/near.png")
    (root / "elsewhere").symlink_to(outside)
    (root / "a/b/up").symlink_to(root)
    (root / "a/self").symlink_to(".")
    store = Store(str(root))
    assert keys_of(store.list()) == ["a/near.png", "elsewhere/far.png", "link.png"]
    assert store.read("link.png") == b"near"
    assert store.read("elsewhere/far.png") == b"far"


def test_writing_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/x").symlink_to(tmp_path / "precious")
    Store(str(tmp_path / "root")).write("x", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "root/x").read_bytes() == b"new"
    assert not (tmp_path / "root/x").is_symlink()


def test_deleting_a_linked_folder_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/x").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "precious")
    Store(str(tmp_path / "root")).delete_tree("link")
    assert (tmp_path / "precious/x").exists()
    assert not (tmp_path / "root/link").exists()


def test_names_that_are_not_unicode_are_listed_and_read(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes(b"latin")
    store = Store(str(tmp_path))
    (entry,) = store.list()
    assert read_url(store.url_of(entry.key))[0] == b"latin"
    store.url_of(entry.key).encode()


def test_the_version_is_that_of_the_bytes_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("x", b"1")
    (listed,) = store.list()
    data, entry = read_url(store.url_of("x"))
    assert (data, entry.size, entry.version) == (b"1", listed.size, listed.version)
    store.write("x", b"2")
    assert read_url(store.url_of("x"))[1].version != listed.version
    assert info_url(store.url_of("x")) == read_url(store.url_of("x"))[1]


def test_no_permission_to_read(tmp_path: Path) -> None:
    code = """
import os, sys
from mimo_core.errors import ImageError, SystemFailure
from mimo_core.storage import Store
os.setuid(65534)
store = Store(sys.argv[1])
for act in (lambda: store.read("secret.png"), lambda: list(store.list()), lambda: store.write("x", b"1")):
    try:
        act()
    except (ImageError, SystemFailure) as error:
        print(type(error).__name__, error.kind, error)
"""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "secret.png").chmod(0)
    (tmp_path / "closed").mkdir(mode=0o700)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f"ImageError no_permission {tmp_path}/secret.png: no permission to read",
        f"SystemFailure no_permission {tmp_path}/closed: no permission to list this folder",
        f"SystemFailure write {tmp_path}: no permission to write",
    ], done.stderr


@as_root
def test_a_full_disk_stops_the_run_and_leaves_nothing(mount: Mounter) -> None:
    store = Store(str(mount.tmpfs("small")))
    store.write("fits", b"x" * 10_000)
    for act in (store.write, store.create):
        with pytest.raises(SystemFailure) as caught:
            act("fits", b"y" * 100_000) if act == store.write else act("other", b"y" * 100_000)
        assert caught.value.kind is ErrorKind.WRITE
        assert "disk is full" in str(caught.value)
    assert store.read("fits") == b"x" * 10_000
    assert keys_of(store.list()) == ["fits"]
    assert store.remove_leftovers() == 0


@as_root
def test_a_read_only_file_system_stops_the_run(mount: Mounter) -> None:
    folder = mount.tmpfs("readonly")
    (folder / "x").write_bytes(b"1")
    mount.remount(folder, "ro")
    store = Store(str(folder))
    assert store.read("x") == b"1"
    for act in (lambda: store.write("x", b"2"), lambda: store.create("y", b"2"), lambda: store.delete("x")):
        with pytest.raises(SystemFailure) as caught:
            act()
        assert "read-only" in str(caught.value)


@as_root
def test_a_folder_of_the_store_may_lie_on_another_disk(mount: Mounter, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    store.write("run.json", b"{}")
    (tmp_path / "run/images").symlink_to(mount.tmpfs("disk"))
    store.write("images/a/b.png", b"1")
    assert store.create("images/a/c.png", b"2")
    assert not store.create("images/a/c.png", b"3")
    (tmp_path / "disk" / TEMPORARY).mkdir(exist_ok=True)
    (tmp_path / "disk" / TEMPORARY / "left").write_bytes(b"x")
    assert keys_of(store.list()) == ["images/a/b.png", "images/a/c.png", "run.json"]
    assert store.remove_leftovers() == 1
    assert store.read("images/a/c.png") == b"2"


def test_a_key_whose_name_is_too_long_fails_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for act in (store.write, store.create):
        with pytest.raises(ImageError) as caught:
            act("x" * 300, b"1")
        assert caught.value.kind is ErrorKind.WRITE
    with pytest.raises(ImageError) as caught:
        store.read("x" * 300)
    assert caught.value.kind is ErrorKind.NOT_FOUND
    store.write("fine", b"1")


def test_a_file_where_a_folder_is_wanted_fails_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a.png", b"1")
    store.write("folder/x", b"1")
    for key in ("a.png/b.png", "folder"):
        with pytest.raises(ImageError) as caught:
            store.write(key, b"1")
        assert caught.value.kind is ErrorKind.WRITE
    assert store.remove_leftovers() == 0


def test_interrupted_writes_leave_only_what_can_be_removed(tmp_path: Path) -> None:
    code = """
import sys
from mimo_core.storage import Store
store = Store(sys.argv[1])
print("started", flush=True)
while True:
    for number in range(20):
        store.write(f"d/{number}", bytes([number]) * 4_000_000)
"""
    store = Store(str(tmp_path))
    unfinished = tmp_path / TEMPORARY
    leftovers = 0
    # A kill is sent when a write is seen under way; it may still end before it.
    for _ in range(30):
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while not list(unfinished.glob("*")):
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        left = len(list(unfinished.glob("*")))
        leftovers += left
        for entry in store.list():
            assert store.read(entry.key) == bytes([int(entry.key[2:])]) * 4_000_000
        assert store.remove_leftovers(older_than_s=3600) == 0
        assert store.remove_leftovers() == left
        assert not unfinished.exists()
        if leftovers >= 3:
            return
    pytest.fail("no kill met a write under way")


def test_writers_at_work_survive_the_removal_of_their_unfinished_files(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    stop = threading.Event()

    def remove() -> None:
        while not stop.wait(0.001):
            Store(str(tmp_path)).remove_leftovers()

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for number in range(100):
            store.write(f"x/{number}", b"%d" % number)
            assert store.create(f"y/{number}", b"%d" % number)
    finally:
        stop.set()
        remover.join()
    assert len(list(store.list())) == 200


def test_folders_that_overlap(tmp_path: Path) -> None:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "database").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    data = Store(str(tmp_path / "data"))
    for other in ("data", "data/sub", "data/not/there", "alias/sub", "data/../data", ".", "/"):
        assert data.overlaps(Store(str(tmp_path / other))), other
        assert Store(str(tmp_path / other)).overlaps(data), other
    for other in ("database", "other", "data2/data"):
        assert not data.overlaps(Store(str(tmp_path / other))), other
    assert not data.overlaps(Store("s3://data/sub"))
    assert Store("s3://b/x").overlaps(Store("s3://b/x/y"))
    assert Store("s3://b").overlaps(Store("s3a://b/x/y"))
    assert not Store("s3://b/x").overlaps(Store("s3://b/xy"))


def test_transient_errors_are_tried_again_and_final_ones_are_not() -> None:
    calls = []

    def fail_twice() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise OSError(5, "Input/output error")
        return "read"

    patience = Retries(attempts=3, first_s=0.001)
    assert patience.call(fail_twice, lambda error: True) == "read"
    calls.clear()
    with pytest.raises(OSError, match="Input"):
        patience.call(fail_twice, lambda error: False)
    assert len(calls) == 1
    assert [round(Retries(first_s=1, cap_s=4).wait(9) / 4) for _ in range(3)] == [1, 1, 1]


def test_a_folder_of_many_files_is_listed_with_bounded_work(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number:05d}.png").touch()
    entries = Store(str(tmp_path)).list()
    assert [next(entries).key for _ in range(3)] == ["00000.png", "00001.png", "00002.png"]
    assert sum(1 for _ in entries) == 2997
