"""Arguments of quantization, one by one: an integer, a positive number, a word of a list.

Each function returns what its argument means or says what is wrong with it. What fits together is in spec.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from operator import index
from typing import Any, Final

from narrowcast import _formats

MOST: Final = (2 - 2.0**-23) * 2.0**127  # the largest float32
_LEAST: Final = 2.0**-126  # the smallest normal one, which computed scales do not fall below


def read_dtype(value: Any, argument: str, allowed: tuple[str, ...]) -> str | None:
    """Return the name of one of the dtypes that are allowed."""
    if value is None:
        return None
    row, _ = _formats.find(value, argument)
    if row.name not in allowed:
        raise TypeError(f"{argument} is {row.name}; allowed are {', '.join(allowed)}")
    return row.name


def read_numbers(value: Any, argument: str) -> float | tuple[float, ...] | None:
    """Return one number or a tuple of them, which a spec can hold and be hashed with."""
    if value is None or isinstance(value, int | float):
        return value
    try:
        listed = value.tolist() if hasattr(value, "tolist") else list(value)
        if isinstance(listed, list):
            return tuple(one if isinstance(one, int) else float(one) for one in listed)
        return listed if isinstance(listed, int) else float(listed)
    except (TypeError, ValueError):
        raise TypeError(
            f"{argument} is a {type(value).__name__}; a QuantSpec holds numbers and sequences of numbers; pass other "
            "arrays to the call"
        ) from None


def read_number(value: Any, argument: str, allowed: str, fits: Callable[[float], bool]) -> float:
    """Return a number of any kind that has the range of a float, if it is one of those that are allowed."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument} is {value!r}; allowed are {allowed}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not fits(number):
        raise ValueError(f"{argument} is {value!r}; allowed are {allowed}")
    return number


def read_positive(value: Any, argument: str) -> float:
    """Return what a computed scale may be."""
    allowed = "finite normal float32 numbers above 0"
    return read_number(value, argument, allowed, lambda number: _LEAST <= number <= MOST)


def read_index(value: Any, argument: str) -> int:
    """Return an integer of any kind as an int."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{argument} is {value!r}; allowed are integers") from None


def read_extent(value: Any, argument: str) -> int:
    """Return a number of elements, 1 or more."""
    extent = read_index(value, argument)
    if not 1 <= extent < 1 << 63:
        raise ValueError(f"{argument} is {extent}; allowed are integers from 1")
    return extent


def check_bool(value: object, argument: str, may_be_none: bool) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool) and not (value is None and may_be_none):
        raise TypeError(
            f"{argument} is {value!r}; allowed are True{', False and None' if may_be_none else ' and False'}"
        )


def check_choice(given: object, allowed: tuple[str, ...], argument: str) -> None:
    """Refuse what is not one of some words."""
    if not isinstance(given, str) or given not in allowed:
        raise ValueError(f"{argument} is {given!r}; allowed are {', '.join(allowed)}")
