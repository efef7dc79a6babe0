"""The double of the VACC runtime: importable here, behind an interpreter of its own, and models compiled for it."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

DOUBLES = Path(__file__).resolve().parent / "doubles"


@pytest.fixture
def vaststreamx(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The double in this process, without what earlier tests did to its dies."""
    monkeypatch.syspath_prepend(DOUBLES)
    yield importlib.import_module("vaststreamx")
    for name in [one for one in sys.modules if one.split(".")[0] == "vaststreamx"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def vacc_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the double, where this process has not."""
    return interpreter(sys.executable, tmp_path_factory.mktemp("python"))


def interpreter(python: str, folder: Path) -> str:
    """A command that starts this Python with the double."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nOPENBLAS_NUM_THREADS=1 PYTHONPATH={DOUBLES} exec {python} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="session")
def colourful_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a very small network whose residual depends much on colours, which most random ones' does not."""
    import torch

    from mimo_core.models.network import MimoUNet, arrays_of
    from mimo_core.models.weights import ModelSpec, save_weights

    torch.manual_seed(7)
    state = MimoUNet(8, 1, "bilinear").state_dict()
    for name, values in state.items():
        if name.endswith("weight"):
            values *= 0.04 if name.startswith("feat_extract.5") else 2.4
    path = tmp_path_factory.mktemp("weights") / "colourful.safetensors"
    save_weights(path, ModelSpec(8, 1, "bilinear"), arrays_of(state))
    return path


def compiled_folder(
    weights: object,
    folder: Path,
    size: tuple[int, int],
    *,
    output: str = "residual",
    images: Sequence[str] = (),
    precisions: Sequence[str] = ("fp16",),
) -> str:
    """Export weights for VACC and compile them with the double; return the folder."""
    from mimo_core.engines.export.vacc_folder import write_vacc_folder

    if str(DOUBLES) not in sys.path:
        sys.path.append(str(DOUBLES))
    # The compiler is needed by the tests alone, the runtime must not come along with it.
    vamc = importlib.import_module("vamc")
    sys.path.remove(str(DOUBLES))
    write_vacc_folder(weights, folder, size=size, output=output, calibration_images=images)  # type: ignore[arg-type]
    for precision in precisions:
        vamc.compile_model(folder / f"{precision}.yaml")
    return str(folder)
