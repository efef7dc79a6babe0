"""The pool: keeps two tasks at every worker, replaces the dead and the hung, and grows and shrinks with the cluster."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mimo_core.distributed.workers.draining import Draining
from mimo_core.distributed.workers.growth import Growth
from mimo_core.distributed.workers.handle import WorkerHandle
from mimo_core.distributed.workers.isolation import MAY_BE_OF_OTHERS, after_death, after_hang, after_node_loss
from mimo_core.distributed.workers.left_out import LeftOut
from mimo_core.distributed.workers.memory_kills import MemoryKills
from mimo_core.distributed.workers.openings import Openings
from mimo_core.distributed.workers.options import Event, PoolOptions, Quarantined
from mimo_core.distributed.workers.queue import TaskQueue
from mimo_core.distributed.workers.scheduler import (
    Call,
    ResultLostError,
    Scheduler,
    WorkerDiedError,
    WorkerUnfitError,
    WorkerUnreachableError,
)
from mimo_core.distributed.workers.shortage import Shortage
from mimo_core.distributed.workers.stalls import Stalls, blame
from mimo_core.distributed.workers.waits import Waits
from mimo_core.distributed.workers.worker import WorkerInfo, WorkerSetup
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.inference.progress import Snapshot
from mimo_core.inference.task import Task, TaskResult
from mimo_core.wording import Notice, first_line

POLL_SECONDS = 0.5
_FIRST_TASK_SECONDS = 0.02
# A connection counts as lost at once, and after about 20 s it is known whether the node behind it is gone.
UNREACHABLE_SECONDS = 60.0
# So many deaths in a row with no image finished in between: no image is to blame, the workers cannot work.
MAX_DEATHS_WITHOUT_PROGRESS = 12


class WorkerPool:
    """Feeds tasks to workers. Use `run` as the driver's loop and `close` in the end."""

    def __init__(
        self,
        setup: WorkerSetup,
        networks: tuple[Any, ...],
        options: PoolOptions,
        say: Callable[[str], None],
        scheduler: Scheduler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`networks`: references to a worker's further arguments; `clock`: seconds that only grow."""
        self._setup = setup
        self._networks = networks
        self._options = options
        self._say = say
        self._scheduler = scheduler
        self._clock = clock
        self._workers: list[WorkerHandle] = []
        self.queue = TaskQueue(iter(()))
        """What nobody works on yet."""
        self._memory_kills = MemoryKills()
        self._deaths_without_progress = 0
        self._growth = Growth(options)
        self._shortage = Shortage(clock())
        self._left_out = LeftOut()
        self._draining = Draining(scheduler, say)
        self._waits = Waits(say)
        self._stalls = Stalls(options.timeout, options.patience, clock())
        self._failed_since_success = False
        self._openings = Openings(options.timeout)
        self.failed_starts: list[str] = []
        """Why workers could not start that the run goes on without."""

    @property
    def workers(self) -> int:
        """Workers with an open session."""
        return sum(handle.info is not None for handle in self._workers)

    @property
    def handles(self) -> Sequence[WorkerHandle]:
        """The workers, those that are starting included."""
        return self._workers

    def run(self, tasks: Iterator[Task | None]) -> Iterator[Event | None]:
        """Yield each task's result, each quarantined task, and None at least twice a second so that the caller may act.

        Args:
            tasks: to be done; None where there is none yet.

        Raises:
            SystemFailure: workers cannot start or keep dying, or a task was lost with its node too often.
        """
        self.queue = TaskQueue(tasks)
        # For nothing no worker starts.
        while not self.queue.wait_for_first():
            self._scheduler.wait([], _FIRST_TASK_SECONDS)
            yield None
        if not self.queue:
            return
        self._scheduler.prepare(self._options.demand)
        while True:
            self._start_workers()
            self._assign_tasks()
            if not self.queue and not self._at_work:
                return
            yield from self._collect()
            yield from self._watch()
            yield None

    def close(self) -> None:
        """Kill the workers at once."""
        for handle in (*self._workers, *self._left_out):
            self._scheduler.kill(handle.worker)
        self._workers.clear()

    # Starting workers and giving out tasks

    def _start_workers(self) -> None:
        now = self._clock()
        if not self._growth.is_due(now, self._workers):
            return
        for handle in self._growth.in_vain(self._workers, self.queue):
            self._drop(handle)
        for handle in self._left_out.take_due(now, at_least_one=not self._workers):
            self._scheduler.kill(handle.worker)
        wanted = self._growth.wanted(self._workers, self.queue, lambda: self._scheduler.room(self._options.demand))
        # Whether the others fare better shows soon; until then more of them only fail alike.
        if self._failed_since_success and self._workers:
            return
        if wanted > 0:
            room = self._scheduler.room(self._options.demand)
            self._shortage.short = room < 1
            for number in range(wanted):
                started = self._scheduler.start(self._options.demand, self._setup, self._networks)
                self._workers.append(WorkerHandle.of(started, waits=number >= room))

    @property
    def _at_work(self) -> bool:
        return any(handle.tasks for handle in self._workers)

    def _assign_tasks(self) -> None:
        for handle in sorted(self._workers, key=lambda one: len(one.tasks)):
            while handle.takes_more:
                task = self._next_task(handle)
                if task is None:
                    break
                handle.tasks[handle.worker.process(task)] = task
        # What is tried for the last time has all that the others would take.
        idle = sorted((one for one in self._workers if not one.tasks), key=lambda one: one.info is None)
        if not self.queue or (self.queue.only_last_tries and not self._at_work and len(idle) > 1):
            for handle in idle if not self.queue else idle[1:]:
                self._release(handle)

    def _next_task(self, handle: WorkerHandle) -> Task | None:
        if self.queue.has_suspects and not handle.tasks:
            return self.queue.next_suspect()
        if self.queue.has_suspects and handle is self._reserved_for_suspects():
            return None
        if self.queue.only_last_tries:
            return self.queue.next_last_try() if len(self._workers) == 1 and not self._at_work else None
        return self.queue.next()

    def _reserved_for_suspects(self) -> WorkerHandle | None:
        """Return the worker that takes no new tasks while suspects wait for one that is empty."""
        usable = (one for one in self._workers if one.info is not None and not one.leaving)
        return next((one for one in usable if not one.has_suspect), None)

    # Answers

    def _collect(self) -> Iterator[Event]:
        waiting = {call: handle for handle in self._workers for call in handle.calls}
        # Where a worker is comes first, to be named with what became of it.
        for call in sorted(self._scheduler.wait(list(waiting), POLL_SECONDS), key=lambda one: one != waiting[one].here):
            handle = waiting[call]
            if handle not in self._workers:
                continue
            try:
                answer = self._scheduler.result(call)
            except WorkerUnreachableError as error:
                self._on_unreachable(handle, call, error)
            except WorkerUnfitError as error:
                self._on_failed_start(handle, SystemFailure(ErrorKind.DEVICE, str(error)))
            except WorkerDiedError as error:
                yield from self._on_death(handle, error)
            except ResultLostError as error:
                self._drop(handle)
                self._give_tasks_to_others(handle, error)
            else:
                if call == handle.here:
                    handle.here, handle.host, handle.opening_since = None, answer, self._clock()
                elif call == handle.ready:
                    self._on_ready(handle, answer)
                elif call == handle.poll:
                    self._on_snapshot(handle, answer)
                else:
                    yield from self._on_result(handle, call, answer)

    def _on_result(self, handle: WorkerHandle, call: Call, result: TaskResult) -> Iterator[Event]:
        if result.failure is None:
            self._deaths_without_progress = 0
            self._failed_since_success = False
            self._left_out.forgive(handle.host)
            handle.progressed = self._clock()
            self._stalls.progress(handle.progressed)
            del handle.tasks[call]
            handle.reported += len(result.records)
            if result.left is not None:
                self.queue.add(result.left)
            yield result
        elif result.failure[0] is ErrorKind.DEVICE:
            # The session is dead, so the worker is of no more use; an image may be to blame, as for a death.
            yield from self._on_death(handle, SystemFailure(*result.failure))
        elif result.failure[0] is ErrorKind.INTERNAL:
            raise SystemFailure(*result.failure)
        else:
            self._leave_out(handle, "cannot use the storage", SystemFailure(*result.failure))

    def _on_ready(self, handle: WorkerHandle, answer: WorkerInfo | tuple[ErrorKind, str]) -> None:
        if isinstance(answer, WorkerInfo):
            handle.info, handle.host = answer, answer.host
            self._openings.succeeded()
        else:
            self._on_failed_start(handle, SystemFailure(*answer))

    def _on_failed_start(self, handle: WorkerHandle, failure: SystemFailure) -> None:
        self._leave_out(handle, "cannot start", failure)
        self.failed_starts = list(dict.fromkeys([*self.failed_starts, str(failure)]))

    def _leave_out(self, handle: WorkerHandle, what: str, failure: SystemFailure) -> None:
        """Go on without a worker for a while where others work: a node without credentials, a broken die."""
        # One whose process does not run yet may still work, unless it waits for the place of this one.
        if all(one.host is None and one.waits for one in self._workers if one is not handle):
            raise SystemFailure(failure.kind, f"{failure} ({handle.where})")
        self._workers.remove(handle)
        self._failed_since_success = True
        seconds = self._left_out.add(handle, self._clock())
        out = f"it is left out for {seconds:g} s{handle.tasks_go_on}"
        self._say(handle.notice(f"a worker {handle.where} {what}: {failure}; {out}"))
        self._queue_unblamed(handle, failure)

    def _on_snapshot(self, handle: WorkerHandle, snapshot: Snapshot) -> None:
        if snapshot.finished > handle.snapshot.finished:
            self._deaths_without_progress = 0
            handle.progressed = self._clock()
            self._stalls.progress(handle.progressed)
        handle.poll = None
        handle.snapshot = snapshot
        self._waits.note(handle, self._clock())
        handle.unreachable_since = None
        if handle.lost_calls:
            # The worker lives, but the answers that were lost do not come again.
            self._drop(handle)
            self._give_tasks_to_others(handle, None)

    # Workers that end

    def _on_unreachable(self, handle: WorkerHandle, call: Call, error: WorkerUnreachableError) -> None:
        """Ask a worker that cannot be reached again, until it answers or it is known how it died."""
        now = self._clock()
        if handle.unreachable_since is None:
            handle.unreachable_since = now
        if now - handle.unreachable_since > UNREACHABLE_SECONDS:
            self._drop(handle)
            self._give_tasks_to_others(handle, error)
        elif call == handle.ready:
            handle.ready = handle.worker.ready()
        elif call == handle.here:
            handle.here = handle.worker.here()
        elif call == handle.poll:
            handle.poll = None
        else:
            handle.lost_calls.add(call)

    def _on_death(self, handle: WorkerHandle, error: WorkerDiedError | SystemFailure) -> Iterator[Event]:
        self._drop(handle)
        if isinstance(error, WorkerDiedError) and (
            error.with_node or (handle.info is not None and not self._scheduler.has_node(handle.info.node))
        ):
            self._give_tasks_to_others(handle, error)
            return
        # Last tries come one after another; each is an image's own affair.
        self._deaths_without_progress += not any(task.last for task in handle.tasks.values())
        if self._deaths_without_progress >= MAX_DEATHS_WITHOUT_PROGRESS:
            raise SystemFailure(
                ErrorKind.DEVICE,
                f"{self._deaths_without_progress} workers died in a row, and none of them restored an image: "
                f"{first_line(error)}",
            )
        for_memory = self._killed_for_memory(handle, error)
        what = "was killed for want of memory" if for_memory else "died"
        self._say(handle.notice(f"a worker {what} {handle.place}; its images are tried again"))
        kind = ErrorKind.OUT_OF_MEMORY if for_memory else ErrorKind.CRASHED_WORKER
        for task in handle.tasks.values():
            in_flight = frozenset(one.row for one in handle.snapshot.in_flight if one.shard == task.shard)
            yield from self._retry(task, after_death(task, in_flight), kind)

    def _give_tasks_to_others(self, handle: WorkerHandle, error: Exception | None) -> None:
        """Retry the tasks of a worker that was lost with its node."""
        self._say(handle.notice(f"a worker was lost with its node ({handle.place}){handle.tasks_go_on}"))
        self._queue_unblamed(handle, error)

    def _queue_unblamed(self, handle: WorkerHandle, error: Exception | None) -> None:
        """Retry the tasks of a worker for whose end no image is to blame."""
        for task in handle.tasks.values():
            retry = after_node_loss(task)
            if retry is None:
                reason = f": {first_line(error)}" if error is not None else ""
                raise SystemFailure(
                    error.kind if isinstance(error, SystemFailure) else ErrorKind.DEVICE,
                    f"shard {task.shard} was given to worker after worker, and none finished it; giving up{reason}",
                )
            self.queue.add(retry)

    def _killed_for_memory(self, handle: WorkerHandle, error: WorkerDiedError | SystemFailure) -> bool:
        here = handle.host == platform.node() and self._memory_kills.happened()
        return isinstance(error, WorkerDiedError) and (error.for_memory or here)

    def _retry(self, task: Task, retries: list[Task] | None, kind: ErrorKind) -> Iterator[Quarantined]:
        if retries is None and kind in MAY_BE_OF_OTHERS and not task.last:
            self.queue.add_last(task)
        elif retries is None:
            yield Quarantined(task, kind)
        for one in retries or ():
            self.queue.add(one)

    def _release(self, handle: WorkerHandle) -> None:
        if handle.info is None or handle.unreachable_since is not None or handle.lost_calls:
            self._drop(handle)
        else:
            self._workers.remove(handle)
            self._scheduler.release(handle.demand, handle.worker)

    def _drop(self, handle: WorkerHandle) -> None:
        self._workers.remove(handle)
        self._scheduler.kill(handle.worker)
        if not self.workers:
            self._shortage.begin(self._clock())

    # Watching

    def _watch(self) -> Iterator[Event]:
        now = self._clock()
        for handle in list(self._workers):
            if handle.info is None:
                self._replace_if_stuck_opening(handle, now)
                continue
            if handle.poll is None and now - handle.polled >= POLL_SECONDS:
                handle.poll = handle.worker.snapshot()
                handle.polled = now
            if self._waits.shut_out(handle, self._workers, now):
                reason = f"{handle.snapshot.waiting} does not answer there"
                self._leave_out(handle, "cannot use the storage", SystemFailure(ErrorKind.STORAGE, reason))
            else:
                yield from self._replace_if_hung(handle, now)
        for handle in self._draining.take_idle(self._workers, now):
            self._drop(handle)
        self._waits.tell(self._workers)
        self._report_shortage(now)

    def _replace_if_stuck_opening(self, handle: WorkerHandle, now: float) -> None:
        if not self._openings.has_failed(handle, now):
            return
        if self.workers:
            # It keeps its place meanwhile: what hangs once on a device may hang again.
            self._leave_out(handle, "cannot start", SystemFailure(ErrorKind.DEVICE, self._openings.reason))
        else:
            self._openings.require_hope(handle)
            self._say(handle.notice(f"a worker {handle.where} is replaced: {self._openings.reason}"))
            self._drop(handle)

    def _replace_if_hung(self, handle: WorkerHandle, now: float) -> Iterator[Event]:
        if handle.unreachable_since is not None:
            return
        # Since it was asked: while this process was held up, nobody asked it.
        silent = handle.poll is not None and now - handle.polled > self._options.timeout
        stuck = self._stalls.stuck(handle.snapshot)
        if not stuck and not (silent and handle.tasks):
            return
        self._stalls.judge(stuck, now)
        names = ", ".join(one.key for one in stuck[:3]) or "nothing it would tell"
        seconds = min((one.seconds for one in stuck), default=self._options.timeout)
        shard = stuck[0].shard if stuck else None
        self._say(handle.notice(f"a worker made no progress for {seconds:.0f} s on {names}; it is replaced", shard))
        self._drop(handle)
        for task in handle.tasks.values():
            theirs = [one for one in stuck if one.shard == task.shard]
            if theirs:
                retries = after_hang(task, frozenset(one.row for one in theirs))
            else:
                retries = after_death(task, frozenset()) if not stuck else [task]
            yield from self._retry(task, retries, blame(theirs))

    def _report_shortage(self, now: float) -> None:
        # One whose process runs has what it needs and opens its session.
        placed = any(handle.host is not None for handle in self._workers)
        if not placed and self.queue and self._shortage.is_to_be_told(now):
            self._say(Notice(self._scheduler.describe_shortage(self._options.demand)))
