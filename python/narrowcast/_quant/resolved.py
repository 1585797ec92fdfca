"""A spec as calls read it: what its arguments come to, with nothing left to decide.

spec.py makes it; scales, plans and calls are made from it, and none of them asks the spec itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from narrowcast._formats import Format
from narrowcast._quant.boxes import Partition
from narrowcast._quant.target import Dialect, Target

Options: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, float]

SCALE_DTYPES: Final = ("float32", "float16", "bfloat16", "float8_e8m0fnu")
MOST_ZERO: Final = (1 << 24) - 1  # float32 holds these and every sum with a code


class Resolved(NamedTuple):
    """What the arguments of a spec come to."""

    target: Target
    partition: Partition
    dialect: Dialect
    symmetric: bool
    float_zero: bool  # zero points are floats, added to x or taken from it
    has_zero: bool  # there are zero points at all
    scale: Format | None  # None: as the dialect has it
    compute: Format | None
    packed: bool
    layout: str  # of packed codes
    given: Options  # with given scales
    computed: Options  # with scales that the core computes in the same pass

    @property
    def is_fused(self) -> bool:
        """Whether codes, scale and bias of a row lie together: see fbgemm.py."""
        return self.dialect.name == "fbgemm"


def unpacked(options: Options) -> Options:
    """Return options by which the core writes and reads one code per item."""
    return (*options[:8], 0, *options[9:])
