"""`mimo report OUTPUT [OUTPUT ...]`: one self-contained page about a run, several runs, or a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.streams import show
from mimo_core.errors import ImageError, SystemFailure
from mimo_core.runs.outputs import REPORT
from mimo_core.wording import size


class ReportConfig(BaseModel):
    """Write one HTML page about the runs in OUTPUT: scores, speed, failures and pictures; it needs no network."""

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "scores",
        "scores other_scores --to comparison.html",
    )

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: tuple[str, ...] = Field(
        min_length=1, description="folder or bucket prefix of a run; several are compared; or one of a sweep"
    )
    to: str | None = Field(None, description=f"file to write (default: {REPORT} in the first OUTPUT)")
    pictures: int = Field(4, ge=0, le=50, description="images shown of each group (best, usual, worst); 0 for none")


def main(argv: Sequence[str]) -> int:
    """Run the job."""
    config = parse(ReportConfig, argv, "mimo report")
    # Arrow, OpenCV and the templates, which `--help` need not load.
    from mimo_core.cli.terminal import Terminal
    from mimo_core.report.build import build_report
    from mimo_core.storage import Store

    console = Terminal(stderr=True, soft_wrap=True)
    with console.status("reading records") as status:
        place, name = _target(config)
        folder = Store(place)
        page = build_report(
            [Store(output) for output in config.output],
            folder,
            config.pictures,
            lambda left: status.update(f"reading pictures, {left} images left" if left else "writing the page"),
        )
        try:
            folder.write(name, page.encode())
        except (ImageError, SystemFailure) as error:
            raise SystemFailure(
                error.kind, f"the page cannot be written: {error}; name another place with --to FILE"
            ) from error
        folder.remove_leftovers()
    show(f"{folder.show(name)} ({size(len(page.encode()))})")
    return OK


def _target(config: ReportConfig) -> tuple[str, str]:
    """Return the folder of the page, and its name there."""
    from mimo_core.storage.names import is_local

    if config.to is None:
        return config.output[0], REPORT
    if is_local(config.to) and "://" not in config.to:
        path = Path(config.to)
        return str(path.parent), path.name
    folder, _, name = config.to.rpartition("/")
    return folder, name
