"""Compiled models: found, described, hashed, and what a run with one is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_vacc import compiled_folder

from mimo_core.engines.vacc.compiled import CompiledModel, load_compiled
from mimo_core.errors import UsageError, WeightsError
from mimo_core.hardware import Hardware
from mimo_core.inference.choices import choose, choose_weights
from mimo_core.inference.tuning import tune
from mimo_core.models.weights import load_weights
from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.recipe import Recipe

HARDWARE = Hardware(cores=4, memory=8 << 30, cpu_bf16=True, cuda=True, cuda_bf16=True, cuda_memory=8 << 30, vacc_dies=4)
SIZE = (96, 128)
SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "blurred"
IMAGES = [str(SAMPLES / name) for name in ("window.png", "brushes.png")]


@pytest.fixture
def folder(tmp_path: Path, colourful_weights: Path) -> Path:
    weights = load_weights(str(colourful_weights))
    precisions = ("fp16", "int8")
    return Path(compiled_folder(weights, tmp_path / "compiled", SIZE, images=IMAGES, precisions=precisions))


def config_of(folder: Path, **options: object) -> RestoreConfig:
    return RestoreConfig.model_validate({"source": "in", "output": "out", "weights": str(folder), **options})


def chosen(folder: Path, frozen: Recipe | None = None, **options: object) -> Recipe:
    config = config_of(folder, **options)
    return choose(config, choose_weights(config, frozen), HARDWARE, frozen, tune)


def test_a_folder_of_compiled_models_chooses_engine_device_precision_and_tile(
    folder: Path, colourful_weights: Path
) -> None:
    recipe = chosen(folder)
    weights = load_weights(str(colourful_weights))
    assert (recipe.engine, recipe.device_type, recipe.precision, recipe.tile) == ("vacc", "vacc", "fp16", SIZE)
    assert (recipe.model, recipe.weights_sha256) == (weights.spec.variant, weights.sha256)
    assert recipe.interpolation == "bilinear"
    assert chosen(folder, engine="vacc", device="vacc:2", tile="96x128", interpolation="bilinear") == recipe
    assert chosen(folder, precision="int8").precision == "int8"
    assert chosen(folder, batch=7).batch == 7
    assert chosen(folder, size="48x64").size == (48, 64)


def test_what_is_compiled_is_taken(folder: Path) -> None:
    for path in (folder / "deploy_weights" / "mimo_unet_w8_r1_fp16").iterdir():
        path.unlink()
    assert chosen(folder).precision == "int8"
    with pytest.raises(WeightsError, match=r"run `vamc compile fp16.yaml` in .*compiled first"):
        chosen(folder, precision="fp16")
    with pytest.raises(WeightsError, match=r"--precision bf16: .* describes fp16 and int8"):
        chosen(folder, precision="bf16")


def test_a_run_goes_on_with_its_model_and_no_other(folder: Path) -> None:
    first = chosen(folder, precision="int8", batch=3)
    assert chosen(folder, first) == first
    assert chosen(folder, first, weights=None) == first
    # Compiled again with another result.
    library = next((folder / "deploy_weights" / "mimo_unet_w8_r1_int8").glob("*.so"))
    library.write_bytes(b"other machine code")
    (difference,) = first.differences(chosen(folder, first))
    assert difference.startswith("compiled_sha256: was ")
    assert chosen(folder, first).fingerprint() != first.fingerprint()


def test_everything_that_can_change_a_byte_is_in_the_hash(folder: Path) -> None:
    model = load_compiled(str(folder), "auto")
    changes: list[CompiledModel] = [
        replace(model, vdsp=model.vdsp + b" "),
        replace(model, output="image"),
        replace(model, size=(128, 96)),
        *(replace(model, files={**model.files, ending: b"other"}) for ending in model.files),
    ]
    hashes = {one.compiled_sha256 for one in (model, *changes)}
    assert len(hashes) == len(changes) + 1
    assert replace(model, source="elsewhere").compiled_sha256 == model.compiled_sha256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "--device cuda: .* is compiled for VACC; say --device vacc"),
        ({"interpolation": "nearest"}, "was exported with bilinear; export it again"),
        ({"tile": "64x64"}, "computes 96x128 only; leave --tile out"),
        ({"tile": "none"}, "computes 96x128 only"),
        ({"overlap": 48}, "tiles of 96x128 leave nothing between overlaps of 48 pixels"),
        ({"model": "mimo-unet-plus"}, "--model asks for mimo-unet-plus"),
    ],
)
def test_options_that_compiling_has_decided_are_refused(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(folder, **options)


def test_weights_that_are_not_compiled_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no vacc\.json .*`mimo export WEIGHTS FOLDER --for vacc`"):
        chosen(tmp_path, engine="vacc")
    with pytest.raises(UsageError, match="--device vacc: for VACC cards say --engine vacc and --weights FOLDER"):
        chosen(tmp_path, device="vacc", weights="golden:mimo-unet-lite")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"IimageFormat": "BGR_PLANAR"}, "takes IimageFormat BGR_PLANAR with ColorCvtCode NO_CHANGE; use RGB_PLANAR"),
        ({"ColorCvtCode": "BGR2RGB"}, "takes IimageFormat RGB_PLANAR with ColorCvtCode BGR2RGB"),
        ({"OimageWidth": 640}, "has OimageWidth 640, this model needs 128"),
        ({"NormaType": "NONE"}, "has NormaType NONE, this model needs DIV255"),
        ({"Mean": [0.5, 0.5, 0.5]}, "has Mean"),
    ],
)
def test_a_pre_processing_that_the_card_would_do_wrong_in_silence_is_refused(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    document = json.loads((folder / "vdsp.json").read_text())
    document["OpConfig"].update(changes)
    (folder / "vdsp.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=message):
        chosen(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": [97, 128]}, "multiples of 4, not 97x128"),
        ({"output": "noise"}, "output: Input should be"),
        ({"format": 2}, "format: Input should be 1"),
        ({"more": 1}, "more: Extra inputs"),
    ],
)
def test_a_description_that_says_something_else_is_refused(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    document = {**json.loads((folder / "vacc.json").read_text()), **changes}
    (folder / "vacc.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=message):
        chosen(folder)
    (folder / "vdsp.json").write_text("[]")
    (folder / "vacc.json").write_text("nonsense")
    with pytest.raises(WeightsError, match=r"vacc\.json: "):
        chosen(folder)
