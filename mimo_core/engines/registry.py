"""The engines by name. A session module imports its engine only when a session of it is opened."""

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from mimo_core.engines.base import Precision, Session, SessionSpec
from mimo_core.errors import UsageError


@dataclass(frozen=True)
class Engine:
    """An engine as the choices see it.

    Attributes:
        session: `module:class` of its session.
        package: the distribution whose version decides how fast it is.
        devices: types of devices that it computes on.
        precisions: what it computes in.
        automatic: whether `auto` may choose it; by measurement where several can do what is asked for.
    """

    session: str
    package: str
    devices: tuple[str, ...]
    precisions: tuple[Precision, ...]
    automatic: bool = False


ENGINES = {
    "identity": Engine("mimo_core.engines.identity:IdentitySession", "numpy", ("cpu",), ("fp32",)),
    "openvino": Engine(
        "mimo_core.engines.openvino_session:OpenVinoSession", "openvino", ("cpu",), ("fp32", "bf16", "int8"), True
    ),
    "torch": Engine(
        "mimo_core.engines.torch_session:TorchSession", "torch", ("cpu", "cuda"), ("fp32", "bf16", "fp16"), True
    ),
    "vacc": Engine("mimo_core.engines.vacc:VaccSession", "numpy", ("vacc",), ("fp16", "int8")),
}


def open_session(spec: SessionSpec) -> Session:
    """Open the accelerator that the specification names, on the calling thread.

    Raises:
        UsageError: no such engine, or the engine cannot do what the specification asks for.
        SystemFailure: the device is not there or does not work.
    """
    if spec.engine not in ENGINES:
        raise UsageError(f"no engine is named {spec.engine!r}; there are {', '.join(sorted(ENGINES))}")
    module, name = ENGINES[spec.engine].session.split(":")
    try:
        engine = getattr(import_module(module), name)
    except ImportError as error:
        raise UsageError(f"the engine {spec.engine} cannot be imported here ({error}); choose another one") from error
    return cast(Session, engine(spec))
