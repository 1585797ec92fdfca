"""unscale: gradients back to their size, and whether any of them was not finite.

The rule is torch's: its operator _amp_foreach_non_finite_check_and_unscale_. What the size was is in scaler.py.
"""

from __future__ import annotations

import math
from numbers import Real
from struct import Struct
from typing import Any, Final

import numpy as np

from narrowcast import _config, _core, _torch
from narrowcast._arrays import Array
from narrowcast._formats import Format, find, format_of

FORMATS: Final = ("float64", "float32", "float16", "bfloat16")

_SINGLE: Final = Struct("f")


def unscale(x: Any, inv_scale: float, *, out: Any = None, threads: int | None = None) -> bool:
    """Multiply gradients by the reciprocal of the loss scale, in place, and say whether any was not finite.

    Parameters
    ----------
    x : ndarray or torch.Tensor, or list or tuple of them
        float64, float32, float16 or bfloat16, of any shapes, strides and byte orders; a list may mix them. Its arrays
        are worked on one after the other: one that is in it twice is multiplied twice.
    inv_scale : float
        The factor, rounded to float32: finite and not 0.
    out : ndarray or torch.Tensor, or list or tuple of them, optional
        Where the products go, in dtypes and shapes of `x`, if not to `x` itself.
    threads : int, optional
        At most this many threads, 0 for one per core; by default what `get_num_threads` says, which is 1.

    Returns
    -------
    bool
        Whether an element of `x` is infinite or NaN: the step is to be skipped. Products that overflow do not count.

    Raises
    ------
    TypeError
        If an array has another dtype, or is no array.
    ValueError
        If `inv_scale` is not such a number, or an array is read-only, or `out` does not fit. Nothing is written then.

    Notes
    -----
    The rule is that of torch's ``_amp_foreach_non_finite_check_and_unscale_``. float64 is multiplied in float64, all
    else in float32, and the product is rounded to nearest, ties to even. Every element is multiplied, also what is not
    finite; but an `inv_scale` of 1 leaves all bits as they are, the payload of a NaN included.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> gradients = [np.float32([1024, -2048]), np.float16([512, 64])]
    >>> nc.unscale(gradients, 1 / 1024)
    False
    >>> [g.tolist() for g in gradients]
    [[1.0, -2.0], [0.5, 0.0625]]
    >>> nc.unscale(np.float16([np.inf, 1]), 0.5)
    True
    """
    factor = float32(read_number(inv_scale, "inv_scale"))
    if factor == 0 or not math.isfinite(factor):
        raise ValueError(f"inv_scale is {inv_scale!r}; allowed are numbers that are finite and not 0 in float32")
    workers = _config.get_num_threads() if threads is None else _config.check_threads(threads, "threads")
    return _core.unscale(_triples(x, out), factor, workers, _config.chosen_isa.get())


def _triples(x: Any, out: Any) -> list[tuple[Array, Array, int]]:
    """Return source, target and format code of each array."""
    if not isinstance(x, list | tuple):
        x, names = [x], ["x"]
        targets, target_names = (x if out is None else [out]), ["out"]
    else:
        names = [f"x[{i}]" for i in range(len(x))]
        if out is not None and (not isinstance(out, list | tuple) or len(out) != len(x)):
            came = f"of {len(out)}" if isinstance(out, list | tuple) else f"a {type(out).__name__}"
            raise ValueError(f"out is {came}; allowed is a list or tuple of {len(x)} arrays, as many as x has")
        targets, target_names = (x if out is None else out), [f"out[{i}]" for i in range(len(x))]
    triples = []
    for given, name, target, target_name in zip(x, names, targets, target_names, strict=True):
        array, row = _memory(given, name)
        written, written_name = array, name
        if out is not None:
            (written, written_row), written_name = _memory(target, target_name), target_name
            if written_row.code != row.code:
                raise TypeError(f"{target_name} has dtype {written_row.name}; allowed is that of {name}, {row.name}")
            if written.shape != array.shape:
                raise ValueError(
                    f"{target_name} has shape {written.shape}; allowed is the shape of {name}, {array.shape}"
                )
        if not written.flags.writeable:
            raise ValueError(f"{written_name} is read-only; allowed are writable arrays")
        triples.append((array, written, row.code))
    return triples


def _memory(given: Any, argument: str) -> tuple[Array, Format]:
    """Return the memory of an array or tensor, and the format of its elements."""
    if _torch.is_tensor(given):
        array, name = _torch.to_array(given, argument)
        row: Format | None = find(name, f"{argument}.dtype")[0]
    elif isinstance(given, np.ndarray):
        array = np.asarray(given)
        row = format_of(array.dtype)
    else:
        raise TypeError(f"{argument} is a {type(given).__name__}; allowed are ndarrays and torch tensors")
    if row is None or row.name not in FORMATS:
        raise TypeError(f"{argument} has dtype {given.dtype}; allowed are {', '.join(FORMATS)}")
    return array, row


def float32(value: float) -> float:
    """Return the nearest float32 number."""
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


def read_number(value: Any, argument: str) -> float:
    """Return what a number of any kind is, those of numpy, ml_dtypes and torch among them."""
    if isinstance(value, float):
        return value
    scalar = getattr(value, "shape", None) == () and hasattr(value, "__float__")
    if not scalar and not isinstance(value, Real):
        raise TypeError(f"{argument} is {value!r}; allowed are numbers")
    return float(value)
