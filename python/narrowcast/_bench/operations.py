"""Which operations on integer codes are measured: quantize, dequantize, pack and unpack.

Arrays are rows of 4096 elements, as the activations of a model are. What is in them is in operation_work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import narrowcast as nc

from .plan import IN_MEMORY, Filters

SECTIONS = ("quantize", "dequantize", "pack")
LARGE = 1 << 20
ROW = 4096
GROUP = 128
TOKEN = "quantize a token of 4096"


@dataclass(frozen=True)
class Operation:
    """One operation; in a plan, with a size and the instruction sets that it is measured on.

    Attributes
    ----------
    section
        One of `SECTIONS`; unpacking belongs to "pack".
    source, target
        Formats; ``"packed"`` on the other side of packing.
    granularity
        What shares a scale: "tensor", "row", "group"; "" without scales.
    given
        Whether the scales are given.
    """

    section: str
    source: str
    target: str
    granularity: str = ""
    given: bool = False
    count: int = 0
    isas: tuple[str, ...] = ()

    @property
    def codes(self) -> str:
        """The format of the integer codes."""
        return next(name for name in (self.source, self.target) if "int" in name)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.codes.lstrip("uint"))

    @property
    def packed(self) -> bool:
        """Whether codes of a quantization are packed."""
        return bool(self.granularity) and self.bits < 8

    @property
    def group(self) -> int:
        """How many elements of a row share a scale; 0: all of them."""
        return GROUP if self.granularity == "group" else 0

    @property
    def detail(self) -> str:
        """What tells operations on the same formats apart, for people."""
        if self.section == "pack":
            return "lsb"
        where = f"groups of {GROUP}" if self.granularity == "group" else f"per {self.granularity}"
        how = ("scale given, " if self.given else "scale computed, ") if self.section == "quantize" else ""
        return f"{how}{where}{', packed' if self.packed else ''}"

    @property
    def rounding(self) -> str:
        """What a cast would call it."""
        return "nearest_even"

    @property
    def layout(self) -> str:
        """What a row has in this place: the detail."""
        return self.detail

    @property
    def pair(self) -> str:
        """The operation, for people."""
        return f"{self.source} -> {self.target}, {self.detail}"

    def spec(self) -> Any:
        """Return the prepared spec of a quantization."""
        options: dict[str, Any] = {"granularity": self.granularity}
        if self.group:
            options["group_size"] = self.group
        if self.packed:
            options["layout"] = "lsb"
        return nc.QuantSpec(self.codes, **options)

    @property
    def unit(self) -> tuple[int, int]:
        """The bytes that are read and written together: so many of the source to so many of the target."""
        if self.section == "pack":
            few = {4: (2, 1), 2: (4, 1), 3: (8, 3), 6: (4, 3)}[self.bits]
            return few if self.target == "packed" else (few[1], few[0])
        value = 2 if "bfloat16" in (self.source, self.target) else 4
        sides = (2 * value, 1) if self.packed else (value, 1)
        return sides if self.section == "quantize" else (sides[1], sides[0])


OPERATIONS = (
    Operation("quantize", "float32", "int8", "tensor", given=True),
    Operation("quantize", "float32", "int8", "row", given=True),
    Operation("quantize", "float32", "int8", "row"),
    Operation("quantize", "float32", "int4", "group"),
    *(Operation("dequantize", "int8", target, "row") for target in ("float32", "bfloat16")),
    *(Operation("dequantize", "int4", target, "group") for target in ("float32", "bfloat16")),
    *(Operation("pack", f"uint{bits}", "packed") for bits in (4, 2, 3, 6)),
    *(Operation("pack", "packed", f"uint{bits}") for bits in (4, 2, 3, 6)),
)


def make(mode: str, isas: tuple[str, ...], filters: Filters) -> list[Operation]:
    """Return the operations of a mode: in "quick" one size on the best instruction set.

    Formats and pairs are those of casts: filters by them leave no operation.
    """
    if filters.formats or filters.pairs:
        return []
    counts = filters.sizes or ((LARGE,) if mode == "quick" else (LARGE, IN_MEMORY))
    cases = []
    for count in counts:
        if count % ROW:
            continue
        vector = [isa for isa in isas if isa != "scalar"] or [*isas]
        chosen = vector[:1] if mode == "quick" else (vector[0], vector[-1]) if count >= IN_MEMORY else isas
        if mode == "full" or filters.isas:
            chosen = filters.isas or isas
        for operation in OPERATIONS:
            if not filters.sections or operation.section in filters.sections:
                cases.append(replace(operation, count=count, isas=tuple(dict.fromkeys(chosen))))
    return cases
