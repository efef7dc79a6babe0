"""The pool: keeps two tasks at every worker, replaces the dead and the hung, and grows and shrinks with the cluster."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from mimo_core.distributed.resources import Demand, describe_shortage
from mimo_core.distributed.workers.handle import Member
from mimo_core.distributed.workers.isolation import after_death, after_hang, after_loss
from mimo_core.distributed.workers.scheduler import Staff
from mimo_core.distributed.workers.worker import SLOTS, WorkerInfo, WorkerSetup
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.inference.progress import Snapshot
from mimo_core.inference.task import Task, TaskResult
from mimo_core.wording import count

POLL_SECONDS = 0.5
_GROW_SECONDS = 2.0
_FIRST_NOTICE_SECONDS = 5.0
_NOTICE_SECONDS = 30.0
# Where there is room, a worker takes this long at most to start: Python, PyTorch, the weights.
_START_SECONDS = 60.0
# Ray reports a connection as lost at once, and learns after about 20 s whether the node behind it is gone.
_DOUBT_SECONDS = 60.0
# So many deaths in a row with no image finished in between: no image is to blame, the workers cannot work.
_MAX_BARREN_DEATHS = 12


@dataclass(frozen=True)
class Guilty:
    """A task of one image that killed its worker (or hung it) even alone."""

    task: Task
    hung: bool


@dataclass(frozen=True)
class PoolOptions:
    """How many workers (a maximum of None is what the cluster has), what each takes, and when one counts as hung."""

    minimum: int
    maximum: int | None
    demand: Demand
    timeout: float


class WorkerPool:
    """Feeds tasks to workers. Use `run` as the driver's loop and `close` in the end."""

    def __init__(
        self,
        setup: WorkerSetup,
        networks: tuple[Any, ...],
        options: PoolOptions,
        say: Callable[[str], None],
        staff: Staff,
    ) -> None:
        """`networks`: references to a worker's further arguments in the object store; `staff`: whom to hire from."""
        self._staff = staff
        self._setup = setup
        self._networks = networks
        self._options = options
        self._say = say
        self._members: list[Member] = []
        self._fresh: Iterator[Task] = iter(())
        self._retries: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._exhausted = False
        self._barren_deaths = 0
        self._grown = 0.0
        self._workerless_since = time.monotonic()
        self._noticed = 0.0
        self._short = False
        self._most = options.maximum
        self.turned_away: list[str] = []
        """Why workers could not start that the run goes on without."""

    @property
    def workers(self) -> int:
        """Workers with an open session."""
        return sum(member.info is not None for member in self._members)

    @property
    def devices(self) -> set[str]:
        """Names of the devices in use."""
        return {member.info.device for member in self._members if member.info is not None}

    @property
    def unreported(self) -> int:
        """Images that workers have finished in tasks that are not finished."""
        return sum(max(0, member.snapshot.finished - member.reported) for member in self._members)

    def run(self, tasks: Iterator[Task]) -> Iterator[TaskResult | Guilty | None]:
        """Yield each task's result, each guilty image, and None at least twice a second so that the caller may act.

        Raises:
            SystemFailure: workers cannot start or keep dying, or a task was lost with its node too often.
        """
        first = next(tasks, None)
        if first is None:
            return
        self._staff.prepare(self._options.demand)
        self._fresh = chain([first], tasks)
        while True:
            self._grow()
            self._feed()
            if self._exhausted and not self._retries and not self._suspects and not self._in_work():
                return
            yield from self._collect()
            yield from self._watch()
            yield None

    def close(self) -> None:
        """Kill the workers at once."""
        for member in self._members:
            ray.kill(member.actor)
        self._members.clear()

    def _in_work(self) -> int:
        return sum(len(member.tasks) for member in self._members)

    # Growing and shrinking

    def _grow(self) -> None:
        now = time.monotonic()
        if now - self._grown < _GROW_SECONDS and self._members:
            return
        self._grown = now
        pending = sum(member.info is None for member in self._members)
        least = self._options.minimum if self._most is None else min(self._options.minimum, self._most)
        wanted = least - len(self._members)
        if self._has_work() and not pending:
            room = self._staff.room(self._options.demand)
            if self._most is not None:
                room = min(room, self._most - len(self._members))
            wanted = max(wanted, room)
        if wanted > 0:
            self._short = self._staff.room(self._options.demand) < wanted
            self._members += [self._start() for _ in range(wanted)]

    def _has_work(self) -> bool:
        return not self._exhausted or bool(self._retries or self._suspects)

    def _start(self) -> Member:
        return Member(*self._staff.hire(self._options.demand, self._setup, self._networks))

    def _feed(self) -> None:
        for member in sorted(self._members, key=lambda one: len(one.tasks)):
            while member.info is not None and len(member.tasks) < SLOTS and not member.exclusive:
                task = self._next(member)
                if task is None:
                    break
                member.tasks[member.actor.process.remote(task)] = task
        if not self._has_work():
            for member in [one for one in self._members if not one.tasks]:
                self._let_go(member)

    def _next(self, member: Member) -> Task | None:
        if self._suspects and not member.tasks:
            return self._suspects.popleft()
        if self._suspects and member is self._quarantine():
            return None
        if self._retries:
            return self._retries.popleft()
        task = None if self._exhausted else next(self._fresh, None)
        self._exhausted = self._exhausted or task is None
        return task

    def _quarantine(self) -> Member | None:
        """The worker that takes no new tasks while suspects wait for an empty one."""
        return next((member for member in self._members if member.info is not None and not member.exclusive), None)

    # Results and deaths

    def _collect(self) -> Iterator[TaskResult | Guilty]:
        waiting = {ref: member for member in self._members for ref in self._references(member)}
        if not waiting:
            time.sleep(POLL_SECONDS)
            return
        # At once when something comes, together with whatever else is there.
        if not ray.wait(list(waiting), num_returns=1, timeout=POLL_SECONDS)[0]:
            return
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for reference in done:
            member = waiting[reference]
            if member not in self._members:
                continue
            try:
                value = ray.get(reference)
            except ActorUnavailableError as error:
                yield from self._doubt(member, reference, error)
                continue
            except (RayActorError, WorkerCrashedError, OutOfMemoryError) as error:
                yield from self._bury(member, error)
                continue
            except (ObjectLostError, NodeDiedError) as error:
                # The result was kept on a node that is gone.
                self._drop(member)
                self._give_up_on_node(member, error)
                continue
            except RayTaskError as error:
                raise SystemFailure(ErrorKind.INTERNAL, f"a worker failed in a way it should not: {error}") from error
            except RayError as error:
                raise SystemFailure(ErrorKind.DEVICE, f"Ray cannot run workers: {_first_line(error)}") from error
            if reference == member.ready:
                self._welcome(member, value)
            elif reference == member.poll:
                self._heard(member, value)
            else:
                yield from self._finished(member, reference, value)

    def _finished(self, member: Member, reference: Any, result: TaskResult) -> Iterator[TaskResult | Guilty]:
        if result.failure is None:
            self._barren_deaths = 0
            del member.tasks[reference]
            member.reported += len(result.records)
            yield result
        elif result.failure[0] is ErrorKind.DEVICE:
            # The session is dead, so the worker is of no more use; an image may be to blame, as for a death.
            yield from self._bury(member, SystemFailure(*result.failure))
        else:
            raise SystemFailure(*result.failure)

    def _references(self, member: Member) -> Iterator[Any]:
        if member.info is None:
            yield member.ready
        if member.poll is not None:
            yield member.poll
        yield from (reference for reference in member.tasks if reference not in member.lost)

    def _welcome(self, member: Member, value: WorkerInfo | tuple[ErrorKind, str]) -> None:
        if not isinstance(value, WorkerInfo):
            self._turn_away(member, SystemFailure(*value))
            return
        member.info = value
        member.answered = time.monotonic()

    def _turn_away(self, member: Member, failure: SystemFailure) -> None:
        """Go on without a worker that cannot start while others can: a broken die, a node that lacks a folder."""
        self._drop(member)
        if not self._members:
            raise failure
        # Another one in its place would meet the same.
        self._most = len(self._members)
        others = count(self._most, "worker")
        self.turned_away.append(str(failure))
        self._say(f"a worker cannot start: {failure}; the run goes on with {others} at most")

    def _heard(self, member: Member, snapshot: Snapshot) -> None:
        if snapshot.finished > member.snapshot.finished:
            self._barren_deaths = 0
        member.poll = None
        member.snapshot = snapshot
        member.answered = time.monotonic()
        if member.lost:
            # The worker lives, but answers to its tasks that went astray do not come again.
            self._drop(member)
            self._give_up_on_node(member, None)
        member.doubted = None

    def _doubt(self, member: Member, reference: Any, error: ActorUnavailableError) -> Iterator[Guilty]:
        """Ask a worker that cannot be reached again, until it answers or Ray knows how it died."""
        now = time.monotonic()
        member.doubted = member.doubted or now
        if now - member.doubted > _DOUBT_SECONDS:
            self._drop(member)
            self._give_up_on_node(member, error)
        elif reference == member.ready:
            member.ready = member.actor.ready.remote()
        elif reference == member.poll:
            member.poll = None
        else:
            member.lost.add(reference)
        yield from ()

    def _bury(self, member: Member, error: RayError | SystemFailure) -> Iterator[Guilty]:
        self._drop(member)
        if member.node_is_lost(error):
            self._give_up_on_node(member, error)
            return
        self._count_barren_death(error)
        self._say(f"a worker died {member.place}; its images are tried again")
        for task in member.tasks.values():
            suspects = frozenset(one.row for one in member.snapshot.in_flight if one.shard == task.shard)
            yield from self._requeue(task, after_death(task, suspects), hung=False)

    def _give_up_on_node(self, member: Member, error: Exception | None) -> None:
        """Give a lost worker's tasks to others; no image is to blame."""
        shards = len(member.tasks)
        self._say(
            f"a worker was lost with its node ({member.place})"
            + (f"; its {shards} shard{'s' * (shards > 1)} go{'es' * (shards == 1)} to others" if shards else "")
        )
        for task in member.tasks.values():
            again = after_loss(task)
            if again is None:
                reason = f": {_first_line(error)}" if error is not None else ""
                raise SystemFailure(
                    ErrorKind.DEVICE, f"shard {task.shard} was lost with its node too often; giving up{reason}"
                )
            (self._suspects if again.suspect else self._retries).append(again)

    def _count_barren_death(self, error: Exception) -> None:
        self._barren_deaths += 1
        if self._barren_deaths >= _MAX_BARREN_DEATHS:
            raise SystemFailure(
                ErrorKind.DEVICE,
                f"{self._barren_deaths} workers died in a row without restoring an image between: {_first_line(error)}",
            )

    def _requeue(self, task: Task, again: list[Task] | None, *, hung: bool) -> Iterator[Guilty]:
        if again is None:
            yield Guilty(task, hung)
            return
        for one in again:
            (self._suspects if one.suspect else self._retries).append(one)

    def _let_go(self, member: Member) -> None:
        if member.info is None or member.doubted is not None or member.lost:
            self._drop(member)
        else:
            self._members.remove(member)
            self._staff.release(member.demand, member.actor)

    def _drop(self, member: Member) -> None:
        self._members.remove(member)
        ray.kill(member.actor)
        if not self.workers:
            self._workerless_since = time.monotonic()

    # Watching

    def _watch(self) -> Iterator[Guilty]:
        now = time.monotonic()
        for member in list(self._members):
            if member.info is None:
                continue
            if member.poll is None and now - member.polled >= POLL_SECONDS:
                member.poll = member.actor.snapshot.remote()
                member.polled = now
            yield from self._replace_if_hung(member, now)
        self._notice_shortage(now)

    def _replace_if_hung(self, member: Member, now: float) -> Iterator[Guilty]:
        if member.doubted is not None:
            return
        silent = now - member.answered > self._options.timeout
        stuck = [one for one in member.snapshot.in_flight if one.seconds > self._options.timeout]
        if not stuck and not (silent and member.tasks):
            return
        names = ", ".join(one.key for one in stuck[:3]) or "nothing it would tell"
        self._say(f"a worker made no progress for {self._options.timeout:g} s on {names}; it is replaced")
        self._drop(member)
        for task in member.tasks.values():
            rows = frozenset(one.row for one in stuck if one.shard == task.shard)
            if rows:
                again = after_hang(task, rows)
            else:
                again = after_death(task, frozenset()) if not stuck else [task]
            yield from self._requeue(task, again, hung=True)

    def _notice_shortage(self, now: float) -> None:
        patience = _FIRST_NOTICE_SECONDS if self._short else _START_SECONDS
        if self.workers or not self._has_work() or now - self._workerless_since < patience:
            return
        if now - self._noticed >= _NOTICE_SECONDS:
            self._noticed = now
            self._say(describe_shortage(self._options.demand))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
