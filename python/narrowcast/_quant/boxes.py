"""Boxes: which elements share a scale, what shape the scales have, and how scales that came in fit it.

Every granularity is a block, one extent per dimension; the scales of an array are one per block, in an array with as
many dimensions. Nothing here looks at a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from narrowcast._quant.spec import QuantSpec

Array: TypeAlias = "np.ndarray[Any, Any]"
Shape: TypeAlias = tuple[int, ...]


def block_of(spec: QuantSpec, shape: Shape) -> Shape:
    """Return the extents of the boxes of a spec in an array of this shape; 0 where a box is all of an empty axis."""
    if not shape or spec.granularity == "tensor":
        return shape
    ones = (1,) * len(shape)
    if spec.granularity == "row":
        return (*ones[:-1], shape[-1])
    if spec.granularity == "channel":
        assert spec.axis is not None
        kept = find_axes(spec.axis, len(shape))
        return tuple(1 if i in kept else extent for i, extent in enumerate(shape))
    if spec.granularity == "group":
        assert spec.group_size is not None
        (along,) = find_axes(-1 if spec.axis is None else spec.axis, len(shape))
        return tuple(max(min(spec.group_size, extent), 1) if i == along else 1 for i, extent in enumerate(shape))
    assert spec.block_shape is not None
    if len(shape) < 2:
        raise ValueError(f"granularity is 'block', and x has shape {shape}; allowed are two dimensions or more")
    rows, columns = (max(min(size, n), 1) for size, n in zip(spec.block_shape, shape[-2:], strict=True))
    return (*ones[:-2], rows, columns)


def find_axes(axis: int | Shape, ndim: int) -> Shape:
    """Return axes counted from the front; a ValueError for those that an array does not have."""
    given = (axis,) if isinstance(axis, int) else axis
    for one in given:
        if not -ndim <= one < ndim:
            raise ValueError(f"axis is {axis}; allowed are {-ndim} to {ndim - 1}: x has {ndim} dimensions")
    found = tuple(one % ndim for one in given)
    if len(set(found)) < len(found):
        raise ValueError(f"axis is {axis}, which names an axis twice in an x of {ndim} dimensions")
    return found


def count_boxes(shape: Shape, block: Shape) -> Shape:
    """Return the shape of the scales: boxes per dimension, of which the last may be short."""
    return tuple(-(-extent // size) if size else 1 for extent, size in zip(shape, block, strict=True))


def fit(array: Array, shape: Shape, argument: str) -> Array:
    """Return a scale or zero point for each box: in the shape of the boxes, that shape without its ones, or just one.

    The first two are views, a single value is repeated.
    """
    if array.shape == shape:
        return array
    if array.shape == tuple(extent for extent in shape if extent != 1):
        return array.reshape(shape)
    if array.size == 1:
        return np.full(shape, array.reshape(()))
    allowed = " or ".join(dict.fromkeys([str(shape), str(tuple(n for n in shape if n != 1)), "one value"]))
    raise ValueError(f"{argument} has shape {array.shape}; allowed are {allowed}")


def guess_block(shape: Shape, scale: Shape) -> Shape:
    """Return the boxes that an array of scales speaks of by its shape alone; a ValueError where it leaves a choice."""
    if all(extent == 1 for extent in scale):
        return shape
    if len(scale) == len(shape) and all(
        count == 1 or extent == count or (count and extent % count == 0)
        for extent, count in zip(shape, scale, strict=True)
    ):
        return tuple(extent // count if count else 1 for extent, count in zip(shape, scale, strict=True))
    raise ValueError(
        f"scale has shape {scale}, and codes are {shape}; without granularity=, allowed are one scale, or scales with "
        "as many dimensions that divide those of the codes"
    )


def slices(shape: Shape, block: Shape, box: Sequence[int]) -> tuple[slice, ...]:
    """Return the place of one box."""
    return tuple(slice(i * size, min((i + 1) * size, n)) for i, size, n in zip(box, block, shape, strict=True))
