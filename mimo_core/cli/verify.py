"""`mimo verify OUTPUT`: every image of the plan has one record, and every output is the file that was written."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import FAILED, OK
from mimo_core.wording import count, size


class VerifyConfig(BaseModel):
    """Check the run in OUTPUT: one record for each image, and each output's SHA-256 as recorded."""

    EXAMPLES: ClassVar[tuple[str, ...]] = ("restored",)

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str = Field(description="folder or bucket prefix of the run")
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
    tally = Verification()
    with console.status("verifying"):
        for defect in verify_run(RunFolder(Store(config.output)), tally):
            if defect is not None and tally.defects <= config.max_shown:
                console.print(f"{defect.key}: {defect.problem}", markup=False)
    if tally.defects > config.max_shown:
        console.print(f"... and {tally.defects - config.max_shown} more")
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
    return FAILED if tally.defects or tally.unrecorded else OK
