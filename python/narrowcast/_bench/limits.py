"""The memory limit: loops that load the same source bytes and store the same destination bytes, and do nothing else.

The limit of a case is the best time of the fastest loop, timed in turns with the cast on the same buffers. The loops
are C++ (``bench/limits*.cpp``), in all register widths of the machine, with plain and with non-temporal stores.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from narrowcast import isas

from .formats import Array
from .timing import Contender

_limits: Any = import_module("narrowcast._limits")


def forms() -> dict[int, str]:
    """Return the loops this machine can run: number and name."""
    usable = set(isas())
    return {index: name for index, (name, isa) in enumerate(_limits.forms()) if isa in usable}


def contenders(source: Array, target: Array, unit: tuple[int, int] | None = None) -> list[Contender]:
    """Make one contender for each loop, moving `source`'s bytes onto `target`'s.

    Parameters
    ----------
    source, target
        Contiguous arrays.
    unit
        So many bytes of the source go to so many of the target; by default an item to an item.
    """
    move = _limits.move
    source_bytes, target_bytes = unit or (source.itemsize, target.itemsize)
    arguments = (source.ctypes.data, target.ctypes.data, source.nbytes // source_bytes, source_bytes, target_bytes)

    def contender(index: int, name: str) -> Contender:
        start, end, count, source_bytes, target_bytes = arguments
        return Contender(name, lambda: move(index, start, end, count, source_bytes, target_bytes))

    return [contender(index, name) for index, name in forms().items()]


def move(source: Array, target: Array, target_bytes: int) -> None:
    """Load every item of `source` and store as many of `target_bytes` onto `target`'s memory, by the first loop."""
    form = next(iter(forms()))
    _limits.move(form, source.ctypes.data, target.ctypes.data, source.size, source.itemsize, target_bytes)
