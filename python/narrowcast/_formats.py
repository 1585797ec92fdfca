"""The formats as Python sees them: one record per row of the core's list, and how a dtype names one of them.

The rows, codes and facts come from the compiled core; here are only the numpy dtype that belongs to each row and the
look-up from names, numpy and ml_dtypes dtypes, and torch dtypes. Reading arrays is in _arrays.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np

from narrowcast import _core, _torch

DType: TypeAlias = "np.dtype[Any]"
FormatLike: TypeAlias = "str | np.dtype[Any] | type[Any] | Format | _torch.DType"


class Format(NamedTuple):
    """Facts of one element format.

    Attributes
    ----------
    name : str
        The public name, as in ml_dtypes: ``"float8_e4m3fn"``.
    id : str
        The short name: ``"e4m3fn"``.
    code : int
        The number of the format in the C interface; never reused.
    is_float : bool
        False for the integer formats, which are sources only.
    storage_bytes : int
        Bytes per element in an array.
    bits : int
        Bits of a code: 4 for float4_e2m1fn, which is kept in a byte.
    sign_bits, exponent_bits, mantissa_bits, bias : int
        The fields of a code and the exponent bias; the last three are 0 for integers.
    has_inf, has_nan, has_zero, has_negative_zero : bool
        Which special values there are.
    max_code, min_code, smallest_normal_code, smallest_subnormal_code : int
        Stored codes of the largest and smallest finite values and of the smallest positive normal and subnormal ones.
    nan_code, negative_nan_code, inf_code : int
        Stored codes of NaN, of NaN with the sign, and of infinity; 0 where there is none.
    dtype : numpy.dtype
        What arrays of this format have: its own dtype, float32 for tfloat32, or unsigned integers that hold its codes.
    """

    name: str
    id: str
    code: int
    is_float: bool
    storage_bytes: int
    bits: int
    sign_bits: int
    exponent_bits: int
    mantissa_bits: int
    bias: int
    has_inf: bool
    has_nan: bool
    has_zero: bool
    has_negative_zero: bool
    max_code: int
    min_code: int
    smallest_normal_code: int
    smallest_subnormal_code: int
    nan_code: int
    negative_nan_code: int
    inf_code: int
    dtype: DType

    @property
    def is_codes(self) -> bool:
        """Whether this is a float format without a dtype of its own: its arrays hold codes as unsigned integers."""
        return self.is_float and self.dtype.kind == "u"

    @property
    def as_source(self) -> Format:
        """The format that an array of this format is read as: float32 for tfloat32, else itself."""
        return self if self.is_codes else BY_DTYPE[self.dtype]

    def __repr__(self) -> str:
        return f"<narrowcast format {self.name}>"


def _dtype_of(facts: _core.Facts) -> DType:
    scalar_type: Any = getattr(ml_dtypes, facts["name"], None) or getattr(np, facts["name"], None)
    if scalar_type is None:
        scalar_type = np.float32 if facts["storage_bytes"] == 4 else f"u{facts['storage_bytes']}"
    dtype: DType = np.dtype(scalar_type)
    return dtype


FORMATS: Final[tuple[Format, ...]] = tuple(Format(**facts, dtype=_dtype_of(facts)) for facts in _core.formats())
BY_NAME: Final[dict[str, Format]] = {row.name: row for row in FORMATS}
BY_DTYPE: Final[dict[DType, Format]] = {row.dtype: row for row in FORMATS if row.dtype.name == row.name}

# Scalar types that name a dtype; abstract ones, such as np.floating, do not.
_TYPES: Final = frozenset(np.sctypeDict.values()) | frozenset(dtype.type for dtype in BY_DTYPE)

# "f4", "<f4", ">f4" and so on: numpy's strings, without asking numpy, which warns about some strings.
_BY_STRING: Final[dict[str, DType]] = {
    order + dtype.str[1:]: dtype.newbyteorder(order or "=")  # type: ignore[arg-type]
    for dtype in BY_DTYPE
    if dtype.isbuiltin == 1
    for order in ("", "=", "<", ">")
} | {name: np.dtype(name) for name in ("half", "single", "double", "float", "e", "f", "d")}


def targets() -> dict[object, int]:
    """Return the code of each float format by everything that may name it in a call of astype."""
    names: dict[object, int] = {}
    for row in FORMATS:
        if row.is_float:
            names[sys.intern(row.name)] = names[row] = (
                row.code
            )  # interned, as a name in source code is: found by identity
            if BY_DTYPE.get(row.dtype) is row:
                names[row.dtype] = names[row.dtype.type] = row.code
    names[float] = BY_NAME["float64"].code
    return names


def sources() -> list[tuple[DType, int]]:
    """Return each dtype that numpy's C interface tells apart, and its code.

    C has more integer types than widths ("long" and "long long"): one format, two type numbers, equal to Python.
    """
    builtin = [np.dtype(char) for char in "?bhilqBHILQefd"]
    registered = [dtype for dtype in BY_DTYPE if dtype.isbuiltin == 2]
    return [(dtype, BY_DTYPE[dtype].code) for dtype in (*builtin, *registered)]


def float_sources() -> list[tuple[DType, int]]:
    """Return those of the float formats."""
    return [(dtype, code) for dtype, code in sources() if BY_DTYPE[dtype].is_float]


def find(dtype: FormatLike, argument: str) -> tuple[Format, DType]:
    """Return the format that a dtype names, and the dtype of its arrays in the byte order that was asked for."""
    found = _find(dtype)
    if found is None:
        raise TypeError(_unknown(dtype, argument, BY_NAME))
    return found


def find_float(dtype: FormatLike, argument: str) -> tuple[Format, DType]:
    """Return what find returns, for a float format; a TypeError for an integer format."""
    found = _find(dtype)
    if found is None:
        raise TypeError(_unknown(dtype, argument, [row.name for row in FORMATS if row.is_float]))
    if not found[0].is_float:
        raise TypeError(
            f"{argument} is {found[0].name}, an integer format; a cast makes floats only, and narrowcast.quantize "
            "makes integers, with a scale"
        )
    return found


def _find(dtype: FormatLike) -> tuple[Format, DType] | None:
    row: Format | None = None
    wanted: DType | None = None
    if isinstance(dtype, Format):
        row = dtype
    elif isinstance(dtype, str):
        row = BY_NAME.get(dtype)
        wanted = _BY_STRING.get(dtype)
    elif isinstance(dtype, np.dtype):
        wanted = dtype
    elif isinstance(dtype, type) and (dtype in _TYPES or dtype in (float, int, bool)):
        wanted = np.dtype(dtype)
    elif _torch.is_dtype(dtype):
        row = BY_NAME.get(_torch.name_of(dtype))
    if row is None and wanted is not None:
        row = format_of(wanted)
    if row is None:
        return None
    return row, row.dtype if wanted is None or wanted.isnative else wanted


def _unknown(dtype: object, argument: str, names: Iterable[str]) -> str:
    return (
        f"{argument} is {dtype!r}; allowed are {', '.join(names)}, and the numpy, ml_dtypes and torch dtypes of these "
        "names"
    )


def format_of(dtype: DType) -> Format | None:
    """Return the format of a dtype in either byte order; None if it has none."""
    return BY_DTYPE.get(dtype) or BY_DTYPE.get(dtype.newbyteorder("="))


def formats() -> tuple[Format, ...]:
    """Return the facts of every format.

    Returns
    -------
    tuple of Format
        The float formats, then the integer formats, which are sources only; always in the same order.

    Examples
    --------
    >>> import narrowcast as nc
    >>> [(f.name, f.bias, hex(f.max_code)) for f in nc.formats() if f.bits == 6]
    [('float6_e2m3fn', 1, '0x1f'), ('float6_e3m2fn', 3, '0x1f')]
    """
    return FORMATS
