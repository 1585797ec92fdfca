"""Calibration: which range of values gets codes, found from a histogram of one box of values.

The rules of percentile and entropy are those of onnxruntime 1.32, quantization/calibrate.py (HistogramCollector, one
batch), and so are the bins and the defaults; its float32 steps are kept, since they decide between thresholds that
are equally good. "minmax" and "mse" need no histogram: they are in ranges.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import index
from typing import Any, Final, TypeAlias

import numpy as np

from narrowcast._quant.checks import read_number

Array: TypeAlias = "np.ndarray[Any, Any]"
Range: TypeAlias = tuple[float, float]

# Which parameters a method has, with their defaults.
METHODS: Final[dict[str, dict[str, Any]]] = {
    "minmax": {},
    "percentile": {"percentile": 99.999, "num_bins": 2048},
    "entropy": {"num_bins": 128, "num_quantized_bins": 128},
    "mse": {"maxshrink": 0.8, "grid": 100, "norm": 2.0},
}

_HALF: Final = np.finfo(np.float32).max / 2
_SMOOTHING: Final = 1e-4  # what an empty bin counts, so that the divergence is finite


@dataclass(frozen=True, slots=True, repr=False)
class Calibration:
    """How the range that gets codes follows from values: a method and its parameters.

    Parameters
    ----------
    method : {"minmax", "percentile", "mse", "entropy"}
        ``"minmax"``: all finite values. ``"percentile"``: but for the outermost bins of a histogram. ``"entropy"``:
        the range whose quantized histogram diverges least (Kullback-Leibler) from the histogram. ``"mse"``: the
        range, shrunk in steps, whose codes give the smallest error.
    percentile : float, optional
        ``"percentile"``: how many percent of the values are inside, 99.999 by default; what is cut off is divided
        between the two ends, unless the codes are symmetric.
    num_bins : int, optional
        Bins of the histogram, by default 2048 (percentile) and 128 (entropy), as in onnxruntime. With as many bins as
        quantized bins, its default, ``"entropy"`` has nothing to choose from; give it 2048 for a search.
    num_quantized_bins : int, optional
        ``"entropy"``: bins of the quantized histogram, 128 by default.
    maxshrink : float, optional
        ``"mse"``: by how much the range shrinks at most, 0.8 by default.
    grid : int, optional
        ``"mse"``: steps of the whole range, 100 by default: ranges of 1, 0.99, 0.98, ... are tried.
    norm : float, optional
        ``"mse"``: the exponent of the error, 2 by default.

    Notes
    -----
    Percentile and entropy are those of onnxruntime's `HistogramCollector`, for values that are float32 or are widened
    to it; NaN and infinities do not count.

    Examples
    --------
    >>> import narrowcast as nc
    >>> nc.Calibration("percentile", percentile=99.9)
    Calibration('percentile', percentile=99.9)
    """

    method: str = "minmax"
    percentile: float | None = None
    num_bins: int | None = None
    num_quantized_bins: int | None = None
    maxshrink: float | None = None
    grid: int | None = None
    norm: float | None = None

    def __post_init__(self) -> None:
        method: Any = self.method
        if not isinstance(method, str) or method not in METHODS:
            raise ValueError(f"calibration is {self.method!r}; allowed are {', '.join(METHODS)}")
        defaults = METHODS[self.method]
        for one in fields(self)[1:]:
            value = getattr(self, one.name)
            if one.name in defaults:
                default = defaults[one.name]
                value = default if value is None else _CHECKS[one.name](value, one.name)
                object.__setattr__(self, one.name, value)
            elif value is not None:
                raise ValueError(f"{one.name} is {value!r}; calibration {self.method!r} has no such parameter")
        if self.num_quantized_bins is not None and (self.num_bins or 0) < self.num_quantized_bins:
            raise ValueError(
                f"num_bins is {self.num_bins}; allowed are num_quantized_bins, {self.num_quantized_bins}, and more"
            )

    @classmethod
    def read(cls, given: object) -> Calibration:
        """Return a calibration, or that of a method's name."""
        return given if isinstance(given, Calibration) else cls(given)  # type: ignore[arg-type]

    @property
    def shown(self) -> str:
        """What stands for this in a call: the name alone if the parameters are the defaults."""
        return repr(self.method) if self == Calibration(self.method) else repr(self)

    def __repr__(self) -> str:
        defaults = METHODS[self.method]
        parts = [f"{name}={value!r}" for name in defaults if (value := getattr(self, name)) != defaults[name]]
        return f"Calibration({', '.join([repr(self.method), *parts])})"

    @property
    def has_histogram(self) -> bool:
        """Whether `collect` finds the range."""
        return self.method in ("percentile", "entropy")

    def collect(self, values: Array, symmetric: bool) -> Range:
        """Return the range of finite float32 values, one-dimensional; (0, 0) if there are none."""
        if not values.size:
            return 0.0, 0.0
        low, high = values.min(), values.max()
        find = self._find_percentile if self.method == "percentile" else self._find_entropy
        first, last = find(values, low, high, symmetric)
        last = min(float(last), float(high))
        return min(max(float(first), float(low)), last), last  # an upper edge may lie below the smallest value

    def _find_percentile(self, values: Array, low: Any, high: Any, symmetric: bool) -> tuple[Any, Any]:
        assert self.percentile is not None
        assert self.num_bins is not None
        if symmetric:
            counts, edges = _histogram(np.abs(values), self.num_bins, None)
        else:
            counts, edges = _histogram(values, self.num_bins, max(abs(low), abs(high)))
        reached = np.cumsum(counts / counts.sum())
        if symmetric:
            last = edges[np.searchsorted(reached, self.percentile / 100.0)]
            return -last, last
        cut = (100.0 - self.percentile) / 200.0
        return edges[np.searchsorted(reached, cut)], edges[np.searchsorted(reached, 1.0 - cut)]

    def _find_entropy(self, values: Array, low: Any, high: Any, symmetric: bool) -> tuple[Any, Any]:
        assert self.num_bins is not None
        assert self.num_quantized_bins is not None
        counts, edges = _histogram(values, self.num_bins, max(abs(low), abs(high)))
        middle = self.num_bins // 2
        best, chosen = None, (edges[0], edges[-1])
        for half in range(self.num_quantized_bins // 2, middle + 1):
            start, stop = middle - half, min(middle + half + 1, self.num_bins)
            divergence = _divergence(counts, start, stop, self.num_quantized_bins)
            if best is None or divergence < best:
                best, chosen = divergence, (edges[start], edges[stop])
        return chosen


def _histogram(values: Array, bins: int, threshold: Any) -> tuple[Array, Array]:
    """Return counts and float32 edges, of [-threshold, threshold] or of all there is."""
    least, most = (values.min(), values.max()) if threshold is None else (-threshold, threshold)
    if least == most and abs(least) > 1 << 20:  # numpy takes half a unit to each side, which float32 may not hold
        return np.array([values.size]), np.array([least, most])
    if most <= _HALF:  # else float32 does not hold the width
        with contextlib.suppress(ValueError):  # too narrow for so many float32 edges
            counts, edges = np.histogram(values, bins, range=(least, most))
            return counts, edges.astype(np.float32)
    counts, edges = np.histogram(values.astype(np.float64), bins, range=(float(least), float(most)))
    return counts, edges.astype(np.float32)


def _divergence(counts: Array, start: int, stop: int, levels: int) -> np.float32:
    """Return how far the bins start..stop, merged into a number of levels, are from them with outliers at the ends."""
    inside = counts[start:stop]
    reference = inside.copy()
    reference[0] += counts[:start].sum()
    reference[-1] += counts[stop:].sum()
    merged = inside.size // levels
    whole = levels * merged
    sums = inside[:whole].reshape(levels, merged).sum(axis=1)
    sums[-1] += inside[whole:].sum()
    used = (reference[:whole] != 0).reshape(levels, merged).sum(axis=1)
    quantized = np.zeros_like(reference)
    shares = np.divide(sums, used, out=np.zeros(levels), where=used != 0)
    quantized[:whole] = np.repeat(shares, merged)  # to integers, as onnxruntime has it
    p, q = _smooth(reference), _smooth(quantized)
    if p is None or q is None:
        return np.float32(np.inf)
    p, q = p / p.sum(), q / q.sum()
    return np.float32((p * np.log(p / q)).sum())


def _smooth(counts: Array) -> Array | None:
    """Give empty bins a little of what the others have; None if all are empty."""
    empty = (counts == 0).astype(np.float32)
    zeros = float(empty.sum())
    rest = counts.size - zeros
    if not rest:
        return None
    smooth: Array = counts.astype(np.float32)
    smooth += _SMOOTHING * empty - (_SMOOTHING * zeros / rest) * (1 - empty)
    return smooth if (smooth > 0).all() else None


def _read_count(least: int) -> Callable[[Any, str], int]:
    def read(value: Any, name: str) -> int:
        try:
            count = index(value)
        except TypeError:
            raise TypeError(f"{name} is {value!r}; allowed are integers") from None
        if not least <= count <= 1 << 24:
            raise ValueError(f"{name} is {count}; allowed are {least} to {1 << 24}")
        return count

    return read


def _read_number(allowed: str, fits: Callable[[float], bool]) -> Callable[[Any, str], float]:
    return lambda value, name: read_number(value, name, f"numbers {allowed}", fits)


_CHECKS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "percentile": _read_number("from 0 to 100", lambda value: 0 <= value <= 100),
    "num_bins": _read_count(2),
    "num_quantized_bins": _read_count(2),
    "maxshrink": _read_number("from 0 up to 1, without 1", lambda value: 0 <= value < 1),
    "grid": _read_count(1),
    "norm": _read_number("above 0", lambda value: 0 < value < math.inf),
}
