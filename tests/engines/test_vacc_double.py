"""The double refuses what the runtime refuses, in the way in which the public samples show it."""

import json
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fixtures_vacc import compiled_folder

from mimo_core.engines.vacc.compiled import load_compiled
from mimo_core.models.weights import load_weights

SIZE = (32, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, colourful_weights: Path) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = load_compiled(compiled_folder(load_weights(str(colourful_weights)), folder / "x", SIZE), "auto")
    for ending, data in model.files.items():
        (folder / f"mod{ending}").write_bytes(data)
    (folder / "vdsp.json").write_bytes(model.vdsp)
    return folder


def stream_of(vsx: ModuleType, folder: Path) -> tuple[Any, Any]:
    assert vsx.set_device(0) == 0
    model = vsx.ModelOperator(vsx.Model(str(folder / "mod"), 1))
    graph = vsx.Graph(vsx.GraphOutputType.GRAPH_OUTPUT_TYPE_NCHW_DEVICE)
    graph.add_operators(*vsx.Operator.load_ops_from_json_file(str(folder / "vdsp.json")), model)
    stream = vsx.Stream(graph, vsx.StreamBalanceMode.ONCE)
    stream.register_operator_output(model)
    return stream, model


def image(vsx: ModuleType, value: int = 90, size: tuple[int, int] = SIZE) -> Any:
    planes = np.full((3, *size), value, np.uint8)
    return vsx.create_image(planes, vsx.ImageFormat.RGB_PLANAR, size[1], size[0], 0)


def test_devices_are_dies_two_on_a_card(vaststreamx: ModuleType) -> None:
    cards = vaststreamx.get_all_cards()
    assert len(cards) == vaststreamx.get_all_cards_count() == 2
    assert [[die.device_id for die in card.dies] for card in cards] == [[0, 1], [2, 3]]
    assert vaststreamx.set_device(4) != 0
    die = vaststreamx.Die(2)
    assert die.temperature["temperature"][0] * 0.01 == 42.0
    assert die.power["power"][3] * 1e-6 == 22.0
    assert die.memory["used"] + die.memory["free"] == die.memory["total"] == 8 << 30


def test_calls_out_of_order_are_errors(vaststreamx: ModuleType, folder: Path, tmp_path: Path) -> None:
    stream, model = stream_of(vaststreamx, folder)
    assert model.model.input_shape[0] == [1, 3, *SIZE]
    for call in (lambda: stream.run_sync([image(vaststreamx)]), lambda: stream.run_async([image(vaststreamx)])):
        with pytest.raises(RuntimeError, match="not built"):
            call()
    stream.build()
    with pytest.raises(RuntimeError, match="before build"):
        stream.register_operator_output(model)
    with pytest.raises(RuntimeError, match=r"nothing\.json: no such file"):
        vaststreamx.Model(str(tmp_path / "nothing"), 1)
    assert vaststreamx.Operator.load_ops_from_json_file(str(tmp_path / "nothing.json")) == []
    failures: list[str] = []

    def unbound() -> None:
        with pytest.raises(RuntimeError, match="set_device was not called in this thread") as caught:
            stream.run_sync([])
        failures.append(str(caught.value))

    thread = threading.Thread(target=unbound)
    thread.start()
    thread.join()
    assert failures


def test_arrays_must_be_laid_out_as_their_format_says(vaststreamx: ModuleType) -> None:
    assert vaststreamx.set_device(0) == 0
    formats = vaststreamx.ImageFormat
    planes, pixels = np.zeros((3, *SIZE), np.uint8), np.zeros((*SIZE, 3), np.uint8)
    for array, layout in (
        (pixels, formats.RGB_PLANAR),
        (planes, formats.BGR_INTERLEAVE),
        (planes.astype(np.float32), formats.RGB_PLANAR),
        (pixels.transpose(2, 0, 1)[:, ::-1], formats.RGB_PLANAR),
    ):
        with pytest.raises(RuntimeError, match="array of"):
            vaststreamx.create_image(array, layout, SIZE[1], SIZE[0], 0)
    with pytest.raises(RuntimeError, match="for device 1 on device 0"):
        vaststreamx.create_image(planes, formats.RGB_PLANAR, SIZE[1], SIZE[0], 1)


def test_other_sizes_are_resized_without_a_word(vaststreamx: ModuleType, folder: Path) -> None:
    stream, _ = stream_of(vaststreamx, folder)
    stream.build()
    outputs = stream.run_sync([image(vaststreamx), image(vaststreamx, size=(100, 20))])
    results = [vaststreamx.as_numpy(one[0]) for one in outputs]
    assert [result.shape for result in results] == [(1, 3, *SIZE)] * 2
    assert all(result.dtype == np.float16 for result in results)
    assert np.array_equal(*results)


def test_asynchronous_results_come_in_order_until_the_stream_is_drained(vaststreamx: ModuleType, folder: Path) -> None:
    stream, model = stream_of(vaststreamx, folder)
    stream.build()
    values = [10, 90, 200]
    expected = [vaststreamx.as_numpy(stream.run_sync([image(vaststreamx, value)])[0][0]) for value in values]
    for value in values:
        stream.run_async([image(vaststreamx, value)])
    stream.close_input()
    stream.wait_until_done()
    with pytest.raises(RuntimeError, match="closed"):
        stream.run_async([image(vaststreamx)])
    for one in expected:
        assert np.array_equal(vaststreamx.as_numpy(stream.get_operator_output(model)[0][0]), one)
    with pytest.raises(ValueError, match="drained"):
        stream.get_operator_output(model)


def test_float16_at_720x1280_does_not_fit(vaststreamx: ModuleType, folder: Path, tmp_path: Path) -> None:
    about = json.loads((folder / "mod.json").read_text())
    about["input_shape"] = [1, 3, 720, 1280]
    for path in folder.glob("mod.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "vdsp.json").write_bytes((folder / "vdsp.json").read_bytes())
    (tmp_path / "mod.json").write_text(json.dumps(about))
    stream, _ = stream_of(vaststreamx, tmp_path)
    stream.build()
    with pytest.raises(RuntimeError, match="memory"):
        stream.run_sync([image(vaststreamx)])


def test_a_fault_comes_once_and_stays_for_the_process(
    vaststreamx: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VACC_DOUBLE_FAULT", f"0:2:{tmp_path / 'struck'}")
    stream, model = stream_of(vaststreamx, folder)
    stream.build()
    first, second = image(vaststreamx), image(vaststreamx)
    stream.run_sync([first])
    stream.run_async([second])
    with pytest.raises(RuntimeError, match="803012, vafwER_MCU_ERROR_LMCU0"):
        stream.get_operator_output(model)
    with pytest.raises(RuntimeError, match="803012"):
        image(vaststreamx)
    assert (tmp_path / "struck").exists()
