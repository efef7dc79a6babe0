"""The table at the end of a run."""

import shlex

from rich.markup import escape
from rich.table import Table

from mimo_core.cli.terminal import BAD, GOOD, NEXT, Terminal, tables
from mimo_core.datasets.left_aside import describe
from mimo_core.distributed.outcome import Outcome
from mimo_core.errors import ErrorKind
from mimo_core.images.scales import FULL
from mimo_core.metrics.fid.vectors import RELIABLE
from mimo_core.runs.config import RunConfig
from mimo_core.runs.statistics import STAGES, Mean, Statistics
from mimo_core.wording import CHANGED_REMEDY, count, duration, most_first, significant, size


def print_outcome(outcome: Outcome, config: RunConfig) -> None:
    """Print what became of the run to standard output."""
    console = tables()
    statistics, recipe = outcome.statistics, outcome.recipe
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_row("images", _counts(statistics), style=BAD if statistics.failed else GOOD)
    table.add_row("session", _session(outcome))
    table.add_row("stages", _stages(statistics))
    for label, line in scores_of(statistics):
        table.add_row(label, line)
    if outcome.distance is not None:
        distance = outcome.distance
        gain = distance.fid - distance.input_fid
        line = f"{distance.input_fid:.2f} -> {distance.fid:.2f} ({gain:+.2f}), of {count(distance.images, 'image')}"
        table.add_row("FID", line)
        if distance.kid is not None and distance.input_kid is not None:
            before, after = (1000 * value for value in (distance.input_kid, distance.kid))
            table.add_row("KID", f"{before:.2f} -> {after:.2f} ({after - before:+.2f}), times 1000")
    table.add_row("model", escape(recipe.described(", ".join(outcome.devices))))
    if recipe.scales != FULL and (taken := statistics.scales_taken()):
        table.add_row("scales", taken)
    if told := statistics.left_out_told():
        table.add_row("left out", told)
    table.add_row("data", f"{size(statistics.bytes_in)} read, {size(statistics.bytes_out)} written")
    if outcome.peak_memory:
        table.add_row("memory", f"{size(outcome.peak_memory)} at most in a worker")
    if outcome.telemetry:
        table.add_row("devices", _devices(outcome))
    place = config.output.rstrip("/")
    if recipe.saves_images:
        table.add_row("outputs", escape(f"{place}/images"))
    table.add_row("records", escape(f"{place}/records"))
    table.add_row("next", escape(f"mimo report {shlex.quote(place)}"), style=NEXT)
    console.print_table(table)
    for reason in outcome.failed_starts:
        console.print(f"\nnote: a worker could not start, and the run went on without it: {reason}", markup=False)
    if outcome.distance is not None and outcome.distance.images < RELIABLE:
        console.print(
            f"\nnote: FID over {outcome.distance.images} images is biased upwards; compare it only with FIDs over the "
            f"same images ({RELIABLE} are the least for one that can stand alone)",
            markup=False,
        )
    if recipe.fid_sha256 and outcome.distance is None:
        console.print("\nnote: FID needs at least two images with features", markup=False)
    _print_failures(console, statistics)
    for kind, number in statistics.notes.items():
        if kind == ErrorKind.LITTLE_TO_GAIN:
            continue
        what = "left out" if recipe.evaluates else "restored but not scored"
        what = "scored across colour profiles" if kind == ErrorKind.REFERENCE_COLOURS else what
        console.print(f"note: {count(number, 'image')} {what}: {kind}", markup=False)
    _print_first_failures(console, statistics)
    if statistics.suspects:
        kept = "; their originals were kept" if recipe.guard == "keep-original" else ""
        console.print(
            f"note: {count(statistics.suspects, 'image')} changed as restorations do not{kept}; see the records' "
            "column `suspect`",
            markup=False,
        )
    if outcome.plan.aside:
        console.print(f"note: {describe(outcome.plan.aside)}", markup=False)
    if statistics.lost:
        told = ", ".join(f"{what} ({count(number, 'image')})" for what, number in most_first(statistics.lost))
        console.print(f"note: not carried over into the outputs: {told}; see the records' column `lost`", markup=False)


def _counts(statistics: Statistics) -> str:
    parts = [f"{statistics.restored} restored", f"{statistics.failed} failed"]
    if statistics.left_out:
        parts.append(f"{statistics.left_out} left out")
    if statistics.skipped > statistics.left_out:
        parts.append(f"{statistics.skipped - statistics.left_out} skipped")
    if statistics.fallbacks:
        parts.append(f"{statistics.fallbacks} in smaller pieces for want of memory")
    return ", ".join(parts)


def _session(outcome: Outcome) -> str:
    if not outcome.session_images:
        return "nothing was left to do"
    speed = outcome.session_images / outcome.seconds if outcome.seconds else 0.0
    return (
        f"{count(outcome.session_images, 'image')} in {duration(outcome.seconds)}, {significant(speed)} images/s, "
        f"computing {100 * outcome.busy_share:.0f}% of the time"
    )


def _stages(statistics: Statistics) -> str:
    total = sum(statistics.stage_ms.values())
    if not total:
        return "-"
    shares = ((stage, 100 * statistics.stage_ms.get(stage, 0.0) / total) for stage in STAGES)
    return ", ".join(f"{stage} {share:.0f}%" for stage, share in shares)


def _devices(outcome: Outcome) -> str:
    told = list(outcome.telemetry.values())
    together = sum(told[1:], told[0])
    return (
        f"{count(len(told), 'device')}: {together.temperature:.0f} °C at most, {together.power:.1f} W and "
        f"{together.utilisation:.0f}% utilisation on average, {size(together.memory)} at most on one"
    )


def scores_of(statistics: Statistics) -> list[tuple[str, str]]:
    """Return label and text of each score that images have."""
    rows = []
    for label, before, after, unit, digits in (
        ("PSNR", "input_psnr", "psnr", " dB", 2),
        ("PSNR of float", "", "psnr_float", " dB", 2),
        ("PSNR of luma", "input_psnr_y", "psnr_y", " dB", 2),
        ("SSIM", "input_ssim", "ssim", "", 4),
        ("SSIM as MATLAB", "input_ssim_matlab3d", "ssim_matlab3d", "", 4),
        ("PSNR of the zoo", "", "psnr_zoo", " dB", 3),
        ("SSIM of the zoo", "", "ssim_zoo", "", 4),
        ("PSNR of RealBlur", "", "psnr_realblur", " dB", 3),
        ("SSIM of RealBlur", "", "ssim_realblur", "", 4),
        ("sharpness", "input_sharpness", "sharpness", " dB", 2),
        ("PIQE", "input_piqe", "piqe", "", 1),
    ):
        first, second = statistics.scores.get(before, Mean()), statistics.scores.get(after, Mean())
        if second != Mean():
            rows.append((label, _change(first, second, unit, digits)))
    return rows


def _change(first: Mean, second: Mean, unit: str, digits: int) -> str:
    """A score before and after; a gain only where both means are over as many images, for else it would be none."""
    told = [mean for mean in (first, second) if mean != Mean()]
    ends = ["infinite" if mean.finite_mean is None else f"{mean.finite_mean:.{digits}f}" for mean in told]
    line = f"{' -> '.join(ends)}{unit}"
    if first.finite_mean is not None and second.finite_mean is not None and first.count == second.count:
        line += f" ({second.finite_mean - first.finite_mean:+.{digits}f}), mean of {second.count}"
    else:
        line += f", mean of {' and '.join(str(mean.count) for mean in told)}"
    if any(mean.infinite for mean in told):
        line += f"; identical images: {f'{first.infinite} before, ' * (len(told) > 1)}{second.infinite} after"
    return line


def _print_failures(console: Terminal, statistics: Statistics) -> None:
    """Print how many of which kind failed, and what tries them again."""
    kinds = statistics.error_kinds
    if statistics.failed:
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        remedy = "the same command with --mode retry-failed tries them again"
        if set(kinds) == {ErrorKind.CHANGED}:
            remedy = f"they are not the files that were planned: {CHANGED_REMEDY}"
        console.print(f"\nfailed: {told}; {remedy}", markup=False, style=BAD)


def _print_first_failures(console: Terminal, statistics: Statistics) -> None:
    for failure in statistics.first_failures:
        console.print(f"  {failure.key}: {failure.error_kind}: {failure.error}", markup=False, soft_wrap=True)
    others = statistics.amiss - len(statistics.first_failures)
    if others > 0:
        console.print(f"  ... and {others} more in the records")
