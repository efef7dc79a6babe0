"""Finding the image that kills its worker: by the images in flight, then by bisection, until it is alone.

A suspect task runs alone on its worker, so that a death is its own. Every split is strictly smaller, and what remains
when the suspects are set aside is halved if it kills again, whatever was seen in flight: so the search ends after at
most 4 deaths for a poison image that was seen in flight among few, and `most_deaths` in any case. An image that
has killed two workers alone may still be the victim of others, who took the memory: the pool tries it once more when
nothing else is worked on, and quarantines it only if that worker dies too.
"""

import math
from dataclasses import replace

from mimo_core.errors import ErrorKind
from mimo_core.inference.task import Task

# A first death may be anybody's: the rows are tried again, alone on a worker.
_TRIES_TOGETHER = 2
# One death more than that, so that a lone image needs two deaths of its own to be quarantined.
_TRIES_ALONE = 3
# Few images in flight are tried one by one; more are halved.
_FEW = 4
MAX_NODE_LOSSES = 10
MAY_BE_OF_OTHERS = (ErrorKind.CRASHED_WORKER, ErrorKind.OUT_OF_MEMORY)
"""Ends of workers of which an image may be the victim and not the cause."""


def most_deaths(rows: int, poisons: int) -> int:
    """Return how many workers the search in a shard costs at most, for so many poison images among its rows."""
    # Two at first, at most two a level of bisection, and two alone.
    return poisons * (2 * math.ceil(math.log2(rows)) + 4) if rows > 1 else 3 * poisons


def after_death(task: Task, suspects: frozenset[int]) -> list[Task] | None:
    """Return the tasks that replace one whose worker died or hung, or None if its only image is to be quarantined.

    Args:
        task: what the worker had.
        suspects: rows of the task that were in flight when it was last heard of; may be empty or out of date.
    """
    crashes = task.crashes + 1
    if len(task.rows) == 1:
        return None if crashes >= _TRIES_ALONE else [replace(task, crashes=crashes)]
    if crashes < _TRIES_TOGETHER:
        return [replace(task, crashes=crashes)]
    seen = tuple(row for row in task.rows if row in suspects)
    rest = tuple(row for row in task.rows if row not in suspects)
    if not seen or not rest or crashes > _TRIES_TOGETHER:
        middle = len(task.rows) // 2
        halves = (task.rows[:middle], task.rows[middle:])
        return [replace(task, rows=rows, crashes=1) for rows in halves]
    parts = [(row,) for row in seen] if len(seen) <= _FEW else [seen]
    # If the rest kills again, the suspects were the wrong ones (or not all): then it is halved without asking for them.
    crashes_of_rest = 1 if len(rest) == 1 else _TRIES_TOGETHER
    return [
        *(replace(task, rows=rows, crashes=1) for rows in parts),
        replace(task, rows=rest, crashes=crashes_of_rest),
    ]


def after_hang(task: Task, stuck: frozenset[int]) -> list[Task] | None:
    """Return the tasks that replace one in which some rows made no progress.

    None if its only image is to be quarantined.

    Unlike a death, a hang names its rows: they are set apart at once and the others go on. A batch hangs as a whole, so
    each is tried once more, alone.
    """
    rest = tuple(row for row in task.rows if row not in stuck)
    seen = tuple(row for row in task.rows if row in stuck)
    if not seen:
        return after_death(task, frozenset())
    if len(task.rows) == 1 and task.crashes >= _TRIES_TOGETHER:
        return None
    alone = [replace(task, rows=(row,), crashes=_TRIES_TOGETHER) for row in seen]
    return [*alone, replace(task, rows=rest)] if rest else alone


def after_node_loss(task: Task) -> Task | None:
    """Return the task to run again after its node was lost, or None when it was lost too often."""
    return None if task.losses + 1 > MAX_NODE_LOSSES else replace(task, losses=task.losses + 1)


_REASONS = {
    ErrorKind.TIMEOUT: "its worker made no progress on this image, twice",
    ErrorKind.STORAGE: "reading or writing it came to no end, twice, while the storage served others",
    ErrorKind.OUT_OF_MEMORY: "its worker was killed for want of memory, at last when nothing else ran; "
    "a smaller --tile takes less",
    ErrorKind.CRASHED_WORKER: "its worker died on this image alone, three times, at last when nothing else ran",
}


def quarantine_reason(kind: ErrorKind) -> str:
    """Return the text of the record of a quarantined image."""
    return _REASONS[kind]
