"""The driver of a sweep: one connection to Ray for all cells, which are run one after another."""

from collections.abc import Sequence
from typing import Protocol

from mimo_core.distributed.connection import connect
from mimo_core.distributed.driver import Cluster, dies_here, leased, run
from mimo_core.distributed.execution.execution import TooManyFailuresError
from mimo_core.distributed.observer import Observer
from mimo_core.distributed.workers.ray_scheduler import RayScheduler
from mimo_core.engines.vacc.compiled import is_compiled
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.runs.folder import RunFolder
from mimo_core.sweep.cells import Cell
from mimo_core.sweep.folder import SweepFolder
from mimo_core.sweep.results import Result
from mimo_core.sweep.sweep_config import SweepConfig

# A cell that fails like this says nothing of the next one, which may be smaller or use another device.
_OF_THE_CELL = frozenset({ErrorKind.DEVICE, ErrorKind.OUT_OF_MEMORY})


class SweepObserver(Observer, Protocol):
    """Where the driver of a sweep tells what goes on."""

    def cell(self, cell: Cell, number: int, total: int) -> None:
        """Show that a cell begins, by its number from 1 of all."""

    def result(self, result: Result) -> None:
        """Show what became of it."""


def sweep(config: SweepConfig, cells: Sequence[Cell], folder: SweepFolder, observer: SweepObserver) -> list[Result]:
    """Run the cells that are left, and return the results of all.

    What cannot be run is tried again by the next call; what is finished is not looked at again.

    Raises:
        UsageError: the folder holds something else.
        SystemFailure, LeaseLostError: storage failed as a whole, or another driver took over; it can be resumed.
        KeyboardInterrupt: so too; what is committed stays.
    """
    with leased(RunFolder(folder.store), observer):
        folder.begin(config)
        results = {name: result for name, result in folder.results().items() if result.status == "done"}
        left = [cell for cell in cells if cell.name not in results]
        if left:
            dies = max((dies_here(one) for one in {cell.config.vacc_python for cell in left if _vacc(cell)}), default=0)
            with connect(dies=dies, lost=observer.lost) as connection:
                scheduler = RayScheduler(keeps=True)
                cluster = Cluster(connection, scheduler, dies, keeps_decoded=len(left) > 1)
                for cell in left:
                    observer.cell(cell, cells.index(cell) + 1, len(cells))
                    results[cell.name] = _result(cell, folder, observer, cluster)
                    observer.result(results[cell.name])
                    folder.write(config, cells, results.values())
                scheduler.close()
        return folder.write(config, cells, results.values())


def _result(cell: Cell, folder: SweepFolder, observer: SweepObserver, cluster: Cluster) -> Result:
    try:
        run(cell.config, observer, cluster)
    except (UsageError, TooManyFailuresError) as error:
        return Result(cell.name, cell.choices, "not_run", str(error))
    except SystemFailure as failure:
        if failure.kind not in _OF_THE_CELL:
            raise
        return Result(cell.name, cell.choices, "not_run", str(failure))
    return folder.finish(cell)


def _vacc(cell: Cell) -> bool:
    config = cell.config
    return config.engine == "vacc" or (
        config.engine == "auto" and config.weights is not None and is_compiled(config.weights)
    )
