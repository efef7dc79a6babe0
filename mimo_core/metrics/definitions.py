"""The metrics by name: what each is, and which columns of the records it fills."""

from collections.abc import Sequence
from dataclasses import dataclass

from mimo_core.errors import UsageError

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Metric:
    """A measure of an image against its reference.

    Attributes:
        name: its record column, and what `--metrics` takes.
        definition: one line.
        of_input: whether the input is scored too, in the column `input_NAME`.
    """

    name: str
    definition: str
    of_input: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The record columns that it fills."""
        return (f"input_{self.name}", self.name) if self.of_input else (self.name,)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR in dB over all values of the 8-bit RGB arrays, peak 255"),
        Metric("ssim", "SSIM of the 8-bit RGB arrays: 11x11 Gaussian, sigma 1.5, valid region, mean of the channels"),
        Metric(
            "psnr_float",
            "PSNR in dB of the output as float clipped to 0..1 against the reference, before any rounding, peak 1",
            of_input=False,
        ),
        Metric("psnr_y", "PSNR in dB of BT.601 luma (16..235, not rounded) of the 8-bit RGB arrays, peak 255"),
        Metric(
            "ssim_matlab3d",
            "what MATLAB's ssim gives for 8-bit RGB: 11x11x11 Gaussian over the colours too, borders replicated",
        ),
    )
}
"""Every metric by its name."""


ALL = tuple(METRICS)
"""The names of all metrics, in the order of their columns."""


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names in the order of the columns, each once.

    Raises:
        UsageError: a name that is no metric's.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UsageError(f"there is no metric {', '.join(map(repr, unknown))}; known are {', '.join(ALL)}")
    return tuple(name for name in ALL if name in names)
