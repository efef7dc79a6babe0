"""Which engine and which tile are fastest on this machine: measured once, and kept on its disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np

from mimo_core.engines import ENGINES, Session, SessionSpec, open_session
from mimo_core.engines.base import Precision
from mimo_core.errors import UsageError
from mimo_core.hardware import cpu_name, usable_cores
from mimo_core.images.pixels import Pixels
from mimo_core.storage.disk_cache import cache_folder
from mimo_core.version import __version__
from mimo_core.wording import significant

MOST_PIXELS = 1 << 20
"""Images up to this are not cut unless cutting was measured to pay; it bounds a worker's memory."""
# Squares of these sides are timed, the small one for the engines too. Small networks are done in well under a second.
_SIDES = (256, 512, 768, 1024)
_SECONDS = 2.5
_DEFAULT_TILE = 512


@dataclass(frozen=True)
class Question:
    """What is asked of a machine: the fastest way to compute networks of this kind on its CPU.

    Attributes:
        engines: the engines to choose from.
        precision: arithmetic inside the network.
        width: channels of the network at full scale; its depth changes no comparison.
        interpolation: the network's.
        threads: CPU threads of a session.
        overlap: pixels of context on each side of a tile.
    """

    engines: tuple[str, ...]
    precision: Precision
    width: int
    interpolation: Literal["nearest", "bilinear"]
    threads: int
    overlap: int


@dataclass(frozen=True)
class Answer:
    """What was measured to be fastest, and why.

    Attributes:
        engine: the engine.
        tile: height and width of the tiles of larger images, in pixels.
        call_pixels: images up to this are not cut.
        reason: the figures behind it, for people.
    """

    engine: str
    tile: int
    call_pixels: int
    reason: str


def tune(question: Question) -> Answer:
    """Answer from this machine's disk, else by measuring for some seconds, which is then kept there.

    Raises:
        UsageError: none of the engines can compute that here.
    """
    file = cache_folder() / "tuning" / f"{_identity(question)}.json"
    known = _read(file)
    if known is not None:
        return known
    answer = _measure(question)
    _write(file, answer)
    return answer


def _measure(question: Question) -> Answer:
    # What else the machine does just now says nothing of the engines; but threads that wait for each other do.
    clock = time.process_time if question.threads == 1 else time.perf_counter
    rates: dict[str, float] = {}
    refusals: list[str] = []
    sessions: dict[str, Session] = {}
    for engine in question.engines:
        try:
            sessions[engine] = _open(engine, question)
        except UsageError as error:
            refusals.append(str(error))
            continue
        if len(question.engines) > 1:
            rates[engine] = _nanoseconds(sessions[engine], _SIDES[0], clock)
    if not sessions:
        raise UsageError("; ".join(refusals))
    best = min(sessions, key=lambda engine: rates.get(engine, 0.0))
    costs = dict(_by_side(sessions[best], clock))
    for session in sessions.values():
        session.close()
    tile, call_pixels = best_tile(costs, question.overlap)
    return Answer(best, tile, call_pixels, _reason(best, rates, refusals, tile, call_pixels))


def best_tile(costs: dict[int, float], overlap: int) -> tuple[int, int]:
    """Return the side of the cheapest tile, and the pixels up to which an image is cheaper whole.

    Args:
        costs: time for one pixel, by the side of a square.
        overlap: pixels on each side of a tile that are computed and thrown away.
    """
    tiled = {side: cost * (side / (side - 2 * overlap)) ** 2 for side, cost in costs.items() if side > 2 * overlap}
    if len(tiled) < 2:
        # Nothing was compared.
        return max(_DEFAULT_TILE, 4 * overlap), MOST_PIXELS
    tile = min(tiled, key=lambda side: tiled[side])
    dearer = [side for side, cost in costs.items() if side > tile and cost > tiled[tile]]
    if not dearer:
        return tile, MOST_PIXELS
    return tile, max(side for side in costs if side < min(dearer)) ** 2


def _by_side(session: Session, clock: Callable[[], float]) -> Iterator[tuple[int, float]]:
    """Give the nanoseconds for one pixel by the side of a square, as far as the time goes."""
    begun, cost = clock(), 0.0
    for side in _SIDES:
        if side > _SIDES[0] and clock() - begun + 2 * cost * side**2 / 1e9 > _SECONDS:
            return
        cost = _nanoseconds(session, side, clock)
        yield side, cost


def _nanoseconds(session: Session, side: int, clock: Callable[[], float]) -> float:
    """Return the time for one pixel of a square, in the second of two calls."""
    pixels = _noise(side)
    session.restore(pixels)
    begun = clock()
    session.restore(pixels)
    return (clock() - begun) * 1e9 / side**2


def _noise(side: int) -> Pixels:
    return np.random.default_rng(side).integers(0, 256, (1, side, side, 3), dtype=np.uint8)


def _open(engine: str, question: Question) -> Session:
    # Only here: reading a kept answer needs no PyTorch.
    from mimo_core.models.int8 import KEY, Quantisation
    from mimo_core.models.weights import ModelSpec, weights_by_rule

    weights = weights_by_rule(ModelSpec(question.width, 1, question.interpolation), "a shallow network")
    if question.precision == "int8":
        ranges = {name.removesuffix(".main.0.weight"): (-1.0, 1.0) for name in weights.state if ".weight" in name}
        weights = replace(weights, metadata={KEY: Quantisation("none", ranges).text()})
    return open_session(SessionSpec(engine, "cpu", question.precision, weights, question.threads))


def _reason(best: str, rates: dict[str, float], refusals: Sequence[str], tile: int, call_pixels: int) -> str:
    slower = [f"{rate / rates[best]:.1f} times as fast as {name}" for name, rate in rates.items() if name != best]
    fastest = [f"{best} is {' and '.join(slower)}"] if slower else []
    cut = f"images above {significant(call_pixels / 1e6)} MP are cut into tiles of {tile}x{tile}"
    return "measured here: " + "; ".join([*fastest, cut, *refusals])


def _identity(question: Question) -> str:
    """Return what the figures depend on, as a hash: the question, the machine and the versions."""
    packages = sorted({ENGINES[name].package for name in question.engines})
    facts = [asdict(question), cpu_name(), usable_cores(), __version__, *map(_version, packages)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _read(file: Path) -> Answer | None:
    """Return what is kept, None where nothing is or it is damaged: then it is measured again."""
    try:
        answer = Answer(**json.loads(file.read_text(encoding="utf-8")))
        whole = answer.engine in ENGINES and min(answer.tile, answer.call_pixels) > 0
    except (OSError, ValueError, TypeError):
        return None
    return answer if whole else None


def _write(file: Path, answer: Answer) -> None:
    """Keep the answer; a disk that does not take it costs the next run another measurement, and nothing else."""
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(answer)), encoding="utf-8")
        temporary.replace(file)
    except OSError:
        return
