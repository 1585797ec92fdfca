"""What a cast did to the values, as sums over pieces of a tensor: enough for SQNR and counts, and addable.

Where the sums are made is the core; which numbers come of them is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

Found: TypeAlias = tuple[int, int, float, float, float, float, int, int, int]  # in one piece, by the core


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over pairs of a value and its cast, both finite, and counts over all pairs.

    The sums are inf where float64 cannot hold them.
    """

    count: int = 0
    signal: float = 0.0  # of squares of the values
    noise: float = 0.0  # of squares of the errors
    overflowed: int = 0  # finite values beyond the target's range; of quantized ones also those without a code
    zeroed: int = 0  # nonzero values that became zero
    became_nan: int = 0

    @classmethod
    def from_core(cls, found: Found) -> Self:
        """Take what the core has found in one piece."""
        count, _, signal, noise, _, _, overflowed, zeroed, became_nan = found
        return cls(count, signal, noise, overflowed, zeroed, became_nan)

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add up; the result does not depend on the order."""
        given = list(parts)
        return cls(
            count=sum(part.count for part in given),
            signal=_sum(part.signal for part in given),
            noise=_sum(part.noise for part in given),
            overflowed=sum(part.overflowed for part in given),
            zeroed=sum(part.zeroed for part in given),
            became_nan=sum(part.became_nan for part in given),
        )

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise ratio in dB: inf if no value changed, nan if the sums do not tell it.

        They do not where all that changed became zero, infinite or NaN and left no noise that float64 can hold, where
        there is no signal, and where either is beyond float64.
        """
        if self.noise == 0:
            return math.nan if self.overflowed or self.zeroed or self.became_nan else math.inf
        if self.signal == 0 or math.isinf(self.signal) or math.isinf(self.noise):
            return math.nan
        return 10 * (math.log10(self.signal) - math.log10(self.noise))  # the quotient may be beyond float64

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; sums and `sqnr_db` are None where they are not finite."""
        return {
            "count": self.count,
            "signal": _finite(self.signal),
            "noise": _finite(self.noise),
            "sqnr_db": _finite(self.sqnr),
            "overflowed": self.overflowed,
            "zeroed": self.zeroed,
            "became_nan": self.became_nan,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return what `as_dict` was made of."""
        found = ((field, record[field]) for field in cls.__slots__)
        fields: dict[str, Any] = {field: math.inf if value is None else value for field, value in found}
        return cls(**fields)


def _sum(parts: Iterable[float]) -> float:
    """Add up numbers that are not negative."""
    try:
        return math.fsum(parts)
    except OverflowError:
        return math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
