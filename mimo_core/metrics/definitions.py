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
        of_values: whether it is that of the output before it is rounded.
    """

    name: str
    definition: str
    of_input: bool = True
    of_values: bool = False

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
            of_values=True,
        ),
        Metric("psnr_y", "PSNR in dB of BT.601 luma (16..235, not rounded) of the 8-bit RGB arrays, peak 255"),
        Metric(
            "ssim_matlab3d",
            "what MATLAB's ssim gives for 8-bit RGB: 11x11x11 Gaussian over the colours too, borders replicated",
        ),
    )
}
"""The metrics that every evaluation has unless it asks for fewer, by name."""


@dataclass(frozen=True)
class Protocol:
    """Whose scores are to be repeated, to the last step.

    Attributes:
        metrics: what they are, in the order of their columns.
        size: (height, width) that input and reference are resized to where nothing else is asked for; None where they
            keep their own.
        of_files: whether it scores images as they are saved.
    """

    metrics: tuple[Metric, ...]
    size: tuple[int, int] | None
    of_files: bool


PROTOCOLS = {
    "zoo": Protocol(
        (
            Metric(
                "psnr_zoo",
                "the model zoo's PSNR in dB: the unrounded output in 0..255 plus half a level, against 8 bits",
                of_input=False,
                of_values=True,
            ),
            Metric("ssim_zoo", "the model zoo's SSIM: of the same values", of_input=False, of_values=True),
        ),
        (360, 640),
        False,
    ),
    "reference": Protocol((METRICS["psnr_float"],), None, False),
    "realblur": Protocol(
        (
            Metric(
                "psnr_realblur",
                "RealBlur's PSNR in dB: of the 8-bit output after its intensity and position are matched (ECC)",
                of_input=False,
            ),
            Metric("ssim_realblur", "RealBlur's SSIM: likewise", of_input=False),
        ),
        None,
        True,
    ),
}
"""The protocols by name."""

EVERY = METRICS | {metric.name: metric for protocol in PROTOCOLS.values() for metric in protocol.metrics}
"""Every metric by its name, those of protocols last."""


INDICATIONS = {
    metric.name: metric
    for metric in (
        Metric(
            "sharpness", "energy of fine gradients by that of coarse ones, in dB; an indication, no measure of truth"
        ),
        Metric("piqe", "PIQE, 0 (good) to 100, of this program's own; an indication, no measure of truth"),
    )
}
"""What needs no reference (`--indications`), by name."""

DEFINITIONS = EVERY | INDICATIONS
"""All that records may hold, by name."""

ALL = tuple(METRICS)
"""The names of the metrics that every evaluation has, in the order of their columns."""


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names in the order of the columns, each once.

    Raises:
        UsageError: a name that is no metric's.
    """
    unknown = [name for name in names if name not in EVERY]
    if unknown:
        raise UsageError(f"there is no metric {', '.join(map(repr, unknown))}; known are {', '.join(EVERY)}")
    return tuple(name for name in EVERY if name in names)


def need_values(names: Sequence[str]) -> bool:
    """Return whether any of the metrics is that of the output before it is rounded."""
    return any(EVERY[name].of_values for name in names)
