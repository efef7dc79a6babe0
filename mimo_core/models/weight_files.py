"""The files that weights come in: safetensors, and PyTorch checkpoints in the official layout or close to it."""

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors

from mimo_core.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]

FileFormat = Literal["safetensors", "pytorch"]

_NESTED = ("model", "state_dict", "params_ema", "params")
"""Keys under which checkpoints keep the state dict; `model` is the official one."""
# The types of safetensors that weights have: by what people call them, and as NumPy reads their bytes.
_STORED = {
    "F64": ("float64", "<f8"), "F32": ("float32", "<f4"), "F16": ("float16", "<f2"), "BF16": ("bfloat16", "<u2"),
    "I64": ("int64", "<i8"), "I32": ("int32", "<i4"), "U8": ("uint8", "u1"), "I8": ("int8", "i1"),
}  # fmt: skip
METADATA_KEY = "mimo_restore"
"""The key under which checkpoints that this program writes keep what a safetensors file has in its metadata."""
_PREFIX = "module."
"""What data-parallel training puts in front of every name."""


@dataclass(frozen=True)
class Layout:
    """What a weights file holds, as found: nothing renamed but the prefix taken off, no value changed."""

    format: FileFormat
    tensors: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    """The metadata of a safetensors file or of a checkpoint that this program wrote; empty for others."""
    nested_in: str | None = None
    """The key that held the state dict, such as `model`."""
    prefixed: bool = False
    """Whether the names began with `module.`."""
    others: tuple[str, ...] = ()
    """Further keys of the checkpoint, such as `optimizer` and `epoch`."""
    dtypes: tuple[str, ...] = ()
    """The types of the values as they are stored; bfloat16, which NumPy has not, is held as float32."""


def parse(data: bytes, name: str) -> Layout:
    """Read a weights file without running any code that it may hold.

    Args:
        data: the file's bytes.
        name: what messages call it.

    Raises:
        WeightsError: it is no weights file; the message says what it is instead, where that can be told.
    """
    _refuse_what_is_not_weights(data, name)
    if _looks_like_safetensors(data):
        return _parse_safetensors(data, name)
    return _parse_pytorch(data, name)


def _refuse_what_is_not_weights(data: bytes, name: str) -> None:
    start = data[:512].lstrip().lower()
    if not data:
        raise WeightsError(f"{name} is empty: 0 bytes found where a .safetensors, .pkl or .pth file was expected")
    if start.startswith((b"<!doctype html", b"<html")):
        raise WeightsError(
            f"{name} is a web page, not weights: a download service answered with its confirmation or error page. "
            "Download the file itself, in a browser if need be."
        )
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{name} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`")
    if data.startswith(b"\x89HDF"):
        raise WeightsError(f"{name} is an HDF5 file; expected .safetensors, or .pkl/.pth of PyTorch")
    if b"onnx" in data[:64].lower() or (data[:1] == b"\x08" and b"pytorch" in data[:64]):
        raise WeightsError(
            f"{name} is an ONNX file, whose names are lost; expected .safetensors, or .pkl/.pth of PyTorch"
        )


def _looks_like_safetensors(data: bytes) -> bool:
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 100_000_000


def _parse_safetensors(data: bytes, name: str) -> Layout:
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{name} is a damaged safetensors file of {len(data)} bytes ({error})") from error
    tensors = {}
    for key, entry in entries:
        stored = _STORED.get(entry["dtype"])
        if stored is None:
            raise WeightsError(f"{name}: {key} holds {entry['dtype']} values; expected floating-point ones")
        values = np.frombuffer(entry["data"], stored[1]).reshape(entry["shape"])
        # The upper half of a float32.
        tensors[key] = (values.astype("<u4") << 16).view("<f4") if stored[0] == "bfloat16" else values
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    stripped, prefixed = _strip(tensors)
    dtypes = tuple(sorted({_STORED[entry["dtype"]][0] for _, entry in entries}))
    return Layout("safetensors", stripped, dict(header.get("__metadata__", {})), prefixed=prefixed, dtypes=dtypes)


def _parse_pytorch(data: bytes, name: str) -> Layout:
    if _is_torchscript(data):
        raise WeightsError(f"{name} is a TorchScript archive, which holds code; save the network's state dict instead")
    # Only here: official checkpoints are PyTorch's own files, all others need none of it.
    import torch

    try:
        # What torch warns of is for those who call it; what the file is, is said below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_unpickling_message(data, name, error)) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError, AttributeError) as error:
        # Of the others the text is an inner number or name that means nothing to a reader.
        said = f" ({_first_line(error)})" if isinstance(error, RuntimeError) else ""
        raise WeightsError(
            f"{name} cannot be read as weights ({len(data)} bytes beginning {data[:8]!r}): expected .safetensors, or "
            f".pkl/.pth written by torch.save, complete{said}"
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{name} holds a {type(content).__name__}; expected a dict of tensors, or one under the key 'model'"
        )
    for key in _NESTED:
        inner = content.get(key)
        if isinstance(inner, Mapping):
            others = tuple(str(other) for other in content if other not in (key, METADATA_KEY))
            return _of_tensors(inner, name, _metadata(content), nested_in=key, others=others)
    return _of_tensors(content, name)


def _of_tensors(
    content: Mapping[object, object],
    name: str,
    metadata: Mapping[str, str] | None = None,
    *,
    nested_in: str | None = None,
    others: tuple[str, ...] = (),
) -> Layout:
    import torch

    tensors = _only_tensors(content, name)
    dtypes = tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}))
    arrays = {
        key: (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().contiguous().numpy()
        for key, tensor in tensors.items()
    }
    stripped, prefixed = _strip(arrays)
    return Layout("pytorch", stripped, dict(metadata or {}), nested_in, prefixed, others, dtypes)


def _metadata(content: Mapping[object, object]) -> dict[str, str]:
    found = content.get(METADATA_KEY)
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _is_torchscript(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(member.endswith("/constants.pkl") for member in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError):
        return False


def _unpickling_message(data: bytes, name: str, error: Exception) -> str:
    text = str(error)
    if "Unsupported global" in text or "Unsupported class" in text or "GLOBAL" in text:
        # Torch's own text tells how to load it all the same.
        what = f" ({found[1]})" if (found := re.search(r"GLOBAL ([\w.]+)", text)) is not None else ""
        return (
            f"{name} holds Python objects beside tensors{what}, which could run code when loaded; it was not loaded. "
            "Save its state dict alone: torch.save({'model': network.state_dict()}, ...)."
        )
    kind = "zip archive" if zipfile.is_zipfile(io.BytesIO(data)) else "file"
    return (
        f"{name} is not a weights file: a {kind} of {len(data)} bytes beginning {data[:8]!r} was found where "
        ".safetensors, or .pkl/.pth written by torch.save, was expected"
    )


def _only_tensors(content: Mapping[object, object], name: str) -> "dict[str, Tensor]":
    from torch import Tensor

    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(repr(key) for key in list(content)[:5]) or "nothing"
        raise WeightsError(
            f"{name} holds no tensors: found the keys {found}; expected a state dict, or one under 'model'"
        )
    strange = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise WeightsError(
            f"{name} mixes tensors with other values ({', '.join(strange[:5])}); expected tensors alone, or a state "
            "dict under the key 'model'"
        )
    return tensors


def _strip(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], bool]:
    if tensors and all(key.startswith(_PREFIX) for key in tensors):
        return {key[len(_PREFIX) :]: value for key, value in tensors.items()}, True
    return dict(tensors), False


def _first_line(error: Exception) -> str:
    return f"({str(error).strip().splitlines()[0][:160]})" if str(error).strip() else f"({type(error).__name__})"
