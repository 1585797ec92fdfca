"""The project's goals, kept in ``goals.toml``, held against what a run measured.

A goal over several pairs is met when the slowest of them meets it. What was not measured is said to be not measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from .formats import short_size
from .operations import LARGE, Operation
from .peers import LABELS
from .plan import IN_CACHE, IN_MEMORY, Case
from .results import Row, Run

_Case = TypeVar("_Case", Case, Operation)


@dataclass(frozen=True)
class Goal:
    """One number to reach, by every pair of `sources` x `targets` at one size on one instruction set."""

    name: str
    measure: str
    peer: str
    against: str
    isa: str
    count: int
    sources: frozenset[str]
    targets: frozenset[str]
    roundings: frozenset[str]
    layouts: frozenset[str]
    at_least: float

    def covers(self, case: Case | Operation | Row) -> bool:
        """Return whether a case, operation or row is one of those that the goal is about, its instruction set apart."""
        return (
            case.count == self.count
            and case.source in self.sources
            and case.target in self.targets
            and case.rounding in self.roundings
            and case.layout in self.layouts
        )

    @property
    def size(self) -> int:
        """How many casts the goal is about."""
        return len(self.sources) * len(self.targets) * len(self.roundings) * len(self.layouts)

    def value(self, row: Row) -> float | None:
        """Return what is compared with `at_least`."""
        return row.share if self.measure == "share" else row.times_faster(self.peer)


@dataclass(frozen=True)
class Verdict:
    """A goal and what became of it; `met` is None if it was not measured, or met by only a part of what it covers."""

    name: str
    where: str
    needed: str
    found: str
    worst: str
    met: bool | None


def needed(cases: Iterable[_Case]) -> list[_Case]:
    """Return what the goals need of a plan: their cases, on their instruction sets."""
    found = []
    for case in cases:
        wanted = {goal.isa for goal in (*goals(), *operation_goals()) if goal.covers(case)}
        isas = tuple(isa for isa in case.isas if isa in wanted)
        if isas:
            found.append(replace(case, isas=isas))
    return found


@cache
def goals() -> tuple[Goal, ...]:
    """Read the goals about casts."""
    found: list[Goal] = []
    for entry in _read()["goal"]:
        measure = "share" if "share" in entry else "faster"
        found += _goals_of(entry, measure, entry.get("peer", ""), (IN_CACHE, IN_MEMORY), entry[measure])
    return tuple(found)


@cache
def operation_goals() -> tuple[Goal, ...]:
    """Read the goals about operations on integer codes."""
    found: list[Goal] = []
    for entry in _read()["operation"]:
        if "share" in entry:
            found += _goals_of(entry, "share", "", (LARGE, IN_MEMORY), entry["share"])
        for peer, ratios in entry.get("faster", {}).items():
            labels = LABELS | {"numpy": "the numpy expression"}
            found += _goals_of(entry, "faster", peer, (LARGE, IN_MEMORY), ratios, labels)
    return tuple(found)


def _goals_of(
    entry: dict[str, Any],
    measure: str,
    peer: str,
    counts: tuple[int, ...],
    numbers: list[float],
    labels: dict[str, str] = LABELS,
) -> list[Goal]:
    sets: dict[str, list[str]] = _read()["names"]

    def members(names: Iterable[str]) -> frozenset[str]:
        return frozenset(member for name in names for member in sets.get(name, [name]))

    return [
        Goal(
            name=entry["name"],
            measure=measure,
            peer=peer,
            against="memory limit" if measure == "share" else labels.get(peer, peer),
            isa=entry["isa"],
            count=count,
            sources=members(entry["source"]),
            targets=members(entry["target"]),
            roundings=members(entry.get("rounding", ["nearest_even"])),
            layouts=members(entry.get("layout", ["contiguous"])),
            at_least=float(at_least),
        )
        for count, at_least in zip(counts, numbers, strict=False)
    ]


def judge(run: Run) -> list[Verdict]:
    """Hold every goal against a run."""
    return [
        *(_judge_cast(goal, run) for goal in (*goals(), *operation_goals())),
        *(_judge_call(entry, run) for entry in _read()["call"]),
        *(_judge_file(entry, run) for entry in _read()["file"]),
    ]


def _judge_cast(goal: Goal, run: Run) -> Verdict:
    unit = "" if goal.measure == "share" else "x"
    size = {IN_CACHE: "in cache", IN_MEMORY: "in memory"}.get(goal.count, f"at {short_size(goal.count)}")
    where = f"{goal.against}, {size}, {goal.isa}"
    needed = f">= {goal.at_least:g}{unit}"
    rows = [row for row in run.rows if row.threads == 1 and row.isa == goal.isa and goal.covers(row)]
    values = [(value, row) for row in rows if (value := goal.value(row)) is not None]
    if not values:
        return Verdict(goal.name, where, needed, "", "", None)
    value, row = min(values, key=lambda pair: pair[0])
    detail = [f"{row.source} -> {row.target}" if len(values) > 1 else ""]
    detail += [text for text, usual in ((row.rounding, "nearest_even"), (row.layout, "contiguous")) if text != usual]
    found = f"{value:.3f}" if goal.measure == "share" else f"{value:.1f}x"
    met: bool | None = value >= goal.at_least
    if len(values) < goal.size:
        detail.append(f"{len(values)} of {goal.size} measured")
        met = None if met else False
    return Verdict(goal.name, where, needed, found, ", ".join(filter(None, detail)), met)


def _judge_call(entry: dict[str, Any], run: Run) -> Verdict:
    call = next((call for call in run.calls if call.name == entry["name"]), None)
    name, where = entry.get("about", entry["name"]), entry["beside"]
    if "at_most_seconds" in entry:
        needed = f"< {_duration(entry['at_most_seconds'])}"
        value, text = (call.seconds, _duration(call.seconds)) if call else (0.0, "")
        met = value < entry["at_most_seconds"]
    elif "at_least" in entry:
        needed = f">= {entry['at_least']}x"
        value, text = (1 / call.ratio, f"{1 / call.ratio:.2f}x") if call else (0.0, "")
        met = value >= entry["at_least"]
    else:
        needed = f"<= {entry['at_most']}"
        value, text = (call.ratio, f"{call.ratio:.2f}") if call else (0.0, "")
        met = value <= entry["at_most"]
    return Verdict(name, where, needed, text, "", met if call else None)


def _duration(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} us" if seconds < 1e-4 else f"{seconds * 1e3:.1f} ms"


def _judge_file(entry: dict[str, Any], run: Run) -> Verdict:
    """Judge the casts of files of (nearly) the size that the goal is about by the worst of them."""
    least = 0.99 * entry["bytes"]
    rows = [row for row in run.rows if row.section == "files" and row.threads == 1 and 4 * row.count >= least]
    if "times_the_loop" in entry:
        where, limit, sign, unit, form = "the plainest loop", entry["times_the_loop"], 1, "x", ".2f"
        values = [(1 / row.share, row) for row in rows if row.share is not None]
    elif "faster" in entry:
        where, limit, sign, unit, form = entry["peer"], entry["faster"], -1, "x", ".1f"
        values = [(value, row) for row in rows if (value := row.times_faster(entry["peer"])) is not None]
    else:
        where, limit, sign, unit, form = "memory of its own", entry["megabytes"], 1, " MB", ".0f"
        values = [(row.peak_bytes / 1e6, row) for row in rows if row.peak_bytes is not None]
    needed = f"{'<=' if sign > 0 else '>='} {limit:g}{unit}"
    if not values:
        return Verdict(entry["name"], where, needed, "", "", None)
    value, row = max(values, key=lambda pair: sign * pair[0])
    return Verdict(entry["name"], where, needed, f"{value:{form}}{unit}", row.target, sign * value <= sign * limit)


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("goals.toml").read_text(encoding="utf-8"))
