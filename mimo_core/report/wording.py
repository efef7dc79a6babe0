"""How the report writes numbers: durations, sizes, rates, names of places."""

from datetime import datetime, timezone


def duration(seconds: float) -> str:
    """A duration in a unit that fits: `3.2 s`, `12 min`, `4.5 h`, `2.1 days`."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{significant(seconds / length)} {unit}"
    return f"{significant(seconds)} s"


def size(number: float) -> str:
    """Bytes with a decimal unit: `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{significant(number)} {unit}"
        number /= 1000
    return f"{significant(number)} TB"


def significant(number: float) -> str:
    """Three digits, or all whole ones: `0.0123`, `4.5`, `1,234`."""
    if abs(number) >= 999.5:
        return f"{number:,.0f}"
    return f"{float(f'{number:.3g}'):g}"


def share(part: float, whole: float) -> str:
    """A share as per cent; never 0 % or 100 % where that is only nearly so."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{float(f'{percent:.1f}'):g} %"


def moment(seconds: float) -> str:
    """A time of day in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
