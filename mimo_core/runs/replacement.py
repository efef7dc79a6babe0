"""Starting over: the new plan is made whole beside the old run, and only then is that run deleted.

OUTPUT/replacement/plan/ holds the new plan, OUTPUT/replacement/run.json what the new run is. Once the old run is gone,
OUTPUT/run.json becomes the new one; from then on the move of the plan to its place is finished by whoever resumes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from mimo_core.errors import UsageError
from mimo_core.runs.folder import NAME, RunFolder, RunManifest
from mimo_core.runs.plan import COMMIT, Plan, PlanFile, read_plan, shard_keys
from mimo_core.storage import Store

FOLDER = "replacement"
_THREADS = 16
_AT_ONCE = 256


def replace_run(folder: RunFolder, manifest: RunManifest, write: Callable[[Store], Plan]) -> Plan:
    """Put a new run in the place of the one that is there, and return its plan. Needs the lease.

    Args:
        folder: of the run.
        manifest: what the new run is.
        write: writes the new plan into the store that it is given.

    Raises:
        UsageError: no plan can be made of the source; the old run stays as it is.
        SystemFailure: storage fails; before the new plan is whole, the old run stays as it is.
    """
    staged = _staged(folder)
    discard_replacement(folder)
    try:
        write(staged.store)
    except UsageError:
        discard_replacement(folder)
        raise
    staged.begin(manifest)
    folder.erase()
    folder.begin(manifest)
    plan = finish_replacement(folder)
    assert plan is not None
    return plan


def finish_replacement(folder: RunFolder) -> Plan | None:
    """Move a plan whose run has begun to its place, and return it; None where there is no such plan."""
    staged = _staged(folder)
    manifest, plan = staged.manifest(), read_plan(staged.store)
    if plan is None or manifest is None or manifest != folder.manifest():
        return None

    def move(file: PlanFile) -> None:
        folder.store.write(file.name, staged.store.read(file.name), private=plan.signed)

    with ThreadPoolExecutor(_THREADS) as pool:
        files = plan.all_files()
        while some := list(islice(files, _AT_ONCE)):
            list(pool.map(move, some))
    folder.store.write(COMMIT, staged.store.read(COMMIT))
    discard_replacement(folder)
    return read_plan(folder.store)


def discard_replacement(folder: RunFolder) -> None:
    """Remove a plan that was made to start over and is not needed, or no longer."""
    store, staged = folder.store, _staged(folder).store
    if next(staged.list(), None) is None:
        return
    staged.remove_leftovers()
    store.delete_many([f"{FOLDER}/{NAME}", f"{FOLDER}/{COMMIT}"])
    store.delete_many(f"{FOLDER}/{key}" for key in shard_keys(staged))


def _staged(folder: RunFolder) -> RunFolder:
    return RunFolder(Store(folder.store.url_of(FOLDER)))
