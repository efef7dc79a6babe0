"""What a run may delete and when: nothing of others, and nothing of its own before the new plan is whole."""

import json
from collections.abc import Iterator
from pathlib import Path

import inprocess
import pytest

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.lease import Lease
from mimo_core.runs.plan import Plan, read_plan, shard_name
from mimo_core.runs.plan_writer import write_plan
from mimo_core.runs.record import Record
from mimo_core.runs.records import part_name, write_part
from mimo_core.runs.replacement import discard_replacement, finish_replacement, replace_run
from mimo_core.runs.strangers import refuse_strangers
from mimo_core.storage import Store
from mimo_core.storage.local import LocalFolder


@pytest.fixture(autouse=True)
def a_file_for_every_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small plans have several files."""
    monkeypatch.setattr("mimo_core.runs.plan_writer._FILE_ROWS", 1)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "run"))
    return Store(f"s3://{request.getfixturevalue('s3_bucket')}/run")


def manifest_of(name: str, **changes: object) -> RunManifest:
    return RunManifest.of(RestoreConfig(source=f"/{name}", output="/out"), inprocess.recipe_of(**changes))


def entries(name: str, count: int) -> Iterator[ImageEntry]:
    return (ImageEntry(f"{name}{number:04d}.png", f"/{name}/{number}", None, 1, "1") for number in range(count))


def begin(store: Store, name: str = "old", count: int = 4, **changes: object) -> RunFolder:
    """A run with its records and outputs, as its drivers and workers leave it."""
    folder = RunFolder(store)
    plan = write_plan(store, entries(name, count), shard_size=2)
    folder.begin(manifest_of(name, **changes))
    for number in range(plan.num_shards):
        rows = plan.shard(number)
        for row in rows:
            store.write(row.output, b"output")
        write_part(store, number, [Record(row.key, row.source, status="restored", output=row.output) for row in rows])
    store.write("features/part-00000000-0123456789abcdef.parquet", b"features")
    store.write("report.html", b"page")
    folder.write_summary({})
    return folder


def names(store: Store) -> list[str]:
    return sorted(entry.key for entry in store.list())


def new_plan(store: Store) -> Plan:
    return write_plan(store, entries("new", 3), shard_size=2)


NEW = ["plan/plan.json", shard_name(0), shard_name(1), "run.json"]

# -- strangers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "images/holiday.jpg",
        "plan/budget.xlsx",
        "plan/shard-00000000.parquet",
        "plan/plan.json",
        "records/2019.csv",
        "records/part-00000000.parquet",
        "features/login.feature",
        "report.html",
        "summary.json",
        "src/main.py",
        "lease/contract.pdf",
    ],
)
def test_a_folder_of_somebody_elses_is_refused_by_what_it_holds(tmp_path: Path, name: str) -> None:
    store = Store(str(tmp_path))
    store.write(name, b"mine")
    shown = name.partition("/")[0] + "/" if name.startswith("src/") else name
    with pytest.raises(UsageError, match=f'it holds "{shown}"; choose an OUTPUT that is empty or does not exist'):
        refuse_strangers(store)


def test_a_lease_that_is_none_proves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(shard_name(0), b"mine")
    for text in (b"[1]", b"{}", b"\xff", b'{"epoch": 1}'):
        store.write("lease/epoch-00000001.json", text)
        with pytest.raises(UsageError, match="shard-00000000"):
            refuse_strangers(store)


def test_what_an_interrupted_planning_left_is_no_strangers(store: Store) -> None:
    refuse_strangers(store)
    lease = Lease.acquire(store, lambda _: None)
    write_plan(store, entries("a", 4), shard_size=2)
    store.write(f"lease/probe-{'0' * 32}", b"visible")
    refuse_strangers(store)
    lease.release()
    refuse_strangers(store)


def test_empty_folders_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "images" / "2019").mkdir(parents=True)
    (tmp_path / "records").mkdir()
    refuse_strangers(Store(str(tmp_path)))
    refuse_strangers(Store(str(tmp_path / "absent")))


def test_a_plan_and_its_extension_remove_shards_alone(store: Store) -> None:
    store.write("plan/mine.txt", b"mine")
    store.write("plan/shard-1.parquet", b"mine")
    store.write("plan/shard-00000007.parquet", b"of an interrupted planning")
    new_plan(store)
    assert names(store) == sorted([*NEW[:3], "plan/mine.txt", "plan/shard-1.parquet"])


# -- starting over ----------------------------------------------------------------------------------------------------


def test_starting_over_removes_what_the_run_wrote_and_nothing_else(store: Store) -> None:
    folder = begin(store)
    mine = ["images/mine.png", "records/mine.csv", "plan/mine.txt", "features/mine.txt", "mine.txt"]
    for name in mine:
        store.write(name, b"mine")
    plan = replace_run(folder, manifest_of("new"), new_plan)
    assert names(store) == sorted([*NEW, *mine])
    assert plan == read_plan(store)
    assert [row.key for row in plan.rows()] == ["new0000.png", "new0001.png", "new0002.png"]
    manifest = folder.manifest()
    assert manifest is not None
    assert manifest.source == "/new"
    if store.path is not None:
        assert not (store.path / "replacement").exists()


def test_outputs_of_a_run_that_wrote_none_are_not_its_own(store: Store) -> None:
    folder = begin(store, saves_images=False)
    replace_run(folder, manifest_of("new"), new_plan)
    assert len([name for name in names(store) if name.startswith("images/")]) == 4


def test_without_a_run_nothing_is_removed(store: Store) -> None:
    begin(store)
    store.delete("run.json")
    before = names(store)
    with pytest.raises(UsageError, match="holds no run"):
        RunFolder(store).erase()
    assert names(store) == before


@pytest.mark.parametrize("kind", ["duplicate", "unlisted", "empty"])
def test_a_plan_that_cannot_be_made_leaves_the_old_run_as_it_was(store: Store, kind: str) -> None:
    folder = begin(store)
    before = {name: store.read(name) for name in names(store)}

    def bad() -> Iterator[ImageEntry]:
        yield from entries("new", 0 if kind == "empty" else 80)
        if kind == "duplicate":
            yield from entries("new", 1)
        if kind == "unlisted":
            raise SystemFailure(ErrorKind.STORAGE, "the listing fails midway")

    with pytest.raises((UsageError, SystemFailure), match=r"occurs twice|fails midway|is empty"):
        replace_run(folder, manifest_of("new"), lambda place: write_plan(place, bad(), shard_size=2))
    if kind == "unlisted":
        # What was written beside the run stays until the next command, which may find the storage mended.
        discard_replacement(folder)
    assert {name: store.read(name) for name in names(store)} == before


def test_wherever_starting_over_is_killed_one_whole_run_is_there_or_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The double is the kill: after so many writes and removals nothing more reaches the disk."""

    class Killed(BaseException):
        pass

    left = [0]

    def counted(name: str) -> None:
        real = getattr(LocalFolder, name)

        def act(self: LocalFolder, *arguments: object) -> object:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return real(self, *arguments)

        monkeypatch.setattr(LocalFolder, name, act)

    for name in ("write", "delete"):
        counted(name)
    seen = set()
    for step in range(100):
        left[0] = 10_000
        store = Store(str(tmp_path / str(step)))
        folder = begin(store)
        before = names(store)
        left[0] = step
        try:
            replace_run(folder, manifest_of("new"), new_plan)
        except Killed:
            left[0] = 10_000
            manifest = folder.manifest()
            assert manifest is not None
            resumed = read_plan(store) or finish_replacement(folder)
            discard_replacement(folder)
            state = (manifest.source, resumed is not None)
            seen.add(state)
            if manifest.source == "/new":
                assert names(store) == NEW, step
                assert resumed is not None
                assert resumed.num_images == 3
            elif resumed is not None:
                # Records come first: what has none any more is restored again.
                assert resumed.num_images == 4
                assert set(names(store)) <= set(before)
            else:
                replace_run(folder, manifest_of("new"), new_plan)
                assert names(store) == NEW, step
        else:
            assert names(store) == NEW
            break
    else:
        pytest.fail("never came to an end")
    assert seen == {("/old", True), ("/old", False), ("/new", True)}


@pytest.mark.s3
def test_very_many_are_removed_in_few_requests(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mimo_core.storage import bucket

    asked: list[str] = []

    async def counted(fs: object, operation: str, **parameters: object) -> object:
        asked.append(operation)
        return await call(fs, operation, **parameters)

    store = Store(f"s3://{s3_bucket}/run")
    folder = RunFolder(store)
    plan = write_plan(store, entries("old", 2500), shard_size=500)
    folder.begin(manifest_of("old"))
    rows = plan.shard(0)
    write_part(store, 0, [Record(row.key, row.source, status="restored", output=row.output) for row in rows])
    for row in rows[:3]:
        store.write(row.output, b"output")
    call = bucket.call
    monkeypatch.setattr(bucket, "call", counted)
    folder.erase()
    assert names(store) == ["run.json"]
    assert asked.count("delete_objects") <= 6
    assert json.loads(store.read("run.json"))["source"] == "/old"
    assert not store.exists(part_name(0))


@pytest.mark.parametrize("damaged", ["plan/plan.json", shard_name(1)])
def test_a_run_whose_plan_is_damaged_can_be_started_over(store: Store, damaged: str) -> None:
    folder = begin(store)
    store.write(damaged, b"no plan")
    store.write("images/somebody.txt", b"not of any record")
    plan = replace_run(folder, manifest_of("new"), new_plan)
    assert plan.num_images == 3
    # What the records name as outputs is gone, and nothing else.
    assert names(store) == sorted([*NEW, "images/somebody.txt"])
