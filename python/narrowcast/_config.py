"""What a process or a block of code chooses: the instruction set and the default number of threads.

The instruction set is chosen per context (ContextVar), so threads and tasks do not see each other's choice. Nothing
here is read by the core: every call hands its choice down.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import index
from typing import Final

from narrowcast import _core

THREADS_VARIABLE: Final = "NARROWCAST_NUM_THREADS"
MOST_THREADS: Final = 32767

chosen_isa: Final[ContextVar[str | None]] = ContextVar("narrowcast_isa", default=None)


def isa() -> str:
    """Return the instruction set that a call made here would use.

    Returns
    -------
    str
        The choice of `use_isa`, else that of the environment variable NARROWCAST_ISA, else the best one.

    Raises
    ------
    ValueError
        If NARROWCAST_ISA names a set that is unknown or that this machine cannot run.

    Examples
    --------
    >>> import narrowcast as nc
    >>> nc.isa() in nc.isas()
    True
    """
    return chosen_isa.get() or _core.default_isa()


def isas() -> tuple[str, ...]:
    """Return the instruction sets that this machine can run, best first.

    Returns
    -------
    tuple of str
        Those that were built and that the CPU and the operating system support; the last one is always ``"scalar"``.

    Examples
    --------
    >>> import narrowcast as nc
    >>> nc.isas()[-1]
    'scalar'
    """
    return tuple(name for name, supported in _core.isas() if supported)


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Choose the instruction set of every call inside a ``with`` block. The results do not depend on it.

    The choice belongs to the current context, as of ``contextvars``: other threads and tasks do not see it.

    Parameters
    ----------
    name : str
        One of `isas()`.

    Raises
    ------
    ValueError
        If the name is unknown, or this machine cannot run that set.

    Examples
    --------
    >>> import narrowcast as nc
    >>> with nc.use_isa("scalar"):
    ...     nc.isa()
    'scalar'
    """
    known = dict(_core.isas())
    if not known.get(name, False):
        why = "this machine cannot run" if name in known else "this build does not have"
        raise ValueError(f"name is {name!r}, an instruction set that {why}; allowed are {', '.join(isas())}")
    token = chosen_isa.set(name)
    try:
        yield
    finally:
        chosen_isa.reset(token)


def set_num_threads(n: int) -> None:
    """Set how many threads a call with ``threads=None`` may use, in the whole process.

    Parameters
    ----------
    n : int
        1: the calling thread alone; 0: one per core; else at most n threads, made for the call and joined in it. Small
        arrays use fewer. The results do not depend on it.

    Examples
    --------
    >>> import narrowcast as nc
    >>> before = nc.get_num_threads()
    >>> nc.set_num_threads(2)
    >>> nc.get_num_threads()
    2
    >>> nc.set_num_threads(before)
    """
    _core.set_threads(check_threads(n, "n"))


def get_num_threads() -> int:
    """Return how many threads a call with ``threads=None`` may use.

    Returns
    -------
    int
        What `set_num_threads` said, else the environment variable NARROWCAST_NUM_THREADS, else 1.

    Raises
    ------
    ValueError
        If NARROWCAST_NUM_THREADS is not a count.
    """
    threads = _core.get_threads()
    if threads < 0:
        text = os.environ.get(THREADS_VARIABLE, "").strip()
        try:
            threads = check_threads(int(text), THREADS_VARIABLE) if text else 1
        except ValueError:
            raise ValueError(
                f"the environment variable {THREADS_VARIABLE} is {text!r}; allowed are 0 (one thread per core) to "
                f"{MOST_THREADS}"
            ) from None
        _core.set_threads(threads)
    return threads


def check_threads(threads: int, argument: str) -> int:
    """Return a number of threads that the core accepts."""
    try:
        count = index(threads)
    except TypeError:
        raise TypeError(f"{argument} is {threads!r}; allowed are integers") from None
    if not 0 <= count <= MOST_THREADS:
        raise ValueError(f"{argument} is {count}; allowed are 0 (one thread per core) to {MOST_THREADS}")
    return count
