"""What a sweep is: named data sets, grids of choices, single cells, exclusions and the baseline; one YAML file."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mimo_core.runs.config import EvaluateConfig

Choice = str | int | float | bool | None
Choices = dict[str, Choice]

DATA = "data"
# What the data set, the folder of the sweep or the command decides.
_RESERVED = frozenset({"source", "reference", "output", "mode", "dry_run"})
OPTIONS = tuple(name for name in EvaluateConfig.model_fields if name not in _RESERVED)
"""What a sweep may vary or fix besides the data set: the options of `mimo evaluate`."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", text):
        raise ValueError(f"expected up to 40 letters, digits, '.', '_' or '-', found {text!r}")
    return text


def _underscored(value: Any) -> Any:
    return {str(key).replace("-", "_"): one for key, one in value.items()} if isinstance(value, dict) else value


def _known(choices: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(choices) - {*OPTIONS, DATA})
    if unknown:
        also = " (the data set decides)" if unknown[0] in ("source", "reference") else ""
        raise ValueError(f"no option to vary is named {unknown[0]}{also}")
    return choices


def _fixed(choices: dict[str, Any]) -> dict[str, Any]:
    if DATA in choices:
        raise ValueError(
            "`options` and `baseline` are for all data sets; a cell that is for some names them in `cells` or `grids`"
        )
    return choices


def _listed(value: Any) -> Any:
    return {key: one if isinstance(one, list) else [one] for key, one in value.items()} if _is_map(value) else value


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


_Cell = Annotated[Choices, BeforeValidator(_underscored), AfterValidator(_known)]
_Grid = Annotated[
    dict[str, tuple[Choice, ...]], BeforeValidator(_underscored), BeforeValidator(_listed), AfterValidator(_known)
]
_Options = Annotated[Choices, BeforeValidator(_underscored), AfterValidator(_known), AfterValidator(_fixed)]
_DataName = Annotated[str, AfterValidator(_name)]


class DataSet(BaseModel):
    """A data set by name: where its images and their originals are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="as SOURCE of `mimo evaluate`")
    reference: str | None = Field(None, description="as REFERENCE; SOURCE where that holds both, which is the default")
    limit: int | None = Field(None, ge=1, description="take the first N images only")


class SweepConfig(BaseModel):
    """Evaluate every cell of some grids, each a run of its own, and end in one table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: dict[_DataName, DataSet] = Field(min_length=1, description="the data sets by name")
    grids: tuple[_Grid, ...] = Field(
        (), description="each maps options to lists of values, all of whose combinations are cells; `data` among them"
    )
    cells: tuple[_Cell, ...] = Field((), description="further cells, each a mapping of options to values")
    exclude: tuple[_Grid, ...] = Field(
        (), description="cells with all of these values (or one of each list) are left out"
    )
    options: _Options = Field({}, description="options of `mimo evaluate` for every cell that does not say otherwise")
    baseline: _Options | None = Field(
        None, description="what each cell is compared with: the cell that differs from it in these values alone"
    )

    @model_validator(mode="after")
    def _refuse_what_names_nothing(self) -> "SweepConfig":
        if not self.grids and not self.cells:
            raise ValueError("there are neither grids nor cells")
        single: list[dict[str, tuple[Choice, ...]]] = [
            {key: (one,) for key, one in cell.items()} for cell in self.cells
        ]
        for choices in [*self.grids, *self.exclude, *single]:
            for name in choices.get(DATA, ()):
                if name not in self.data:
                    raise ValueError(f"no data set is named {name!r}; there are {', '.join(self.data)}")
            empty = [key for key, values in choices.items() if not values]
            if empty:
                raise ValueError(f"{empty[0]} has no values")
        return self
