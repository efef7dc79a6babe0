"""What the page about one run says: tiles, charts, failures, pictures and the setup."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import islice

from mimo_core.datasets.left_aside import describe
from mimo_core.errors import ErrorKind
from mimo_core.images.scales import FULL
from mimo_core.metrics.definitions import DEFINITIONS
from mimo_core.metrics.fid.vectors import RELIABLE
from mimo_core.report.charts import Chart, distribution_chart, gain_chart, scatter_chart
from mimo_core.report.measures import PSNR, SCORES, SSIM, Means, Pace, means_of, pace_of, stage_means
from mimo_core.report.page import Failures, Page, Section, Table, Tile
from mimo_core.report.run_data import RunData
from mimo_core.report.speed_charts import pace_chart, stages_chart
from mimo_core.runs.command import command_of
from mimo_core.runs.statistics import Statistics
from mimo_core.version import __version__
from mimo_core.wording import CHANGED_REMEDY, count, duration, moment, share, significant, size

_EXAMPLES = 10
_STATES = {
    "finished": "finished",
    "working": "still working when this page was made",
    "planning": "being planned when this page was made",
    "interrupted": "interrupted: not all images have their records yet",
}


def run_page(run: RunData, images: Sequence[Section]) -> Page:
    """Return the page about one run; `images` are the sections of pictures and of the table of all images."""
    means, pace = means_of(run), pace_of(run)
    sections = with_failures([run], [scores_section(run, means), speed_section([run], pace), *images])
    statistics = run.status.statistics
    by = () if run.recipe.given else statistics.devices or (engine_of(run),)
    where = " · ".join((run.recipe.method, *by))
    return Page(
        title=run.label,
        subtitle=f"{where} · {_STATES[run.status.state]}",
        made=footer(),
        tiles=tuple(_tiles(run, means, pace)),
        notes=tuple(notes_of([run])),
        sections=(*sections, setup_section([run])),
    )


def footer() -> str:
    """Return who made the page, and when."""
    return f"Made by mimo-restore {__version__}, {moment(time.time())}."


def engine_of(run: RunData) -> str:
    """Return engine, precision and kind of device in a few words; a dash where nothing was restored."""
    if run.recipe.given:
        return "–"
    return f"{run.recipe.engine} {run.recipe.precision} on {run.recipe.device_type}"


def fid_of(run: RunData, name: str = "fid") -> float | None:
    """Return the FID that the summary of the run holds, None without one."""
    value = run.summary.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def notes_of(runs: Sequence[RunData]) -> list[str]:
    """Return what a reader must know before the figures."""
    notes = []
    for run in runs:
        prefix = f"{run.label}: " if len(runs) > 1 else ""
        status = run.status
        if status.plan is not None and status.statistics.images < status.plan.num_images:
            notes.append(
                f"{prefix}{status.statistics.images:,} of {status.plan.num_images:,} images have their records so far."
            )
        if run.sampled:
            notes.append(
                f"{prefix}charts and pictures are drawn from {run.table.num_rows:,} of {status.statistics.images:,} "
                "records, every n-th part; the totals count all."
            )
    return notes


def _tiles(run: RunData, means: Sequence[Means], pace: Pace | None) -> list[Tile]:
    statistics = run.status.statistics
    tiles = [_images_tile(statistics)]
    if statistics.left_out:
        tiles.append(Tile("Left out", f"{statistics.left_out:,}", statistics.left_out_told().partition(", ")[2]))
    for mean in means:
        if mean.score not in (PSNR, SSIM):
            continue
        show = mean.score.show
        detail, good = "", None
        if mean.gain is not None:
            tie = mean.score.is_tie(mean.gain)
            detail = (
                f"{show(mean.gain.mean, sign=True)}{' (tie)' if tie else ''}, input {show(mean.before, unit=False)}"
            )
            good = None if tie else mean.gain.mean > 0
        tiles.append(Tile(mean.score.name, show(mean.after), detail, good))
    fid, before = fid_of(run), fid_of(run, "input_fid")
    if fid is not None:
        detail = f"input {before:.2f}, lower is better" if before is not None else "lower is better"
        tiles.append(Tile("FID", f"{fid:.2f}", detail, None if before is None else fid <= before))
    if pace is not None and pace.rate is not None:
        tiles.append(Tile("Images per second", significant(pace.rate), f"{duration(pace.seconds)} worked"))
    if statistics.pixels:
        detail = f"{significant(statistics.pixels / max(1, statistics.restored) / 1e6)} per image"
        tiles.append(Tile("Megapixels", significant(statistics.pixels / 1e6), detail))
    if statistics.bytes_in:
        detail = f"{size(statistics.bytes_out)} written" if statistics.bytes_out else "nothing written"
        tiles.append(Tile("Data read", size(statistics.bytes_in), detail))
    return tiles


def _images_tile(statistics: Statistics) -> Tile:
    parts = [f"{statistics.failed:,} failed"] if statistics.failed else []
    if statistics.left_out:
        parts.append(f"{statistics.left_out:,} left out")
    if statistics.skipped > statistics.left_out:
        parts.append(f"{statistics.skipped - statistics.left_out:,} skipped")
    detail = ", ".join(parts) or "none failed"
    return Tile("Images restored", f"{statistics.restored:,}", detail, not statistics.failed)


def scores_section(run: RunData, means: Sequence[Means]) -> Section | None:
    """Return the section of the scores: their means, and how those of the images are distributed."""
    if not means:
        return None
    head = ("Score", "Input", "Restored", "Gain [95 %]", "Images")
    rows = [
        (
            mean.score.name,
            mean.score.show(mean.before),
            mean.score.show(mean.after),
            "–" if mean.gain is None else mean.score.show_difference(mean.gain),
            f"{mean.images:,}" + (f" + {mean.equal:,} equal" if mean.equal else ""),
        )
        for mean in means
    ]
    fid, before = fid_of(run), fid_of(run, "input_fid")
    if fid is not None:
        gain = f"{fid - before:+.2f}".replace("-", "−") if before is not None else "–"
        of = run.summary.get("fid_images")
        rows.append(
            ("FID, of the set", "–" if before is None else f"{before:.2f}", f"{fid:.2f}", gain, f"{of:,}" if of else "")
        )
    kid, before = fid_of(run, "kid"), fid_of(run, "input_kid")
    if kid is not None and before is not None:
        gain = f"{1000 * (kid - before):+.2f}".replace("-", "−")
        of = run.summary.get("fid_images")
        row = ("KID × 1000, of the set", f"{1000 * before:.2f}", f"{1000 * kid:.2f}", gain, f"{of:,}" if of else "")
        rows.append(row)
    charts = [
        distribution_chart(PSNR, [run]),
        gain_chart(PSNR, run),
        distribution_chart(SSIM, [run]),
        scatter_chart(PSNR, SSIM, [run]),
    ]
    return Section(
        "scores",
        "Scores",
        notes=(*equal_notes(means), *few_notes([run])),
        table=Table(head, tuple(rows), frozenset({1, 2, 3, 4})),
        charts=tuple(chart for chart in charts if chart is not None),
    )


def equal_notes(means: Sequence[Means]) -> tuple[str, ...]:
    """Return a note on outputs that equal their reference."""
    return tuple(
        f"{count(mean.equal, 'output')} equal to the reference: infinite PSNR, in no mean and no chart."
        for mean in means
        if mean.score == PSNR and mean.equal
    )


def few_notes(runs: Sequence[RunData]) -> tuple[str, ...]:
    """Return a note on FIDs over too few images to stand alone."""
    scored = [run for run in runs if fid_of(run) is not None]
    if not scored:
        return ()
    few = any(run.summary.get("fid_images", RELIABLE) < RELIABLE for run in scored)
    if not few:
        return ()
    return (
        f"FID over fewer than {RELIABLE:,} images is biased upwards: compare it only with FIDs over the same images.",
    )


def speed_section(runs: Sequence[RunData], pace: Pace | None) -> Section | None:
    """Throughput over time and where the time went."""
    stages = {run.label: means for run in runs if (means := stage_means(run))}
    charts = [pace_chart(pace) if pace is not None else None, stages_chart(stages) if stages else None]
    drawn: tuple[Chart, ...] = tuple(chart for chart in charts if chart is not None)
    return Section("speed", "Speed", charts=drawn) if drawn else None


def with_failures(runs: Sequence[RunData], sections: Sequence[Section | None]) -> list[Section]:
    """Return the sections with those of suspects and failures.

    Suspects come first, failures before all others where images failed, else after the scores.
    """
    known = [section for section in (suspects_section(runs), *sections) if section is not None]
    failures = failures_section(runs)
    if failures is None:
        return known
    place = int(known[0].name == "suspects") + (not any(run.status.statistics.failed for run in runs))
    return [*known[:place], failures, *known[place:]]


def suspects_section(runs: Sequence[RunData]) -> Section | None:
    """Return the section of the images that the guard names, None where there are none."""
    told: list[Failures] = []
    for run in runs:
        statistics = run.status.statistics
        if not statistics.suspects:
            continue
        columns = zip(run.texts("key"), run.texts("suspect"), strict=True)
        examples = tuple(islice(((str(key), what) for key, what in columns if what is not None), _EXAMPLES))
        prefix = f"{run.label}: " if len(runs) > 1 else ""
        told.append(Failures(f"{prefix}suspect", True, statistics.suspects, statistics.images, examples))
    if not told:
        return None
    number = sum(one.count for one in told)
    text = f"{count(number, 'image')} changed as restorations do not. Look at {'it' if number == 1 else 'them'}:"
    return Section("suspects", "Suspects", text, failures=tuple(told))


def failures_section(runs: Sequence[RunData]) -> Section | None:
    """Failed records by kind, then those that are restored but not scored, and the command that tries again."""
    failures: list[Failures] = []
    commands = []
    for run in runs:
        statistics = run.status.statistics
        prefix = f"{run.label}: " if len(runs) > 1 else ""
        kinds = {**{(kind, True): number for kind, number in statistics.error_kinds.items()}}
        kinds |= {(kind, False): number for kind, number in statistics.notes.items()}
        examples = _examples(run) if kinds else {}
        failures += [
            Failures(f"{prefix}{kind}", failed, number, statistics.images, tuple(examples.get((kind, failed), ())))
            for (kind, failed), number in sorted(kinds.items(), key=lambda item: (not item[0][1], -item[1], item[0][0]))
        ]
        # A file that has changed since it was planned never becomes the planned one again.
        if set(statistics.error_kinds) - {ErrorKind.CHANGED} and run.status.manifest is not None:
            commands.append(command_of(run.status.manifest, str(run.store), "retry-failed"))
    if not failures:
        return None
    if not any(run.status.statistics.failed for run in runs):
        return Section("failures", "Left out or not scored", failures=tuple(failures))
    failed, of = (sum(getattr(run.status.statistics, name) for run in runs) for name in ("failed", "images"))
    text = f"{failed:,} of {count(of, 'image')} failed."
    if any(ErrorKind.CHANGED in run.status.statistics.error_kinds for run in runs):
        text += f" Files that have changed since they were planned: {CHANGED_REMEDY}."
    text += " Once the causes are mended, this tries the others again:" if commands else ""
    return Section("failures", "Failures", text, command="\n".join(commands), failures=tuple(failures))


def _examples(run: RunData) -> dict[tuple[str, bool], list[tuple[str, str]]]:
    found: dict[tuple[str, bool], list[tuple[str, str]]] = {}
    columns = (run.texts(name) for name in ("key", "status", "error_kind", "error"))
    for key, status, kind, error in zip(*columns, strict=True):
        if kind is not None:
            examples = found.setdefault((kind, status == "failed"), [])
            if len(examples) < _EXAMPLES:
                examples.append((str(key), error or ""))
    return found


def setup_section(runs: Sequence[RunData]) -> Section:
    """Return the section of the setup: the recipes, and what the runs are."""
    return Section(
        "setup",
        "Setup",
        details=(
            ("Recipe", _side_by_side(runs, _recipe_rows)),
            ("Run", _side_by_side(runs, _run_rows)),
            *_definitions(runs),
        ),
    )


def _definitions(runs: Sequence[RunData]) -> list[tuple[str, Table]]:
    shown = [score for score in SCORES if any(run.has(score.column) for run in runs)]
    rows = [(score.name, DEFINITIONS[score.column].definition) for score in shown]
    if any(fid_of(run) is not None for run in runs):
        rows.append(("FID", "Fréchet distance of 2048 Inception features between outputs and references, as sets"))
    if any(fid_of(run, "kid") is not None for run in runs):
        rows.append(("KID", "squared discrepancy of the same features under a cubic kernel, unbiased, of subsets"))
    return [("Definitions", Table((), tuple(rows)))] if rows else []


def _side_by_side(runs: Sequence[RunData], rows: Callable[[RunData], dict[str, str]]) -> Table:
    columns = [rows(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = ("", *(run.label for run in runs)) if len(runs) > 1 else ()
    return Table(head, tuple((name, *(column.get(name, "–") for column in columns)) for name in names))


def _recipe_rows(run: RunData) -> dict[str, str]:
    values = run.recipe.model_dump()
    shown = {name: _plain(name, value) for name, value in values.items() if value not in (None, "")}
    for name in ("weights_sha256", "compiled_sha256"):
        if name in shown:
            shown[name] = shown[name][:16]
    return {"fingerprint": run.recipe.fingerprint()[:16], **shown}


def _plain(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in ("size", "tile") and isinstance(value, (tuple, list)):
        return "x".join(map(str, value))
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _run_rows(run: RunData) -> dict[str, str]:
    manifest, statistics = run.status.manifest, run.status.statistics
    assert manifest is not None
    rows = {
        "run": str(run.store),
        "source": manifest.source,
        "reference": manifest.reference or "none",
        "state": run.status.state,
        "begun": manifest.created_at,
        "host": manifest.host,
    }
    if manifest.restored is not None:
        rows["restored"] = manifest.restored
    if statistics.last_finished is not None:
        rows["last record"] = moment(statistics.last_finished)
    if statistics.fallbacks:
        rows["in smaller pieces"] = f"{statistics.fallbacks:,} images, for want of memory"
    if run.recipe.scales != FULL and (taken := statistics.scales_taken()):
        rows["scales"] = taken
    if aside := run.summary.get("left_aside"):
        rows["left aside"] = describe(aside)
    if statistics.suspects:
        rows["suspect"] = f"{statistics.suspects:,} images changed as restorations do not"
    if told := statistics.left_out_told():
        rows["left out"] = told
    if statistics.lost:
        rows["not carried over"] = ", ".join(f"{what} ({number:,})" for what, number in statistics.lost.items())
    if statistics.retried:
        rows["second tries"] = f"{statistics.retried:,}"
    busy = run.summary.get("last_session", {}).get("busy_share")
    if busy:
        rows["computing"] = f"{share(busy, 1)} of the time of the last session"
    return rows | {f"{name} version": version for name, version in manifest.versions.items()}
