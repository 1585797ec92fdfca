"""Arguments of quantization, one by one: an integer, a positive number, a word of a list.

Each function returns what its argument means or says what is wrong with it. What fits together is in spec.py.
"""

from __future__ import annotations

import math
from operator import index
from typing import Any

from narrowcast import _formats


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


def read_positive(value: Any, argument: str) -> float:
    """Return a finite float32 number above 0."""
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{argument} is {value!r}; allowed are finite numbers above 0") from None
    if not 0 < number <= 3.4028234663852886e38:
        raise ValueError(f"{argument} is {value!r}; allowed are finite float32 numbers above 0")
    return number


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
