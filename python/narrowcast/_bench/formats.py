"""Facts of the formats that the benchmark needs: names, item sizes, numpy dtypes.

Formats come from the package, so a new one is measured without an edit here. A format that neither numpy nor ml_dtypes
has is handled by its codes, as unsigned integers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from narrowcast._formats import FORMATS

Array = npt.NDArray[Any]

_FACTS = {facts.name: facts for facts in FORMATS if facts.is_float}


def float_formats() -> tuple[str, ...]:
    """Return the public names of all float formats, in the order of the format list."""
    return tuple(_FACTS)


def numpy_dtype(name: str) -> np.dtype[Any] | None:
    """Return the dtype that numpy or ml_dtypes has for a format (TF32 lives in float32), or None."""
    facts = _FACTS[name]
    return None if facts.is_codes else facts.dtype


@cache
def code_dtype(name: str) -> np.dtype[Any]:
    """Return the unsigned integer dtype of the format's width in memory."""
    return np.dtype(f"u{_FACTS[name].storage_bytes}")


def item_bytes(name: str) -> int:
    """Return the bytes of one element in memory."""
    return _FACTS[name].storage_bytes


def bits(name: str) -> int:
    """Return the bits of one code (19 for TF32)."""
    return _FACTS[name].bits


def is_signed(name: str) -> bool:
    """Return whether the format can hold negative values."""
    return bool(_FACTS[name].sign_bits)


def typed(codes: Array, name: str) -> Array:
    """View codes as the format's dtype, where there is one."""
    dtype = numpy_dtype(name)
    return codes if dtype is None else codes.view(dtype)


def short_size(count: int) -> str:
    """Write a number of elements the way the tables do: 4 Ki, 64 Mi."""
    for unit, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return str(count)
