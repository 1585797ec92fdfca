"""Boxes: which elements share a scale, what shape the scales have, and how scales that came in fit it.

Every granularity is a block, one extent per dimension; the scales of an array are one per block, in an array with as
many dimensions. Nothing here looks at a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

import numpy as np

from narrowcast._quant.checks import check_choice, read_extent, read_index

Array: TypeAlias = "np.ndarray[Any, Any]"
Shape: TypeAlias = tuple[int, ...]
Granularity: TypeAlias = Literal["tensor", "row", "channel", "group", "block"]

GRANULARITIES: Final = ("tensor", "row", "channel", "group", "block")


class Partition(NamedTuple):
    """How arrays of any shape are divided into boxes: the arguments that say it, checked."""

    granularity: Granularity
    axis: int | tuple[int, ...] | None
    group_size: int | None
    block_shape: tuple[int, int] | None

    @classmethod
    def read(cls, granularity: Any, axis: Any, group_size: Any, block_shape: Any) -> Self:
        """Take arguments, if they are possible and belong together."""
        check_choice(granularity, GRANULARITIES, "granularity")
        return cls(
            granularity,
            _read_axis(axis, granularity),
            _read_group(group_size, granularity),
            _read_block(block_shape, granularity),
        )

    def block(self, shape: Shape) -> Shape:
        """Return the extents of the boxes in an array of this shape; 0 where a box is all of an empty axis."""
        if not shape or self.granularity == "tensor":
            return shape
        ones = (1,) * len(shape)
        if self.granularity == "row":
            return (*ones[:-1], shape[-1])
        if self.granularity == "channel":
            assert self.axis is not None
            kept = find_axes(self.axis, len(shape))
            return tuple(1 if i in kept else extent for i, extent in enumerate(shape))
        if self.granularity == "group":
            assert self.group_size is not None
            (along,) = find_axes(-1 if self.axis is None else self.axis, len(shape))
            return tuple(max(min(self.group_size, extent), 1) if i == along else 1 for i, extent in enumerate(shape))
        assert self.block_shape is not None
        if len(shape) < 2:
            raise ValueError(f"granularity is 'block', and x has shape {shape}; allowed are two dimensions or more")
        rows, columns = (max(min(size, n), 1) for size, n in zip(self.block_shape, shape[-2:], strict=True))
        return (*ones[:-2], rows, columns)


def _read_axis(axis: Any, granularity: str) -> int | tuple[int, ...] | None:
    if axis is None:
        if granularity == "channel":
            raise ValueError("axis is None; granularity='channel' needs an axis, or a tuple of axes")
        return None
    if granularity not in ("channel", "group"):
        raise ValueError(f"axis is {axis!r}; allowed with granularity 'channel' and 'group' only")
    if isinstance(axis, tuple | list):
        if granularity == "group" or not axis:
            raise ValueError(f"axis is {axis!r}, and granularity is {granularity!r}; allowed is an integer")
        return tuple(read_index(one, "axis") for one in axis)
    return read_index(axis, "axis")


def _read_group(group_size: Any, granularity: str) -> int | None:
    if granularity != "group":
        if group_size is not None:
            raise ValueError(f"group_size is {group_size!r}; allowed with granularity='group' only")
        return None
    if group_size is None:
        raise ValueError("group_size is None; granularity='group' needs the number of elements of a group")
    return read_extent(group_size, "group_size")


def _read_block(given: Any, granularity: str) -> tuple[int, int] | None:
    if granularity != "block":
        if given is not None:
            raise ValueError(f"block_shape is {given!r}; allowed with granularity='block' only")
        return None
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(f"block_shape is {given!r}; allowed with granularity='block' are two integers, as (128, 128)")
    return read_extent(given[0], "block_shape[0]"), read_extent(given[1], "block_shape[1]")


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
