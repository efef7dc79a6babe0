"""Plans: streaming, committed last, extended by new keys alone, and never two images for one output."""

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.datasets.key_hashes import KeyHashes, KeySet
from mimo_core.errors import SystemFailure, UsageError
from mimo_core.runs.outputs import OutputNames
from mimo_core.runs.plan import COMMIT, Plan, ShardReader, read_plan, shard_name
from mimo_core.runs.plan_writer import extend, write_plan
from mimo_core.storage import Store
from mimo_core.storage.names import extension

FORMATS = ["same", "png", "jpg", "webp", "tiff"]


def entries(keys: Iterable[str]) -> Iterator[ImageEntry]:
    for number, key in enumerate(keys):
        yield ImageEntry(key, f"/in/{key}", None, number, str(number))


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "run"))
    return Store(f"s3://{request.getfixturevalue('s3_bucket')}/run")


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


def outputs(plan: Plan) -> dict[str, str]:
    return {row.key: row.output for row in plan.rows()}


def test_a_plan_holds_every_entry_in_order_in_shards(store: Store) -> None:
    given_entries = [
        ImageEntry(f"d/{number}.png", f"s3://b/{number}?.png", f"/gt/{number}" if number % 2 else None, number, None)
        for number in range(150)
    ]
    plan = write_plan(store, iter(given_entries), shard_size=64)
    assert (plan.num_shards, plan.num_images, plan.bytes, plan.references) == (3, 150, sum(range(150)), True)
    assert [len(plan.shard(number)) for number in range(3)] == [64, 64, 22]
    assert [(row.key, row.source, row.reference, row.size, row.version) for row in plan.rows()] == [
        (entry.key, entry.source, entry.reference, entry.size, entry.version) for entry in given_entries
    ]
    assert all(row.output == f"images/{row.key}" for row in plan.rows())
    assert read_plan(store) == plan
    with pytest.raises(UsageError):
        plan.shard(3)


def test_without_its_commit_a_plan_is_not_there(run: Store) -> None:
    def interrupted() -> Iterator[ImageEntry]:
        yield from entries(f"{number}.png" for number in range(5000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_plan(run, interrupted(), shard_size=10)
    assert run.exists(shard_name(0))
    assert read_plan(run) is None
    plan = write_plan(run, entries(["a.png"]), shard_size=10)
    assert plan.num_images == 1
    assert [entry.key for entry in run.list("plan")] == [COMMIT, shard_name(0)]


def test_a_plan_is_written_once(run: Store) -> None:
    write_plan(run, entries(["a.png"]))
    with pytest.raises(UsageError, match="exists"):
        write_plan(run, entries(["b.png"]))


def test_an_empty_list_is_refused(run: Store) -> None:
    with pytest.raises(UsageError, match="empty"):
        write_plan(run, entries([]))
    assert read_plan(run) is None


@pytest.mark.parametrize("size", [0, -1, 10**7])
def test_shard_sizes_that_make_no_sense(run: Store, size: int) -> None:
    with pytest.raises(UsageError, match="shard size"):
        write_plan(run, entries(["a.png"]), shard_size=size)


def test_keys_that_would_leave_the_output_are_refused(run: Store) -> None:
    for key in ("../a.png", "/a.png", "a//b.png"):
        with pytest.raises(UsageError):
            write_plan(run, entries([key]))
    assert read_plan(run) is None


def test_duplicate_keys_are_refused_by_name_without_secrets(store: Store) -> None:
    found = [*entries(f"{number}.png" for number in range(100)), ImageEntry("42.png", "https://h/42.png?sig=secret")]
    with pytest.raises(UsageError, match=r"'42\.png' occurs twice") as caught:
        write_plan(store, iter(found), shard_size=8)
    assert "/in/42.png" in str(caught.value)
    assert "https://h/42.png" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert read_plan(store) is None


def test_the_digest_tells_plans_apart_and_not_signatures(tmp_path: Path) -> None:
    def digest(name: str, found: list[ImageEntry], size: int = 2) -> str:
        return write_plan(Store(str(tmp_path / name)), iter(found), shard_size=size).digest

    base = [ImageEntry(f"{n}.png", f"https://h/{n}.png?X-Amz-Signature=1", None, n, "v") for n in range(5)]
    same = [replace(entry, source=entry.source.replace("=1", "=2")) for entry in base]
    assert digest("a", base) == digest("b", same)
    changed = [
        [replace(base[0], key="x.png"), *base[1:]],
        [replace(base[0], source="https://h/x.png"), *base[1:]],
        [replace(base[0], reference="https://h/x.png"), *base[1:]],
        [replace(base[0], size=9), *base[1:]],
        [replace(base[0], version="w"), *base[1:]],
        [*base[1:], base[0]],
        base[1:],
    ]
    digests = {digest(f"c{number}", found) for number, found in enumerate(changed)} | {digest("d", base)}
    assert len(digests) == len(changed) + 1
    assert digest("e", base, 3) != digest("f", base), "batches end with their shard"


# -- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output_format", "key", "output"),
    [
        ("same", "a/b.JPG", "images/a/b.JPG"),
        ("png", "a/b.JPG", "images/a/b.png"),
        ("png", "b.PNG", "images/b.PNG"),
        ("jpg", "b.jpeg", "images/b.jpeg"),
        ("jpg", "b.png", "images/b.jpg"),
        ("tiff", "b.tif", "images/b.tif"),
        ("png", "scan.2024", "images/scan.2024.png"),
        ("png", "scan", "images/scan.png"),
        ("png", "a.b/c", "images/a.b/c.png"),
        ("png", ".png", "images/.png.png"),
        ("webp", "x.tar.gif", "images/x.tar.webp"),
    ],
)
def test_extensions_change_only_with_the_format(run: Store, output_format: str, key: str, output: str) -> None:
    plan = write_plan(run, entries([key]), output_format=output_format)
    assert outputs(plan) == {key: output}
    assert read_plan(run) == plan


def test_keys_that_share_a_stem_keep_their_old_extension(store: Store) -> None:
    keys = ["a.jpg", "x/c.webp", "a.png", "b.jpg", "x/c.bmp", "a.bmp", "c.webp"]
    plan = write_plan(store, entries(keys), shard_size=2, output_format="png")
    assert outputs(plan) == {
        "a.jpg": "images/a.jpg.png",
        "a.bmp": "images/a.bmp.png",
        "a.png": "images/a.png",
        "b.jpg": "images/b.png",
        "x/c.webp": "images/x/c.webp.png",
        "x/c.bmp": "images/x/c.bmp.png",
        "c.webp": "images/c.png",
    }
    assert [row.key for row in plan.rows()] == keys


def test_outputs_that_meet_under_any_name_are_refused_naming_both(run: Store) -> None:
    with pytest.raises(UsageError) as caught:
        write_plan(run, entries(["a.jpg", "a.png", "a.jpg.png"]), shard_size=1, output_format="png")
    assert "'a.jpg'" in str(caught.value)
    assert "'a.jpg.png'" in str(caught.value)
    assert read_plan(run) is None


def test_unknown_formats_are_refused(run: Store) -> None:
    with pytest.raises(UsageError, match="unknown output format"):
        write_plan(run, entries(["a.png"]), output_format="gif")


def test_an_added_extension_meets_no_other_key(tmp_path: Path) -> None:
    plan = write_plan(Store(str(tmp_path / "one")), entries(["a.gif", "b.png"]))
    assert outputs(plan) == {"a.gif": "images/a.gif.png", "b.png": "images/b.png"}
    for first, second in (("a.gif", "a.gif.png"), ("a.gif.png", "a.gif")):
        with pytest.raises(UsageError, match=r"would both write 'images/a\.gif\.png'"):
            write_plan(Store(str(tmp_path / f"both-{first}")), entries([first, second]))
        begun = write_plan(Store(str(tmp_path / f"begun-{first}")), entries([first]))
        with pytest.raises(UsageError, match=r"would both write 'images/a\.gif\.png'"):
            extend(begun, entries([second]))


STEMS = st.sampled_from(["a", "b", "a.gif", "a.jpg", "d/a", "A", "a.png"])
SUFFIXES = st.sampled_from([".jpg", ".gif", ".png", ".PNG", ".jpeg", ".tif", "", ".dat", ".bmp"])
KEYS = st.lists(st.builds(str.__add__, STEMS, SUFFIXES), min_size=1, max_size=9, unique=True)


@given(KEYS, KEYS, st.sampled_from(FORMATS), st.integers(1, 4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_two_images_ever_share_an_output(
    tmp_path: Path, first: list[str], second: list[str], output_format: str, shard_size: int
) -> None:
    run = Store(f"memory://plans/{tmp_path.name}")
    run.delete_tree("plan")
    try:
        plan = write_plan(run, entries(first), shard_size=shard_size, output_format=output_format)
    except UsageError as error:
        assert "would both write" in str(error)  # noqa: PT017
        return
    before = outputs(plan)
    assert list(before) == first
    assert len(set(before.values())) == len(first)
    try:
        longer, added = extend(plan, entries(second))
    except UsageError as error:
        assert "would both write" in str(error)  # noqa: PT017
        assert read_plan(run) == plan
        return
    after = outputs(longer)
    assert list(after) == first + [key for key in second if key not in first]
    assert added == len(after) - len(before)
    assert {key: after[key] for key in first} == before
    assert len(set(after.values())) == len(after)


def test_what_an_extension_is() -> None:
    names = {"a.png": ".png", "a": "", ".png": "", "..png": "", "a.b/c": "", "a.tar.GZ": ".GZ", "d/.x.png": ".png"}
    assert {name: extension(name) for name in names} == names
    same = OutputNames("same")
    assert [name for name in ("images/a.png", "images/a.gif", "images/a.gif.png") if same.may_meet(name)] == [
        "images/a.gif.png"
    ]


# -- extending --------------------------------------------------------------------------------------------------------


def test_extending_appends_new_keys_as_new_shards(store: Store) -> None:
    plan = write_plan(store, entries(f"{number}.png" for number in range(10)), shard_size=4)
    old = [plan.shard(number) for number in range(3)]
    longer, added = extend(plan, entries(f"{number}.png" for number in range(15)))
    assert (added, longer.num_images, longer.num_shards) == (5, 15, 5)
    assert [longer.shard(number) for number in range(3)] == old
    assert [row.key for number in (3, 4) for row in longer.shard(number)] == [f"{n}.png" for n in range(10, 15)]
    assert longer.digest != plan.digest
    assert read_plan(store) == longer
    assert extend(longer, entries(["3.png"])) == (longer, 0)
    with pytest.raises(UsageError, match="twice"):
        extend(longer, entries(["new.png", "new.png"]))
    assert read_plan(store) == longer


def test_an_interrupted_extension_leaves_the_plan_as_it_was(run: Store) -> None:
    plan = write_plan(run, entries(["a.png"]), shard_size=1)

    def interrupted() -> Iterator[ImageEntry]:
        yield from entries(f"{number}.png" for number in range(100))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extend(plan, interrupted())
    assert read_plan(run) == plan
    longer, added = extend(plan, entries(["b.png"]))
    assert added == 1
    assert [entry.key for entry in run.list("plan")] == [COMMIT, shard_name(0), shard_name(1)]
    assert [row.key for row in longer.rows()] == ["a.png", "b.png"]


def test_an_extension_never_takes_an_output_that_is_given(run: Store) -> None:
    plan = write_plan(run, entries(["a.jpg"]), output_format="png")
    assert outputs(plan) == {"a.jpg": "images/a.png"}
    longer, _ = extend(plan, entries(["a.bmp", "a.png"]))
    assert outputs(longer) == {"a.jpg": "images/a.png", "a.bmp": "images/a.bmp.png", "a.png": "images/a.png.png"}


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_missing_or_broken_shard_stops_the_run(run: Store) -> None:
    plan, _ = extend(write_plan(run, entries(["a.png"])), entries(["b.png"]))
    plan, _ = extend(plan, entries(["c.png"]))
    run.write(shard_name(0), b"PAR1 not at all")
    run.delete(shard_name(1))
    shorter = write_plan(Store(f"{run}-shorter"), entries(["c.png", "d.png"]), shard_size=2)
    run.write(shard_name(2), shorter.store.read(shard_name(0)))
    for number in (0, 1, 2):
        with pytest.raises(SystemFailure, match="the plan is damaged"):
            plan.shard(number)
        with pytest.raises(SystemFailure, match="the plan is damaged"):
            ShardReader(plan).shard(number)
    with pytest.raises(SystemFailure):
        list(plan.rows())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff"])
def test_a_broken_commit_stops_the_run(run: Store, content: bytes) -> None:
    run.write(COMMIT, content)
    with pytest.raises(SystemFailure, match="is not a plan"):
        read_plan(run)


def test_a_plan_of_a_newer_version_is_not_touched(run: Store) -> None:
    write_plan(run, entries(["a.png"]))
    document = json.loads(run.read(COMMIT))
    run.write(COMMIT, json.dumps({**document, "version": 3}).encode())
    with pytest.raises(UsageError, match="newer version"):
        read_plan(run)


# -- size -------------------------------------------------------------------------------------------------------------


def test_planning_holds_bytes_for_an_image_and_not_objects(run: Store) -> None:
    count = 20_000

    def many() -> Iterator[ImageEntry]:
        for number in range(count):
            yield ImageEntry(f"{number:08d}.jpg", f"/some/long/folder/name/{number:08d}.jpg", None, 1, "1")

    tracemalloc.start()
    plan = write_plan(run, many(), shard_size=500, output_format="png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert plan.num_images == count
    # A file's 4096 rows as objects and columns are some 5 MB; all rows as objects would be four times that.
    assert peak < 10e6, f"{peak / 1e6:.0f} MB"


@given(st.lists(st.text(max_size=8), max_size=50), st.lists(st.text(max_size=8), max_size=50))
def test_sets_of_keys_know_their_members(members: list[str], others: list[str]) -> None:
    keys, hashes = KeySet(), KeyHashes()
    for key in members:
        keys.add(key)
        hashes.add(key)
    keys.freeze()
    assert all((key in keys) == (key in members) for key in members + others)
    assert hashes.repeated() == {KeyHashes.hash(key) for key in members if members.count(key) > 1}
    asked = KeyHashes()
    for key in others:
        asked.add(key)
    both = {key for key in others if key in members or others.count(key) > 1}
    assert asked.repeated(hashes) == {KeyHashes.hash(key) for key in both}
    assert asked.intersects(frozenset(KeyHashes.hash(key) for key in members)) == bool(set(members) & set(others))


def sizes_by_reading(plan: Plan) -> list[int]:
    return [len(plan.shard(number)) for number in range(plan.num_shards)]


def test_a_plan_tells_how_many_rows_its_shards_have(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(run, entries(f"a{number}" for number in range(10)), shard_size=4)
    for letter, number in (("b", 3), ("c", 4), ("d", 9)):
        plan = read_plan(run)
        assert plan is not None
        extend(plan, entries(f"{letter}{one}" for one in range(number)))
    plan = read_plan(run)
    assert plan is not None
    expected = sizes_by_reading(plan)
    assert expected == [4, 4, 2, 3, 4, 4, 4, 1]
    # No shard is read for its length.
    monkeypatch.setattr("mimo_core.runs.plan.read_file", lambda *_: pytest.fail("a shard was read"))
    assert [plan.size_of(number) for number in range(plan.num_shards)] == expected


def test_a_plan_of_a_version_that_told_no_sizes_is_read_and_extended(run: Store) -> None:
    write_plan(run, entries(f"a{number}" for number in range(5)), shard_size=4)
    document = json.loads(run.read(COMMIT))
    del document["sizes"]
    run.write(COMMIT, json.dumps(document).encode())
    plan = read_plan(run)
    assert plan is not None
    plan, added = extend(plan, entries(["b"]))
    assert added == 1
    assert read_plan(run) == plan
    assert [plan.size_of(number) for number in range(plan.num_shards)] == sizes_by_reading(plan) == [4, 1, 1]


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "files"), [(64, [(0, 64), (64, 15)]), (1, [(0, 4096), (4096, 904)]), (5000, [(0, 1)])]
)
def test_a_file_of_a_plan_holds_many_shards(run: Store, size: int, files: list[tuple[int, int]]) -> None:
    keys = [f"{number}.png" for number in range(5000)]
    plan = write_plan(run, entries(keys), shard_size=size)
    assert [(file.first, file.shards) for file in plan.all_files()] == files
    assert [entry.key for entry in run.list("plan")] == [COMMIT, *(shard_name(first) for first, _ in files)]
    assert [row.key for row in plan.rows()] == keys
    reader = ShardReader(plan)
    for number in (0, plan.num_shards - 1, plan.num_shards // 2):
        expected = keys[number * size : (number + 1) * size]
        assert [row.key for row in plan.shard(number)] == [row.key for row in reader.shard(number)] == expected
    longer, _ = extend(plan, entries([*keys, "new.png"]))
    assert read_plan(run) == longer
    assert [row.key for row in longer.shard(longer.num_shards - 1)] == ["new.png"]
    assert [row.key for row in longer.rows()] == [*keys, "new.png"]


def test_a_plan_of_a_version_with_a_file_for_each_shard_is_read_and_extended(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mimo_core.runs.plan_writer._FILE_ROWS", 1)
        write_plan(run, entries(f"a{number}" for number in range(5)), shard_size=2)
    document = json.loads(run.read(COMMIT))
    del document["files"]
    run.write(COMMIT, json.dumps({**document, "version": 1}).encode())
    plan = read_plan(run)
    assert plan is not None
    longer, _ = extend(plan, entries(f"b{number}" for number in range(5)))
    assert read_plan(run) == longer
    assert [row.key for row in longer.rows()] == [f"{letter}{number}" for letter in "ab" for number in range(5)]
    assert [entry.key for entry in run.list("plan")] == [COMMIT, *(shard_name(first) for first in (0, 1, 2, 3))]


def test_outputs_are_settled_across_files(run: Store) -> None:
    keys = [f"{number}.jpg" for number in range(5000)]
    plan = write_plan(run, entries([*keys, "7.png", "4999.png"]), output_format="png")
    names = outputs(plan)
    assert (names["7.png"], names["7.jpg"]) == ("images/7.png", "images/7.jpg.png")
    assert (names["4999.png"], names["4999.jpg"]) == ("images/4999.png", "images/4999.jpg.png")
    assert names["8.jpg"] == "images/8.png"
    assert read_plan(run) == plan
