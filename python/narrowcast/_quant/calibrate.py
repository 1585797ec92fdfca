"""choose_qparams: scales and zero points alone, from values or from ranges.

How values become ranges is in ranges.py, how a range becomes a scale and a zero point the core's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from narrowcast._arrays import read
from narrowcast._astype import astype
from narrowcast._formats import FormatLike
from narrowcast._quant import params
from narrowcast._quant.boxes import Granularity
from narrowcast._quant.call import Call, read_spec
from narrowcast._quant.checks import MOST
from narrowcast._quant.collectors import Calibration
from narrowcast._quant.passes import compute
from narrowcast._quant.spec import QuantSpec


class QParams(NamedTuple):
    """Scales and zero points, as `quantize` takes them; `zero_point` is None where there is none."""

    scale: Any
    zero_point: Any


def choose_qparams(
    x: Any = None,
    spec: FormatLike | QuantSpec = "int8",
    *,
    low: Any = None,
    high: Any = None,
    granularity: Granularity = "tensor",
    axis: int | tuple[int, ...] | None = None,
    group_size: int | None = None,
    block_shape: tuple[int, int] | None = None,
    symmetric: bool | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    calibration: str | Calibration = "minmax",
    scale_dtype: FormatLike | None = None,
    scale_max: float | None = None,
    dialect: str = "onnx",
    compute_dtype: FormatLike | None = None,
    threads: int | None = None,
) -> QParams:
    """Return the scales and zero points that `quantize` would compute, from values or from ranges.

    Parameters
    ----------
    x : array_like or torch.Tensor, optional
        Values of any float format.
    spec : str, dtype, type or QuantSpec, default "int8"
        As in `quantize`.
    low, high : float or array_like, optional
        Instead of `x`: the smallest and the largest value of each box, in any one shape, which the result has too.
        Arrays of float16 and bfloat16 speak of values of that dtype, which matters in dialects that compute in it.
    granularity, axis, group_size, block_shape, calibration, threads
        As in `quantize`; they concern `x` only.
    symmetric, qmin, qmax, scale_dtype, scale_max, dialect, compute_dtype
        As in `quantize`.

    Returns
    -------
    QParams
        The tuple ``(scale, zero_point)``; tensors if `x` or `low` is one.

    Raises
    ------
    TypeError, ValueError
        As in `quantize`; ValueError also for a range that is not finite or is upside down.

    Examples
    --------
    >>> import narrowcast as nc
    >>> scale, zero_point = nc.choose_qparams(low=-234.1, high=251.51, spec="int8", symmetric=False)
    >>> scale, zero_point
    (array(1.9043529, dtype=float32), array(-5, dtype=int32))
    """
    options = {
        "granularity": granularity, "axis": axis, "group_size": group_size, "block_shape": block_shape,
        "symmetric": symmetric, "qmin": qmin, "qmax": qmax, "calibration": calibration, "scale_dtype": scale_dtype,
        "scale_max": scale_max, "dialect": dialect, "compute_dtype": compute_dtype,
    }  # fmt: skip
    prepared = read_spec(spec, options)
    if (x is None) == (low is None or high is None) or (low is None) != (high is None):
        raise ValueError("x, low and high: allowed are x alone, or low and high together")
    if x is None:
        return _from_ranges(low, high, prepared)
    call = Call.read(x, prepared, threads)
    found = compute(call)
    shape = call.boxes if call.source.array.ndim else ()
    is_tensor = call.source.kind == "tensor"
    return QParams(*params.wrap(params.shown(prepared._resolved, found), shape, is_tensor))


def _from_ranges(low: Any, high: Any, spec: QuantSpec) -> QParams:
    first, last = read(low, None, "low"), read(high, None, "high")
    ends = []
    for name, one in (("low", first), ("high", last)):
        wide = np.asarray(astype(one.array, "float64"))
        if not np.isfinite(wide).all():
            raise ValueError(f"{name} is {float(wide[~np.isfinite(wide)].flat[0])!r}; allowed are finite numbers")
        ends.append(np.clip(wide, -MOST, MOST).astype(np.float32))
    row = first.format if first.format.is_float else params.FLOAT32
    if first.format is not last.format:
        if {first.kind, last.kind} == {"scalar"} or not first.format.is_float:
            row = params.FLOAT32
        else:
            raise TypeError(
                f"low has dtype {first.format.name}, and high has {last.format.name}; allowed is one for both"
            )
    if ends[0].shape != ends[1].shape:
        raise ValueError(f"low has shape {ends[0].shape}, and high has {ends[1].shape}; allowed is one for both")
    if (ends[0] > ends[1]).any():
        raise ValueError("low is above high; allowed are ranges whose low is at most their high")
    shape = ends[0].shape
    least, most = (np.ascontiguousarray(end.reshape(shape or (1,))) for end in ends)
    found = params.choose(spec._resolved, least, most, row)
    return QParams(*params.wrap(params.shown(spec._resolved, found), shape, first.kind == "tensor"))
