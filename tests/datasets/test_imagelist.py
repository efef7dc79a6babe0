"""What SOURCE may name, and the list that comes of it."""

import csv
import gzip
import json
import os
import string
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures_s3 import S3Server
from hypothesis import given
from hypothesis import strategies as st

from mimo_core.datasets.globs import Glob, matches
from mimo_core.datasets.imagelist import ImageEntry, list_images
from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.storage import Store, read_url

KEYS = ["a.png", "b/ü [1].JPG", "b/c/d.webp", "b.tif", "z#?%20.jpeg"]
OTHERS = ["b/notes.txt", "b/._a.png", "b/a.png.json", "x.raw", "png", ".png", "Thumbs.db"]


def fill(store: Store, keys: list[str]) -> None:
    for key in keys:
        store.write(key, key.encode())


def keys_of(source: str, **options: object) -> list[str]:
    return [entry.key for entry in list_images(source, **options)]  # type: ignore[arg-type]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A place for an archive, empty."""
    if request.param == "local":
        return Store(str(tmp_path / "arch ive"))
    return Store(f"s3://{request.getfixturevalue('s3_bucket')}/arch ive")


def test_a_folder_gives_its_images_and_nothing_else(archive: Store) -> None:
    fill(archive, KEYS + OTHERS)
    entries = list(list_images(archive.url))
    assert sorted(entry.key for entry in entries) == sorted(KEYS)
    for entry in entries:
        data, now = read_url(entry.source)
        assert data == entry.key.encode()
        assert (entry.size, entry.version) == (now.size, now.version)
        assert entry.reference is None
    assert keys_of(archive.url + "/") == [entry.key for entry in entries]


def test_include_widens(archive: Store) -> None:
    fill(archive, KEYS + OTHERS)
    assert sorted(keys_of(archive.url, include=("*.raw", "b/*.txt"))) == sorted([*KEYS, "x.raw", "b/notes.txt"])


@pytest.mark.parametrize(
    ("pattern", "root", "expected"),
    [
        ("*.png", "", ["a.png"]),
        ("*", "", ["a.png", "b.tif", "z#?%20.jpeg"]),
        ("b/*", "b", ["ü [1].JPG"]),
        ("**/*.png", "", ["a.png"]),
        ("**", "", KEYS),
        ("b/**", "b", ["c/d.webp", "ü [1].JPG"]),
        ("?/c/*.webp", "", ["b/c/d.webp"]),
        ("*/*.raw*", "", None),
        ("*.raw", "", ["x.raw"]),
        ("[a-b].*", "", ["a.png", "b.tif"]),
        ("[!b]*.*g", "", ["a.png", "z#?%20.jpeg"]),
    ],
)
def test_globs(archive: Store, pattern: str, root: str, expected: list[str] | None) -> None:
    fill(archive, KEYS + OTHERS)
    source = f"{archive.url}/{pattern}"
    if expected is None:
        with pytest.raises(UsageError):
            keys_of(source)
        return
    entries = list(list_images(source))
    assert sorted(entry.key for entry in entries) == sorted(expected)
    for entry in entries:
        assert read_url(entry.source)[0].decode() == f"{root}/{entry.key}".lstrip("/")


def test_names_with_glob_characters_are_taken_literally_where_they_exist(archive: Store) -> None:
    fill(archive, ["set [1]/a.png", "set 1/b.png", "set [1]/x*.png"])
    assert keys_of(f"{archive.url}/set [1]") == ["a.png", "x*.png"]
    assert keys_of(f"{archive.url}/set [1]/x*.png") == ["x*.png"]


def test_a_single_image(archive: Store) -> None:
    fill(archive, ["sub/a.png", "sub/b.png"])
    (entry,) = list_images(f"{archive.url}/sub/a.png")
    assert entry.key == "a.png"
    assert read_url(entry.source)[0] == b"sub/a.png"
    assert entry.size == 9


def test_nothing_there_is_wrong_use(archive: Store) -> None:
    fill(archive, ["empty/readme.md"])
    for source, text in (
        (f"{archive.url}/none", "there is nothing"),
        (f"{archive.url}/none.png", "there is nothing"),
        (f"{archive.url}/none/*.png", "no images"),
        (f"{archive.url}/empty", "no images"),
    ):
        with pytest.raises(UsageError, match=text):
            keys_of(source)


@pytest.mark.parametrize("source", ["", "https://host/folder", "https://host", "s3://", "s3:///x"])
def test_sources_that_cannot_be_listed(source: str) -> None:
    with pytest.raises(UsageError):
        list_images(source)


def test_a_file_that_is_neither_image_nor_list(tmp_path: Path) -> None:
    (tmp_path / "x.doc").touch()
    with pytest.raises(UsageError, match="is no folder, and by its name neither an image"):
        list_images(str(tmp_path / "x.doc"))


@pytest.mark.s3
def test_a_missing_bucket_and_wrong_credentials_stop_the_run(
    s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemFailure, match="no bucket"):
        keys_of("s3://no-such-bucket-at-all/x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SystemFailure, match="credentials"):
        keys_of(f"s3://{s3_bucket}")


@pytest.mark.s3
def test_keys_that_only_a_bucket_can_hold_get_safe_keys(s3_bucket: str, s3_env: S3Server) -> None:
    client = s3_env.client()
    raw = ["C:/drive.png", ".mimo-tmp/x.png", "fine.png", "%2Emimo-tmp/x.png"]
    for key in raw:
        client.put_object(Bucket=s3_bucket, Key=f"p/{key}", Body=key.encode())
    entries = list(list_images(f"s3://{s3_bucket}/p"))
    found = {entry.key: read_url(entry.source)[0].decode() for entry in entries}
    assert found == {
        "C%3A/drive.png": "C:/drive.png",
        "%252Emimo-tmp/x.png": ".mimo-tmp/x.png",
        "%2Emimo-tmp/x.png": "%2Emimo-tmp/x.png",
        "fine.png": "fine.png",
    }


def test_a_backslash_in_a_local_name_is_escaped_in_its_key(tmp_path: Path) -> None:
    (tmp_path / "back\\slash.png").write_bytes(b"1")
    (entry,) = list_images(str(tmp_path))
    assert entry.key == "back%5Cslash.png"
    assert read_url(entry.source)[0] == b"1"


def test_names_that_would_share_a_key_get_one_each(tmp_path: Path) -> None:
    names = ["back\\slash.png", "back%5Cslash.png", "back%255Cslash.png", "a\\b%5C.png", "a%5Cb\\.png"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    found = {entry.key: read_url(entry.source)[0].decode() for entry in list_images(str(tmp_path))}
    assert found == {
        "back%25255Cslash.png": "back\\slash.png",
        "back%5Cslash.png": "back%5Cslash.png",
        "back%255Cslash.png": "back%255Cslash.png",
        "a%5Cb%255C.png": "a\\b%5C.png",
        "a%255Cb%5C.png": "a%5Cb\\.png",
    }


def test_special_files_named_as_images_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    os.mkfifo(tmp_path / "fifo.png")
    os.mkfifo(tmp_path / "fifo.dat")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png/inside.png").write_bytes(b"2")
    (tmp_path / "up").symlink_to(".")
    entries = {entry.key: entry for entry in list_images(str(tmp_path))}
    assert list(entries) == ["a.png", "dangling.jpg", "fifo.png", "folder.png/inside.png"]
    assert entries["fifo.png"].size is None
    for key in ("fifo.png", "dangling.jpg"):
        with pytest.raises(ImageError):
            read_url(entries[key].source)
        (single,) = list_images(str(tmp_path / key))
        assert single.key == key


def test_names_that_are_not_unicode_can_be_planned_and_read(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(b"latin")
    for source in (tmp_path, tmp_path / "*.png"):
        (entry,) = list_images(str(source))
        assert entry.key == "caf%E9.png"
        entry.source.encode()
        assert read_url(entry.source)[0] == b"latin"


def test_names_that_are_not_unicode_have_references(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    for key in ("1/blur", "1/sharp", "2/sharp"):
        (tmp_path / key).mkdir(parents=True)
        (tmp_path / key / name).write_bytes(key.encode())
    for source, reference in (("1/blur", "1/sharp"), ("1", "1")):
        notes: list[str] = []
        (entry,) = list_images(str(tmp_path / source), reference=str(tmp_path / reference), note=notes.append)
        assert (read_url(entry.source)[0], read_url(str(entry.reference))[0]) == (b"1/blur", b"1/sharp")
        assert entry.key.endswith("caf%E9.png")
        assert not notes
    list(list_images(str(tmp_path), reference=str(tmp_path), note=notes.append))
    assert notes == ["1 reference belongs to no image: 2/sharp/caf%E9.png"]


def test_folders_that_are_not_unicode_are_paired_by_the_same_key_alone(tmp_path: Path) -> None:
    for key in (b"in/\xe9/1.png", b"ref/\xe9/1.png", b"both/\xe9/blur/1.png", b"both/\xe9/sharp/1.png"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + key))
        path.parent.mkdir(parents=True)
        path.write_bytes(key)
    (entry,) = list_images(str(tmp_path / "in"), reference=str(tmp_path / "ref"))
    assert read_url(str(entry.reference))[0] == b"ref/\xe9/1.png"
    with pytest.raises(UsageError, match="no image is its own reference"):
        list(list_images(str(tmp_path / "both"), reference=str(tmp_path / "both")))


def test_sources_are_absolute_whatever_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Store(str(tmp_path / "in")), ["a.png"])
    monkeypatch.chdir(tmp_path)
    for source in ("in", "./in/", "in/a.png", "in/*.png", f"file://{tmp_path}/in"):
        (entry,) = list_images(source)
        assert entry.source == str(tmp_path / "in/a.png"), source
        assert entry.key == "a.png"


def test_listing_streams(tmp_path: Path) -> None:
    fill(Store(str(tmp_path)), ["a.png", "b/x.png"])
    (tmp_path / "b/x.png").unlink()
    entries = list_images(str(tmp_path))
    assert next(entries).key == "a.png"
    (tmp_path / "b/late.png").touch()
    assert [entry.key for entry in entries] == ["b/late.png"], "folders are read when their turn comes"


# -- list files -------------------------------------------------------------------------------------------------------

ROWS = [
    {"source": "sub/a.png", "key": "first.png", "reference": "gt/a.png"},
    {"source": "sub/ü, \"b\".png", "key": None, "reference": None},
    {"source": "/abs/c.png", "key": None, "reference": "s3://bucket/gt/c.png"},
    {"source": "s3://bucket/d/e?.png", "key": None, "reference": None},
    {"source": "https://u:p@host:80/f%20g.png?X-Amz-Signature=1", "key": None, "reference": None},
    {"source": "../out/h.png", "key": None, "reference": None},
]  # fmt: skip


def expected(folder: str) -> list[ImageEntry]:
    parent = folder.rpartition("/")[0]
    outside = f"{parent}/out/h.png"
    return [
        ImageEntry("first.png", f"{folder}/sub/a.png", f"{folder}/gt/a.png"),
        ImageEntry('sub/ü, "b".png', f'{folder}/sub/ü, "b".png'),
        ImageEntry("abs/c.png", "/abs/c.png", "s3://bucket/gt/c.png"),
        ImageEntry("bucket/d/e?.png", "s3://bucket/d/e?.png"),
        ImageEntry("host:80/f g.png", "https://u:p@host:80/f%20g.png?X-Amz-Signature=1"),
        ImageEntry(outside.partition("://")[2] or outside[1:], outside),
    ]


def write_list(folder: Path, kind: str) -> Path:
    path = folder / f"list{kind}"
    if kind.startswith(".csv"):
        with path.with_name("plain.csv").open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["extra", "key", "Source", "reference"])
            writer.writeheader()
            for row in ROWS:
                writer.writerow({"Source": row["source"], "key": row["key"], "reference": row["reference"], "extra": 1})
        path.write_bytes((folder / "plain.csv").read_bytes())
    elif kind.startswith(".jsonl"):
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")
    else:
        table = pa.Table.from_pylist([{**row, "extra": 1} for row in ROWS])
        pq.write_table(table, path, row_group_size=2)
    if kind.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz"])
def test_lists_of_every_kind_say_the_same(tmp_path: Path, kind: str) -> None:
    (tmp_path / "lists").mkdir()
    path = write_list(tmp_path / "lists", kind)
    assert list(list_images(str(path))) == expected(str(tmp_path / "lists"))


@pytest.mark.s3
@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_lists_in_a_bucket(s3_bucket: str, tmp_path: Path, kind: str) -> None:
    store = Store(f"s3://{s3_bucket}/lists")
    store.write(f"list{kind}", write_list(tmp_path, kind).read_bytes())
    assert list(list_images(f"{store.url}/list{kind}")) == expected(store.url)


@pytest.mark.s3
def test_a_list_at_a_presigned_address(s3_bucket: str, s3_env: S3Server, tmp_path: Path) -> None:
    store = Store(f"s3://{s3_bucket}/lists")
    store.write("list.txt", b"s3://bucket/a.png\nsub/b.png\n")
    params = {"Bucket": s3_bucket, "Key": "lists/list.txt"}
    entries = list(list_images(s3_env.client().generate_presigned_url("get_object", Params=params)))
    assert [entry.key for entry in entries] == ["bucket/a.png", "sub/b.png"]
    assert entries[1].source == f"{s3_env.endpoint}/{s3_bucket}/lists/sub/b.png"


def test_a_text_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeff# images\r\n\r\n a.png \r\n#1.png\n#\nb c.png", encoding="utf-8")
    assert keys_of(str(tmp_path / "list.txt")) == ["a.png", "#1.png", "b c.png"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("l.csv", b"path,label\nx,y\n", "needs a header with the column `source`"),
        ("l.csv", b"", "needs a header"),
        ("l.csv", b"source,key\na.png\n", "line 2: 1 values"),
        ("l.csv", b'source\n"a.png\n', "no valid CSV"),
        ("l.csv", b"source,key\n,x\n", "line 2: the source is empty"),
        ("l.jsonl", b'{"source": "a.png"}\n{"sou', "line 2: no valid JSON"),
        ("l.jsonl", b'{"path": "a.png"}\n', "line 1: needs an object with `source`"),
        ("l.jsonl", b'{"source": 5}\n', "line 1: key, source and reference are text"),
        ("l.jsonl", b'[1]\n', "line 1: needs an object"),
        ("l.txt", b"# nothing\n", "no images"),
        ("l.parquet", b"PAR1", "no Parquet file"),
        ("l.csv.gz", b"source\n", "no whole gzip file"),
    ],
)  # fmt: skip
def test_lists_that_are_not_understood_say_where(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=text):
        keys_of(str(tmp_path / name))


def test_a_parquet_list_without_source(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "l.parquet")
    with pytest.raises(UsageError, match="column `source`"):
        keys_of(str(tmp_path / "l.parquet"))


def test_an_endless_list_is_read_as_it_is_used(tmp_path: Path) -> None:
    with (tmp_path / "l.txt").open("w") as file:
        for number in range(200_000):
            file.write(f"{number}.png\n")
    assert [entry.key for entry in islice(list_images(str(tmp_path / "l.txt")), 2)] == ["0.png", "1.png"]
    assert sum(1 for _ in list_images(str(tmp_path / "l.txt"))) == 200_000


# -- references -------------------------------------------------------------------------------------------------------


def test_references_are_paired_by_key_then_by_stem(archive: Store) -> None:
    source, truth = Store(archive.url + "/in"), Store(archive.url + "/truth")
    fill(source, ["a.jpg", "sub/b.jpg", "sub/c.jpg", "d.e.png", "none.png"])
    fill(truth, ["a.jpg", "a.png", "sub/b.png", "sub/b.tif", "sub/c.txt", "d.e.webp", "d.png"])
    pairs = {entry.key: entry.reference for entry in list_images(source.url, reference=truth.url)}
    assert pairs == {
        "a.jpg": truth.url_of("a.jpg"),
        "sub/b.jpg": truth.url_of("sub/b.png"),
        "sub/c.jpg": truth.url_of("sub/c.jpg"),
        "d.e.png": truth.url_of("d.e.webp"),
        "none.png": truth.url_of("none.png"),
    }
    with pytest.raises(ImageError) as caught:
        read_url(str(pairs["none.png"]))
    assert caught.value.kind is ErrorKind.NOT_FOUND


def test_a_lists_own_references_come_first(tmp_path: Path) -> None:
    fill(Store(str(tmp_path / "truth")), ["a.png", "b.png"])
    (tmp_path / "l.csv").write_text("source,reference\na.png,own.png\nb.png,\n")
    references = [entry.reference for entry in list_images(str(tmp_path / "l.csv"), reference=str(tmp_path / "truth"))]
    assert references == [str(tmp_path / "own.png"), str(tmp_path / "truth/b.png")]


def test_a_reference_that_is_no_folder(archive: Store) -> None:
    fill(archive, ["in/a.png"])
    with pytest.raises(UsageError, match="reference"):
        list_images(f"{archive.url}/in", reference=f"{archive.url}/nowhere")


def test_web_references_are_not_listed(tmp_path: Path) -> None:
    fill(Store(str(tmp_path)), ["a b.png"])
    (entry,) = list_images(str(tmp_path), reference="https://host/truth?sig=1")
    assert entry.reference == "https://host/truth/a%20b.png?sig=1"


# -- globs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "key", "matched"),
    [
        ("*.png", "a/b.png", True),
        ("a/*.png", "a/b.png", True),
        ("*/b.png", "a/c/b.png", False),
        ("**/b.png", "b.png", True),
        ("**/b.png", "a/c/b.png", True),
        ("a/**", "a/b/c", True),
        ("a/**", "b/a/c", False),
        ("a/**/c", "a/c", True),
        ("[!a].png", "b.png", True),
        ("[a].png", "b.png", False),
        ("[.png", "[.png", True),
        ("a?c", "a/c", False),
        ("a.c", "abc", False),
        ("*", "a\nb", True),
    ],
)
def test_what_patterns_match(pattern: str, key: str, matched: bool) -> None:
    assert matches(pattern, key) is matched


@given(st.text(string.printable, max_size=12), st.text(string.printable, min_size=1, max_size=12))
def test_patterns_never_fail(pattern: str, key: str) -> None:
    matches(pattern, key)


@given(st.text("ab./", min_size=1, max_size=10))
def test_a_pattern_without_magic_matches_itself_alone(key: str) -> None:
    assert matches("/" + key, "/" + key)
    assert not matches("/" + key, "/" + key + "x")


def test_the_root_of_a_glob_is_its_literal_beginning() -> None:
    assert (Glob("/a/b/*.png").root, Glob("/a/b/*.png").pattern) == ("/a/b", "*.png")
    assert Glob("s3://bucket/a/**/x[1].png").root == "s3://bucket/a"
    assert Glob("/*.png").root == "/"
