"""Which casts are measured: a list of cases, cheap ones first.

Sizes stand for places: 4 Ki and 64 Ki elements live in the first and second cache, 1 Mi in the last one, 64 Mi in
memory. The default plan is cut to a few minutes and 1 GB: at 64 Mi it times the best and the least vector instruction
set only, and leaves out TF32, whose two arrays alone are half of that. `full` leaves nothing out.
"""

from __future__ import annotations

from dataclasses import dataclass

from .formats import bits, float_formats

SIZES = (1 << 12, 1 << 16, 1 << 20, 1 << 26)
IN_CACHE = 1 << 16
IN_MEMORY = 1 << 26
SECTIONS = ("encode", "decode", "16 bit", "float64", "rounding", "layout")
ROUNDINGS = ("toward_zero", "up", "down", "nearest_away", "stochastic")
LAYOUTS = ("step 2", "transposed")
SEED = 7


@dataclass(frozen=True)
class Case:
    """One pair of formats at one size, on all the instruction sets that it is measured on."""

    section: str
    source: str
    target: str
    count: int
    isas: tuple[str, ...]
    rounding: str = "nearest_even"
    layout: str = "contiguous"

    @property
    def pair(self) -> str:
        """The two formats, for people."""
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True)
class Filters:
    """What the caller asked for; empty means everything."""

    formats: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    sizes: tuple[int, ...] = ()
    isas: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.formats or self.pairs or self.sizes or self.isas or self.sections)

    def allow(self, case: Case) -> bool:
        """Return whether the case is wanted (sizes and instruction sets are applied when the plan is made)."""
        return (
            (not self.formats or bool({case.source, case.target} & set(self.formats)))
            and (not self.pairs or (case.source, case.target) in self.pairs)
            and (not self.sections or case.section in self.sections)
        )


def pairs(section: str) -> list[tuple[str, str]]:
    """Return the (source, target) pairs of a section."""
    narrow = [name for name in float_formats() if name not in ("float64", "float32")]
    stored = [name for name in narrow if name != "tfloat32"]  # TF32 is a target only
    small = [name for name in stored if bits(name) <= 8]
    halves = [name for name in ("float16", "bfloat16") if name in stored]
    if section == "decode":
        return [(name, "float32") for name in stored]
    if section == "16 bit":
        return (
            [(a, b) for a in halves for b in halves if a != b]
            + [(name, half) for half in halves for name in small]
            + [(half, name) for half in halves for name in small]
        )
    if section == "float64":
        return [("float64", name) for name in ("float32", *narrow)]
    return [("float32", name) for name in narrow]


def make(mode: str, isas: tuple[str, ...], filters: Filters) -> list[Case]:
    """Return the cases of a mode.

    Parameters
    ----------
    mode
        ``"quick"``, ``"default"`` or ``"full"``.
    isas
        The machine's instruction sets, best first.
    filters
        What to keep. Sizes and instruction sets asked for by name replace those of the mode.
    """
    cases: list[Case] = []
    for section in SECTIONS:
        for count in _sizes(section, mode, filters):
            chosen = _isas(section, mode, count, isas, filters)
            for source, target in pairs(section):
                if mode != "full" and not filters and count >= IN_MEMORY and target == "tfloat32":
                    continue
                for rounding in ROUNDINGS if section == "rounding" else ("nearest_even",):
                    for layout in LAYOUTS if section == "layout" else ("contiguous",):
                        cases.append(Case(section, source, target, count, chosen, rounding, layout))
    return sorted(filter(filters.allow, cases), key=_order)


def _sizes(section: str, mode: str, filters: Filters) -> tuple[int, ...]:
    if filters.sizes:
        return filters.sizes
    if mode == "full":
        return SIZES
    if section in ("encode", "decode"):
        return SIZES if mode == "default" else SIZES[:-1]
    if section == "16 bit" and mode == "default":
        return (IN_CACHE, IN_MEMORY)
    return (IN_CACHE,)


def _isas(section: str, mode: str, count: int, isas: tuple[str, ...], filters: Filters) -> tuple[str, ...]:
    if filters.isas:
        return filters.isas
    if mode == "full":
        return isas
    if mode == "quick" or section in ("rounding", "layout"):
        return isas[:1]
    vector = [isa for isa in isas if isa != "scalar"]
    if count >= IN_MEMORY and len(vector) > 1:
        return (vector[0], vector[-1])
    return isas


def _order(case: Case) -> tuple[bool, bool, int]:
    """Sort what time may run out for to the end: large sizes, then sizes other than the one every section has."""
    return case.count > SIZES[2], case.count != IN_CACHE, SECTIONS.index(case.section)
