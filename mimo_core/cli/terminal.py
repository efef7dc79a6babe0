"""Consoles on which no text can steer the terminal."""

import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mimo_core.cli.streams import plain

# Colours of a terminal; where there is none, or with NO_COLOR, nothing is coloured.
GOOD, BAD, NEXT = "green", "red", "cyan"


class Terminal(Console):
    """A console on which no text can steer the terminal, that of tables included.

    Args:
        options: as of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text as it may be shown, with its markup."""
        return super().render_str(plain(text), **options)

    def print_table(self, table: RenderableType) -> None:
        """Print a table; where there is no terminal, without the blanks that fill its lines up."""
        if self.is_terminal:
            self.print(table)
            return
        with self.capture() as captured:
            self.print(table)
        text = "\n".join(line.rstrip() for line in captured.get().splitlines())
        self.print(text, markup=False, soft_wrap=True)


def tables() -> Terminal:
    """Return a console for tables; where there is no terminal, lines are not folded at 80 columns."""
    return Terminal(width=None if sys.stdout.isatty() else 200)
