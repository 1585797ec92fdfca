"""inspect: one value in one format, down to its bits.

Numbers given as text, integers and fractions are kept exact until the one rounding into the format. Colours and tables
are the command line's (cli.py).
"""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from narrowcast._astype import astype
from narrowcast._formats import Format, FormatLike, find_float

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

_LARGEST_EXPONENT = 5000  # of a decimal number; beyond it, exact arithmetic would take all memory


class Inspection(NamedTuple):
    """What a format makes of a value; ``str`` shows it in a few lines.

    Attributes
    ----------
    format : Format
        The format.
    code : int
        The stored code.
    value : Fraction or float
        The value that was asked for, exactly; a float if it is NaN, infinite or -0.
    stored : float
        The value that the code stands for. Every value of every format is a float64 value, so this is exact.
    below, above : float or None
        The neighbours of the stored value; None where there is none.
    sign, exponent, fraction : str
        The code's fields in binary; empty where the format has none.
    bits : str
        The fields, separated by spaces.
    exact : str
        The stored value in decimal, with every digit.
    error : Fraction or None
        Stored value minus value, exactly; None if either is not finite.
    """

    format: Format
    code: int
    value: Fraction | float
    stored: float
    below: float | None
    above: float | None

    @property
    def sign(self) -> str:
        return self._field(self.format.bits - 1, self.format.sign_bits)

    @property
    def exponent(self) -> str:
        return self._field(self.format.mantissa_bits, self.format.exponent_bits)

    @property
    def fraction(self) -> str:
        return self._field(0, self.format.mantissa_bits)

    @property
    def bits(self) -> str:
        return " ".join(field for field in (self.sign, self.exponent, self.fraction) if field)

    @property
    def exact(self) -> str:
        return _digits(self.stored)

    @property
    def error(self) -> Fraction | None:
        from fractions import Fraction

        if not math.isfinite(self.stored) or (isinstance(self.value, float) and not math.isfinite(self.value)):
            return None
        return Fraction(self.stored) - Fraction(self.value)

    def _field(self, position: int, width: int) -> str:
        field = self.code // _unit(self.format) >> position & ((1 << width) - 1)
        return f"{field:0{width}b}" if width else ""

    def __str__(self) -> str:
        return "\n".join(
            (
                self.bits,
                f"format  {self.format.name}",
                f"code    {code_text(self)}",
                f"stored  {self.exact}",
                f"error   {error_text(self)}",
                f"below   {'none' if self.below is None else _digits(self.below)}",
                f"above   {'none' if self.above is None else _digits(self.above)}",
            )
        )


def inspect(value: Any, dtype: FormatLike, *, bits: bool = False) -> Inspection:
    """Show how a format holds a value.

    Parameters
    ----------
    value : number or str
        The value, taken exactly. Text is a decimal number (``"0.1"``, ``"-1e-40"``, ``"inf"``, ``"nan"``) or a
        fraction (``"1/3"``).
    dtype : str, dtype or type
        A float format.
    bits : bool, default False
        Take `value` as a stored code, an integer or text such as ``"0x41a"``, and decode it.

    Returns
    -------
    Inspection
        The fields in binary, the exact stored value, the error, and the neighbours.

    Raises
    ------
    TypeError
        If `dtype` is not a float format.
    ValueError
        If `value` is not a number, or not a code of the format.

    Examples
    --------
    >>> import narrowcast as nc
    >>> print(nc.inspect(9.625, "float32"))
    0 10000010 00110100000000000000000
    format  float32
    code    0x411a0000
    stored  9.625
    error   0
    below   9.62499904632568359375
    above   9.62500095367431640625
    >>> nc.inspect("0.1", "float8_e4m3fn").exact
    '0.1015625'
    >>> nc.inspect("0x41a", "float16", bits=True).bits
    '0 00001 0000011010'
    """
    row, _ = find_float(dtype, "dtype")
    if bits:
        code = _read_code(value, row)
        stored = _decode(row, code)
        return Inspection(row, code, _read_value(stored), stored, *_neighbours(row, code, stored))
    exact = _read_value(value)
    code = _encode(row, exact)
    stored = _decode(row, code)
    return Inspection(row, code, exact, stored, *_neighbours(row, code, stored))


def code_text(found: Inspection) -> str:
    """Return the stored code in hexadecimal, as wide as the item."""
    return f"0x{found.code:0{2 * found.format.storage_bytes}x}"


def error_text(found: Inspection) -> str:
    """Return the error in decimal: exactly if it is short, else its leading digits."""
    from decimal import Decimal, localcontext
    from fractions import Fraction

    error = found.error
    if error is None:
        return "none"
    if error == 0:
        return "0"
    with localcontext(prec=20):
        quotient = Decimal(error.numerator) / Decimal(error.denominator)
    if Fraction(quotient) == error:
        return _plain(quotient, "+")
    return f"about {quotient:+.5e}"


def _read_value(value: Any) -> Fraction | float:
    """Return a value as a fraction; NaN, infinities and -0 as a float."""
    from decimal import Decimal
    from fractions import Fraction

    given = value
    try:
        if isinstance(value, str):
            value = Fraction(value) if "/" in value else Decimal(value.strip())
        elif isinstance(value, np.generic):
            value = int(value) if value.dtype.kind in "iu" else float(astype(value, "float64"))
        if isinstance(value, float | Decimal):
            decimal = Decimal(value)
            if not decimal.is_finite() or (decimal.is_zero() and decimal.is_signed()):
                return float(value)
            if not decimal.is_zero() and abs(decimal.adjusted()) > _LARGEST_EXPONENT:
                raise ValueError
        return Fraction(value)
    except (ValueError, ArithmeticError, TypeError):
        raise ValueError(
            f"value is {given!r}; allowed are numbers and their text, with exponents up to {_LARGEST_EXPONENT}"
        ) from None


def _read_code(value: Any, row: Format) -> int:
    try:
        code = int(value, 0) if isinstance(value, str) else index(value)
    except (ValueError, TypeError):
        raise ValueError(f"value is {value!r}; allowed with bits=True are integers, such as 0x1a") from None
    unit = _unit(row)
    if not 0 <= code < unit << row.bits or code % unit:
        largest = (unit << row.bits) - unit
        multiples = f" in multiples of {unit:#x}" if unit > 1 else ""
        raise ValueError(f"value is {code:#x}; allowed for {row.name} are codes up to {largest:#x}{multiples}")
    return code


def _unit(row: Format) -> int:
    """Return what the last place of a code counts: 1, or 2**13 for tfloat32, whose code begins at the top of a word."""
    return max(row.smallest_subnormal_code, 1)


def _encode(row: Format, value: Fraction | float) -> int:
    number = value if isinstance(value, float) else _to_float64(value, to_odd=row.name != "float64")
    return int(astype(np.array(number), row).view(f"u{row.storage_bytes}"))


def _decode(row: Format, code: int) -> float:
    return float(astype(np.array(code, f"u{row.storage_bytes}"), "float64", src_dtype=row))


def _to_float64(value: Fraction, *, to_odd: bool) -> float:
    """Return the nearest float64; or, for one more rounding to follow, the inexact neighbour with an odd last bit.

    A float64 rounded to odd remembers on which side of every shorter number and midpoint the value lies, so rounding
    it again to any format of at most 51 bits gives what rounding the value itself gives.
    """
    from fractions import Fraction

    try:
        nearest = float(value)
    except OverflowError:
        nearest = math.inf if value > 0 else -math.inf
    if not to_odd or (math.isfinite(nearest) and Fraction(nearest) == value):
        return nearest
    if int(np.float64(nearest).view(np.uint64)) & 1:
        return nearest
    return math.nextafter(nearest, math.inf if value > nearest else -math.inf)


def _neighbours(row: Format, code: int, stored: float) -> tuple[float | None, float | None]:
    if math.isnan(stored):
        return None, None
    unit = _unit(row)
    width = row.bits - row.sign_bits
    magnitude = code // unit & ((1 << width) - 1)
    position = -magnitude if code // unit >> width else magnitude

    def at(place: int) -> float | None:
        if abs(place) >> width or (place < 0 and not row.sign_bits):
            return None
        value = _decode(row, (place if place >= 0 else 1 << width | -place) * unit)
        return None if math.isnan(value) else value

    return at(position - 1), at(position + 1)


def _digits(value: float) -> str:
    from decimal import Decimal

    return _plain(Decimal(value), "") if math.isfinite(value) else repr(value)


def _plain(number: Decimal, sign: str) -> str:
    """Write a number with all its digits, with an exponent only where that saves zeros."""
    return format(number, f"{sign}f" if number == 0 or -6 <= number.adjusted() < 25 else f"{sign}e")
