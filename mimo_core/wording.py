"""How messages, terminal and report write things: durations, sizes, shares, counts, times of day, options."""

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

CHANGED_REMEDY = "restore them as they are now into another OUTPUT, or start over with --mode overwrite"
"""What is to be done about images whose files are not those that were planned."""


class Notice(str):
    """A text that is told, with what it is about, for logs that machines read: its level, a shard, a worker's host."""

    level: str
    shard: int | None
    worker: str | None

    def __new__(
        cls, text: str, *, level: str = "warning", shard: int | None = None, worker: str | None = None
    ) -> "Notice":
        """Make one of any text."""
        notice = super().__new__(cls, text)
        notice.level, notice.shard, notice.worker = level, shard, worker
        return notice


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that it has: `3.2 s`, `1 min 15 s`, `2 h 05 min`, `3 d 04 h`."""
    if seconds < 59.5:
        return f"{significant(seconds)} s"
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s"


def size(number: float) -> str:
    """Return a number of bytes with a decimal unit: `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{significant(number)} {unit}"
        number /= 1000
    return f"{significant(number)} TB"


def significant(number: float) -> str:
    """Return three digits, or all whole ones: `0.0123`, `4.5`, `1,234`."""
    if abs(number) >= 999.5:
        return f"{number:,.0f}"
    return f"{float(f'{number:.3g}'):g}"


def share(part: float, whole: float) -> str:
    """Return a share as per cent; never 0 % or 100 % where that is only nearly so."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{float(f'{percent:.1f}'):g} %"


def moment(seconds: float) -> str:
    """Return a time of day in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def count(number: int, noun: str) -> str:
    """Return `1 worker`, `2 workers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def option(name: str) -> str:
    """Return the option of a field: `shard_size` is `--shard-size`, and `for_` is `--for`."""
    return "--" + name.rstrip("_").replace("_", "-")


# What pydantic calls otherwise.
_NUMBERS = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
}


def invalid_option(error: Mapping[str, Any], label: str) -> str:
    """Return in words what pydantic found wrong with an option.

    Args:
        error: one of `ValidationError.errors()`.
        label: what to call the option.
    """
    if not error["loc"]:
        # What is wrong between options names them itself; the value would be all of them, addresses with secrets too.
        return str(error["ctx"]["error"])
    if error["type"] == "missing":
        return f"{label} is missing"
    if error["type"] == "literal_error":
        return f"{label}: expected {error['ctx']['expected'].replace(chr(39), '')}, found {error['input']!r}"
    if error["type"] in _NUMBERS:
        return f"{label}: expected {_NUMBERS[error['type']]}, found {error['input']!r}"
    text = str(error.get("ctx", {}).get("error") or error["msg"])
    return f"{label}: {text[0].lower() + text[1:]}" + ("" if "found" in text else f", found {error['input']!r}")


def most_first(counted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what was counted, the most frequent first, and by name where that is equal."""
    return sorted(counted.items(), key=lambda one: (-one[1], one[0]))
