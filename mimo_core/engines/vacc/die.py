"""One die through vaststreamx: in the worker's process, or as the program of a child; Python 3.8 and NumPy suffice.

Written against the API that vaststreamx's public samples show (2.8.3), never run on a card. Where the code rests on an
inference instead, a comment begins with "Inferred".

As a program it has two forms: `die.py --list` prints the dies as JSON, and `die.py CONFIGURATION` (JSON) is the child
that `mimo_core.engines.vacc.child` starts and describes.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

# What one image takes in the memory shared with a child: RGB bytes in, float16 out.
IN_BYTES, OUT_BYTES = 3, 6
_SAMPLE_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


class DieError(Exception):
    """The die, the driver or the compiled model failed; the text is what was said. The die is of no more use."""

    @property
    def out_of_memory(self) -> bool:
        """Whether the text speaks of memory. Inferred: the wording of that error is not documented."""
        return "memory" in str(self).lower()


def list_dies() -> list[dict[str, Any]]:
    """Return the dies of this machine in vaststreamx's order: `device` (its device_id), `card` (uuid) and `type`."""
    vsx = _vaststreamx()
    cards = _call("get_all_cards", vsx.get_all_cards)
    return [
        {"device": int(die.device_id), "card": str(card.uuid), "type": str(card.card_type)}
        for card in cards
        for die in card.dies
    ]


class Die:
    """A die with a compiled model on it. `submit` on any threads, one at a time; `collect` on one thread.

    Args:
        index: place of the die in `list_dies`.
        prefix: path of the compiled model without the endings .json, .so and .params.
        vdsp: path of the JSON file of the pre-processing operator.
        size: (height, width) that the model was compiled for.
        interleaved_bgr: whether the operator was told of BGR888 images (HWC) instead of RGB_PLANAR ones (CHW).

    Raises:
        DieError: the model does not fit the description, or anything that vaststreamx says.
    """

    def __init__(self, index: int, prefix: str, vdsp: str, size: tuple[int, int], interleaved_bgr: bool) -> None:
        self._vsx = vsx = _vaststreamx()
        dies = list_dies()
        if not 0 <= index < len(dies):
            raise DieError(f"there is no die {index}: vaststreamx lists {len(dies)}")
        self._device = dies[index]["device"]
        self.name = f"{dies[index]['type']} die {self._device}"
        self._size = size
        self._interleaved_bgr = interleaved_bgr
        self._bound = threading.local()
        # The card may read an image after the call that hands it over.
        self._images: deque[Any] = deque()
        self._sampled = float("-inf")
        self._bind()
        self._model = _call("Model", lambda: vsx.Model(prefix, 1))
        self._check_model()
        self._operator = _call("ModelOperator", lambda: vsx.ModelOperator(self._model))
        before = _call("load_ops_from_json_file", lambda: vsx.Operator.load_ops_from_json_file(vdsp))
        if not before:
            raise DieError(f"vaststreamx takes no operator from {vdsp}")
        self._stream = _call("Stream", lambda: self._build(before))

    def submit(self, pixels: Any) -> None:
        """Hand one image over, (H, W, 3) uint8 RGB of exactly the model's size; returns before it is computed."""
        vsx, (height, width) = self._vsx, self._size
        if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
            # The card would resize it without a word.
            raise DieError(f"a model of {height}x{width} takes no {pixels.dtype} image of {_by(pixels.shape)}")
        self._bind()
        if self._interleaved_bgr:
            array, layout = pixels[:, :, ::-1], vsx.ImageFormat.BGR_INTERLEAVE
        else:
            array, layout = pixels.transpose(2, 0, 1), vsx.ImageFormat.RGB_PLANAR
        array = np.ascontiguousarray(array)
        image = _call("create_image", lambda: vsx.create_image(array, layout, width, height, self._device))
        self._images.append((array, image))
        _accepted("run_async", _call("run_async", lambda: self._stream.run_async([image])))

    def collect(self) -> Any:
        """Wait for the oldest image that was submitted and return the model's output, float16 (3, H, W)."""
        self._bind()
        outputs = _call("get_operator_output", lambda: self._stream.get_operator_output(self._operator))
        array = np.asarray(_call("as_numpy", lambda: self._vsx.as_numpy(outputs[0][0])))
        self._images.popleft()
        if array.dtype != np.float16 or array.size != 3 * self._size[0] * self._size[1]:
            raise DieError(f"the model gave {array.dtype} of {_by(array.shape)}")
        return array.reshape((3, *self._size))

    def sample(self) -> dict[str, float] | None:
        """Return temperature (C), power (W), memory in use (bytes) and utilisation (%); None between two samples.

        None, too, where the die does not tell: that stops nothing.
        """
        if time.monotonic() - self._sampled < _SAMPLE_SECONDS:
            return None
        self._sampled = time.monotonic()
        try:
            die = self._vsx.Die(self._device)
            return {
                "temperature": float(die.temperature["temperature"][0]) * 0.01,
                "power": float(die.power["power"][3]) * 1e-6,
                "memory": float(die.memory["used"]),
                "utilisation": float(die.utilization["ai"]),
            }
        except Exception:  # noqa: BLE001 - no documented type
            return None

    def close(self) -> None:
        """End the stream. The model stays on the die until the process ends: no public call frees it."""
        self._bind()
        _call("close_input", self._stream.close_input)
        _call("wait_until_done", self._stream.wait_until_done)

    def _bind(self) -> None:
        """Tell the runtime once on each thread which die it talks to."""
        if not getattr(self._bound, "done", False):
            _accepted("set_device", _call("set_device", lambda: self._vsx.set_device(self._device)))
            self._bound.done = True

    def _check_model(self) -> None:
        shape = tuple(int(side) for side in _call("input_shape", lambda: self._model.input_shape[0]))
        if shape != (1, 3, *self._size):
            raise DieError(f"the model takes {_by(shape)}, expected {_by((1, 3, *self._size))}")

    def _build(self, before: list[Any]) -> Any:
        vsx = self._vsx
        graph = vsx.Graph(vsx.GraphOutputType.GRAPH_OUTPUT_TYPE_NCHW_DEVICE)
        graph.add_operators(*before, self._operator)
        stream = vsx.Stream(graph, vsx.StreamBalanceMode.ONCE)
        stream.register_operator_output(self._operator)
        _accepted("build", stream.build())
        return stream


def _vaststreamx() -> Any:
    import vaststreamx

    return vaststreamx


def _call(name: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except DieError:
        raise
    except Exception as error:
        # ValueError after a drain is the only documented type.
        raise DieError(f"{name}: {str(error) or type(error).__name__}") from error


def _accepted(name: str, answer: Any) -> None:
    """Refuse a code other than 0. Inferred for `build` and `run_async`; documented for `set_device`."""
    if isinstance(answer, int) and not isinstance(answer, bool) and answer != 0:
        raise DieError(f"{name}: error code {answer}")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


# The child


def _serve(configuration: dict[str, Any]) -> None:
    """Open the die, then compute one image for each byte that comes, until the parent closes the pipe."""
    if sys.platform == "linux":
        # A thread that hangs in the driver would not see the pipe close.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def tell(**message: Any) -> None:
        # At once, for two threads tell.
        os.write(configuration["messages"], json.dumps(message).encode() + b"\n")

    try:
        height, width = configuration["size"]
        arguments = (configuration["index"], configuration["prefix"], configuration["vdsp"], (height, width))
        die = Die(*arguments, configuration["interleaved_bgr"])
    except (DieError, ImportError) as error:
        tell(error=str(error))
        return
    pixels, slots = height * width, configuration["slots"]
    shared = mmap.mmap(configuration["memory"], slots * pixels * (IN_BYTES + OUT_BYTES))
    images = np.frombuffer(shared, np.uint8, slots * pixels * IN_BYTES).reshape(slots, height, width, 3)
    results = np.frombuffer(shared, np.float16, slots * pixels * 3, slots * pixels * IN_BYTES)
    results = results.reshape(slots, 3, height, width)
    under_way = threading.Semaphore(0)

    def collect() -> None:
        number = 0
        try:
            while True:
                under_way.acquire()
                results[number % slots] = die.collect()
                number += 1
                tell(done=number, sample=die.sample())
        except DieError as error:
            tell(error=str(error))

    threading.Thread(target=collect, daemon=True).start()
    tell(name=die.name)
    number = 0
    try:
        while os.read(configuration["commands"], 1):
            die.submit(images[number % slots])
            number += 1
            under_way.release()
    except DieError as error:
        tell(error=str(error))


def _main(argument: str) -> None:
    if argument == "--list":
        print(json.dumps(list_dies()))
        return
    _serve(json.loads(argument))
    # Ending the process is the only way to free the model, and a thread may still wait for the die.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1])
