"""choose_qparams, and the ranges of values that get codes, box by box.

The rules of one histogram are in collectors.py; how a range becomes a scale and a zero point is the core's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from narrowcast import _config, _core
from narrowcast._arrays import Array, read
from narrowcast._astype import astype
from narrowcast._formats import FormatLike
from narrowcast._quant import boxes, params
from narrowcast._quant.checks import MOST
from narrowcast._quant.collectors import Calibration
from narrowcast._quant.spec import Granularity, QuantSpec

if TYPE_CHECKING:
    from narrowcast._quant.passes import Call


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
    from narrowcast._quant.outputs import wrap_params
    from narrowcast._quant.passes import Call, read_spec

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
    found = call.compute()
    shape = call.boxes if call.source.array.ndim else ()
    is_tensor = call.source.kind == "tensor"
    return QParams(*wrap_params(params.shown(prepared, found), shape, is_tensor))


def _from_ranges(low: Any, high: Any, spec: QuantSpec) -> QParams:
    from narrowcast._quant.outputs import wrap_params

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
    found = params.choose(spec, least, most, row)
    return QParams(*wrap_params(params.shown(spec, found), shape, first.kind == "tensor"))


def find_ranges(call: Call) -> tuple[Array, Array]:
    """Return the smallest and the largest value that gets a code of its own, for each box."""
    low, high = np.zeros(call.boxes, np.float32), np.zeros(call.boxes, np.float32)
    if not call.array.size:
        return low, high
    calibration = call.spec.calibration
    assert isinstance(calibration, Calibration)
    if calibration.has_histogram:
        _collect(call, calibration, low, high)
        return low, high
    _core.range(call.array, call.source.format.code, low, high, call.block, call.threads, _config.chosen_isa.get())
    return _shrink(call, calibration, low, high) if calibration.method == "mse" else (low, high)


def _collect(call: Call, calibration: Calibration, low: Array, high: Array) -> None:
    """Ask a histogram of each box."""
    from narrowcast._quant.passes import widen

    symmetric = call.spec._resolved.symmetric
    shape = call.array.shape
    for box in np.ndindex(low.shape):
        values = widen(call.array[boxes.slices(shape, call.block, box)]).ravel()
        low[box], high[box] = calibration.collect(values[np.isfinite(values)], symmetric)


def _shrink(call: Call, calibration: Calibration, low: Array, high: Array) -> tuple[Array, Array]:
    """Shrink the range of each box in steps; keep the one whose codes are nearest to the values."""
    from narrowcast._quant.passes import run_fake, widen

    assert calibration.grid is not None
    assert calibration.maxshrink is not None
    assert calibration.norm is not None
    x = widen(call.array)
    finite = np.isfinite(x)
    y = np.empty(call.array.shape, np.float32)
    least = np.full(low.shape, np.inf)
    chosen = np.ones(low.shape, np.float32)
    for step in range(int(calibration.maxshrink * calibration.grid) + 1):
        factor = np.float32(1 - step / calibration.grid)
        used = params.choose(call.spec, low * factor, high * factor, call.source.format)
        run_fake(call, used, y, params.FLOAT32.code)
        error = np.abs(np.subtract(y, x, where=finite, out=np.zeros(x.shape)))
        if calibration.norm == 2:
            np.multiply(error, error, out=error)
        else:
            with np.errstate(over="ignore"):
                np.power(error, calibration.norm, out=error)
        for axis, size in enumerate(call.block):
            error = np.add.reduceat(error, np.arange(0, error.shape[axis], size), axis=axis)
        better = error < least
        least[better], chosen[better] = error[better], factor
    return low * chosen, high * chosen
