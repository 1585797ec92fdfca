"""quantization_error and cast_error: what codes or a cast lost, as a few numbers.

The sums are the core's; what they mean for one tensor after another is in _sums.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np

from narrowcast import _config, _core, _formats
from narrowcast._arrays import read
from narrowcast._astype import Overflow, Rounding, read_modes
from narrowcast._formats import FormatLike
from narrowcast._quant.array import QuantizedArray
from narrowcast._quant.call import Call
from narrowcast._quant.codes import find_shape, read_codes, to_array
from narrowcast._quant.params import read_given
from narrowcast._sums import Found, Sums

_PIECE: Final = 1 << 16  # elements: what fits into a cache next to its cast


class ErrorStats(NamedTuple):
    """How far values are from what became of them.

    The errors are over the elements that are finite before and after, as float32; the counts are over all. Sums are
    good to 2^-19 of themselves, and the last digits of what follows from them (`mean_abs`, `rmse`, `sqnr_db`) depend on
    the instruction set; nothing else does.

    Attributes
    ----------
    elements, finite : int
        Elements, and those among them that are finite on both sides.
    max_abs, mean_abs, rmse : float
        The largest and the mean absolute error, and the root of the mean squared one; 0 without elements.
    sqnr_db : float
        Signal to quantization noise ratio in dB, 10 log10(sum x^2 / sum error^2): inf if nothing changed, nan if there
        is no signal.
    clipped : int
        Finite values beyond the largest or the smallest that the codes or the format can say.
    zeroed : int
        Values other than zero that became zero.
    became_nan : int
        Values that became NaN.
    """

    elements: int
    finite: int
    max_abs: float
    mean_abs: float
    rmse: float
    sqnr_db: float
    clipped: int
    zeroed: int
    became_nan: int


def cast_error(
    x: Any,
    dtype: FormatLike,
    *,
    src_dtype: FormatLike | None = None,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "ieee",
    seed: int | None = None,
    offset: int = 0,
) -> ErrorStats:
    """Return what `astype` would lose of values, in one pass and without keeping the result.

    Parameters
    ----------
    x : array_like, torch.Tensor or buffer
        Values, as `astype` takes them.
    dtype : str, dtype or type
        The float format to cast to.
    src_dtype, rounding, overflow, seed, offset
        As in `astype`; `overflow` may be ``"ieee"`` or ``"saturate"``.

    Returns
    -------
    ErrorStats

    Raises
    ------
    TypeError, ValueError
        As `astype`.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> lost = nc.cast_error(np.array([1.0, 1.06, 1e-9, 1e9], np.float32), "float8_e4m3fn", overflow="saturate")
    >>> lost.clipped, lost.zeroed, lost.finite
    (1, 1, 4)
    """
    target, _ = _formats.find_float(dtype, "dtype")
    modes = read_modes(rounding, overflow, seed, offset)
    if overflow == "raise":
        raise ValueError("overflow is 'raise'; allowed are ieee and saturate")
    source = read(x, src_dtype)
    array = source.array
    if array.flags.c_contiguous and array.size > _PIECE:
        flat = array.reshape(-1)
        pieces = [flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE)]
    else:
        pieces = [array]
    isa = _config.chosen_isa.get()
    buffer = np.empty(pieces[0].shape, target.dtype)
    found, done = [], 0
    for piece in pieces:
        made = buffer if piece.shape == buffer.shape else buffer[: piece.shape[0]]
        here = (*modes[:3], modes[3] + done if rounding == "stochastic" else 0)
        failure = _core.cast(piece, source.format.code, made, target.code, *here, 1, isa)
        if failure is not None:
            raise (TypeError if failure[0] == _core.ERROR_FORMAT else ValueError)(failure[4])
        found.append(_core.cast_error(piece, source.format.code, made, target.code, modes[0], isa))
        done += piece.size
    return _total(found)


def quantization_error(x: Any, q: Any) -> ErrorStats:
    """Return how far values are from those that their codes stand for, in one pass.

    Parameters
    ----------
    x : array_like or torch.Tensor
        Values of any float format.
    q : QuantizedArray
        What `quantize` made of them, or of others of the same shape.

    Returns
    -------
    ErrorStats

    Raises
    ------
    TypeError, ValueError
        If these are not values and a QuantizedArray of one shape.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> x = np.array([0.1, 0.2, 0.3, 1.0], np.float32)
    >>> lost = nc.quantization_error(x, nc.quantize(x, "int8", scale=0.1))
    >>> lost.clipped, lost.zeroed, round(lost.max_abs, 6)
    (0, 0, 0.0)
    """
    if not isinstance(q, QuantizedArray):
        raise TypeError(f"q is a {type(q).__name__}; allowed is a QuantizedArray, as quantize returns it")
    return _total([measure(x, q)])


def measure(x: Any, q: QuantizedArray) -> Found:
    """Return what the core finds of values and the codes that were made of them: sums, which add up."""
    call, resolved = Call.read(x, q.spec, 1), q.spec._resolved
    codes, name = to_array(q.codes)
    shape = find_shape(codes, resolved, q.shape)
    if call.source.array.shape != shape:
        raise ValueError(f"x has shape {call.source.array.shape}, and q is of {shape}; allowed is one shape")
    if not call.array.size:
        return 0, 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0
    whole = call.array.shape
    codes, code_format, options = read_codes(codes, name, resolved, whole)
    used = read_given(resolved, q.scale, q.zero_point, call.boxes, positive=False)
    return _core.quantization_error(
        call.array,
        call.source.format.code,
        codes if options[8] else codes.reshape(whole),
        code_format,
        *used.for_core(),
        call.block,
        options,
        _config.chosen_isa.get(),
    )


def _total(parts: Iterable[Found]) -> ErrorStats:
    """Add up what the core found in pieces."""
    given = list(parts)
    count, finite, _, _, _, _, clipped, zeroed, became_nan = (sum(part[i] for part in given) for i in range(9))
    signal, noise, error = (_sum(part[i] for part in given) for i in (2, 3, 4))
    sums = Sums(int(count), signal, noise, int(clipped), int(zeroed), int(became_nan))
    return ErrorStats(
        elements=int(count),
        finite=int(finite),
        max_abs=max((part[5] for part in given), default=0.0),
        mean_abs=error / finite if finite else 0.0,
        rmse=math.sqrt(noise / finite) if finite else 0.0,
        sqnr_db=sums.sqnr,
        clipped=int(clipped),
        zeroed=int(zeroed),
        became_nan=int(became_nan),
    )


def _sum(parts: Iterable[float]) -> float:
    try:
        return math.fsum(parts)
    except OverflowError:
        return math.inf
