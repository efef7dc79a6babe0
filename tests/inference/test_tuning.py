"""What is fastest here: measured once, kept, and measured again where what is kept is of no use."""

import json
from pathlib import Path

import pytest

from mimo_core.engines import ENGINES
from mimo_core.engines.registry import Engine
from mimo_core.errors import UsageError
from mimo_core.hardware import Hardware
from mimo_core.inference import tuning
from mimo_core.inference.choices import choose, choose_weights
from mimo_core.inference.tuning import MOST_PIXELS, Answer, Question, best_tile, tune
from mimo_core.runs.config import RestoreConfig

HARDWARE = Hardware(cores=2, memory=8 << 30, cpu_bf16=False, cuda=False, cuda_bf16=False, cuda_memory=0)
QUESTION = Question(("openvino", "torch"), "fp32", 8, "nearest", 1, 32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path / "cache"))
    # Sizes that are measured at once; which one wins is the machine's affair.
    monkeypatch.setattr(tuning, "_SIDES", (96, 128, 192))
    return tmp_path / "cache"


def test_the_answer_is_measured_once_and_says_why(cache: Path) -> None:
    answer = tune(QUESTION)
    assert answer.engine in QUESTION.engines
    assert answer.tile > 2 * QUESTION.overlap
    for name in QUESTION.engines:
        assert name in answer.reason
    (kept,) = (cache / "tuning").iterdir()
    document = json.loads(kept.read_text())
    kept.write_text(json.dumps({**document, "reason": "read from the disk"}))
    assert tune(QUESTION).reason == "read from the disk"
    # Another question is another measurement.
    assert tune(Question(("torch",), "fp32", 8, "nearest", 2, 32)).engine == "torch"


@pytest.mark.parametrize("content", ["", '{"engine": "gone", "tile": 1, "call_pixels": 1}'])
def test_a_damaged_answer_is_measured_again(cache: Path, content: str) -> None:
    question = Question(("openvino",), "fp32", 8, "nearest", 1, 32)
    tune(question)
    (kept,) = (cache / "tuning").iterdir()
    kept.write_text(content)
    assert tune(question).engine == "openvino"
    assert json.loads(kept.read_text())["engine"] == "openvino"


def test_a_disk_that_takes_nothing_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path / "file" / "cache"))
    assert tune(Question(("torch",), "fp32", 8, "nearest", 1, 32)).engine == "torch"


def test_what_no_engine_can_do_is_refused() -> None:
    with pytest.raises(UsageError, match="computes in fp32, bf16, int8, not in fp16"):
        tune(Question(("openvino",), "fp16", 8, "nearest", 1, 32))


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        # The same at every size: the largest tile wastes least, and nothing need be cut.
        ({256: 10.0, 512: 10.0, 1024: 10.0}, (1024, MOST_PIXELS)),
        # Past the caches twice as dear: 10 * (512 / 448) ** 2 = 13.1 is less than 20.
        ({256: 10.0, 512: 10.0, 1024: 20.0}, (512, 512**2)),
        # A little dearer, but less than the overlap costs.
        ({256: 10.0, 512: 10.0, 1024: 11.0}, (1024, MOST_PIXELS)),
        ({256: 1.0, 512: 10.0, 1024: 10.0}, (256, 256**2)),
        # One size says nothing of others.
        ({256: 10.0}, (512, MOST_PIXELS)),
    ],
)
def test_a_tile_costs_its_overlap(costs: dict[int, float], expected: tuple[int, int]) -> None:
    assert best_tile(costs, 32) == expected


MINE = '''
from mimo_core.engines.torch_session import TorchSession


class MineSession(TorchSession):
    """Another engine."""
'''


def test_an_engine_is_one_module_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_session.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        ENGINES, "mine", Engine("mine_session:MineSession", "mine", ("cpu",), ("fp32",), automatic=True)
    )
    config = RestoreConfig(source="in", output="out", engine="mine", precision="fp32")
    weights = choose_weights(config, None)
    recipe = choose(config, weights, HARDWARE, None, tune)
    assert (recipe.engine, recipe.device_type) == ("mine", "cpu")
    with pytest.raises(UsageError, match="mine computes on cpu in fp32"):
        choose(config.model_copy(update={"precision": "bf16"}), weights, HARDWARE, None, tune)
    automatic = config.model_copy(update={"engine": "auto", "device": "cpu"})
    asked: list[Question] = []

    def answered(question: Question) -> Answer:
        asked.append(question)
        return Answer("mine", 256, MOST_PIXELS, "decided by the test")

    assert choose(automatic, weights, HARDWARE, None, answered).engine == "mine"
    assert asked[0].engines == ("openvino", "torch", "mine")
