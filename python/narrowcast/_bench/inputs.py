"""What is cast: ordinary values to time, difficult values to check, and the memory both live in.

Timed values are normally distributed, as weights are: casts may have rare branches, and neither a constant nor random
bits would be an honest input. One block of them is repeated to fill larger sizes, so that the expected bits of a large
array are those of the block. Checked values are what casts get wrong: every code, both neighbours of every rounding
boundary, and random bits.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from .formats import Array, bits, code_dtype, is_signed, item_bytes, numpy_dtype
from .reference import expected, grid

BLOCK = 1 << 20
_ALIGNMENT = 4096


class Memory:
    """One allocation, from which source and destination are cut again and again.

    Peak memory is then known beforehand, the pages are touched once, and all contenders use the same ones.
    """

    def __init__(self, size: int) -> None:
        raw = np.empty(size + 2 * _ALIGNMENT, dtype=np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        self._bytes = raw[start : start + size + _ALIGNMENT]
        self._bytes[...] = 0

    def pair(self, source: str, target: str, count: int, stretch: int = 1) -> tuple[Array, Array]:
        """Return codes of `count * stretch` source and `count` target elements, both aligned, not overlapping."""
        source_size = count * stretch * item_bytes(source)
        start = -(-source_size // _ALIGNMENT) * _ALIGNMENT
        target_size = count * item_bytes(target)
        return (
            self._bytes[:source_size].view(code_dtype(source)),
            self._bytes[start : start + target_size].view(code_dtype(target)),
        )

    def cut(self, *sizes: int) -> list[Array]:
        """Return that many bytes each, all aligned, not overlapping."""
        parts, start = [], 0
        for size in sizes:
            parts.append(self._bytes[start : start + size])
            start += -(-size // _ALIGNMENT) * _ALIGNMENT
        return parts


def fill(codes: Array, block: Array) -> None:
    """Repeat `block` over `codes`."""
    whole = codes.size // block.size
    codes[: whole * block.size].reshape(whole, block.size)[...] = block
    codes[whole * block.size :] = block[: codes.size - whole * block.size]


@cache
def timed_block(source: str, signed: bool, size: int = BLOCK) -> Array:
    """Return codes of normally distributed values in the format `source`."""
    values = np.random.default_rng(20).standard_normal(size)
    if not (signed and is_signed(source)):
        values = np.abs(values)
    if source == "float64":
        return values.view(np.uint64)
    codes = expected(values.astype(np.float32), source)
    if codes is None:  # a format unknown to numpy: any codes
        return np.random.default_rng(21).integers(0, 1 << 8 * item_bytes(source), size).astype(code_dtype(source))
    return codes


def difficult(source: str, target: str) -> Array:
    """Return codes in the format `source` that try everything a cast to `target` may get wrong."""
    width = code_dtype(source)
    if width.itemsize <= 2:
        return np.arange(1 << bits(source), dtype=np.uint32).astype(width)
    dtype = numpy_dtype(source)
    assert dtype is not None  # formats of more than two bytes are numpy's
    random = np.random.default_rng(22).integers(0, 1 << 8 * width.itemsize, 1 << 15, dtype=width)
    parts = [random.view(dtype), _specials(dtype)]
    if code_dtype(target).itemsize <= 2 and numpy_dtype(target) is not None:
        values, _ = grid(target)
        step = values[-1] - values[-2]
        values = np.append(values, values[-1] + step)
        with np.errstate(over="ignore"):
            boundary = np.concatenate([values, (values[:-1] + values[1:]) / 2]).astype(dtype)
        infinity = dtype.type(math.inf)
        near = np.concatenate([boundary, np.nextafter(boundary, infinity), np.nextafter(boundary, -infinity)])
        parts += [near, -near]
    return np.concatenate(parts).view(width)


def _specials(dtype: np.dtype[Any]) -> Array:
    info = np.finfo(dtype)
    numbers = [0.0, math.inf, math.nan, 1.0, float(info.max), float(info.tiny), float(info.smallest_subnormal)]
    return np.array(numbers + [-number for number in numbers], dtype=dtype)
