"""`mimo status OUTPUT`: how far a run is, from any machine, while it works or after."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK, SOME_FAILED
from mimo_core.errors import ErrorKind
from mimo_core.wording import CHANGED_REMEDY, duration

if TYPE_CHECKING:
    from mimo_core.runs.inspection import RunStatus
    from mimo_core.storage import Store


# A driver tells every five seconds.
_LOOK_SECONDS = 2.0


class StatusConfig(BaseModel):
    """Show how far the run in OUTPUT is, from its folder alone; nothing is changed."""

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "restored",
        "s3://restored/2019 --watch",
        "s3://restored/2019 --as-json",
    )

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str = Field(description="folder or bucket prefix of the run")
    as_json: bool = Field(False, description="print one JSON document")
    watch: bool = Field(False, description="show workers, speed, failures and time left for as long as a driver works")

    @model_validator(mode="after")
    def _refuse_both(self) -> StatusConfig:
        if self.watch and self.as_json:
            raise ValueError("--watch is for people; for a program, ask again now and then with --as-json")
        return self


def main(argv: Sequence[str]) -> int:
    """Run the job; the exit code is 3 for a finished run in which images failed or were left out, else 0."""
    config = parse(StatusConfig, argv, "mimo status")
    # NumPy and Arrow, which `--help` need not load.
    from mimo_core.runs.folder import RunFolder
    from mimo_core.runs.inspection import run_status
    from mimo_core.storage import Store

    store = Store(config.output)
    if config.watch:
        _watch(store)
    status = run_status(RunFolder(store), time.time())
    if config.as_json:
        print(json.dumps(_document(status), indent=1))
    else:
        show_status(status, str(store))
    statistics = status.statistics
    return SOME_FAILED if status.state == "finished" and statistics.amiss else OK


def _watch(store: Store) -> None:
    """Show what the driver says of its progress, until none works on the run."""
    from dataclasses import fields

    from mimo_core.cli.display import Display
    from mimo_core.inference.progress import RunProgress
    from mimo_core.runs.inspection import seen_alive
    from mimo_core.runs.lease import read_lease

    known = {field.name for field in fields(RunProgress)}
    with Display() as display:
        while (driver := read_lease(store)) is not None and seen_alive(driver, time.time()):
            told = {name: value for name, value in driver["progress"].items() if name in known}
            if told:
                display.progress(RunProgress(**told))
            else:
                display.phase(f"a driver on {driver['host']} prepares the run")
            time.sleep(_LOOK_SECONDS)


def _document(status: RunStatus) -> dict[str, object]:
    plan = status.plan
    return {
        "state": status.state,
        "images": plan.num_images if plan is not None else None,
        "shards": plan.num_shards if plan is not None else None,
        "shards_done": status.shards_done,
        "records": status.statistics.to_json(),
        "driver": status.driver,
        "driver_age_seconds": status.driver_age,
        "recipe": status.manifest.recipe.model_dump(mode="json") if status.manifest is not None else None,
    }


def show_status(status: RunStatus, place: str) -> None:
    """Print how far the run at a place is."""
    from rich.markup import escape
    from rich.table import Table

    from mimo_core.cli.terminal import Terminal

    console = Terminal()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_row("state", status.state)
    statistics, plan = status.statistics, status.plan
    if plan is not None:
        share = 100 * statistics.images / plan.num_images
        table.add_row("committed", f"{statistics.images}/{plan.num_images} images ({share:.1f}%)")
        table.add_row("shards", f"{status.shards_done}/{plan.num_shards}")
    table.add_row("restored", str(statistics.restored))
    table.add_row("failed", _counted(statistics.failed, statistics.error_kinds))
    if statistics.left_out:
        table.add_row("left out", str(statistics.left_out))
    if skipped := statistics.skipped - statistics.left_out:
        no_skips = (ErrorKind.REFERENCE_COLOURS, ErrorKind.LITTLE_TO_GAIN)
        kinds = {kind: number for kind, number in statistics.notes.items() if kind not in no_skips}
        table.add_row("skipped", _counted(skipped, kinds))
    if status.manifest is not None:
        table.add_row("model", escape(status.manifest.recipe.described()))
    if status.driver is not None and status.driver_age is not None:
        driver = status.driver
        seen = f"process {driver['pid']} on {driver['host']}"
        if status.state in ("working", "planning"):
            table.add_row("driver", f"{seen}, last heard of {duration(math.ceil(status.driver_age))} ago")
            for name, value in _live(driver.get("progress", {})):
                table.add_row(name, value)
        else:
            table.add_row("last driver", f"{seen}, {duration(math.ceil(status.driver_age))} ago")
    console.print_table(table)
    for failure in statistics.first_failures:
        console.print(f"  {failure.key}: {failure.error_kind}: {failure.error}", markup=False, soft_wrap=True)
    for line in _next(status, place):
        console.print(line, markup=False, soft_wrap=True)


def _next(status: RunStatus, place: str) -> tuple[str, ...]:
    """Return in words what is to be done about the run, with the command; nothing where nothing is."""
    from mimo_core.runs.command import command_of

    if status.state == "interrupted":
        text, mode = "no driver works on this run; the command that began it goes on from here", "resume"
    elif status.state == "finished" and set(status.statistics.error_kinds) == {ErrorKind.CHANGED}:
        return (f"the failed files are not those that were planned: {CHANGED_REMEDY}",)
    elif status.state == "finished" and status.statistics.failed:
        text, mode = "once the causes are mended, this tries the failed images again", "retry-failed"
    else:
        return ()
    if status.manifest is None:
        return (text,)
    return f"{text}:", f"  {command_of(status.manifest, place, mode)}"


def _counted(number: int, kinds: dict[str, int]) -> str:
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{number} ({told})" if told else str(number)


def _live(progress: dict[str, Any]) -> list[tuple[str, str]]:
    if not progress.get("total"):
        return []
    rows = [
        ("in progress", f"{progress['done']:.0f}/{progress['total']:.0f} images, {progress['failed']:.0f} failed"),
        ("speed", f"{progress['rate_now']:.3g} images/s now, {progress['rate_run']:.3g} over the run"),
        ("workers", f"{progress['workers']:.0f}"),
    ]
    if progress.get("within"):
        from rich.markup import escape

        rows.append(("at work on", escape(progress["within"])))
    if progress.get("seconds_left") is not None:
        rows.append(("time left", duration(math.ceil(progress["seconds_left"]))))
    return rows
