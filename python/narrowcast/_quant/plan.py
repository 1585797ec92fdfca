"""The plan of a spec: what the compiled entries need to quantize and dequantize without asking Python anything.

There is one for codes that the core reads as they lie. quantize is part of it for one scale, rows, and groups of the
last axis, where results have the same dtypes whatever comes in.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from narrowcast import _core, _formats
from narrowcast._quant.boxes import Partition
from narrowcast._quant.params import Params
from narrowcast._quant.resolved import Resolved

_GRANULARITIES: Final = {"tensor": 0, "row": 1, "group": 2, "channel": 3, "block": 4}
_MOST_AXES: Final = 64  # of an array of numpy


def make_plan(resolved: Resolved, making: Any, threads: int | None) -> Any:
    """Return a QuantPlan of the core, or None where there is none; `making` is what find_making returns."""
    target = resolved.target
    extents = _extents(resolved.partition)
    if resolved.layout != "lsb" or resolved.is_fused or extents is None:
        return None
    name = "uint8" if resolved.packed else target.name if target.is_float else target.carrier.name
    return _core.QuantPlan(
        resolved.given,
        _GRANULARITIES[resolved.partition.granularity],
        extents,
        -1 if threads is None else threads,
        np.dtype(np.uint8) if resolved.packed else target.dtype,
        np.dtype(np.uint8) if resolved.packed else target.carrier,
        _formats.BY_NAME[name].code,
        0 if resolved.scale is None else resolved.scale.code,
        resolved.has_zero,
        not target.is_float,
        resolved.dialect.zero == "shift",
        making,
    )


def find_making(resolved: Resolved, held: Params | None, computes: bool) -> Any:
    """Return what quantize needs beyond the rest, or None if it has to ask Python.

    `held` are the scales of the spec itself; `computes` says whether the core makes scales in the pass that makes
    codes.
    """
    partition = resolved.partition
    if partition.granularity not in ("tensor", "row", "group") or partition.axis not in (None, -1):
        return None
    if resolved.scale is None and resolved.dialect.steps == "source":  # scales have the dtype of x
        return None
    if held is not None and (held.scale.size != 1 or held.scale.dtype != np.float32):
        return None
    if held is not None and held.zero is not None and (held.zero.size != 1 or held.zero.dtype != np.int32):
        return None
    scale = resolved.scale or _formats.BY_NAME["float32"]
    zero = _formats.BY_NAME["float32" if resolved.float_zero else "int32"]
    return (
        resolved.computed if computes else None,
        scale.dtype,
        scale.code,
        zero.dtype if resolved.has_zero else None,
        zero.code,
        None if held is None else held.scale,
        None if held is None else held.zero,
    )


def _extents(partition: Partition) -> tuple[int, ...] | None:
    """Return the numbers that a granularity comes with; None for axes that no array has."""
    if partition.block_shape is not None:
        return partition.block_shape
    axes = -1 if partition.axis is None else partition.axis
    axes = axes if isinstance(axes, tuple) else (axes,)
    if len(axes) > _MOST_AXES or any(abs(axis) > _MOST_AXES for axis in axes):
        return None
    return axes if partition.group_size is None else (partition.group_size, *axes)
