"""The plan of a spec: what the compiled entry needs to quantize without asking Python anything.

There is one for one scale, rows, and groups of the last axis, where results have the same dtypes whatever comes in.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from narrowcast import _core, _formats
from narrowcast._quant.params import Params
from narrowcast._quant.resolved import Resolved

_GRANULARITIES: Final = {"tensor": 0, "row": 1, "group": 2}


def make_plan(resolved: Resolved, held: Params | None, computes: bool, threads: int | None) -> Any:
    """Return a QuantPlan of the core, or None where there is none.

    `held` are the scales of the spec itself; `computes` says whether the core makes scales in the pass that makes
    codes.
    """
    target, partition = resolved.target, resolved.partition
    if partition.granularity not in _GRANULARITIES or partition.axis not in (None, -1):
        return None
    if resolved.layout != "lsb" or resolved.is_fused:
        return None
    if resolved.scale is None and resolved.dialect.steps == "source":  # scales have the dtype of x
        return None
    if held is not None and (held.scale.size != 1 or held.scale.dtype != np.float32):
        return None
    if held is not None and held.zero is not None and (held.zero.size != 1 or held.zero.dtype != np.int32):
        return None
    scale = resolved.scale or _formats.BY_NAME["float32"]
    zero = _formats.BY_NAME["float32" if resolved.float_zero else "int32"]
    name = "uint8" if resolved.packed else target.name if target.is_float else target.carrier.name
    return _core.QuantPlan(
        resolved.computed if computes else None,
        resolved.given,
        _GRANULARITIES[partition.granularity],
        partition.group_size or 0,
        -1 if threads is None else threads,
        np.dtype(np.uint8) if resolved.packed else target.dtype,
        _formats.BY_NAME[name].code,
        scale.dtype,
        scale.code,
        zero.dtype if resolved.has_zero else None,
        zero.code,
        None if held is None else held.scale,
        None if held is None else held.zero,
    )
