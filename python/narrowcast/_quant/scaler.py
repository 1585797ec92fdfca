"""Mixed precision: gradients back to their size, and the loss scale that keeps float16 gradients from vanishing.

The rules are torch's, so that a loop written for torch.amp behaves the same here: `unscale` is its operator
_amp_foreach_non_finite_check_and_unscale_, `LossScaler` the state of its GradScaler. Nothing here steps an optimizer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from numbers import Integral, Real
from operator import index
from struct import Struct
from typing import Any, Final

import numpy as np

from narrowcast import _config, _core, _torch
from narrowcast._arrays import Array
from narrowcast._formats import Format, find, format_of

FORMATS: Final = ("float64", "float32", "float16", "bfloat16")

_SINGLE: Final = Struct("f")

# Both this and its reciprocal are normal float32 numbers: a scale that falls no further can always be taken out again.
_LEAST_SCALE: Final = 2.0**-126


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
    factor = _float32(_read_number(inv_scale, "inv_scale"))
    if factor == 0 or not math.isfinite(factor):
        raise ValueError(f"inv_scale is {inv_scale!r}; allowed are numbers that are finite and not 0 in float32")
    workers = _config.get_num_threads() if threads is None else _config.check_threads(threads, "threads")
    return _core.unscale(_triples(x, out), factor, workers, _config.chosen_isa.get())


class LossScaler:
    """A loss scale that finds its own size: torch.amp.GradScaler's rule, for gradients in any arrays.

    The loss is multiplied by the scale before the backward pass, so that small gradients stay above what float16 can
    hold, and the gradients are divided by it afterwards. Where some of them were not finite the step is skipped and the
    scale shrinks; after `growth_interval` good steps in a row it grows.

    Parameters
    ----------
    init_scale : float, default 65536
        The scale to begin with: from 2**-126 to the largest float32.
    growth_factor : float, default 2
        What it is multiplied by after `growth_interval` good steps, if float32 holds the product: above 1.
    backoff_factor : float, default 0.5
        What it is multiplied by when a gradient was not finite: between 0 and 1.
    growth_interval : int, default 2000
        Good steps in a row before it grows: 1 or more.

    Raises
    ------
    TypeError
        If an argument is not a number.
    ValueError
        If an argument is not in its range.

    Notes
    -----
    The update is that of torch's ``_amp_update_scale_``: the scale is a float32, each product is rounded to it, and a
    product that is not finite is not taken. Unlike there the scale does not fall below 2**-126, the smallest normal
    float32: torch lets it go to 0, which has no reciprocal. ``state_dict`` has the entries of a torch GradScaler's, so
    that a state goes from one to the other.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> scaler = nc.LossScaler(init_scale=1024, growth_interval=2)
    >>> gradients = np.float16([512, -2048])  # of a loss that was multiplied by 1024
    >>> found_inf = scaler.unscale(gradients)
    >>> found_inf, gradients.tolist()
    (False, [0.5, -2.0])
    >>> scaler.update(found_inf)
    >>> scaler.update(True)  # an overflow
    >>> scaler
    LossScaler(scale=512.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2, growth_tracker=0)
    """

    __slots__ = ("_backoff_factor", "_growth_factor", "_growth_interval", "_growth_tracker", "_scale")

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self._set(
            _read_scale(init_scale, "init_scale"),
            _read_growth(growth_factor),
            _read_backoff(backoff_factor),
            _read_count(growth_interval, "growth_interval", 1),
            0,
        )

    def _set(self, scale: float, growth: float, backoff: float, interval: int, tracker: int) -> None:
        self._scale = scale
        self._growth_factor = growth
        self._backoff_factor = backoff
        self._growth_interval = interval
        self._growth_tracker = tracker

    def __repr__(self) -> str:
        return (
            f"LossScaler(scale={self._scale!r}, growth_factor={self._growth_factor!r}, "
            f"backoff_factor={self._backoff_factor!r}, growth_interval={self._growth_interval!r}, "
            f"growth_tracker={self._growth_tracker!r})"
        )

    def get_scale(self) -> float:
        """Return the scale.

        Returns
        -------
        float
            A value of float32.
        """
        return self._scale

    def scale(self, loss: Any) -> Any:
        """Multiply a loss, or several, by the scale.

        Parameters
        ----------
        loss : number, ndarray or torch.Tensor, or list or tuple of them
            Numpy's and torch's own rules say what dtype the product with a float32 has: that of a float16 scalar is
            float32, so that the loss itself does not overflow.

        Returns
        -------
        number, ndarray or torch.Tensor, or list or tuple of them
            The products; the graph of a tensor goes on through them.
        """
        if isinstance(loss, list | tuple):
            scaled = [self.scale(one) for one in loss]
            return scaled if isinstance(loss, list) else tuple(scaled)
        if _torch.is_tensor(loss):
            torch: Any = sys.modules["torch"]
            return loss * torch.tensor(self._scale, dtype=torch.float32, device=loss.device)
        if isinstance(loss, int | float):
            return loss * self._scale
        return loss * np.float32(self._scale)

    def unscale(self, grads: Any, *, out: Any = None, threads: int | None = None) -> bool:
        """Divide gradients by the scale, in place: `narrowcast.unscale` with the scale's reciprocal in float32.

        Parameters
        ----------
        grads : ndarray or torch.Tensor, or list or tuple of them
            As `x` of `narrowcast.unscale`, and so are `out` and `threads`.
        out : ndarray or torch.Tensor, or list or tuple of them, optional
            Where the products go, if not to `grads`.
        threads : int, optional
            At most this many threads.

        Returns
        -------
        bool
            Whether any gradient was not finite: then skip the step. Either way `update` is told.
        """
        return unscale(grads, _float32(1.0 / self._scale), out=out, threads=threads)

    def update(self, found_inf: Any) -> None:
        """Adjust the scale, once per step.

        Parameters
        ----------
        found_inf : bool
            Whether any gradient of this step was not finite: what `unscale` returned, for several calls joined with
            ``or``. A number, as torch and a sum over processes give it, is true unless it is 0.

        Raises
        ------
        TypeError
            If it is neither a bool nor a number.
        """
        if _read_number(found_inf, "found_inf") != 0:
            self._scale = max(_float32(self._scale * self._backoff_factor), _LEAST_SCALE)
            self._growth_tracker = 0
            return
        self._growth_tracker += 1
        if self._growth_tracker >= self._growth_interval:
            grown = _float32(self._scale * self._growth_factor)
            self._scale = grown if math.isfinite(grown) else self._scale
            self._growth_tracker = 0

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs.

        Returns
        -------
        dict
            The scale, the three parameters and the good steps since the last change, under the names that a torch
            GradScaler gives them.
        """
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, here or of a torch GradScaler.

        Parameters
        ----------
        state : mapping
            Of exactly these entries.

        Raises
        ------
        TypeError
            If it is no mapping, or an entry is not a number.
        ValueError
            If an entry is missing, unknown or not in its range. The scaler stays as it was then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state is a {type(state).__name__}; allowed are mappings as state_dict returns them")
        if set(state) != set(self.state_dict()):
            raise ValueError(
                f"state has the entries {', '.join(map(str, state)) or 'of an empty mapping'}; allowed are exactly "
                f"{', '.join(self.state_dict())}"
            )
        self._set(
            _read_scale(state["scale"], "scale"),
            _read_growth(state["growth_factor"]),
            _read_backoff(state["backoff_factor"]),
            _read_count(state["growth_interval"], "growth_interval", 1),
            _read_count(state["_growth_tracker"], "_growth_tracker", 0),
        )


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


def _float32(value: float) -> float:
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


def _read_number(value: Any, argument: str) -> float:
    if isinstance(value, float):
        return value
    scalar = getattr(value, "shape", None) == () and hasattr(value, "__float__")  # of numpy, ml_dtypes or torch
    if not scalar and not isinstance(value, Real):
        raise TypeError(f"{argument} is {value!r}; allowed are numbers")
    return float(value)


def _read_scale(value: Any, argument: str) -> float:
    scale = _float32(_read_number(value, argument))
    if not _LEAST_SCALE <= scale < math.inf:
        raise ValueError(f"{argument} is {value!r}; allowed are 2**-126 to the largest float32")
    return scale


def _read_growth(value: Any) -> float:
    factor = _read_number(value, "growth_factor")
    if not 1 < factor < math.inf:
        raise ValueError(f"growth_factor is {value!r}; allowed are finite numbers above 1")
    return factor


def _read_backoff(value: Any) -> float:
    factor = _read_number(value, "backoff_factor")
    if not 0 < factor < 1:
        raise ValueError(f"backoff_factor is {value!r}; allowed are numbers between 0 and 1")
    return factor


def _read_count(value: Any, argument: str, least: int) -> int:
    if not isinstance(value, Integral):
        raise TypeError(f"{argument} is {value!r}; allowed are integers")
    count = index(value)
    if count < least:
        raise ValueError(f"{argument} is {count}; allowed are {least} or more")
    return count
