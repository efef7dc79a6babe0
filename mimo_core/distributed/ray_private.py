"""The private names of Ray that no public one replaces, all in one place.

Each says what it is for. `require_supported_ray` looks for those that no run can do without; the others are used where
they are there. What Ray tells the driver of a submitted job through the environment is one, too.
"""

import json
import logging
import os
from importlib import import_module
from operator import attrgetter
from typing import Any

import ray

from mimo_core.errors import UsageError

SUPPORTED = "ray>=2.52,<3"
_NEEDED = {
    "ray._private.worker": ("global_worker",),
    "ray._private.state": ("available_resources_per_node", "state.get_draining_nodes"),
}


def require_supported_ray() -> None:
    """Refuse a version of Ray that is too old or too new, or lacks what this program needs of it.

    Raises:
        UsageError: it does; the message names the version, what is missing and what to install.
    """
    if not (2, 52) <= tuple(map(int, ray.__version__.split(".")[:2])) < (3,):
        raise UsageError(f"Ray {ray.__version__} is not a tested version: install one with `pip install '{SUPPORTED}'`")
    for module, names in _NEEDED.items():
        for name in names:
            try:
                attrgetter(name)(import_module(module))
                found = True
            except (ImportError, AttributeError):
                found = False
            if not found:
                raise UsageError(
                    f"Ray {ray.__version__} does not fit ({module}.{name} is missing): install a tested version with "
                    f"`pip install '{SUPPORTED}'`"
                )


def assigned_units(resource: str) -> list[int]:
    """Return which units of a custom resource Ray gave to the actor that this runs in, by their numbers on its node.

    Public calls tell accelerators of kinds that Ray knows, not those of a custom resource.
    """
    core: Any = ray._private.worker.global_worker
    return [int(unit) for unit, _ in core.core_worker.resource_ids().get(resource, [])]


def free_resources_by_node() -> dict[str, dict[str, float]]:
    """Return the free resources of each living node by its identity; the public call adds the nodes up."""
    per_node: dict[str, dict[str, float]] = ray._private.state.available_resources_per_node()
    return per_node


def draining_nodes() -> frozenset[str]:
    """Return the hexadecimal identities of the nodes that are being drained; no public call tells them."""
    drained: dict[str, int] = ray._private.state.state.get_draining_nodes()
    return frozenset(drained)


def submitted_job() -> str | None:
    """Return the submission id of the job that this process is the driver of; None where nobody submitted one."""
    try:
        job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return str(job["metadata"]["job_submission_id"])
    except (ValueError, KeyError, TypeError):
        return None


def use_token() -> None:
    """Show the cluster the user's token if there is one, as Ray's own commands do and `ray.init` does not.

    Versions without this function have no tokens, or a public way to them: a cluster that wants one says so.
    """
    try:
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    except ImportError:
        return
    setup = logging.getLogger(maybe_enable_token_auth_if_token_available.__module__)
    setup.setLevel(logging.ERROR)
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def silence_notices() -> None:
    """Keep Ray's notices of dead workers off standard output, whatever `log_to_driver` says: the pool tells of them."""
    internal: Any = ray._private.worker
    if hasattr(internal, "print_to_stdstream"):
        internal.print_to_stdstream = lambda *_, **__: None
