"""Fused rows, as FBGEMM keeps them: the codes of a row, its scale, its bias (the smallest value), in one row of bytes.

8 bits: n codes, float32, float32. 4 and 2 bits: the codes packed, lowest bits first, float16, float16. What the
numbers are is the core's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from narrowcast import _torch
from narrowcast._arrays import Array
from narrowcast._formats import BY_NAME, DType
from narrowcast._quant.boxes import Shape
from narrowcast._quant.params import Params, wrap
from narrowcast._quant.target import Target


class FusedRows(NamedTuple):
    """The rows and what they are made of: views, of which scale and bias have one column."""

    rows: Array
    codes: Array
    scale: Array
    bias: Array


def number_dtype(target: Target) -> DType:
    """Return the dtype of scale and bias."""
    return np.dtype(np.float32 if target.bits == 8 else np.float16)


def allocate(shape: Shape, target: Target) -> FusedRows:
    """Return rows of zeros for an array of this shape."""
    return split(np.zeros(rows_shape(shape, target), np.uint8), target)


def rows_shape(shape: Shape, target: Target) -> Shape:
    """Return the shape of the rows of an array."""
    return (*shape[:-1], target.items(shape[-1]) + 2 * number_dtype(target).itemsize)


def split(rows: Array, target: Target) -> FusedRows:
    """Return the parts of fused rows."""
    dtype = number_dtype(target)
    end = rows.shape[-1] - 2 * dtype.itemsize
    if rows.ndim < 1 or rows.dtype != np.uint8 or end < 0:
        raise ValueError(
            f"codes are {rows.dtype} of shape {rows.shape}; allowed without a scale are FBGEMM's fused rows: uint8, "
            f"with {2 * dtype.itemsize} bytes of scale and bias at the end of each"
        )
    scale = rows[..., end : end + dtype.itemsize].view(dtype)
    return FusedRows(rows, rows[..., :end], scale, rows[..., end + dtype.itemsize :].view(dtype))


def split_given(rows: Any, target: Target) -> tuple[Any, Any, Any]:
    """Return codes, scale and bias of fused rows that came in: views, but for numbers that no tensor can be one of."""
    is_tensor = _torch.is_tensor(rows)
    array, _ = _torch.to_array(rows, "codes") if is_tensor else (np.asarray(rows), "")
    parts = split(array, target)
    row = BY_NAME[parts.scale.dtype.name]
    scale, bias = wrap(Params(parts.scale, row, parts.bias, row), parts.scale.shape, is_tensor)
    return rows[..., : parts.codes.shape[-1]], scale, bias
