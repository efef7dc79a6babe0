"""What is decided once: configuration, automatic choices, the recipe's fingerprint, and what a resumed run refuses."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from inprocess import LITE, recipe_of
from pydantic import ValidationError

from mimo_core.errors import UsageError, WeightsError
from mimo_core.hardware import Hardware, usable_cores, usable_memory
from mimo_core.inference.choices import choose, choose_weights, default_weights
from mimo_core.inference.tuning import Answer, Question
from mimo_core.models.int8 import KEY, Quantisation
from mimo_core.models.weights import load_weights, save_weights, shipped
from mimo_core.runs.config import RestoreConfig, parse_max_failed, parse_size, parse_workers
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.recipe import Recipe
from mimo_core.storage import Store

GIB = 1 << 30
PLAIN = Hardware(cores=4, memory=8 * GIB, cpu_bf16=False, cuda=False, cuda_bf16=False, cuda_memory=0)
FAST = Hardware(cores=4, memory=8 * GIB, cpu_bf16=True, cuda=False, cuda_bf16=False, cuda_memory=0)
GPU = Hardware(cores=16, memory=64 * GIB, cpu_bf16=True, cuda=True, cuda_bf16=True, cuda_memory=80 * GIB)
OLD_GPU = Hardware(cores=16, memory=64 * GIB, cpu_bf16=True, cuda=True, cuda_bf16=False, cuda_memory=8 * GIB)


def config_of(**options: object) -> RestoreConfig:
    return RestoreConfig.model_validate({"source": "in", "output": "out", "weights": LITE, **options})


def first_of(question: Question) -> Answer:
    """A machine on which the first of the engines is the fastest."""
    return Answer(question.engines[0], 512, 1 << 20, "decided by the test")


def chosen(
    hardware: Hardware = PLAIN,
    frozen: Recipe | None = None,
    tune: Callable[[Question], Answer] = first_of,
    **options: object,
) -> Recipe:
    config = config_of(**options)
    return choose(config, choose_weights(config, frozen), hardware, frozen, tune)


def never(question: Question) -> Answer:
    raise AssertionError(f"nothing was to be measured: {question}")


# Values of options


def test_values_with_a_form_of_their_own_are_read() -> None:
    assert parse_size("360x640") == parse_size("360X640") == (360, 640)
    assert parse_workers("3") == (3, 3)
    assert parse_workers("2:8") == (2, 8)
    assert parse_workers("auto") == (1, None)
    assert parse_max_failed("0") == (0.0, False)
    assert parse_max_failed("100") == (100.0, False)
    assert parse_max_failed("1%") == (0.01, True)
    assert parse_max_failed("0.5%") == (0.005, True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", "640", "expected HEIGHTxWIDTH in pixels such as 360x640, found '640'"),
        ("size", "0x640", "expected HEIGHTxWIDTH"),
        ("size", "-1x5", "expected HEIGHTxWIDTH"),
        ("tile", "big", "expected HEIGHTxWIDTH"),
        ("device", "gpu", "expected auto, cpu, cuda, cuda:N, vacc or vacc:N, found 'gpu'"),
        ("device", "cuda:", "expected auto, cpu"),
        ("workers", "0", "expected 1 <= MIN <= MAX, found '0'"),
        ("workers", "4:2", "expected 1 <= MIN <= MAX"),
        ("workers", "many", "expected N, MIN:MAX or auto, found 'many'"),
        ("max_failed", "1.5", "expected a number of images such as 100 or a share such as 1%"),
        ("max_failed", "101%", "a share is at most 100%"),
        ("max_failed", "-1", "expected a number of images"),
        ("batch", "0", "expected auto or a number of images of at least 1, found '0'"),
        ("batch", "²", "expected auto or a number"),
        ("overlap", -1, "greater than or equal to 0"),
        ("quality", 101, "less than or equal to 100"),
        ("limit", 0, "greater than or equal to 1"),
        ("timeout", 0, "greater than 0"),
        ("timeout", float("nan"), "greater than 0|finite"),
        ("engine", "magic", "expected auto, identity, openvino, torch, vacc, found 'magic'"),
        ("wokers", 3, "Extra inputs are not permitted"),
    ],
)
def test_wrong_values_are_refused_by_what_was_expected(name: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config_of(**{name: value})


def test_numbers_in_a_file_may_stand_for_text() -> None:
    config = config_of(workers=3, batch=4, max_failed=10)
    assert (config.workers, config.batch, config.max_failed) == ("3", "4", "10")


# Automatic choices


def test_the_machine_decides_what_the_user_leaves_open() -> None:
    assert (chosen(PLAIN).device_type, chosen(PLAIN).precision) == ("cpu", "fp32")
    assert (chosen(FAST).device_type, chosen(FAST).precision) == ("cpu", "bf16")
    assert (chosen(GPU).device_type, chosen(GPU).precision) == ("cuda", "bf16")
    assert (chosen(OLD_GPU).device_type, chosen(OLD_GPU).precision) == ("cuda", "fp32")
    assert chosen(GPU).batch > chosen(PLAIN).batch == 1
    assert (chosen(PLAIN).threads, chosen(GPU).threads) == (1, None)
    assert chosen(PLAIN, cpus_per_worker=2).threads == 2
    assert chosen(GPU, device="cpu").device_type == "cpu"
    assert chosen(GPU, device="cuda:3").device_type == "cuda"


def test_the_identity_engine_needs_neither_weights_nor_accelerator() -> None:
    recipe = chosen(GPU, engine="identity")
    assert (recipe.model, recipe.engine, recipe.device_type, recipe.precision) == (
        "identity",
        "identity",
        "cpu",
        "fp32",
    )
    assert recipe.weights_sha256 == ""
    again = chosen(GPU, recipe, engine="auto", weights=None)
    assert again == recipe


def test_the_recipe_names_its_weights() -> None:
    recipe = chosen()
    weights = load_weights(LITE)
    assert (recipe.model, recipe.weights, recipe.weights_sha256) == ("mimo-unet-lite", LITE, weights.sha256)
    assert recipe.described() == f"mimo-unet-lite ({LITE}), openvino fp32 on cpu"
    assert chosen(ensemble=4).described() == f"mimo-unet-lite ({LITE}), mean of 4 rotations, openvino fp32 on cpu"
    assert recipe.interpolation == "nearest"
    assert chosen(interpolation="bilinear").interpolation == "bilinear"


def test_a_named_tile_is_used_for_every_larger_image_on_any_device() -> None:
    for hardware in (PLAIN, GPU):
        recipe = chosen(hardware, tile="256x320")
        assert (recipe.tile, recipe.call_pixels) == ((256, 320), None)
        assert chosen(hardware, tile="none").tile is None
        automatic = chosen(hardware)
        assert automatic.tile is not None
        assert automatic.call_pixels is not None


def test_what_cannot_work_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match=r"tiles of 64x512 leave nothing between overlaps of 32.*--overlap"):
        chosen(tile="64x512")
    with pytest.raises(
        UsageError, match="nothing computes in fp16 on cpu with --engine openvino: openvino computes on"
    ):
        chosen(engine="openvino", precision="fp16")
    with pytest.raises(UsageError, match="nothing computes in fp32 on cuda with --engine openvino"):
        chosen(GPU, engine="openvino", device="cuda", precision="fp32")
    with pytest.raises(UsageError, match="nothing computes in int8 on cuda with --engine auto"):
        chosen(GPU, precision="int8")
    with pytest.raises(UsageError, match=f"--model asks for mimo-unet-plus, but {LITE} holds mimo-unet-lite"):
        chosen(model="mimo-unet-plus")
    with pytest.raises(WeightsError, match="no weights named 'nothing-of-the-kind'"):
        chosen(weights="nothing-of-the-kind")


def test_what_is_fastest_is_measured_where_the_user_leaves_it_open() -> None:
    asked: list[Question] = []

    def tune(question: Question) -> Answer:
        asked.append(question)
        return Answer("torch", 256, 65536, "decided by the test")

    recipe = chosen(FAST, tune=tune, cpus_per_worker=3, overlap=16)
    assert asked == [Question(("openvino", "torch"), "bf16", 16, "nearest", 3, 16)]
    assert (recipe.engine, recipe.tile, recipe.call_pixels) == ("torch", (256, 256), 65536)
    asked.clear()
    assert chosen(FAST, tune=tune, precision="fp16").engine == "torch"
    assert [question.engines for question in asked] == [("torch",)]
    asked.clear()
    recipe = chosen(PLAIN, tune=tune, tile="320x320")
    assert (recipe.engine, recipe.tile, recipe.call_pixels) == ("torch", (320, 320), None)
    assert [question.precision for question in asked] == ["fp32"]


def test_nothing_is_measured_where_nothing_is_open() -> None:
    chosen(PLAIN, tune=never, engine="torch", tile="512x512")
    chosen(PLAIN, tune=never, engine="openvino", tile="none")
    chosen(GPU, tune=never)
    chosen(PLAIN, tune=never, engine="identity")
    first = chosen(FAST)
    assert chosen(PLAIN, first, never) == first


def test_quantised_weights_are_computed_in_int8_unless_told_otherwise(tmp_path: Path) -> None:
    lite = load_weights("mimo-unet-lite")
    path = str(tmp_path / "int8.safetensors")
    text = Quantisation("max", {"feat_extract.0": (0.0, 1.0)}).text()
    save_weights(Path(path), lite.spec, lite.state, more={KEY: text})
    recipe = chosen(FAST, weights=path)
    assert (recipe.precision, recipe.engine, recipe.weights_sha256) == ("int8", "openvino", load_weights(path).sha256)
    assert chosen(FAST, weights=path, precision="fp32").precision == "fp32"
    assert chosen(FAST, weights=path, engine="torch").precision == "bf16"
    assert chosen(GPU, weights=path).precision == "bf16"
    assert chosen(FAST, recipe, never, weights=path) == recipe
    assert recipe.fingerprint() != chosen(FAST, precision="int8").fingerprint()


# Frozen choices


def test_frozen_choices_win_over_another_machine() -> None:
    first = chosen(GPU)
    assert chosen(PLAIN, first) == first
    first = chosen(PLAIN, interpolation="bilinear", cpus_per_worker=3)
    assert chosen(GPU, first, weights=None) == first


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"precision": "fp16"}, "precision: was fp32, now fp16"),
        ({"batch": "4"}, "batch: was 1, now 4"),
        ({"tile": "256x256"}, "tile: was 512x512, now 256x256"),
        ({"tile": "none"}, "tile: was 512x512, now none"),
        ({"overlap": 16}, "overlap: was 32, now 16"),
        ({"size": "36x64"}, "size: was native, now 36x64"),
        ({"format": "png"}, "format: was same, now png"),
        ({"quality": 80}, "quality: was default, now 80"),
        ({"interpolation": "bilinear"}, "interpolation: was nearest, now bilinear"),
        ({"cpus_per_worker": 2}, "threads: was 1, now 2"),
        ({"engine": "identity"}, "engine: was openvino, now identity"),
        ({"engine": "torch"}, "engine: was openvino, now torch"),
        ({"max_pixels": 1000}, "max_pixels: was 268435456, now 1000"),
    ],
)
def test_an_option_that_is_given_wins_over_the_frozen_choice_and_is_told_apart(
    options: dict[str, object], difference: str
) -> None:
    first = chosen()
    asked = chosen(GPU, first, **options)
    assert difference in first.differences(asked)
    assert first.fingerprint() != asked.fingerprint()


def test_options_that_change_no_byte_make_no_difference() -> None:
    first = chosen()
    same = chosen(PLAIN, first, workers="2:9", shard_size=7, timeout=5.0, max_failed="1%", limit=3, mode="retry-failed")
    assert first.differences(same) == []
    assert first.fingerprint() == same.fingerprint()


# Fingerprint


def test_every_choice_is_in_the_fingerprint_but_the_name_of_the_weights() -> None:
    base = recipe_of(load_weights(LITE))
    changes = {
        "model": "mimo-unet",
        "weights_sha256": "0" * 64,
        "compiled_sha256": "0" * 64,
        "interpolation": "bilinear",
        "engine": "other",
        "device_type": "cuda",
        "precision": "bf16",
        "size": (1, 2),
        "tile": None,
        "overlap": 1,
        "call_pixels": None,
        "batch": 9,
        "threads": 9,
        "max_pixels": 9,
        "format": "png",
        "quality": 9,
        "ensemble": 4,
        "scales": "1/2,1",
        "pages": "first",
        "strength": 0.5,
        "guard": "keep-original",
        "mark": True,
        "minimum_gain": 0.5,
        "skip_sharp": True,
        "others": "copy",
        "predictor_sha256": "0" * 64,
        "indications": True,
        "evaluates": True,
        "saves_images": False,
        "metrics": ("psnr",),
        "fid_sha256": "0" * 64,
    }
    assert set(changes) == set(Recipe.model_fields) - {"weights"}
    recipes = [base, *(base.model_copy(update={name: value}) for name, value in changes.items())]
    for one, other in itertools.combinations(recipes, 2):
        assert one.fingerprint() != other.fingerprint()
    renamed = base.model_copy(update={"weights": "/elsewhere/the-same.safetensors"})
    assert renamed.fingerprint() == base.fingerprint()
    assert base.differences(renamed) == []
    for name, value in changes.items():
        (line,) = base.differences(base.model_copy(update={name: value}))
        assert line.startswith(f"{name}: was ")


def test_the_fingerprint_is_the_same_after_a_round_trip_and_on_any_day() -> None:
    base = recipe_of(load_weights(LITE), size=(36, 64))
    assert Recipe.model_validate_json(base.model_dump_json()).fingerprint() == base.fingerprint()
    assert recipe_of().fingerprint() == "".join(recipe_of().fingerprint())
    with pytest.raises(ValidationError):
        Recipe.model_validate({**base.model_dump(), "unknown": 1})


# The run's manifest


def test_one_place_written_in_several_ways_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = chosen()
    manifest = RunManifest.of(config_of(source="blur", reference="sharp/"), recipe)
    for source in ("./blur", "blur/", str(tmp_path / "blur"), str(tmp_path / "x" / ".." / "blur") + "/"):
        assert manifest.differences(config_of(source=source, reference="sharp"), recipe) == []
    assert manifest.differences(config_of(source="other", reference="sharp"), recipe) == [
        f"source: was {tmp_path / 'blur'}, now {tmp_path / 'other'}"
    ]
    assert manifest.differences(config_of(source="blur"), recipe) == [f"reference: was {tmp_path / 'sharp'}, now none"]
    bucket = RunManifest.of(config_of(source="s3://bucket/a"), recipe)
    assert bucket.differences(config_of(source="s3://bucket/a/"), recipe) == []
    assert bucket.differences(config_of(source="s3://bucket/b"), recipe) == [
        "source: was s3://bucket/a, now s3://bucket/b"
    ]


def test_the_manifest_keeps_no_secret(tmp_path: Path) -> None:
    link = "https://user:word@host/list.csv?X-Amz-Signature=signed"
    manifest = RunManifest.of(config_of(source=link, weights="https://host/w.pkl?token=t"), chosen())
    text = manifest.model_dump_json()
    for secret in ("word", "signed", "token"):
        assert secret not in text
    folder = RunFolder(Store(str(tmp_path)))
    assert folder.manifest() is None
    folder.begin(manifest)
    assert folder.manifest() == manifest


def test_mixed_devices_are_refused_unless_asked_for() -> None:
    first = chosen(PLAIN)
    manifest = RunManifest.of(config_of(), first)
    other = chosen(GPU, first, device="cuda")
    assert manifest.differences(config_of(device="cuda"), other) == [
        "engine: was openvino, now torch",
        "device_type: was cpu, now cuda",
        "threads: was 1, now none",
    ]
    assert manifest.differences(config_of(device="cuda", allow_mixed=True), other) == []


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"format": 1}', "\xff"])
def test_a_run_json_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"run\.json is not a run of this program.*choose another OUTPUT"):
        RunFolder(Store(str(tmp_path))).manifest()


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="newer version"):
        RunFolder(Store(str(tmp_path))).manifest()


# Hardware


def test_this_machine_can_be_looked_at() -> None:
    hardware = Hardware.here()
    assert hardware.cores == usable_cores() >= 1
    assert hardware.memory == usable_memory() > 1 << 20
    assert hardware.cuda or not hardware.cuda_bf16


def test_without_a_name_the_best_trained_weights_for_the_device_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_weights("cpu") == "mimo-unet-lite"
    cards = {entry.name: entry for entry in shipped()}
    full = replace(cards["mimo-unet"], trained=True, path=cards["mimo-unet-lite"].path)
    for trained, best in ((cards["mimo-unet"], "mimo-unet-lite"), (full, "mimo-unet")):
        entries = [cards["mimo-unet-lite"], trained]
        monkeypatch.setattr("mimo_core.inference.choices.shipped", lambda entries=entries: entries)
        assert default_weights("cpu") == "mimo-unet-lite"
        assert default_weights("cuda") == best


def test_scales_are_those_of_the_weights_unless_said_otherwise_and_stay_with_the_run() -> None:
    def scales_of(frozen: Recipe | None = None, made_for: str | None = None, **options: object) -> str:
        weights = replace(load_weights(LITE), metadata={} if made_for is None else {"scales": made_for})
        return choose(config_of(**options), weights, PLAIN, frozen, first_of).scales

    assert scales_of() == "1"
    assert scales_of(made_for="auto") == "auto"
    assert scales_of(made_for="auto", scales="1/4, 1/2") == "1/4,1/2"
    assert scales_of(frozen=chosen(scales="1/2,1"), made_for="auto") == "1/2,1"
    with pytest.raises(ValidationError, match="from coarse to fine"):
        config_of(scales="1,1/2")
    with pytest.raises(WeightsError, match="metadata 'scales' cannot be read"):
        scales_of(made_for="coarse")
