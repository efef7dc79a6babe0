"""`mimo verify OUTPUT`: every image has one record, every output is the file that was written, or is made again."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import FAILED, OK
from mimo_core.wording import count, size

if TYPE_CHECKING:
    from mimo_core.cli.terminal import Terminal
    from mimo_core.runs.inspection import Defect


class VerifyConfig(BaseModel):
    """Check the run in OUTPUT: one record for each image, and each output's SHA-256 as recorded.

    With --reproduce a sample is restored again by the run's recipe; that needs its sources, its weights and its kind of
    device.
    """

    EXAMPLES: ClassVar[tuple[str, ...]] = ("restored", "restored --reproduce 1000")

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str = Field(description="folder or bucket prefix of the run")
    reproduce: int = Field(0, ge=0, description="also restore N images, taken at random, again, and compare the bytes")
    seed: int = Field(0, ge=0, description="of chance; the same one takes the same images")
    max_shown: int = Field(20, ge=0, description="show this many defects")


def main(argv: Sequence[str]) -> int:
    """Run the job; the exit code is 1 if anything is not as the records say, or not recorded yet."""
    config = parse(VerifyConfig, argv, "mimo verify")
    # NumPy and Arrow, which `--help` need not load.
    from mimo_core.cli.terminal import Terminal
    from mimo_core.runs.folder import RunFolder
    from mimo_core.runs.inspection import Verification, verify_run
    from mimo_core.storage import Store

    console = Terminal(soft_wrap=True)
    folder, tally = RunFolder(Store(config.output)), Verification()
    with console.status("verifying"):
        _show(console, verify_run(folder, tally), config.max_shown)
    console.print(
        f"{count(tally.images, 'image')} of the plan, {count(tally.outputs, 'output')} hashed ({size(tally.bytes)}), "
        f"{count(tally.defects, 'defect')}",
        markup=False,
    )
    if tally.unrecorded:
        console.print(
            f"the run is not finished: {count(tally.unrecorded, 'image')} of the plan without a record yet; the "
            "command that began it goes on",
            markup=False,
        )
    failed = bool(tally.defects or tally.unrecorded)
    if config.reproduce:
        # The engines, which verifying alone need not load.
        from mimo_core.inference.reproduction import Reproduction, reproduce

        again = Reproduction()
        with console.status("restoring again"):
            _show(console, reproduce(folder, config.reproduce, config.seed, again), config.max_shown)
        console.print(f"{count(again.images, 'image')} restored again, {again.equal} with the same bytes", markup=False)
        failed = failed or again.equal < again.images
    return FAILED if failed else OK


def _show(console: "Terminal", defects: "Iterable[Defect | None]", most: int) -> None:
    """Print defects as they are found, and how many more there were."""
    found = 0
    for defect in defects:
        if defect is None:
            continue
        found += 1
        if found <= most:
            console.print(f"{defect.key}: {defect.problem}", markup=False)
    if found > most:
        console.print(f"... and {found - most} more")
