"""One driver's work on a run: hands out what is left, puts results together, and commits each shard exactly once."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from mimo_core.distributed.execution.assembly import Assembly
from mimo_core.distributed.execution.breaker import Breaker
from mimo_core.distributed.execution.prefetch import Prefetch
from mimo_core.distributed.metrics import RunMetrics, Standing
from mimo_core.distributed.observer import Observer
from mimo_core.distributed.outcome import Outcome, SetDistance
from mimo_core.distributed.preparation import Prepared
from mimo_core.distributed.workers.isolation import quarantine_reason
from mimo_core.distributed.workers.options import Quarantined
from mimo_core.distributed.workers.pool import WorkerPool
from mimo_core.engines import Telemetry
from mimo_core.errors import MimoError
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.progress import RateMeter, RunProgress, within
from mimo_core.inference.task import Task, TaskResult
from mimo_core.runs.config import RunConfig, parse_max_failed
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.lease import Lease
from mimo_core.runs.plan import ahead
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.record import Record, now
from mimo_core.runs.records import read_footer
from mimo_core.runs.statistics import Statistics
from mimo_core.runs.totals import Totals, write_totals
from mimo_core.storage.outages import waited_for
from mimo_core.wording import Notice, count

_COMMITTERS = 4
_READERS = 8
_PREFETCHED = 256
# Parts pile up in memory if storage is slower than the workers: then the driver waits.
_MAX_PENDING_COMMITS = 64
_PROGRESS_SECONDS = 0.5
# A driver that dies leaves the parts of so much time to be looked into one by one.
_TOTALS_SECONDS = 30.0
# A covariance needs two.
_FEWEST_FEATURES = 2


class TooManyFailuresError(MimoError):
    """More images failed than `--max-failed` allows; what is committed stays."""


@dataclass
class _Tally:
    """What a session has seen so far."""

    images: int = 0
    failed: int = 0
    busy: float = 0.0
    worker_seconds: float = 0.0
    peak_memory: int = 0
    telemetry: dict[str, Telemetry] = field(default_factory=dict)


class Execution:
    """One driver's work on a run, from the tasks that are left to the summary."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        lease: Lease,
        prepared: Prepared,
        pool: WorkerPool,
        observer: Observer,
        faults: Faults,
        metrics: RunMetrics | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._lease = lease
        self._prepared = prepared
        self._plan = prepared.plan
        self._pool = pool
        self._observer = observer
        self._assembly = Assembly()
        self._breaker = Breaker()
        self._faults = faults
        self._metrics = metrics
        self._fingerprint = prepared.recipe.fingerprint()
        self._tally = _Tally()
        self._retrying = config.mode == "retry-failed"
        self._replaced: set[int] = set()
        self._commits: deque[tuple[int, Future[Statistics]]] = deque()
        self._manifest = folder.manifest()
        self._totals = Totals()
        self._last_totals = time.monotonic()
        self._keeping: Future[None] | None = None
        self._committers = ThreadPoolExecutor(_COMMITTERS, "commit")
        self._earlier_images = 0
        self._earlier_failed = 0
        self._rates = RateMeter()
        self._begun: float | None = None
        self._last_progress = 0.0
        self._last_loop = time.monotonic()
        self._devices: set[str] = set()

    def run(self) -> Outcome:
        """Work until nothing is left, and write the summary."""
        done = self._folder.committed()
        self._totals = self._folder.totals(self._manifest, done)
        earlier = self._totals.sum()
        if self._retrying:
            self._earlier_images, self._earlier_failed = earlier.restored, 0
            # From here on parts are replaced, and nothing that was summed up before holds.
            self._keep(Totals()).result()
        else:
            self._earlier_images, self._earlier_failed = earlier.images, earlier.failed
        # What is left may have to be read from storage first, while the workers want to be heard.
        tasks = Prefetch(self._tasks(done), _PREFETCHED)
        # Should this driver die after its last part, the next one must not take the old summary for its own.
        self._folder.remove_summary()
        try:
            for event in self._pool.run(tasks):
                self._note_time()
                if isinstance(event, TaskResult):
                    self._take(event)
                elif isinstance(event, Quarantined):
                    self._record_quarantined(event)
                self._check_limit()
                self._show_progress()
                self._settle_commits(_MAX_PENDING_COMMITS)
                self._keep_totals()
            for shard, rows in self._breaker.release():
                self._commit(shard, rows)
            self._settle_commits(0)
            if self._retrying:
                self._totals = self._folder.totals(self._manifest)
            elif self._keeping is not None:
                self._keeping.result()
            self._keep(self._totals).result()
            self._show_progress(last=True)
        finally:
            tasks.close()
            self._pool.close()
            if self._metrics is not None:
                self._metrics.close()
            # What is being committed is finished; what has not begun is left to the next session.
            self._committers.shutdown(wait=True, cancel_futures=True)
        return self._outcome()

    # Tasks

    def _tasks(self, done: set[int]) -> Iterator[Task]:
        """Yield what is left to do."""
        if self._retrying:
            yield from self._retries(sorted(done))
        left = (number for number in range(self._plan.num_shards) if number not in done)
        for shard, rows in self._plan.row_counts(left):
            task = Task(shard, tuple(range(rows)))
            self._assembly.begin(task, len(task.rows), {})
            yield task

    def _retries(self, done: list[int]) -> Iterator[Task]:
        def read(shard: int) -> list[Record] | None:
            statistics = read_footer(self._folder.store, shard)[0]
            return self._folder.read(shard) if statistics.restored < statistics.images else None

        for shard, rows in zip(done, ahead(read, done, _READERS), strict=True):
            if rows is None:
                continue
            records = dict(enumerate(rows))
            failed = tuple(row for row, record in records.items() if record.status != "restored")
            attempt = 1 + max(records[row].attempt or 1 for row in failed)
            task = Task(shard, failed, attempt=attempt)
            kept = {row: record for row, record in records.items() if row not in failed}
            self._assembly.begin(task, len(records), kept)
            self._replaced.add(shard)
            yield task

    # Results

    def _take(self, result: TaskResult) -> None:
        self._tally.images += len(result.records)
        self._tally.busy += result.busy_seconds
        self._tally.peak_memory = max(self._tally.peak_memory, result.peak_memory)
        if result.telemetry is not None:
            known = self._tally.telemetry.get(result.device)
            told = result.telemetry
            self._tally.telemetry[result.device] = told if known is None else known + told
        self._tally.failed += sum(record.status == "failed" for record in result.records.values())
        if self._metrics is not None:
            self._metrics.take(result)
        self._add(result.task.shard, result.records)

    def _record_quarantined(self, quarantined: Quarantined) -> None:
        """Record an image that kills or hangs every worker that it is given to."""
        (index,) = quarantined.task.rows
        row = self._plan.shard(quarantined.task.shard)[index]
        kind, message = quarantined.kind, quarantine_reason(quarantined.kind)
        record = Record(
            key=row.key,
            source=row.source,
            status="failed",
            reference=row.reference,
            error_kind=kind.value,
            error=message,
            bytes_in=row.size,
            **self._prepared.recipe.columns(),
            attempt=quarantined.task.attempt,
            finished_at=now(),
        )
        shard = quarantined.task.shard
        self._observer.say(Notice(f"{row.key}: {message}; recorded as {kind.value}", level="error", shard=shard))
        self._tally.images += 1
        self._tally.failed += 1
        if self._metrics is not None:
            self._metrics.record([record])
        self._add(quarantined.task.shard, {index: record})

    def _add(self, shard: int, records: dict[int, Record]) -> None:
        rows = self._assembly.add(shard, records)
        if rows is not None:
            for number, complete in self._breaker.admit(shard, rows):
                self._commit(number, complete)

    def _commit(self, shard: int, rows: list[Record]) -> None:
        self._commits.append((shard, self._committers.submit(self._commit_now, shard, rows)))

    def _commit_now(self, shard: int, rows: list[Record]) -> Statistics:
        return self._folder.commit(
            shard,
            rows,
            self._lease,
            fingerprint=self._fingerprint,
            replace=shard in self._replaced,
            pause=self._faults.pause_before_commit,
        )

    def _settle_commits(self, most: int) -> None:
        """Take in the commits that are done, and wait until at most so many are pending."""
        while self._commits and (len(self._commits) > most or self._commits[0][1].done()):
            shard, commit = self._commits.popleft()
            statistics = commit.result()
            if not self._retrying:
                self._totals.add(shard, statistics)

    def _keep_totals(self) -> None:
        """Write down now and then what is known of the parts, for whoever looks at the run next."""
        due = time.monotonic() - self._last_totals >= _TOTALS_SECONDS
        if self._retrying or not due or (self._keeping is not None and not self._keeping.done()):
            return
        if self._keeping is not None:
            self._keeping.result()
        self._last_totals = time.monotonic()
        self._keeping = self._keep(self._totals)

    def _keep(self, totals: Totals) -> Future[None]:
        identity = "" if self._manifest is None else self._manifest.identity
        return self._committers.submit(write_totals, self._folder.store, self._lease.epoch, totals.to_json(identity))

    def _check_limit(self) -> None:
        if self._config.max_failed is None:
            return
        limit, is_share = parse_max_failed(self._config.max_failed)
        most = limit * self._plan.num_images if is_share else limit
        failed = self._failed()
        if failed > most:
            raise TooManyFailuresError(
                f"{count(failed, 'image')} failed, more than --max-failed {self._config.max_failed} allows; the "
                "records tell why, and the same command with a higher limit goes on"
            )

    # Progress

    def _failed(self) -> int:
        return self._earlier_failed + self._tally.failed

    def _note_time(self) -> None:
        moment = time.monotonic()
        if self._pool.workers:
            self._begun = self._begun or moment
            self._devices |= {one.info.device for one in self._pool.handles if one.info is not None}
        self._tally.worker_seconds += (moment - self._last_loop) * self._pool.workers
        self._last_loop = moment

    def _show_progress(self, *, last: bool = False) -> None:
        moment = time.monotonic()
        if moment - self._last_progress < _PROGRESS_SECONDS and not last:
            return
        self._last_progress = moment
        live = self._tally.images + (0 if last else sum(one.unreported for one in self._pool.handles))
        if self._begun is not None:
            self._rates.note(live, moment)
        done = min(self._plan.num_images, self._earlier_images + live)
        rate = self._rates.run
        progress = RunProgress(
            total=self._plan.num_images,
            done=done,
            failed=self._failed(),
            rate_now=self._rates.now,
            rate_run=rate,
            seconds_left=(self._plan.num_images - done) / rate if rate else None,
            workers=self._pool.workers,
            within=within(image for one in self._pool.handles for image in one.snapshot.in_flight),
        )
        if self._metrics is not None:
            self._metrics.show(progress, self._standing())
        if self._begun is not None:
            self._lease.report(vars(progress))
            self._observer.progress(progress)

    def _standing(self) -> Standing:
        return Standing(
            asked=len(self._pool.handles),
            ready=self._pool.workers,
            shut_out=sum(one.snapshot.waiting is not None for one in self._pool.handles),
            driver_waits=waited_for() is not None,
            waiting=self._pool.queue.waiting,
            again=self._pool.queue.again,
            commits=len(self._commits),
            lease_age=self._lease.age,
            worker_seconds=self._tally.worker_seconds,
        )

    def _outcome(self) -> Outcome:
        tally = self._tally
        outcome = Outcome(
            statistics=self._totals.sum(),
            recipe=self._prepared.recipe,
            plan=self._plan,
            session_images=tally.images,
            seconds=time.monotonic() - self._begun if self._begun is not None else 0.0,
            busy_share=min(1.0, tally.busy / tally.worker_seconds) if tally.worker_seconds else 0.0,
            devices=tuple(sorted(self._devices)),
            peak_memory=tally.peak_memory,
            telemetry=tally.telemetry,
            failed_starts=tuple(self._pool.failed_starts),
            distance=set_distance(self._folder, self._prepared.recipe),
        )
        self._folder.write_summary(outcome.summary())
        return outcome


def set_distance(folder: RunFolder, recipe: Recipe) -> SetDistance | None:
    """Return the distances of a finished run's set, None where it has not asked for them or has too few images."""
    if not recipe.fid_sha256:
        return None
    from mimo_core.metrics.fid.distance import distance, distribution
    from mimo_core.metrics.fid.kernel import kernel_distance

    features = folder.feature_set()
    if len(features) < _FEWEST_FEATURES:
        return None
    references = distribution(features.rows("reference"))
    return SetDistance(
        images=len(features),
        fid=distance(distribution(features.rows("output")), references),
        input_fid=distance(distribution(features.rows("input")), references),
        kid=kernel_distance(features.rows("output"), features.rows("reference"), len(features)),
        input_kid=kernel_distance(features.rows("input"), features.rows("reference"), len(features)),
    )
