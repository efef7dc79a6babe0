"""The page itself: everything that is known of the runs, put into the templates, with all it needs inside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mimo_core.report.charts import Chart
from mimo_core.report.image_table import ImageTable
from mimo_core.wording import share

_TEMPLATES = Path(__file__).parent / "templates"
# The major version of Vega-Lite that the charts are written for.
_VEGA_LITE = "6.1"


@dataclass(frozen=True)
class Tile:
    """A figure of the summary: what it is, its value, and a line below it."""

    label: str
    value: str
    detail: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Table:
    """A table of text; `numbers` are the columns that are aligned to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Failures:
    """Records of one kind of error: how many, as a share of all images (0..1), and the first of them.

    Not all of them failed: an image without its reference is not scored, but restored or skipped.
    """

    kind: str
    failed: bool
    count: int
    total: int
    examples: tuple[tuple[str, str], ...]

    @property
    def share(self) -> float:
        """How many of all images these are, 0..1."""
        return self.count / max(1, self.total)


@dataclass(frozen=True)
class Picture:
    """A layer of a card: its name, what people call it, and its data URI."""

    name: str
    label: str
    uri: str


@dataclass(frozen=True)
class Card:
    """An image with its pictures and the scores below it."""

    key: str
    width: int
    height: int
    pictures: tuple[Picture, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    scores: Table
    problems: tuple[str, ...]

    def picture(self, name: str) -> Picture:
        """Return the layer of this name."""
        return next(one for one in self.pictures if one.name == name)


@dataclass(frozen=True)
class Gallery:
    """Cards under a title."""

    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Section:
    """A part of the page: what is in it comes in the order of the fields; empty ones are left out."""

    name: str
    title: str
    text: str = ""
    command: str = ""
    notes: tuple[str, ...] = ()
    table: Table | None = None
    charts: tuple[Chart, ...] = ()
    failures: tuple[Failures, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    images: ImageTable | None = None
    details: tuple[tuple[str, Table], ...] = ()


@dataclass(frozen=True)
class Page:
    """All that a report says."""

    title: str
    subtitle: str
    made: str
    tiles: tuple[Tile, ...]
    notes: tuple[str, ...] = ()
    sections: tuple[Section, ...] = field(default=())


def render(page: Page) -> str:
    """Return the page as HTML that needs nothing from anywhere, and is allowed nothing by its own policy."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts = [chart for section in page.sections for chart in section.charts]
    images = next((section.images for section in page.sections if section.images is not None), None)
    scripts = [_source("theme.js"), _source("compare.js"), _source("save.js")]
    if images is not None:
        scripts.append(_source("table.js"))
    if charts:
        scripts += [_vega(), _source("charts.js")]
    return environment.get_template("report.html").render(
        page=page,
        style=Markup(_source("style.css")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
        data=Markup(
            _json(
                {
                    chart.name: {"spec": chart.spec, "rows": chart.rows, "columns": chart.columns if images else {}}
                    for chart in charts
                }
            )
        ),
        packed=images.packed if images is not None else "",
        share=share,
    )


def _policy(scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy: these very scripts, styles and pictures of the page, and no network."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in, whatever keys it holds."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _vega() -> str:
    import vl_convert

    return _inline(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VEGA_LITE))


def _source(name: str) -> str:
    return _inline((_TEMPLATES / name).read_text(encoding="utf-8"))


def _inline(text: str) -> str:
    """Return text that a browser reads back unchanged from within an element, so that its hash is right."""
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")
