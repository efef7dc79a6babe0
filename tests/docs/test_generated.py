"""The pages docs/records.md and docs/options.md say what the code says; run this file to write them anew."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from mimo_core.cli.report import ReportConfig
from mimo_core.cli.sweep import SweepArguments
from mimo_core.errors import ErrorKind
from mimo_core.runs.config import EvaluateConfig, RestoreConfig
from mimo_core.runs.record import STATUSES
from mimo_core.runs.records import SCHEMA_VERSION, describe_columns
from mimo_core.training.train_config import TrainConfig
from mimo_core.wording import option

JOBS = {
    "mimo restore SOURCE OUTPUT": RestoreConfig,
    "mimo evaluate SOURCE REFERENCE OUTPUT": EvaluateConfig,
    "mimo report OUTPUT [OUTPUT ...]": ReportConfig,
    "mimo sweep SWEEP OUTPUT": SweepArguments,
    "mimo train OUTPUT": TrainConfig,
}
DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTE = "<!-- Written by tests/docs/test_generated.py; do not edit. -->\n"

KINDS = {
    "not_found": "the source is not there, or a link that leads nowhere",
    "no_permission": "the source may not be read",
    "storage": "reading failed although it was tried again",
    "empty": "the file has no bytes",
    "not_an_image": "the content is no image of a known format, or no regular file",
    "truncated": "the file ends early or is damaged",
    "unsupported": "an image of a kind that is not read, or that the output's container cannot hold; the text names it",
    "too_large": "more pixels than `--max-pixels`",
    "changed": "the source is not the one that was planned",
    "reference_missing": "there is no reference: restored, but not scored; left out of an evaluation (`skipped`)",
    "reference_colours": "image and reference have different colour profiles: restored, and scored as the values stand",
    "reference_size": "the reference has another size: restored, but not scored; `failed` in an evaluation",
    "little_to_gain": "left out (`skipped`), as `--minimum-gain` or `--skip-sharp` asks for; the text says why",
    "out_of_memory": "not even the smallest tiles fit, or a worker was killed for want of memory though it was alone",
    "device": "the device failed on this image",
    "crashed_worker": "its worker died on this image alone, three times, at last when nothing else ran",
    "timeout": "its worker made no progress on this image, twice",
    "write": "the output could not be written",
    "internal": "a defect of this program; the text names the place",
}


def records_page() -> str:
    lines = [
        NOTE,
        "# Records\n",
        f"One row an image, in `OUTPUT/records/part-*.parquet` (zstd). Schema version {SCHEMA_VERSION}, in the files' "
        "metadata as `mimo.schema_version`,\nwith the lease's epoch, the run's fingerprint and the part's statistics. "
        "A column is null where it does not apply.\n",
        "| column | type | meaning |",
        "|---|---|---|",
        *(f"| `{column['name']}` | {column['type']} | {column['description']} |" for column in describe_columns()),
        "",
        f"`status` is one of {', '.join(f'`{status}`' for status in STATUSES)}.\n",
        "| `error_kind` | meaning |",
        "|---|---|",
        *(f"| `{kind.value}` | {KINDS[kind.value]} |" for kind in ErrorKind),
    ]
    return "\n".join(lines) + "\n"


def choices(annotation: object) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def options_page() -> str:
    lines = [
        NOTE,
        "# Options\n",
        "The same names, with `_` or `-`, may stand in the file of `--config FILE.yaml`; the command line wins.",
    ]
    for title, config in JOBS.items():
        lines += [f"\n## `{title}`\n", "| option | default | meaning |", "|---|---|---|", *option_rows(config)]
    return "\n".join(lines) + "\n"


def option_rows(config: type[BaseModel]) -> Iterator[str]:
    # What must be given comes first, as on the command line.
    for name, field in sorted(config.model_fields.items(), key=lambda item: not item[1].is_required()):
        default = {True: "yes", False: "no"}[field.default] if isinstance(field.default, bool) else field.default
        shown = "" if default in (None, (), "") else f"`{default}`"
        title = name.upper() if field.is_required() else option(name)
        values = [f"`{value}`" for value in choices(field.annotation)]
        text = (field.description or "").replace("%%", "%") + (f": {', '.join(values)}" if values else "")
        yield f"| `{title}` | {'' if field.is_required() else shown} | {text} |"


PAGES = {"records.md": records_page, "options.md": options_page}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `python tests/docs/test_generated.py`"


def test_every_error_kind_is_explained() -> None:
    assert set(KINDS) == {kind.value for kind in ErrorKind}


if __name__ == "__main__":
    for page, render in PAGES.items():
        (DOCS / page).write_text(render(), encoding="utf-8")
