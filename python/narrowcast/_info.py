"""finfo and iinfo: the limits of a format, as numpy and ml_dtypes present them, with the facts that those leave out.

Values are decoded from the codes that the core reports, so a new format needs nothing here.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from narrowcast._astype import astype
from narrowcast._formats import Format, FormatLike, find


class finfo:  # noqa: N801 (named as numpy's)
    """Limits of a floating-point format.

    Every attribute of ``ml_dtypes.finfo`` is here with the same value. Values are scalars of the format's dtype, or
    float32 for formats that have none.

    Parameters
    ----------
    dtype : str, dtype or type
        A float format: a name of `formats`, a numpy or ml_dtypes dtype or scalar type, or a torch dtype.

    Attributes
    ----------
    name : str
        The format's public name.
    dtype : numpy.dtype
        The dtype of arrays of this format.
    bits : int
        Bits of a code; fewer than the item's in memory for FP6, FP4 and tfloat32.
    exponent_bits, nexp, iexp : int
        Bits of the exponent.
    mantissa_bits, nmant : int
        Stored bits of the fraction.
    bias : int
        What the exponent field exceeds the exponent by.
    max, min : scalar
        Largest and smallest finite value.
    smallest_normal, tiny, smallest_subnormal : scalar
        Smallest positive values.
    eps, epsneg : scalar
        Distance from 1 to the next larger and to the next smaller value.
    machep, negep : int
        Their exponents.
    minexp, maxexp : int
        Exponents of the smallest normal value, and of the smallest power of two that overflows.
    precision : int
        Decimal digits that the format holds.
    resolution : scalar
        10**-precision.
    has_inf, has_nan, has_zero, has_negative_zero : bool
        Which special values there are.
    nan_code, negative_nan_code, inf_code : int or None
        Stored codes of the NaN and infinity that a cast makes; None where the format has none.
    nan_codes : tuple of int
        The different ones among the NaN codes.

    Examples
    --------
    >>> import narrowcast as nc
    >>> info = nc.finfo("float8_e4m3fn")
    >>> info.bits, info.bias, float(info.max), info.has_inf
    (8, 7, 448.0, False)
    >>> [hex(code) for code in info.nan_codes]
    ['0x7f', '0xff']
    """

    def __init__(self, dtype: FormatLike) -> None:
        row, _ = find(dtype, "dtype")
        if not row.is_float:
            raise TypeError(f"dtype is {row.name}, an integer format; finfo is for float formats, iinfo for these")
        self.name = row.name
        self.dtype = row.dtype
        self.bits = row.bits
        self.exponent_bits = self.nexp = self.iexp = row.exponent_bits
        self.mantissa_bits = self.nmant = row.mantissa_bits
        self.bias = row.bias
        self.has_inf, self.has_nan = row.has_inf, row.has_nan
        self.has_zero, self.has_negative_zero = row.has_zero, row.has_negative_zero
        self.inf_code = row.inf_code if row.has_inf else None
        self.nan_code = row.nan_code if row.has_nan else None
        self.negative_nan_code = row.negative_nan_code if row.has_nan else None
        self.nan_codes = tuple(dict.fromkeys((row.nan_code, row.negative_nan_code))) if row.has_nan else ()

        limits = (row.max_code, row.min_code, row.smallest_normal_code, row.smallest_subnormal_code)
        self.max, self.min, self.smallest_normal, self.smallest_subnormal = _values(row, limits)
        self.tiny = self.smallest_normal
        self.minexp = math.frexp(float(self.smallest_normal))[1] - 1
        self.maxexp = math.frexp(float(self.max))[1]
        self.machep = -row.mantissa_bits
        self.negep = max(self.machep - 1, math.frexp(float(self.smallest_subnormal))[1] - 1)
        scalar = self.dtype.type if not row.is_codes else np.float32
        self.eps, self.epsneg = scalar(2.0**self.machep), scalar(2.0**self.negep)
        self.precision = _precision(row)
        self.resolution = scalar(10.0**-self.precision)

    def __repr__(self) -> str:
        return f"finfo({self.name}: {self.bits} bits, max={self.max}, smallest_subnormal={self.smallest_subnormal})"


class iinfo:  # noqa: N801 (named as numpy's)
    """Limits of an integer format.

    Parameters
    ----------
    dtype : str, dtype or type
        An integer format: a name of `formats`, or a numpy, ml_dtypes or torch dtype.

    Attributes
    ----------
    name : str
        The format's public name.
    dtype : numpy.dtype
        The dtype of arrays of this format.
    kind : str
        ``"i"``, or ``"u"`` if there are no negative values.
    bits : int
        Bits of a value; fewer than the item's in memory for int4 and int2.
    min, max : int
        Smallest and largest value.

    Examples
    --------
    >>> import narrowcast as nc
    >>> info = nc.iinfo("int4")
    >>> info.bits, info.min, info.max
    (4, -8, 7)
    """

    def __init__(self, dtype: FormatLike) -> None:
        row, _ = find(dtype, "dtype")
        if row.is_float:
            raise TypeError(f"dtype is {row.name}, a float format; iinfo is for integer formats, finfo for these")
        self.name = row.name
        self.dtype = row.dtype
        self.kind = "i" if row.sign_bits else "u"
        self.bits = row.bits
        self.min = -(1 << (row.bits - 1)) if row.sign_bits else 0
        self.max = (1 << (row.bits - row.sign_bits)) - 1

    def __repr__(self) -> str:
        return f"iinfo({self.name}: {self.bits} bits, min={self.min}, max={self.max})"


def _values(row: Format, codes: tuple[int, ...]) -> Any:
    """Decode codes of a format, to its own dtype or, if it has none, to float32."""
    array = np.array(codes, f"u{row.storage_bytes}")
    return astype(array, "float32", src_dtype=row) if row.is_codes else array.view(row.dtype)


def _precision(row: Format) -> int:
    """Return the decimal digits, as ml_dtypes counts them: not by one rule for all of its formats."""
    if row.dtype.name != row.name:
        return int(row.mantissa_bits * math.log10(2))
    finfo_of: Any = np.finfo if row.dtype.isbuiltin == 1 else ml_dtypes.finfo
    return int(finfo_of(row.dtype).precision)
