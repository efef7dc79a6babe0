"""A double of vaststreamx's Python API (see ../README.md): what the public samples show, and nothing else."""

import enum
import json
import os
import queue
import threading
from pathlib import Path

import numpy as np

from .network import Network

_DIE_BYTES = 8 << 30
_DIES_ON_A_CARD = 2
_DEVICE_FAULT = "run err, err code: 803012, vafwER_MCU_ERROR_LMCU0"
_here = threading.local()
_models = {}
_runs = {}
_dead = set()
deepest = 0
"""Most images that were ever under way at once on a stream of this process; for tests."""


class ImageFormat(enum.Enum):
    YUV_NV12 = 0
    RGB_PLANAR = 5000
    BGR_PLANAR = 5001
    RGB_INTERLEAVE = 5002
    BGR_INTERLEAVE = 5003
    GRAY = 5004


class GraphOutputType(enum.Enum):
    GRAPH_OUTPUT_TYPE_NCHW_DEVICE = 0
    GRAPH_OUTPUT_TYPE_NCHW_HOST = 1
    GRAPH_OUTPUT_TYPE_884_DEVICE = 2


class StreamBalanceMode(enum.Enum):
    ONCE = 0
    RUN = 1


# Devices


def get_all_cards_count():
    return int(os.environ.get("VACC_DOUBLE_CARDS", "2"))


class _Card:
    def __init__(self, number):
        self.uuid = f"double-{number}"
        self.card_type = "VA1"
        first = number * _DIES_ON_A_CARD
        self.dies = [Die(device) for device in range(first, first + _DIES_ON_A_CARD)]


class Die:
    def __init__(self, device_id):
        self.device_id = device_id

    @property
    def temperature(self):
        return {"temperature": [4000 + 100 * self.device_id]}

    @property
    def power(self):
        return {"power": [0, 0, 0, 20000000 + 1000000 * self.device_id]}

    @property
    def memory(self):
        used = _models.get(self.device_id, 0)
        return {"total": _DIE_BYTES, "free": _DIE_BYTES - used, "used": used}

    @property
    def utilization(self):
        return {"ai": 90.0}


def get_all_cards():
    return [_Card(number) for number in range(get_all_cards_count())]


def set_device(device_id):
    if not 0 <= device_id < get_all_cards_count() * _DIES_ON_A_CARD:
        return 1
    _here.device = device_id
    folder = os.environ.get("VACC_DOUBLE_LOG")
    if folder:
        (Path(folder) / f"{device_id}-{os.getpid()}").touch()
    return 0


def _device():
    device = getattr(_here, "device", None)
    if device is None:
        raise RuntimeError("set_device was not called in this thread")
    if device in _dead:
        raise RuntimeError(_DEVICE_FAULT)
    return device


# Images and tensors


class _Image:
    def __init__(self, data, layout, width, height, device):
        self.data, self.format, self.width, self.height, self.device = data, layout, width, height, device


class _Tensor:
    def __init__(self, values, device):
        self.values, self.device = values, device


def create_image(array, layout, width, height, device_id):
    shapes = {
        ImageFormat.RGB_PLANAR: (3, height, width),
        ImageFormat.BGR_PLANAR: (3, height, width),
        ImageFormat.RGB_INTERLEAVE: (height, width, 3),
        ImageFormat.BGR_INTERLEAVE: (height, width, 3),
        ImageFormat.GRAY: (height, width),
        ImageFormat.YUV_NV12: (height * 3 // 2, width),
    }
    if array.dtype != np.uint8 or array.shape != shapes[layout] or not array.flags.c_contiguous:
        raise RuntimeError(f"a {array.dtype} array of {array.shape} is no {layout.name}")
    if device_id != _device():
        raise RuntimeError(f"an image for device {device_id} on device {_device()}")
    return _Image(array.tobytes(), layout, width, height, device_id)


def as_numpy(tensor):
    if tensor.device != _device():
        raise RuntimeError("a tensor of another device")
    return tensor.values.copy()


# Models, operators, graphs


class Model:
    def __init__(self, prefix, batch_size, hw_config=""):
        self.device = _device()
        for ending in (".json", ".so", ".params"):
            if not Path(prefix + ending).is_file():
                raise RuntimeError(f"{prefix}{ending}: no such file")
        about = json.loads(Path(prefix + ".json").read_text())
        with np.load(prefix + ".params") as parameters:
            self._network = Network(dict(parameters), about["blocks"], about["interpolation"], about["residual"])
        self.batch_size = self.max_batch_size = batch_size
        self.input_count = self.output_count = 1
        self.input_shape = self.output_shape = [[batch_size, *about["input_shape"][1:]]]
        pixels = about["input_shape"][2] * about["input_shape"][3]
        # The vendor's figures: float16 at 720x1280 does not fit, int8 does.
        self._fits = not (about["dtype"] == "fp16" and pixels >= 720 * 1280)
        _models[self.device] = _models.get(self.device, 0) + (1293 << 20)

    def compute(self, image):
        if not self._fits:
            raise RuntimeError("failed to allocate device memory")
        return self._network(image)[None]


class ModelOperator:
    def __init__(self, model):
        self.model = model


_PLANAR = {"RGB_PLANAR": True, "BGR_PLANAR": True, "RGB888": False, "BGR888": False}


class Operator:
    """A fusion operator: to the model's size without asking, channels by its own idea of them, then 1/255."""

    def __init__(self, config):
        self._config = config

    @staticmethod
    def load_ops_from_json_file(path):
        try:
            document = json.loads(Path(path).read_text())
            config = document["OpConfig"]
            known = document["OpType"] == "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR"
            known = known and config["NormaType"] == "DIV255" and config["IimageFormat"] in _PLANAR
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [Operator(config)] if known else []

    def apply(self, image):
        config = self._config
        values = np.frombuffer(image.data, np.uint8)
        # The bytes are taken for what the operator was told, whatever the image was created as.
        if _PLANAR[config["IimageFormat"]]:
            planes = values.reshape(3, image.height, image.width)
        else:
            planes = values.reshape(image.height, image.width, 3).transpose(2, 0, 1)
        if config["ColorCvtCode"] in ("BGR2RGB", "RGB2BGR"):
            planes = planes[::-1]
        height, width = config["OimageHeight"], config["OimageWidth"]
        rows = np.arange(height) * image.height // height
        columns = np.arange(width) * image.width // width
        planes = planes[:, rows][:, :, columns].astype(np.float32) / 255
        mean, std = (np.array(config[name], np.float32)[:, None, None] for name in ("Mean", "Std"))
        return (planes - mean) / std


class Graph:
    def __init__(self, output_type=GraphOutputType.GRAPH_OUTPUT_TYPE_NCHW_DEVICE):
        self.operators = []

    def add_operators(self, *operators):
        self.operators += operators


# Streams


class Stream:
    def __init__(self, graph, balance_mode=StreamBalanceMode.RUN):
        self._graph = graph
        self._device = _device()
        self._registered = []
        self._built = self._closed = False
        self._lock = threading.Lock()
        self._inputs = queue.Queue()
        self._outputs = queue.Queue()
        self._under_way = 0

    def register_operator_output(self, operator):
        if self._built or operator not in self._graph.operators:
            raise RuntimeError("register_operator_output: before build, and of the graph's operators")
        self._registered.append(operator)

    def build(self):
        models = [one for one in self._graph.operators if isinstance(one, ModelOperator)]
        if len(models) != 1 or self._graph.operators[-1] is not models[0] or _device() != models[0].model.device:
            raise RuntimeError("build: operators, then one model, all on one device")
        self._built = True
        threading.Thread(target=self._work, daemon=True).start()

    def run_sync(self, images):
        self._ready()
        return [[_Tensor(self._compute(image), self._device)] for image in images]

    def run_async(self, images):
        self._ready()
        global deepest
        with self._lock:
            self._under_way += len(images)
            deepest = max(deepest, self._under_way)
        self._inputs.put(list(images))

    def get_operator_output(self, operator):
        if not self._built or operator not in self._registered:
            raise RuntimeError("get_operator_output: build, and of a registered operator")
        _device()
        result = self._outputs.get()
        if result is None:
            self._outputs.put(None)
            raise ValueError("the stream is closed and drained")
        if isinstance(result, Exception):
            raise result
        with self._lock:
            self._under_way -= len(result)
        return result

    def close_input(self):
        self._ready()
        self._closed = True
        self._inputs.put(None)

    def wait_until_done(self):
        if not self._closed:
            raise RuntimeError("wait_until_done before close_input")

    def _ready(self):
        if not self._built or self._closed:
            raise RuntimeError("the stream is " + ("closed" if self._closed else "not built"))
        if _device() != self._device:
            raise RuntimeError("a stream of another device")

    def _work(self):
        while True:
            images = self._inputs.get()
            if images is None:
                self._outputs.put(None)
                return
            try:
                self._outputs.put([[_Tensor(self._compute(image), self._device)] for image in images])
            except RuntimeError as error:
                self._outputs.put(error)

    def _compute(self, image):
        with self._lock:
            self._strike()
        if self._device in _dead:
            raise RuntimeError(_DEVICE_FAULT)
        if image.device != self._device:
            raise RuntimeError("an image of another device")
        (*before, last) = self._graph.operators
        for operator in before:
            image = operator.apply(image)
        return last.model.compute(image)

    def _strike(self):
        run = _runs[self._device] = _runs.get(self._device, 0) + 1
        device, at, file = os.environ.get("VACC_DOUBLE_FAULT", "-1:0:").split(":", 2)
        if (int(device), int(at)) == (self._device, run) and not Path(file).exists():
            Path(file).touch()
            _dead.add(self._device)
        if os.environ.get("VACC_DOUBLE_FOR_GOOD") and int(device) == self._device and Path(file).exists():
            _dead.add(self._device)
