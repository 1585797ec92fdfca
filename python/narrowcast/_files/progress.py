"""How far a conversion is: a bar on a terminal (by rich, where it is installed), plain lines in a pipe, or nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from narrowcast._files.report import human_bytes

_LINE_SECONDS: Final = 10.0  # between two lines

Progress = Callable[[int, int], None]


@contextmanager
def shown(quiet: bool, verb: str = "casting") -> Iterator[Progress | None]:
    """Give what converts files calls with the bytes done and their total, maybe from several threads."""
    if quiet or sys.stderr is None:
        yield None
        return
    if sys.stderr.isatty():
        try:
            import rich.console
            import rich.progress as bars
        except ImportError:
            yield _Lines()
            return
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
            task = bar.add_task(verb, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    yield _Lines()


class _Lines:
    """A line every few seconds: what is done, of how much, how fast, and the time left."""

    def __init__(self) -> None:
        self._begin = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < _LINE_SECONDS or done >= total:
            return
        self._last = now
        rate = done / (now - self._begin)
        left = (total - done) / rate if rate else 0
        with contextlib.suppress(OSError):  # nobody is left to read it, which is no reason to stop
            print(
                f"{human_bytes(done)} of {human_bytes(total)}, {human_bytes(rate)}/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
