"""Standard streams that are open and take any text, and text that cannot steer a terminal."""

import io
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

# All control characters but tab and line feed, and those that turn the direction of writing.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Return a text as it may be shown: a name of a file can hold sequences that steer the terminal."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def show(text: str, file: IO[str] | None = None) -> None:
    """Print a text to standard output, or to another stream."""
    print(plain(text), file=file)


def mend_streams() -> None:
    """Open standard streams that are closed, towards nothing, and let them take text that their encoding cannot hold.

    A closed one is None to Python, and its number would be given to the next file that is opened, into which libraries
    would then write their messages.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it stays open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_streams() -> bool:
    """Write out what is buffered; return whether all of standard output could be written."""
    whole = _flush(sys.stdout)
    _flush(sys.stderr)
    return whole


def _flush(stream: IO[str]) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        # The interpreter tries once more when it ends, and would complain.
        with suppress(OSError, ValueError):
            stream.close()
        return False
    return True
