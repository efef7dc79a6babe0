"""What a notebook shows of restored images: before and after beside each other, in HTML that needs nothing else."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from mimo_core.errors import ImageError, MimoError, UsageError
from mimo_core.images.codecs import decode, model_input
from mimo_core.images.pixels import Pixels8, as_8bit
from mimo_core.storage import read_url
from mimo_core.wording import count

if TYPE_CHECKING:
    import pyarrow as pa

_SIDE = 420
"""Pixels that a picture has at most on a side."""
_QUALITY = 85
_SHOWN, _NAMED = 3, 20
_ROW = '<div style="display:flex;flex-wrap:wrap;gap:8px;margin:4px 0">{}</div>'
_FIGURE = (
    '<figure style="margin:0"><img alt="{0}" src="data:image/jpeg;base64,{1}" style="display:block;max-width:100%">'
    '<figcaption style="font-size:smaller">{0}</figcaption></figure>'
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two images of one size, (H, W, 3) RGB of 8 bits; a notebook shows them beside each other.

    Of larger ones it shows the whole, shrunk, and at full size the part that changed most.
    """

    before: Pixels8
    after: Pixels8

    def __post_init__(self) -> None:
        """Refuse images of different sizes."""
        if self.before.shape != self.after.shape:
            sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in (self.before, self.after))
            raise UsageError(f"images that are compared have one size, not {sizes}")

    def _repr_html_(self) -> str:
        height, width = self.before.shape[:2]
        pairs = [("before", self.before), ("after", self.after)]
        if max(height, width) <= _SIDE:
            return _row(pairs)
        scale = _SIDE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = [(name, cast(Pixels8, cv2.resize(one, size, interpolation=cv2.INTER_AREA))) for name, one in pairs]
        return _row(small) + self.detail()

    def detail(self) -> str:
        """Return HTML of the part that changed most, at full size."""
        top, left = self._most_changed()
        part = np.s_[top : top + _SIDE * 2 // 3, left : left + _SIDE]
        return _row([("before, detail", self.before[part]), ("after, detail", self.after[part])])

    def _most_changed(self) -> tuple[int, int]:
        height, width = (min(one, most) for one, most in zip(self.before.shape, (_SIDE * 2 // 3, _SIDE), strict=False))
        change: Any = cv2.absdiff(self.before, self.after).max(axis=2)
        sums: Any = cv2.integral(change)
        windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
        top, left = np.unravel_index(int(np.argmax(windows)), windows.shape)
        return int(top), int(left)


@dataclass(frozen=True)
class RestoredFile:
    """A file that was restored and what was written of it: paths or URLs; a notebook shows both.

    Attributes:
        source: the file.
        output: what was written.
    """

    source: str
    output: str

    def comparison(self) -> Comparison:
        """Return both as a viewer shows them, the first page of each.

        Raises:
            ImageError, SystemFailure: one of them is not there any more, or cannot be read.
        """
        return Comparison(seen(self.source), seen(self.output))

    def _repr_html_(self) -> str:
        return _shown(self, detail=False)


@dataclass(frozen=True)
class RestoredFolder:
    """What became of a folder: its restored files, and the errors of the others, by their relative paths.

    Attributes:
        source: the folder or prefix that was read.
        output: where the outputs are.
        files: those that were restored.
        failed: those that were not, and why.
    """

    source: str
    output: str
    files: Mapping[str, RestoredFile]
    failed: Mapping[str, ImageError]

    def table(self) -> pa.Table:
        """Return one row an image, in the order of their names: `key`, `status`, `output`, `error_kind` and `error`.

        The columns are named as in the records of a run; `.to_pandas()` makes it a data frame where pandas is there.
        """
        import pyarrow as pa

        rows = [
            {
                "key": key,
                "status": "failed" if (error := self.failed.get(key)) else "restored",
                "output": None if error else self.files[key].output,
                "error_kind": error.kind.value if error else None,
                "error": str(error) if error else None,
            }
            for key in sorted((*self.files, *self.failed))
        ]
        names = ("key", "status", "output", "error_kind", "error")
        return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))

    def _repr_html_(self) -> str:
        parts = [f"<p>{count(len(self.files), 'image')} restored into <code>{escape(self.output)}</code>"]
        if self.failed:
            kinds = Counter(error.kind.value for error in self.failed.values())
            told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
            parts.append(f", {len(self.failed)} failed ({told})")
        parts.append("</p>")
        for key, error in list(self.failed.items())[:_NAMED]:
            parts.append(f"<div><code>{escape(key)}</code>: {escape(str(error))}</div>")
        parts += [_shown(file, detail=True) for file in list(self.files.values())[:_SHOWN]]
        others = len(self.files) - _SHOWN
        return "".join(parts) + (f"<p>... and {others} more</p>" if others > 0 else "")


def seen(place: str) -> Pixels8:
    """Return a file as a viewer shows it, its first page: (H, W, 3) RGB, uint8."""
    return as_8bit(model_input(decode(read_url(place)[0], pages="first")))


def _shown(file: RestoredFile, *, detail: bool) -> str:
    """What a notebook shows of files that may be gone by now: a notebook's output must not be an error for that."""
    title = f"<div><code>{escape(file.source)}</code> &rarr; <code>{escape(file.output)}</code></div>"
    try:
        comparison = file.comparison()
    except MimoError as error:
        return f"{title}<div>{escape(str(error))}</div>"
    return title + (comparison.detail() if detail else comparison._repr_html_())


def _row(pictures: list[tuple[str, Pixels8]]) -> str:
    return _ROW.format("".join(_FIGURE.format(name, _encoded(pixels)) for name, pixels in pictures))


def _encoded(pixels: Pixels8) -> str:
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return base64.b64encode(data.tobytes()).decode()
