"""Before the first image: what a command is refused for, and what resuming by another one is."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mimo_core.distributed.dry_run import dry_run
from mimo_core.distributed.preparation import demand_of, pixel_budget, plan_run, request_of, resolve
from mimo_core.distributed.resources import Demand, total_slots
from mimo_core.errors import UsageError
from mimo_core.hardware import Hardware
from mimo_core.inference.progress import RunProgress
from mimo_core.runs.config import RestoreConfig, parse_labels
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.plan import read_plan
from mimo_core.runs.record import Record
from mimo_core.runs.records import write_part
from mimo_core.storage import Store

LITE = "golden:mimo-unet-lite"
CPU = Hardware(cores=2, memory=8 << 30, cpu_bf16=False, cuda=False, cuda_bf16=False, cuda_memory=0)
GPU = Hardware(cores=9, memory=8 << 30, cpu_bf16=True, cuda=True, cuda_bf16=True, cuda_memory=8 << 30)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        assert cv2.imwrite(str(tmp_path / "in" / name), np.full((8, 8, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(**options: object) -> RestoreConfig:
    return RestoreConfig.model_validate({"source": "in", "output": "out", "weights": LITE, **options})


class Told:
    """Keeps what is said, and which phases are shown."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.phases: list[str] = []
        self.say, self.phase, self.lost = self.said.append, self.phases.append, self.said.append

    def progress(self, progress: RunProgress) -> None:
        raise AssertionError("nothing has begun")


def start(**options: object) -> list[str]:
    """Do all that comes before the first image; return what was said."""
    config = config_of(**options)
    folder, told = RunFolder(Store(config.output)), Told()
    plan_run(config, folder, resolve(request_of(config, folder), CPU), told)
    return told.said


def test_a_long_list_is_counted_while_it_is_read(place: Path) -> None:
    (place / "long.txt").write_text("".join(f"in/{number}.png\n" for number in range(2500)))
    config, told = config_of(source="long.txt"), Told()
    folder = RunFolder(Store(config.output))
    plan_run(config, folder, resolve(request_of(config, folder), CPU), told)
    assert told.phases == ["reading the list", *(f"reading the list: {images} images" for images in ("1,000", "2,000"))]


def test_the_same_command_resumes_the_run(place: Path) -> None:
    start()
    before = (place / "out" / "run.json").read_bytes()
    start()
    start(source=str(place / "in") + "/", weights=None, workers="3", timeout=1.0)
    assert (place / "out" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"precision": "bf16"}, "precision: was fp32, now bf16"),
        ({"size": "36x64"}, "size: was native, now 36x64"),
        ({"weights": "golden:mimo-unet"}, "model: was mimo-unet-lite, now mimo-unet"),
        ({"reference": "in"}, "reference: was none, now "),
        ({"limit": 2}, "limit: was none, now 2"),
        ({"include": ("*.dat",)}, "include: was none, now "),
        ({"format": "png", "quality": 3}, "format: was same, now png; quality: was default, now 3"),
    ],
)
def test_another_command_is_refused_by_its_differences(
    place: Path, options: dict[str, object], difference: str
) -> None:
    start()
    with pytest.raises(UsageError) as caught:
        start(**options)
    text = str(caught.value)
    assert difference in text
    assert text.startswith("OUTPUT holds a run that was begun with other choices (")
    assert text.endswith("repeat its options, choose another OUTPUT, or start over with --mode overwrite")


def test_overwrite_starts_over_once_the_new_plan_is_whole(place: Path) -> None:
    start()
    (place / "out" / "images").mkdir()
    (place / "out" / "images" / "a.png").write_text("written by the run")
    before = {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    (place / "twice.csv").write_text("key,source\na.png,in/a.png\na.png,in/c.png\n")
    with pytest.raises(UsageError, match=r"'a\.png' occurs twice"):
        start(source="twice.csv", mode="overwrite")
    assert {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()} == before
    start(precision="bf16", mode="overwrite")
    assert not (place / "out" / "images").exists()
    manifest = RunFolder(Store("out")).manifest()
    assert manifest is not None
    assert manifest.recipe.precision == "bf16"
    start(precision="bf16")


def test_a_source_that_cannot_be_planned_leaves_nothing(place: Path) -> None:
    (place / "twice.csv").write_text("key,source\na.png,in/a.png\na.png,in/c.png\n")
    for mode in ("resume", "overwrite"):
        with pytest.raises(UsageError, match=r"'a\.png' occurs twice"):
            start(source="twice.csv", mode=mode)
        assert not [path for path in (place / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("mode", ["resume", "overwrite", "retry-failed", "extend"])
@pytest.mark.parametrize("name", ["plan/budget.xlsx", "records/r.csv", "features/f.feature", "report.html", "a/b.txt"])
def test_what_is_somebody_elses_stays_in_every_mode(place: Path, mode: str, name: str) -> None:
    file = place / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"holds none|is not empty and no run of this program: it holds "):
        start(mode=mode)
    assert [path for path in (place / "out").rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


def test_extend_appends_what_is_new(place: Path) -> None:
    start()
    assert start(mode="extend") == ["0 new images added to the plan"]
    assert cv2.imwrite("in/d.png", np.zeros((8, 8, 3), np.uint8))
    assert start(mode="extend") == ["1 new image added to the plan"]
    plan = read_plan(Store("out"))
    assert plan is not None
    assert [row.key for row in plan.rows()] == ["a.png", "b.jpg", "c.png", "d.png"]


@pytest.mark.parametrize("options", [{}, {"limit": 5}, {"shard_size": 4}])
def test_a_dry_run_counts_as_the_run_does(place: Path, options: dict[str, object]) -> None:
    def told() -> tuple[int, int]:
        plan = read_plan(Store("out"))
        assert plan is not None
        return plan.num_images, plan.num_shards

    for number in range(20):
        (place / "in" / f"{number:03d}.png").write_bytes(b"1")
    would = dry_run(config_of(**options))
    assert not Path("out").exists()
    start(**options)
    assert (would.images, would.shards) == told()
    assert would.listed is not None
    assert would.listed.images == would.images
    for number in range(7):
        (place / "in" / f"new{number}.png").write_bytes(b"1")
    would = dry_run(config_of(mode="extend", **options))
    start(mode="extend", **options)
    assert (would.images, would.shards) == told()
    assert would.listed is not None
    assert would.listed.images == would.images - (5 if "limit" in options else 23)


@pytest.mark.parametrize(
    ("rows", "output_format", "message"),
    [
        ("x,in/a.png x,in/c.png", "same", "the key 'x' occurs twice in the image list: for .*a.png and for .*c.png"),
        ("a.gif,in/a.png a.gif.png,in/c.png", "same", "'a.gif' and 'a.gif.png' would both write 'images/a.gif.png'"),
        ("n.png,in/a.png n.jpg.png,in/c.png n.jpg,in/b.jpg", "png", "'n.jpg' and 'n.jpg.png' would both write"),
        ("../a.png,in/a.png", "same", "a.png"),
    ],
)
def test_a_dry_run_refuses_the_lists_that_the_run_refuses(
    place: Path, rows: str, output_format: str, message: str
) -> None:
    list_file = place / "list.csv"
    options: dict[str, object] = {"source": str(list_file), "format": output_format}
    for mode in ("resume", "extend"):
        list_file.write_text("\n".join(["key,source", *rows.split()]))
        with pytest.raises(UsageError, match=message):
            dry_run(config_of(mode=mode, **options))
        with pytest.raises(UsageError, match=message):
            start(mode=mode, **options)
        if mode == "resume":
            list_file.write_text("key,source\nfirst.png,in/a.png\n")
            start(**options)


def test_a_dry_run_takes_what_the_run_settles(place: Path) -> None:
    """Two keys that want one output get others."""
    (place / "in" / "a.jpg").write_bytes((place / "in" / "a.png").read_bytes())
    would = dry_run(config_of(format="png"))
    start(format="png")
    plan = read_plan(Store("out"))
    assert plan is not None
    assert would.images == plan.num_images == 4
    assert [row.output for row in plan.rows()][:2] == ["images/a.jpg.png", "images/a.png"]


def test_a_dry_run_of_an_extension_knows_the_outputs_of_the_plan(place: Path) -> None:
    list_file = place / "list.csv"
    list_file.write_text("key,source\na.gif,in/a.png\n")
    start(source=str(list_file))
    list_file.write_text("key,source\na.gif.png,in/c.png\n")
    with pytest.raises(UsageError, match=r"would both write 'images/a\.gif\.png'"):
        dry_run(config_of(source=str(list_file), mode="extend"))
    with pytest.raises(UsageError, match=r"would both write 'images/a\.gif\.png'"):
        start(source=str(list_file), mode="extend")


@pytest.mark.parametrize("mode", ["retry-failed", "extend"])
def test_modes_that_need_a_run_say_so(place: Path, mode: str) -> None:
    with pytest.raises(UsageError, match=f"--mode {mode} needs a run, and .*out holds none"):
        start(mode=mode)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"output": "in/out"}, "SOURCE"),
        ({"source": "in/*.png", "output": "in/out"}, "SOURCE"),
        ({"output": "."}, "SOURCE"),
        ({"output": "in/"}, "SOURCE"),
        ({"output": "ref/out", "reference": "ref"}, "--reference"),
        ({"source": "link", "output": "in/out"}, "SOURCE"),
    ],
)
def test_an_output_inside_the_source_is_refused(place: Path, options: dict[str, object], name: str) -> None:
    (place / "link").symlink_to(place / "in")
    with pytest.raises(UsageError, match=f"^{name} and OUTPUT overlap .*choose an OUTPUT outside of it"):
        start(**options)


def test_a_list_may_lie_beside_its_output(place: Path) -> None:
    (place / "list.txt").write_text("in/a.png\n")
    start(source="list.txt", output="results")


def test_a_source_of_nothing_is_refused_and_leaves_nothing(place: Path) -> None:
    (place / "empty").mkdir()
    with pytest.raises(UsageError, match="no images in empty"):
        start(source="empty")
    with pytest.raises(UsageError, match="there is nothing at absent"):
        start(source="absent")
    assert not (place / "out").exists()


def test_a_worker_reserves_what_its_calls_need(place: Path) -> None:
    def demand(hardware: Hardware, **options: object):
        config = config_of(**options)
        return demand_of(config, resolve(request_of(config, RunFolder(Store(config.output))), hardware))

    plain = demand(CPU)
    assert (plain.cpus, plain.gpus) == (1, 0)
    assert demand(CPU, cpus_per_worker=2).cpus == 2
    assert demand(CPU, tile="1024x1024").memory == plain.memory
    assert demand(CPU, tile="256x256").memory < plain.memory <= CPU.memory // 2
    assert demand(CPU, tile="256x256", batch=4).memory > demand(CPU, tile="256x256").memory
    card = demand(GPU)
    assert (card.cpus, card.gpus, card.memory) == (4, 1, 0)
    part = demand(GPU, gpus_per_worker=0.25)
    assert (part.cpus, part.gpus) == (1, 0.25)
    assert part.options()["num_gpus"] == 0.25
    assert demand(GPU, gpus_per_worker=0.25, cpus_per_worker=3).cpus == 3


@pytest.mark.parametrize(("share", "workers"), [(1.0, 2), (0.5, 4), (0.1, 20), (0.3, 6), (0.4, 4)])
def test_workers_that_share_gpus_fill_them(monkeypatch: pytest.MonkeyPatch, share: float, workers: int) -> None:
    # What Ray says of a node with two GPUs, which the machine of the tests need not have.
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Labels": {}, "Resources": {"CPU": 32.0, "GPU": 2.0}}])
    assert total_slots(Demand(cpus=1, gpus=share)) == workers


@pytest.mark.parametrize(
    ("selector", "labels", "fits"),
    [
        ("spot", {"market": "spot"}, True),
        ("spot", {"market": "on-demand"}, False),
        ("spot", {}, False),
        ("!spot", {"market": "on-demand"}, True),
        ("!spot", {"market": "spot"}, False),
        ("in(spot,cheap)", {"market": "cheap"}, True),
        ("!in(spot,cheap)", {"market": "cheap"}, False),
    ],
)
def test_labels_say_which_nodes_hold_workers(selector: str, labels: dict[str, str], fits: bool) -> None:
    (given,) = parse_labels((f"market={selector}",)).items()
    assert Demand(labels=dict([given])).fits(labels) is fits


@pytest.mark.parametrize("text", ["spot", "=spot", "market=", "market=in()", "market=a b"])
def test_a_label_without_a_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected LABEL=VALUE"):
        config_of(worker_label=(text,))


# -- links ------------------------------------------------------------------------------------------------------------


def sign(signature: str, keys: str = "abcdef") -> None:
    rows = [
        f"{key}.png,https://me:{signature}@host/{key}.png?X-Amz-Signature={signature},/sharp/{key}.png" for key in keys
    ]
    Path("signed.csv").write_text("key,source,reference\n" + "\n".join(rows) + "\n")


def links() -> list[str]:
    plan = read_plan(Store("out"))
    assert plan is not None
    return [row.source.rpartition("=")[2] for row in plan.rows()]


def modes() -> set[int]:
    return {path.stat().st_mode & 0o777 for path in Path("out/plan").glob("shard-*")}


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_plan_with_signed_links_is_its_owners_alone(place: Path) -> None:
    sign("one")
    start(source="signed.csv", shard_size=2)
    assert modes() == {0o600}
    start(source="signed.csv", shard_size=2, mode="overwrite")
    assert modes() == {0o600}
    assert b"one" not in Path("out/plan/plan.json").read_bytes()
    start(source="in", mode="overwrite")
    assert modes() == {0o666 & ~umask()}, "a plan without secrets may be read by those who verify the run"


def test_a_resumed_run_takes_links_that_were_signed_anew(place: Path) -> None:
    sign("one")
    start(source="signed.csv", shard_size=2)
    failed = [Record(key, "https://host/", "failed", error_kind="not_found") for key in ("c.png", "d.png")]
    write_part(Store("out"), 1, failed)
    before = read_plan(Store("out"))
    sign("two", "abcdefg")
    assert start(source="signed.csv") == ["4 images got new links from signed.csv"]
    assert links() == ["two", "two", "one", "one", "two", "two"]
    assert start(source="signed.csv") == []
    assert start(source="signed.csv", mode="retry-failed") == ["2 images got new links from signed.csv"]
    assert links() == ["two"] * 6
    assert modes() == {0o600}
    assert read_plan(Store("out")) == before


def test_a_list_of_other_images_renews_no_links_and_stops_no_run(place: Path) -> None:
    sign("one")
    start(source="signed.csv", shard_size=2)
    sign("two", "abdcef")
    told = start(source="signed.csv")
    assert told[0] == "2 images got new links from signed.csv"
    assert "cannot be renewed from c.png on" in told[1]
    assert links() == ["two", "two", "one", "one", "one", "one"]
    sign("three", "acbdef")
    assert "cannot be renewed from b.png on" in start(source="signed.csv")[1]
    assert links() == ["three", "two", "one", "one", "one", "one"], "what does match is renewed"
    Path("signed.csv").unlink()
    assert "cannot be renewed: there is nothing at" in start(source="signed.csv")[0]
    assert links() == ["three", "two", "one", "one", "one", "one"]


@pytest.mark.parametrize("cores", [1, 2, 8, 64, 256])
@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_the_pixels_that_the_workers_of_a_node_hold_leave_room_for_all_else(cores: int, cpus: int) -> None:
    hardware = replace(CPU, cores=cores, memory=2 * cores << 30)
    budget = pixel_budget(hardware, Demand(cpus=cpus))
    assert 128 << 20 <= budget <= 2 << 30
    assert budget * max(1, cores // cpus) <= hardware.memory // 4
