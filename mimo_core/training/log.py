"""The log of a training: a CSV file that any plotting program reads, and one line at a time for people."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimo_core.training.validation import Score

NAME = "log.csv"
_COLUMNS = ("step", "minutes", "done", "rate", "loss", "gradient_norm", "crops_per_second", "waited")


@dataclass(frozen=True)
class Progress:
    """One line of the log; loss, gradient norm and speed are means since the last line.

    Attributes:
        step: optimiser steps so far.
        minutes: minutes of training so far, without validation.
        done: share of the length that is done, 0..1.
        rate: learning rate of the last step.
        loss: as configured, summed over the three scales.
        gradient_norm: length of the gradient before it is shortened.
        crops_per_second: over all workers.
        waited: share of the time that training waited for crops.
        scores: of the held-out sets, where they were scored at this line.
    """

    step: int
    minutes: float
    done: float
    rate: float
    loss: float
    gradient_norm: float
    crops_per_second: float
    waited: float
    scores: dict[str, Score] = field(default_factory=dict)

    def __str__(self) -> str:
        scores = "".join(f" | {name} {score.psnr:.2f} dB ({score.gain:+.2f})" for name, score in self.scores.items())
        return (
            f"{100 * self.done:5.1f} %  step {self.step}  loss {self.loss:.4f}  rate {self.rate:.2e}  "
            f"{self.crops_per_second:.1f} crops/s  waited {100 * self.waited:.0f} %{scores}"
        )


class Meter:
    """Sums since the last line of the log."""

    def __init__(self) -> None:
        self.steps, self.loss, self.norm, self.waited, self.elapsed = 0, 0.0, 0.0, 0.0, 0.0

    def add(self, loss: float, norm: float, waited: float, elapsed: float) -> None:
        """Take in one step: its loss and gradient norm, and how long it waited and took in all, in seconds."""
        self.steps += 1
        self.loss += loss
        self.norm += norm
        self.waited += waited
        self.elapsed += elapsed

    def progress(
        self, *, step: int, seconds: float, done: float, rate: float, batch: int, scores: dict[str, Score]
    ) -> Progress:
        """Return the line that these sums make."""
        steps, elapsed = max(self.steps, 1), max(self.elapsed, 1e-9)
        return Progress(
            step=step,
            minutes=seconds / 60.0,
            done=done,
            rate=rate,
            loss=self.loss / steps,
            gradient_norm=self.norm / steps,
            crops_per_second=self.steps * batch / elapsed,
            waited=self.waited / elapsed,
            scores=scores,
        )


class Log:
    """The CSV log: one row every so many steps; a resumed training drops the rows after its checkpoint.

    Args:
        path: the file, rewritten at once without the rows after `step`.
        sets: names of the held-out sets, each with a column for PSNR, gain and SSIM.
        step: the step that the training goes on from.
    """

    def __init__(self, path: Path, sets: list[str], step: int) -> None:
        scores = [f"{name}_{column}" for name in sets for column in ("psnr", "gain", "ssim")]
        kept: list[dict[str, Any]] = []
        if step and path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, [*_COLUMNS, *scores], restval="", extrasaction="ignore")
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()

    def write(self, line: Progress) -> None:
        """Append a row; it is in the file when this returns."""
        row: dict[str, object] = {
            "step": line.step,
            "minutes": f"{line.minutes:.3f}",
            "done": f"{line.done:.5f}",
            "rate": f"{line.rate:.4g}",
            "loss": f"{line.loss:.6f}",
            "gradient_norm": f"{line.gradient_norm:.5g}",
            "crops_per_second": f"{line.crops_per_second:.3f}",
            "waited": f"{line.waited:.4f}",
        }
        for name, score in line.scores.items():
            row |= {f"{name}_psnr": f"{score.psnr:.4f}", f"{name}_gain": f"{score.gain:.4f}"}
            row[f"{name}_ssim"] = f"{score.ssim:.5f}"
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def last_step(folder: Path) -> int:
    """Return the last step that the log in a training's folder tells of."""
    with (folder / NAME).open(newline="") as file:
        return max((int(row["step"]) for row in csv.DictReader(file)), default=0)
