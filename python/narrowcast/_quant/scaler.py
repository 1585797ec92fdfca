"""LossScaler: the loss scale that keeps float16 gradients from vanishing.

The rule is torch's, so that a loop written for torch.amp behaves the same here: it is the state of torch's GradScaler.
The gradients are multiplied in unscale.py; nothing here steps an optimizer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from numbers import Integral
from operator import index
from typing import Any, Final

import numpy as np

from narrowcast import _torch
from narrowcast._quant.unscale import float32, read_number, unscale

# Both this and its reciprocal are normal float32 numbers: a scale that falls no further can always be taken out again.
_LEAST_SCALE: Final = 2.0**-126


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
        return unscale(grads, float32(1.0 / self._scale), out=out, threads=threads)

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
        if read_number(found_inf, "found_inf") != 0:
            self._scale = max(float32(self._scale * self._backoff_factor), _LEAST_SCALE)
            self._growth_tracker = 0
            return
        self._growth_tracker += 1
        if self._growth_tracker >= self._growth_interval:
            grown = float32(self._scale * self._growth_factor)
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


def _read_scale(value: Any, argument: str) -> float:
    scale = float32(read_number(value, argument))
    if not _LEAST_SCALE <= scale < math.inf:
        raise ValueError(f"{argument} is {value!r}; allowed are 2**-126 to the largest float32")
    return scale


def _read_growth(value: Any) -> float:
    factor = read_number(value, "growth_factor")
    if not 1 < factor < math.inf:
        raise ValueError(f"growth_factor is {value!r}; allowed are finite numbers above 1")
    return factor


def _read_backoff(value: Any) -> float:
    factor = read_number(value, "backoff_factor")
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
