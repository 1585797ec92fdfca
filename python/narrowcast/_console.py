"""Tables and colours for the command line: by rich where it is installed, else plain aligned text.

Cells are text, with colours as spans; nothing else in the package prints.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias


class Span(NamedTuple):
    """A piece of text in a colour: a name that both rich and ANSI terminals know."""

    text: str
    colour: str = ""


Cell: TypeAlias = "str | Sequence[Span]"

_ANSI = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[str] = ()) -> None:
    """Print a table; the columns named in right are aligned to the right."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _print_plain(columns, rows, right)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text.assemble(*((span.text, span.colour) for span in _spans(cell))) for cell in row))
    console = Console()
    # Neither a pipe nor a narrow terminal may cut a bit off: the lines are as long as they are.
    unlimited = console.options.update(max_width=1000)
    console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(table)


def print_spans(spans: Sequence[Span]) -> None:
    """Print one line of coloured pieces."""
    print(_painted(spans) if _has_colours() else "".join(span.text for span in spans))


def _spans(cell: Cell) -> Sequence[Span]:
    return [Span(cell)] if isinstance(cell, str) else cell


def _text(cell: Cell) -> str:
    return "".join(span.text for span in _spans(cell))


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _painted(spans: Sequence[Span]) -> str:
    return "".join(f"\033[{_ANSI[s.colour]}m{s.text}\033[0m" if s.colour else s.text for s in spans)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[str]) -> None:
    widths = [max(len(_text(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    colours = _has_colours()
    for row in (columns, *rows):
        cells = []
        for name, cell, width in zip(columns, row, widths, strict=True):
            padding = " " * (width - len(_text(cell)))
            shown = _painted(_spans(cell)) if colours else _text(cell)
            cells.append(padding + shown if name in right else shown + padding)
        print("  ".join(cells).rstrip())
