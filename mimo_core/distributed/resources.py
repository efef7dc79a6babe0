"""What a worker takes from the cluster, what the cluster has, and how to say that it is short."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from mimo_core.distributed.ray_private import assigned_units, draining_nodes, free_resources_by_node
from mimo_core.errors import UsageError

# Ray knows nothing of VACC cards: nodes announce their dies under this name, and with the variable set to it when a
# node starts, each worker is told which of them are its own.
VACC = "VACC"
UNITS_VARIABLE = "RAY_custom_unit_instance_resources"


@dataclass(frozen=True)
class Demand:
    """What one worker reserves: CPU cores, GPUs or a share of one, bytes of memory, custom resources such as `VACC`.

    `labels` are what the labels of its node must be, as Ray's selectors say it.
    """

    cpus: int = 1
    gpus: float = 0
    memory: int = 0
    custom: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or not (self.cpus or self.gpus or self.custom):
            raise UsageError(f"a worker must take some resource, got {self}")

    def items(self) -> dict[str, float]:
        """Return the amounts by Ray's resource names, without zeros."""
        amounts = {"CPU": float(self.cpus), "GPU": float(self.gpus), "memory": float(self.memory), **self.custom}
        return {name: amount for name, amount in amounts.items() if amount}

    def options(self) -> dict[str, Any]:
        """Return the reservation as options of a Ray actor."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "memory": self.memory or None,
            "resources": self.custom or None,
            "label_selector": self.labels or None,
        }

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Return whether a node with these labels may hold the worker."""
        return all(_selects(selector, labels.get(name)) for name, selector in self.labels.items())


def assigned_die() -> int:
    """Return the place, among its node's, of the die that Ray gave to the actor that this runs in.

    Raises:
        UsageError: it was given none.
    """
    dies = assigned_units(VACC)
    if not dies:
        raise UsageError("Ray gave this worker no VACC die")
    return dies[0]


def free_slots(demand: Demand) -> int:
    """Return how many more workers the free resources of the living nodes can hold."""
    draining = draining_nodes()
    usable = {node["NodeID"] for node in ray.nodes() if node["Alive"] and demand.fits(node["Labels"])} - draining
    return sum(_slots(demand, free) for node, free in free_resources_by_node().items() if node in usable)


def total_slots(demand: Demand) -> int:
    """Return how many workers the living nodes could hold were they empty."""
    return sum(
        _slots(demand, node["Resources"]) for node in ray.nodes() if node["Alive"] and demand.fits(node["Labels"])
    )


def describe_shortage(demand: Demand) -> str:
    """Say what a worker waits for and what the cluster has of it."""
    total, free = ray.cluster_resources(), ray.available_resources()
    parts = [
        f"{_show(name, amount)} (the cluster has {_show(name, total.get(name, 0))}, "
        f"{_show(name, free.get(name, 0))} of it free)"
        for name, amount in demand.items().items()
    ]
    hint = (
        ""
        if total_slots(demand)
        else "; no node has that much: add one, unless an autoscaler does, or ask for less (--cpus-per-worker)"
    )
    labelled = "".join(f" with the label {name}={value}" for name, value in demand.labels.items())
    return f"waiting for a worker: it needs {' and '.join(parts)} on one node{labelled}{hint}"


def _selects(selector: str, value: str | None) -> bool:
    """Return whether a selector takes a node whose label has this value, None where it has no such label."""
    wanted = selector.removeprefix("!")
    values = wanted[3:-1].split(",") if wanted.startswith("in(") else [wanted]
    return (value in values) is not selector.startswith("!")


def _show(name: str, amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"


def _slots(demand: Demand, resources: dict[str, float]) -> int:
    return min(_times(name, amount, resources.get(name, 0)) for name, amount in demand.items().items())


def _times(name: str, amount: float, free: float) -> int:
    """Return how often an amount goes into what is free; a share of a GPU lies on one GPU."""
    # A tenth goes ten times into one, whatever binary fractions say.
    if name == "GPU" and amount < 1:
        return int(free) * int(1 / amount + 1e-6) + int((free - int(free)) / amount + 1e-6)
    return int(free / amount + 1e-6)


def _announcement(python: str | None) -> str:
    from mimo_core.engines.vacc import count_dies

    return json.dumps({VACC: count_dies(python)})


if __name__ == "__main__":
    # What a node announces: ray start --resources="$(python -m mimo_core.distributed.resources [VACC_PYTHON])"
    print(_announcement(next(iter(sys.argv[1:]), None)))
