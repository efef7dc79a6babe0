"""The engines by name. A session module imports its engine only when a session of it is opened."""

from importlib import import_module
from typing import cast

from mimo_core.errors import UsageError
from mimo_core.sessions.base import Session, SessionSpec

ENGINES = {
    "identity": "mimo_core.sessions.identity:IdentitySession",
    "openvino": "mimo_core.sessions.openvino_session:OpenVinoSession",
    "torch": "mimo_core.sessions.torch_session:TorchSession",
}


def open_session(spec: SessionSpec) -> Session:
    """Open the accelerator that the specification names, on the calling thread.

    Raises:
        UsageError: no such engine, or the engine cannot do what the specification asks for.
        SystemFailure: the device is not there or does not work.
    """
    if spec.engine not in ENGINES:
        raise UsageError(f"no engine is named {spec.engine!r}; there are {', '.join(sorted(ENGINES))}")
    module, name = ENGINES[spec.engine].split(":")
    try:
        engine = getattr(import_module(module), name)
    except ImportError as error:
        raise UsageError(f"the engine {spec.engine} cannot be imported here ({error}); choose another one") from error
    return cast(Session, engine(spec))
