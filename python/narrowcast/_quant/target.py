"""What codes may be made: integers of 1 to 8 and of 16 bits, and floats of 8, 6 and 4 bits; how a dtype names one.

Also the two other lists that a spec chooses from: dialects and the layouts of packed codes. All come from the core.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import ml_dtypes
import numpy as np

from narrowcast import _core, _formats, _torch

DType = _formats.DType

LAYOUTS: Final = {row[0]: row[1] for row in _core.layouts()}
LSB: Final = LAYOUTS["lsb"]  # the one that the core writes and reads in the same pass


@lru_cache(maxsize=256)
def name_of(dtype: DType) -> str:
    """Return the name of a dtype in either byte order; numpy works it out each time."""
    return dtype.newbyteorder("=").name


def memory_of(given: Any, argument: str) -> tuple[np.ndarray[Any, Any], str]:
    """Return the memory of an array or tensor as an array, and the name of its dtype."""
    if _torch.is_tensor(given):
        return _torch.to_array(given, argument)
    if not isinstance(given, np.ndarray):
        raise TypeError(f"{argument} is a {type(given).__name__}; allowed are ndarrays and torch tensors")
    return np.asarray(given), name_of(given.dtype)


class Dialect(NamedTuple):
    """A row of dialects.def."""

    name: str
    code: int
    quotient: str
    zero: str
    steps: str
    nan: str


DIALECTS: Final[dict[str, Dialect]] = {row[0]: Dialect(*row) for row in _core.dialects()}


class Target(NamedTuple):
    """What codes are: their width, what they mean and the dtype of arrays that hold one code per item."""

    name: str
    bits: int
    is_signed: bool
    format: int  # of a float; 0 for integers
    dtype: DType
    carrier: DType  # the builtin dtype of the same width and sign

    @property
    def is_float(self) -> bool:
        """Whether codes are floats."""
        return self.format != 0

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest code of an integer target."""
        return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.is_signed else (0, (1 << self.bits) - 1)

    def items(self, count: int) -> int:
        """Return the bytes of this many codes, packed."""
        return -(-count * self.bits // 8)


def _make(name: str, bits: int, is_signed: bool) -> Target:
    carrier = np.dtype(f"{'i' if is_signed else 'u'}{1 if bits <= 8 else 2}")
    own: Any = getattr(ml_dtypes, name, None) if bits in (2, 4) else None
    return Target(name, bits, is_signed, 0, carrier if own is None else np.dtype(own), carrier)


TARGETS: Final[dict[str, Target]] = {
    f"{sign}int{bits}": _make(f"{sign}int{bits}", bits, not sign) for sign in ("", "u") for bits in (*range(1, 9), 16)
} | {
    row.name: Target(row.name, row.bits, True, row.code, row.dtype, np.dtype("u1"))
    for row in _formats.FORMATS
    if row.is_float and row.storage_bytes == 1 and row.has_zero
}


def find_target(dtype: object, argument: str) -> Target:
    """Return the target that a dtype names."""
    if isinstance(dtype, Target):
        return dtype
    name = _torch.name_of(dtype) if _torch.is_dtype(dtype) else dtype
    if isinstance(name, str) and name in TARGETS:
        return TARGETS[name]
    try:
        row, _ = _formats.find(dtype, argument)
        return TARGETS[row.name]
    except (TypeError, KeyError):
        raise TypeError(
            f"{argument} is {dtype!r}; allowed are int1 to int8, uint1 to uint8, int16, uint16, "
            f"{', '.join(row.name for row in TARGETS.values() if row.is_float)}, and the numpy, ml_dtypes and torch "
            "dtypes of these names"
        ) from None
