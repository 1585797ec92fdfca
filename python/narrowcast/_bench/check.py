"""Comparison of codes: equal bits, where NaN counts as equal to NaN.

Which NaN code a cast gives is settled by the tests; peers differ in it for no good reason. Everything else must agree
bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .formats import Array, item_bytes, typed


class MismatchError(Exception):
    """A cast gave a wrong bit: nothing was timed."""


@dataclass(frozen=True)
class Difference:
    """How many elements differ, of how many, and the first of them."""

    count: int
    total: int
    first: int = 0
    example: str = ""


def difference(got: Array, want: Array, source: Array, target: str) -> Difference:
    """Compare codes of the format `target`; `source` holds the values they came from."""
    got, want, source = got.reshape(-1), want.reshape(-1), source.reshape(-1)
    if np.array_equal(got, want):
        return Difference(0, want.size)
    unequal = got != want
    unequal &= ~(_is_nan(got, target) & _is_nan(want, target))
    count = int(np.count_nonzero(unequal))
    if not count:
        return Difference(0, want.size)
    first = int(np.argmax(unequal))
    digits = 2 * item_bytes(target)
    value = source[first]
    code = int(source[first : first + 1].view(f"u{source.itemsize}")[0])
    example = (
        f"[{first}] {value} (0x{code:0{2 * source.itemsize}x}) gives "
        f"0x{int(got[first]):0{digits}x}, not 0x{int(want[first]):0{digits}x}"
    )
    return Difference(count, want.size, first, example)


def _is_nan(codes: Array, target: str) -> Array:
    values = typed(codes, target)
    if values.dtype.kind == "u":  # a format unknown to numpy: bits only
        return np.zeros(codes.shape, dtype=bool)
    return np.isnan(values)
