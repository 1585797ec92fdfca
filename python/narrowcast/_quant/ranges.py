"""The ranges of values that get codes, box by box.

The rules of one histogram are in collectors.py; how a range becomes a scale and a zero point is the core's.
"""

from __future__ import annotations

import numpy as np

from narrowcast import _config, _core
from narrowcast._arrays import Array
from narrowcast._quant import boxes, params
from narrowcast._quant.call import Call, widen
from narrowcast._quant.collectors import Calibration


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
    symmetric = call.spec._resolved.symmetric
    shape = call.array.shape
    for box in np.ndindex(low.shape):
        values = widen(call.array[boxes.slices(shape, call.block, box)]).ravel()
        low[box], high[box] = calibration.collect(values[np.isfinite(values)], symmetric)


def _shrink(call: Call, calibration: Calibration, low: Array, high: Array) -> tuple[Array, Array]:
    """Shrink the range of each box in steps; keep the one whose codes are nearest to the values."""
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
        used = params.choose(call.spec._resolved, low * factor, high * factor, call.source.format)
        call.put_on_grid(used, y, params.FLOAT32.code)
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
