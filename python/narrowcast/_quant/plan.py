"""The plan of a spec: what the compiled entry needs to quantize without asking Python anything.

There is one for one scale, rows, and groups of the last axis, where results have the same dtypes whatever comes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from narrowcast import _core, _formats
from narrowcast._quant.collectors import Calibration

if TYPE_CHECKING:
    from narrowcast._quant.spec import QuantSpec

_GRANULARITIES: Final = {"tensor": 0, "row": 1, "group": 2}


def make_plan(spec: QuantSpec) -> Any:
    """Return a QuantPlan of the core, or None if only Python can do what the spec asks for."""
    resolved = spec._resolved
    target = resolved.target
    if spec.granularity not in _GRANULARITIES or spec.axis not in (None, -1) or spec.layout not in (None, "lsb"):
        return None
    if spec.dialect == "fbgemm" or spec.threshold or spec.row_sums:
        return None
    if resolved.scale is None and resolved.dialect.steps == "source":  # scales have the dtype of x
        return None
    held = spec._held
    if held is not None and (held.scale.size != 1 or held.scale.dtype != np.float32):
        return None
    if held is not None and held.zero is not None and (held.zero.size != 1 or held.zero.dtype != np.int32):
        return None
    scale = resolved.scale or _formats.BY_NAME["float32"]
    zero = _formats.BY_NAME["float32" if resolved.float_zero else "int32"]
    name = "uint8" if resolved.packed else target.name if target.is_float else target.carrier.name
    return _core.QuantPlan(
        resolved.computed if spec.calibration == Calibration() and held is None else None,
        resolved.given,
        _GRANULARITIES[spec.granularity],
        spec.group_size or 0,
        -1 if spec.threads is None else spec.threads,
        np.dtype(np.uint8) if resolved.packed else target.dtype,
        _formats.BY_NAME[name].code,
        scale.dtype,
        scale.code,
        zero.dtype if resolved.has_zero else None,
        zero.code,
        None if held is None else held.scale,
        None if held is None else held.zero,
    )
