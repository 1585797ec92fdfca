"""Expected bits, computed by numpy and ml_dtypes alone.

What numpy and ml_dtypes define is taken from them. Three things they do not define are built from their value tables:
one rounding from float64, TF32, and rounding modes other than nearest-even. Speed does not matter here, and no code
is shared with the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .formats import Array, code_dtype, numpy_dtype, typed

_U32 = np.uint32
_F32 = np.float32


def expected(source: Array, target: str, rounding: str = "nearest_even", seed: int = 0) -> Array | None:
    """Return the codes that a cast must give, or None where nothing outside of the package defines them.

    Parameters
    ----------
    source
        Values, as an array of a numpy or ml_dtypes dtype.
    target
        Name of the target format.
    rounding
        One of the package's rounding modes. All but nearest-even: finite values within the target's range only.
    seed
        For stochastic rounding: the Philox key.
    """
    dtype = numpy_dtype(target)
    if dtype is None or source.dtype.kind == "u":
        return None
    with np.errstate(all="ignore"):
        if rounding != "nearest_even":
            return _expected_rounded(source, target, rounding, seed)
        if source.dtype == np.float64 and target not in ("float64", "float32", "float16"):
            source = round_to_odd(source)
        if target == "tfloat32":
            return _tf32(source.astype(_F32))
        if source.dtype != np.float64 and source.dtype != dtype:
            source = source.astype(_F32)  # exact, and the type from which ml_dtypes rounds once
        return source.astype(dtype).view(code_dtype(target))


def round_to_odd(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round to float32 such that a second rounding, to 22 bits or fewer, gives what one rounding would have given."""
    nearest = x.astype(_F32)
    exact = (nearest.astype(np.float64) == x) | np.isnan(x)
    away = np.abs(nearest.astype(np.float64)) > np.abs(x)
    codes = nearest.view(_U32)
    return np.where(exact, codes, (codes - away) | _U32(1)).astype(_U32).view(_F32)


def _tf32(x: npt.NDArray[np.float32]) -> Array:
    codes = x.view(_U32)
    rounded = (codes + _U32(0xFFF) + ((codes >> _U32(13)) & _U32(1))) & _U32(0xFFFFE000)
    kept = (codes | _U32(0x00400000)) & _U32(0xFFFFE000)
    return np.where(np.isnan(x), kept, rounded)


def grid(target: str) -> tuple[Array, Array]:
    """Return the finite non-negative values of a format, ascending, as float64, and their codes."""
    width = code_dtype(target)
    if target == "tfloat32":
        codes = np.arange(0x7F800000 >> 13, dtype=_U32) << _U32(13)
    else:
        codes = np.arange(1 << min(16, 8 * width.itemsize)).astype(width)
    with np.errstate(all="ignore"):
        values = typed(codes, target).astype(np.float64)
    keep = np.isfinite(values) & ~np.signbit(values)
    values, first = np.unique(values[keep], return_index=True)
    return values, codes[keep][first]


def _expected_rounded(source: Array, target: str, rounding: str, seed: int) -> Array:
    values, codes = grid(target)
    x = source.astype(np.float64)
    magnitude = np.abs(x)
    low = np.clip(np.searchsorted(values, magnitude, side="right") - 1, 0, len(values) - 2)
    cut_off = (magnitude - values[low]) / (values[low + 1] - values[low])
    negative = np.signbit(x)
    if rounding == "toward_zero":
        away = cut_off >= 1
    elif rounding == "nearest_away":
        away = cut_off >= 0.5
    elif rounding in ("up", "down"):
        away = np.where(negative == (rounding == "down"), cut_off > 0, cut_off >= 1)
    else:
        words = philox(seed, source.size).reshape(source.shape).astype(np.float64)
        away = np.floor(cut_off * 2.0**32) + words >= 2.0**32
    result: Array = np.where(negative, _negated(codes, target)[low + away], codes[low + away])
    return result


def _negated(codes: Array, target: str) -> Array:
    dtype = numpy_dtype(target)
    if target == "tfloat32":
        return codes | _U32(0x80000000)
    negated: Array = (-typed(codes, target).astype(_F32)).astype(dtype).view(codes.dtype)
    return negated


def philox(seed: int, count: int) -> npt.NDArray[np.uint32]:
    """Return the first `count` words of Philox4x32-10 with this key, counting from zero."""
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    zero = np.zeros_like(blocks)
    c: list[Any] = [blocks & mask, blocks >> shift, zero, zero]
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0 = c[0] * np.uint64(0xD2511F53)
        product1 = c[2] * np.uint64(0xCD9E8D57)
        c = [
            (product1 >> shift) ^ c[1] ^ np.uint64(key0),
            product1 & mask,
            (product0 >> shift) ^ c[3] ^ np.uint64(key1),
            product0 & mask,
        ]
        key0 = (key0 + 0x9E3779B9) & 0xFFFFFFFF
        key1 = (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[:count].astype(np.uint32)
