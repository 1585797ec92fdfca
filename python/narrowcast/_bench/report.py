"""Tables: what a run found, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from narrowcast._console import Cell, Span, print_spans, print_table

from . import machine
from .compare import Comparison
from .formats import short_size
from .goals import Verdict
from .operations import SECTIONS as OPERATION_SECTIONS
from .peer_operations import FBGEMM, IN_PLACE
from .peers import FILE_PEER, LABELS, NAMES
from .plan import IN_CACHE, IN_MEMORY
from .results import CallTime, PeerTime, Row, Run

WRONG_LIMIT = 1.03
_MANY_TIMES = 10


@dataclass
class Table:
    """A title, a heading and rows of text; all but the first `left` columns are aligned to the right."""

    title: str
    heading: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    left: int = 1

    def show(self) -> None:
        """Print it, unless it is empty."""
        if self.rows:
            print_spans([Span(self.title, "cyan")])
            print_table(self.heading, self.rows, right=self.heading[self.left :])
            print()


def show_machine(run: Run) -> None:
    """Print what the numbers belong to."""
    for label, text in machine.lines(run.machine):
        print(f"{label + ':':18}{text}")
    for peer, command in run.settings["absent"].items():
        print(f"{'absent:':18}{LABELS.get(peer, peer)} ({command})")
    if machine.is_busy(run.machine):
        print("The machine was busy when this began: trust the ratios a little, the GB/s not at all.")
    print()


def show_run(run: Run) -> None:
    """Print every table of a run, then its notes."""
    titles = {
        "encode": "float32 to narrow formats",
        "decode": "narrow formats to float32",
        "16 bit": "between 16 bits and less",
        "float64": "float64 to narrow formats",
        "quantize": "quantize",
        "dequantize": "dequantize",
        "pack": "pack and unpack",
    }
    for section, title in titles.items():
        rows = [row for row in run.rows if row.section == section]
        _share_table(f"{title}: GB/s and share of the memory limit", rows).show()
        _peer_table(f"{title}: times faster than", rows).show()
    for count in sorted({row.count for row in run.rows}):
        _variant_table([row for row in run.rows if row.count == count], count).show()
    _file_table([row for row in run.rows if row.section == "files"], run.settings.get("files")).show()
    _call_table(run.calls).show()
    _difference_table(run.rows).show()
    for note in [*_wrong_limits(run.rows), *run.notes]:
        print(f"note: {note}")


def _share_table(title: str, rows: Sequence[Row]) -> Table:
    counts = sorted({row.count for row in rows})
    table = Table(title, ["cast", "ISA", *(short_size(count) for count in counts)], left=2)
    cells = {(_pair(row), _isa_label(row), row.count): _speed(row) for row in rows}
    last = None
    for pair, isa in dict.fromkeys((_pair(row), _isa_label(row)) for row in rows):
        speeds = [cells.get((pair, isa, count), "") for count in counts]
        table.rows.append(["" if pair == last else pair, isa, *speeds])
        last = pair
    return table


def _pair(row: Row) -> str:
    detail = f", {row.layout}" if row.section in OPERATION_SECTIONS else ""
    return f"{row.source} -> {row.target}{detail}"


def _isa_label(row: Row) -> str:
    return row.isa if row.threads == 1 else f"{row.isa}, {row.threads or 'all'} threads"


def _speed(row: Row) -> str:
    if row.share is None:
        return f"{row.gbps:.1f}     "
    return f"{row.gbps:.1f} {row.share:.2f}{'!' if row.share > WRONG_LIMIT else ' '}"


def _peer_table(title: str, rows: Sequence[Row]) -> Table:
    """Make a table of the best instruction set against every peer, at every size."""
    best: dict[tuple[str, int], Row] = {}
    for row in rows:
        if row.threads == 1:
            best.setdefault((_pair(row), row.count), row)
    counts = sorted({count for _, count in best})
    if any(count == IN_CACHE for count in counts):
        counts = [count for count in counts if count in (IN_CACHE, IN_MEMORY)]
    peers = [peer for peer in (NAMES[0], IN_PLACE, *NAMES[1:], FBGEMM) if any(peer in row.peers for row in rows)]
    if not peers:
        return Table("", [])
    marks = {(_pair(row), peer): _mark(time) for row in reversed(rows) for peer, time in row.peers.items()}
    isas = "/".join(dict.fromkeys(row.isa for row in best.values()))
    table = Table(
        f"{title} ({isas})",
        ["cast", *(f"{peer} {short_size(count)}" for peer in peers for count in counts)],
    )
    for pair in dict.fromkeys(pair for pair, _ in best):
        cells = []
        for peer in peers:
            for count in counts:
                cell = best.get((pair, count))
                ratio = None if cell is None else cell.times_faster(peer)
                cells.append("" if ratio is None else times(ratio) + marks[pair, peer])
        table.rows.append([pair, *cells])
    return table


def _mark(time: PeerTime) -> str:
    return "*" if time.differ else "+" if time.differ_difficult else " "


def _variant_table(rows: Sequence[Row], count: int) -> Table:
    """Make a table of the other roundings and layouts of float32, against numpy + ml_dtypes at nearest-even."""
    rows = [row for row in rows if row.section in ("rounding", "layout") and row.threads == 1]
    variants = list(dict.fromkeys(_variant(row) for row in rows))
    isas = list(dict.fromkeys(row.isa for row in rows))
    title = f"float32 otherwise, {short_size(count)}: GB/s, times faster than numpy + ml_dtypes"
    table = Table(title, ["target", "ISA", *variants], left=2)
    cells = {(row.target, row.isa, _variant(row)): row for row in rows}
    for target in dict.fromkeys(row.target for row in rows):
        for isa in isas:
            found = (cells.get((target, isa, variant)) for variant in variants)
            table.rows.append([target, isa, *("" if row is None else _against_numpy(row) for row in found)])
    return table


def _variant(row: Row) -> str:
    return row.rounding if row.section == "rounding" else row.layout


def _against_numpy(row: Row) -> str:
    ratio = row.times_faster("numpy")
    return f"{row.gbps:.1f}" + ("       " if ratio is None else f" {times(ratio):>6}")


def times(ratio: float) -> str:
    """Write a ratio: 0.87x, 6.3x, 41x."""
    if ratio < 1:
        return f"{ratio:.2f}x"
    return f"{ratio:.1f}x" if ratio < _MANY_TIMES else f"{ratio:.0f}x"


def _file_table(rows: Sequence[Row], about: Mapping[str, Any] | None) -> Table:
    """Make a table of the casts of files."""
    if about is None:
        return Table("", [])
    title = f".safetensors file of {about['bytes'] / 1e9:g} GB in {about['source']}, cast into {about['output']}"
    heading = ["cast", "threads", "time", "GB/s", "loop", "x loop", "times faster than torch", "memory"]
    table = Table(title, heading)
    for row in rows:
        faster, memory = row.times_faster(FILE_PEER), row.peak_bytes
        table.rows.append(
            [
                f"{row.source} -> {row.target}",
                str(row.threads or "all"),
                f"{row.seconds * 1e3:.0f} ms",
                f"{row.gbps:.1f}",
                row.limit_form,
                "" if row.share is None else f"{1 / row.share:.2f}",
                "" if faster is None else times(faster),
                "" if memory is None else f"{memory / 1e6:.0f} MB",
            ]
        )
    return table


def _call_table(calls: Iterable[CallTime]) -> Table:
    table = Table("Small things", ["what", "time", "ratio", "beside", "its time"])
    for call in calls:
        table.rows.append(
            [call.name, _duration(call.seconds), f"{call.ratio:.2f}", call.yardstick, _duration(call.yardstick_seconds)]
        )
    return table


def _duration(seconds: float) -> str:
    for unit, factor, most in (("ns", 1e9, 1e-5), ("us", 1e6, 1e-3)):
        if seconds < most:
            return f"{seconds * factor:.0f} {unit}"
    return f"{seconds * 1e3:.1f} ms"


def _wrong_limits(rows: Iterable[Row]) -> list[str]:
    wrong = [row for row in rows if row.share is not None and row.share > WRONG_LIMIT]
    if not wrong:
        return []
    worst = max(wrong, key=lambda row: row.share or 0)
    return [
        f"! marks {len(wrong)} shares above {WRONG_LIMIT}: there the limit loop is not the limit, or the machine was "
        f"not quiet (largest: {worst.share:.2f}, {worst.source} -> {worst.target}, {short_size(worst.count)})"
    ]


def _difference_table(rows: Iterable[Row]) -> Table:
    """Say which peers give other bits, once for each pair."""
    title = "Peers that give other bits: * also on the values timed, + only on difficult ones (overflow, NaN, ties)"
    table = Table(title, ["cast", "peer", "first difference", "of the timed", "of the difficult"], left=3)
    found: dict[tuple[str, str], PeerTime] = {}
    for row in rows:
        for peer, time in row.peers.items():
            if _mark(time).strip():
                known = found.setdefault((_pair(row), peer), time)
                if (time.differ or 0) > (known.differ or 0):
                    found[_pair(row), peer] = time
    for (pair, peer), time in found.items():
        counts = [str(time.differ or 0), f"{time.differ_difficult or 0} of {time.difficult}"]
        table.rows.append([pair, LABELS.get(peer, peer), time.example, *counts])
    return table


def show_goals(verdicts: Sequence[Verdict]) -> None:
    """Print the goals and what became of them."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    table = Table("Goals", ["cast", "against", "verdict", "slowest", "goal", "found"], left=4)
    for verdict in verdicts:
        word = "part" if verdict.met is None and verdict.found else words[verdict.met]
        colour = {True: "green", False: "red", None: ""}[verdict.met]
        table.rows.append(
            [verdict.name, verdict.where, [Span(word, colour)], verdict.worst, verdict.needed, verdict.found]
        )
    table.show()
    counts = {word: sum(verdict.met is met for verdict in verdicts) for met, word in words.items()}
    print(", ".join(f"{count} {word.lower()}" for word, count in counts.items()))


def show_comparison(comparison: Comparison) -> None:
    """Print what changed from one run to another."""
    for warning in comparison.warnings:
        print(f"note: {warning}")
    summary = Table("B against A: geometric means", ["section", "ISA", "casts", "B / A"], left=2)
    for (section, isa), ratios in comparison.summary().items():
        summary.rows.append([section, isa, str(len(ratios)), f"{comparison.mean(ratios):.3f}"])
    summary.show()
    changed = [change for change in comparison.changes if not change.is_noise]
    table = Table("Beyond noise", ["cast", "ISA", "size", "A", "B", "B / A", "noise"], left=2)
    for change in sorted(changed, key=lambda change: change.ratio):
        table.rows.append(
            [
                change.label,
                change.isa,
                short_size(change.count),
                change.before,
                change.after,
                f"{change.ratio:.2f}",
                f"{change.noise:.0%}",
            ]
        )
    table.show()
    print(f"{len(changed)} of {len(comparison.changes)} casts changed by more than their noise")
