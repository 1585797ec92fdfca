"""Codes that come in: their memory, the shape of the values that they stand for, and how the core reads them.

Codes in a layout other than the plain one are unpacked here. Scales are not here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from narrowcast import _formats
from narrowcast._arrays import Array
from narrowcast._quant.boxes import Shape
from narrowcast._quant.layouts import find_layout, plan, word_dtypes
from narrowcast._quant.pack import unpack
from narrowcast._quant.params import UINT8
from narrowcast._quant.resolved import Options, Resolved, unpacked
from narrowcast._quant.target import Target, memory_of, name_of


def to_array(codes: Any) -> tuple[Array, str]:
    array, name = memory_of(codes, "codes")
    if name == "float4_e2m1fn_x2":  # torch's own bytes of two codes each
        return array, "uint8"
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")), name


def find_shape(array: Array, resolved: Resolved, shape: Any) -> Shape:
    """Return the shape of the values, from an argument or from the codes."""
    bits = resolved.target.bits
    if shape is not None:
        try:
            wanted = tuple(int(n.__index__()) for n in shape)
        except (TypeError, AttributeError):
            raise TypeError(f"shape is {shape!r}; allowed are tuples of integers") from None
        if any(n < 0 for n in wanted):
            raise ValueError(f"shape is {wanted}; allowed are tuples of integers from 0")
    elif not resolved.packed:
        return tuple(array.shape)
    elif resolved.layout != "lsb":
        layout, dtype = (resolved.layout, "layout"), (resolved.target.name, "spec")
        return plan(layout, dtype, tuple(array.shape), (None, "axis"), packed=True).lines.shape
    elif array.ndim == 0 or array.shape[-1] * 8 % bits:
        raise ValueError("shape is None; these packed codes need the shape of the values")
    else:
        return (*array.shape[:-1], array.shape[-1] * 8 // bits)
    if not resolved.packed:
        fits = array.shape == wanted
    elif resolved.layout == "lsb":
        whole = wanted or (1,)
        fits = array.shape in ((*whole[:-1], resolved.target.items(whole[-1])), wanted)
    else:
        fits = True  # the layout's own rules, when they are unpacked
    if not fits:
        raise ValueError(f"shape is {wanted}, and codes of {resolved.target.name} have shape {array.shape}")
    return wanted


def read_codes(array: Array, found: str, resolved: Resolved, shape: Shape) -> tuple[Array, int, Options]:
    """Return codes as the core reads them, their format and the options."""
    target = resolved.target
    if resolved.packed:
        if resolved.layout == "lsb" and math.prod(shape[-1:]) * target.bits % 8 == 0:
            if found != "uint8":
                raise TypeError(f"codes have dtype {found}; allowed for packed {target.name} is uint8")
            return np.atleast_1d(array), UINT8.code, resolved.given
        words = word_dtypes(find_layout(resolved.layout, "layout"))
        if array.dtype not in words:
            allowed = " and ".join(map(str, words))
            raise TypeError(f"codes have dtype {found}; allowed in layout {resolved.layout} are {allowed}")
        array = np.asarray(unpack(array, target.name, shape=shape, layout=resolved.layout))
        found = name_of(array.dtype)
    _check_dtype(array, found, target)
    options = unpacked(resolved.given)
    if target.is_float:
        return array.view(target.dtype), target.format, options
    return array.view(target.carrier), _formats.BY_DTYPE[target.carrier].code, options


def _check_dtype(array: Array, found: str, target: Target) -> None:
    allowed = tuple(dict.fromkeys((name_of(target.dtype), name_of(target.carrier))))
    if found not in allowed or array.itemsize != target.carrier.itemsize:
        raise TypeError(f"codes have dtype {found}; allowed for {target.name} are {', '.join(allowed)}")
