"""Two runs side by side.

Two runs are two machines, or one machine in two moods. So what is compared is the share of the memory limit, which
each run measured for itself; where there is no limit (strided casts, small calls), the ratio to the yardstick of the
same run. A change counts only if it is larger than the noise that both runs saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import mean

from .results import CallTime, Row, Run

_LEAST_NOISE = 0.05


@dataclass(frozen=True)
class Change:
    """One measurement in both runs; `ratio` above 1 means that B is faster."""

    section: str
    label: str
    isa: str
    count: int
    before: str
    after: str
    ratio: float
    noise: float

    @property
    def is_noise(self) -> bool:
        """Return whether the change is no larger than the noise."""
        return abs(log(self.ratio)) <= log(1 + self.noise)


@dataclass(frozen=True)
class Comparison:
    """All measurements that two runs share, and what makes them hard to compare."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]

    def summary(self) -> dict[tuple[str, str], list[float]]:
        """Return the ratios by section and instruction set."""
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for change in self.changes:
            found[change.section, change.isa].append(change.ratio)
        return dict(found)

    @staticmethod
    def mean(ratios: Sequence[float]) -> float:
        """Return the geometric mean."""
        return exp(mean(map(log, ratios)))


def compare(a: Run, b: Run) -> Comparison:
    """Compare run B with run A."""
    rows = {row.key: row for row in a.rows}
    calls = {call.name: call for call in a.calls}
    changes = [_row_change(rows[row.key], row) for row in b.rows if row.key in rows]
    changes += [_call_change(calls[call.name], call) for call in b.calls if call.name in calls]
    warnings = []
    for fact in ("cpu", "system"):
        if a.machine[fact] != b.machine[fact]:
            warnings.append(f"{fact} differs: {a.machine[fact]} / {b.machine[fact]}")
    missing = len({row.key for row in b.rows} ^ set(rows))
    if missing:
        warnings.append(f"{missing} casts are in one of the runs only")
    return Comparison(tuple(changes), tuple(warnings))


def _row_change(a: Row, b: Row) -> Change:
    label = f"{b.source} -> {b.target}"
    label += "".join(f", {x}" for x in (b.rounding, b.layout) if x not in ("nearest_even", "contiguous"))
    label += "" if b.threads == 1 else f", {b.threads or 'all'} threads"
    noise = max(_LEAST_NOISE, a.spread + b.spread)
    if a.share is not None and b.share is not None:
        before, after, ratio = f"{a.share:.2f} of limit", f"{b.share:.2f} of limit", b.share / a.share
    else:
        times_a, times_b = a.times_faster("numpy"), b.times_faster("numpy")
        if times_a and times_b:
            before, after, ratio = f"{times_a:.1f}x numpy", f"{times_b:.1f}x numpy", times_b / times_a
        else:
            before, after, ratio = f"{a.gbps:.1f} GB/s", f"{b.gbps:.1f} GB/s", b.gbps / a.gbps
    return Change(b.section, label, b.isa, b.count, before, after, ratio, noise)


def _call_change(a: CallTime, b: CallTime) -> Change:
    noise = max(_LEAST_NOISE, a.spread + b.spread)
    before, after = (f"{call.ratio:.2f} of {call.yardstick}" for call in (a, b))
    return Change("small", b.name, "", 16, before, after, a.ratio / b.ratio, noise)
