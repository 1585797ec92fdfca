"""Scales and zero points: those that came with a call, read and checked; those that are made; both for the caller."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from narrowcast import _core, _formats, _torch
from narrowcast._arrays import Array
from narrowcast._astype import astype
from narrowcast._formats import Format
from narrowcast._quant.boxes import Shape, fit
from narrowcast._quant.resolved import MOST_ZERO, SCALE_DTYPES, Resolved, unpacked
from narrowcast._quant.target import name_of

FLOAT32: Final = _formats.BY_NAME["float32"]
FLOAT16: Final = _formats.BY_NAME["float16"]
INT32: Final = _formats.BY_NAME["int32"]
UINT8: Final = _formats.BY_NAME["uint8"]
_NARROW: Final = ("float16", "bfloat16")


class Params(NamedTuple):
    """A scale and, unless it is None, a zero point for each box, and how their bits are read."""

    scale: Array
    scale_row: Format
    zero: Array | None = None
    zero_row: Format = INT32

    def for_core(self) -> tuple[Array, int, Array | None, int]:
        """Return what calls of the core take."""
        return self.scale, self.scale_row.code, self.zero, self.zero_row.code


def allocate(resolved: Resolved, source: Format, boxes: Shape) -> Params:
    """Return uninitialised arrays for the scales and zero points that are computed for a source."""
    if resolved.scale is not None:
        row = resolved.scale
    elif resolved.is_fused:
        row = FLOAT32 if resolved.target.bits == 8 else FLOAT16
    elif resolved.dialect.steps == "source":
        row = resolved.compute or (source if source.name in _NARROW else FLOAT32)
    else:
        row = FLOAT32
    scale = np.empty(boxes, row.dtype)
    if not resolved.has_zero:
        return Params(scale, row)
    zero_row = INT32 if not resolved.float_zero else row if resolved.is_fused else FLOAT32
    return Params(scale, row, np.empty(boxes, zero_row.dtype), zero_row)


def read_given(resolved: Resolved, scale: Any, zero_point: Any, boxes: Shape, positive: bool = True) -> Params:
    """Return given scales and zero points, one for each box; without zero points, those of the middle code."""
    array, row = read_scale(scale, None if resolved.scale is None else resolved.scale.name)
    array = fit(array, boxes, "scale")
    if positive:
        _check_positive(array, row)
    if zero_point is None:
        if resolved.is_fused:
            raise ValueError("zero_point is None, and dialect is 'fbgemm'; allowed is the bias of each row")
        zero = _default_zero(resolved, boxes)
        return Params(array, row, zero, INT32)
    zero, zero_row = read_zero(resolved, zero_point)
    return shown(resolved, Params(array, row, fit(zero, boxes, "zero_point"), zero_row))


def read_scale(scale: Any, dtype: str | None) -> tuple[Array, Format]:
    """Return scales as an array that the core reads: of a scale format, others rounded to float32."""
    array, name = _to_array(scale, "scale")
    row = _formats.BY_NAME.get(name)
    if row is None or row.name == "bool" or (array.dtype.hasobject):
        raise TypeError(f"scale has dtype {name}; allowed are {', '.join(SCALE_DTYPES)}, and numbers")
    if row.name not in SCALE_DTYPES:
        if row.is_float and row.name != "float64":
            raise TypeError(f"scale has dtype {name}; allowed are {', '.join(SCALE_DTYPES)}, and numbers")
        array, row = np.asarray(astype(array, "float32")), FLOAT32
    if dtype is not None and row.name != dtype:
        row = _formats.BY_NAME[dtype]
        array = np.asarray(astype(array, dtype, overflow="saturate"))
    return array, row


def read_zero(resolved: Resolved, zero_point: Any) -> tuple[Array, Format]:
    """Return zero points as int32 or, where the dialect has a float there, as float32."""
    if resolved.target.is_float:
        raise ValueError(f"zero_point is given; allowed with integer codes only, and dtype is {resolved.target.name}")
    array, name = _to_array(zero_point, "zero_point")
    row = _formats.BY_NAME.get(name)
    if row is not None and row.is_float and resolved.dialect.zero == "shift" and not row.is_codes:
        return np.asarray(array if row in (FLOAT32, FLOAT16) else astype(array, "float32")), (
            row if row in (FLOAT32, FLOAT16) else FLOAT32
        )
    if row is None or row.is_float or row.name == "bool":
        allowed = "integers and floats" if resolved.dialect.zero == "shift" else "integers"
        raise TypeError(f"zero_point has dtype {name}; allowed with dialect {resolved.dialect.name!r} are {allowed}")
    if row.bits > 16 and array.size and not -MOST_ZERO <= int(array.min()) <= int(array.max()) <= MOST_ZERO:
        raise ValueError(
            f"zero_point is {_first(array, np.abs(array.astype(np.float64)) > MOST_ZERO)}; allowed are integers of up "
            f"to {MOST_ZERO} in magnitude"
        )
    return array.astype(np.int32, copy=False), INT32


def _to_array(given: Any, argument: str) -> tuple[Array, str]:
    if _torch.is_tensor(given):
        array, name = _torch.to_array(given, argument)
        row = _formats.BY_NAME.get(name)
        if row is not None and array.dtype != row.dtype and array.itemsize == row.storage_bytes:
            array = array.view(row.dtype)
    else:
        try:
            array = np.asarray(given)
        except ValueError:
            raise ValueError(f"{argument} is a sequence of unequal lengths; allowed are numbers and arrays") from None
        name = name_of(array.dtype)
    return array, name


def _check_positive(array: Array, row: Format) -> None:
    values = np.ascontiguousarray(array if row is FLOAT32 else astype(array, "float32"))
    bits = values.view(np.uint32)  # a comparison of floats may take a denormal for 0: torch.set_flush_denormal
    if bits.size and not (bits.min() > 0 and bits.max() < 0x7F800000):
        bad = ~((bits > 0) & (bits < 0x7F800000))
        raise ValueError(f"scale is {float(_first(values, bad))!r}; allowed are finite float32 numbers above 0")


def _first(array: Array, wrong: Array) -> Any:
    return array[wrong].flat[0]


def read_held(resolved: Resolved, scale: Any, zero_point: Any) -> Params | None:
    """Return the scales and zero points that a spec holds, one or a line of them; refuse what no call could use."""
    if scale is None:
        return None
    count = max(len(given) if isinstance(given, tuple) else 1 for given in (scale, zero_point))
    used = read_given(resolved, scale, zero_point, (count,))
    if count:
        x, row = np.zeros(count, np.float32), FLOAT32.code
        options = unpacked(resolved.given)
        _core.fake_quantize(x, row, *used.for_core(), np.empty_like(x), row, (1,), options, 1, None)
    return used


def spread_held(held: Params, boxes: Shape) -> Params:
    """Return what a spec holds for each box; copies, since results may be written to."""
    scale = fit(held.scale, boxes, "scale").copy()
    zero = None if held.zero is None else fit(held.zero, boxes, "zero_point").copy()
    return held._replace(scale=scale, zero=zero)


def _default_zero(resolved: Resolved, boxes: Shape) -> Array | None:
    """Return the zero points of scales that came without: the middle code if codes are symmetric, else 0."""
    if not resolved.has_zero:
        return None
    if not resolved.symmetric:
        return np.zeros(boxes, np.int32)
    one = np.ones(1, np.float32)
    return np.full(boxes, choose(resolved, -one, one, FLOAT32).zero, np.int32)


def choose(resolved: Resolved, low: Array, high: Array, source: Format) -> Params:
    """Return scales and zero points from ranges, by the rule of the dialect."""
    made = allocate(resolved, source, low.shape)
    _core.choose_qparams(low, high, source.code, *made.for_core(), resolved.computed)
    return made


def shown(resolved: Resolved, used: Params) -> Params:
    """Return scales and zero points as the caller has them, or, given those, as the core has them.

    FBGEMM's bias is what the core adds to x, negated.
    """
    if not resolved.is_fused or used.zero is None or not used.zero_row.is_float:
        return used
    return used._replace(zero=-used.zero)


def wrap(used: Params, shape: Shape, is_tensor: bool) -> tuple[Any, Any]:
    """Return scale and zero point for the caller: in this shape, as tensors or as arrays."""
    return _wrap(used.scale, used.scale_row, shape, is_tensor), _wrap(used.zero, used.zero_row, shape, is_tensor)


def _wrap(array: Array | None, row: Format, shape: Shape, is_tensor: bool) -> Any:
    if array is None:
        return None
    array = array if array.shape == shape else array.reshape(shape)
    if not is_tensor:
        return array
    if any(stride % array.itemsize for stride in array.strides):
        array = array.copy()  # a part of fused rows that no tensor can be a view of
    return _torch.from_array(array, name_of(row.dtype))
