"""Tables: what a run found, for people. Through rich where it is installed, else plain columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

from . import machine
from .compare import Comparison
from .formats import short_size
from .goals import Verdict
from .peers import LABELS, NAMES
from .results import CallTime, Row, Run

WRONG_LIMIT = 1.03
_MANY_TIMES = 10


@dataclass
class Table:
    """A title, a heading and rows of text; the first column is left-aligned."""

    title: str
    heading: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    left: int = 1

    def show(self) -> None:
        """Print it."""
        if self.rows:
            _show_rich(self) if find_spec("rich") else _show_plain(self)


def _show_rich(table: Table) -> None:
    rich_table = import_module("rich.table").Table(
        title=table.title, title_justify="left", title_style="bold", box=import_module("rich.box").SIMPLE_HEAD
    )
    for index, name in enumerate(table.heading):
        rich_table.add_column(name, justify="left" if index < table.left else "right", no_wrap=True)
    for row in table.rows:
        rich_table.add_row(*map(import_module("rich.markup").escape, row))
    console = import_module("rich.console").Console(highlight=False)
    if not console.is_terminal:  # a pipe or a file: as wide as the table
        console.width = 200
    console.print(rich_table)


def _show_plain(table: Table) -> None:
    lines = [list(table.heading), *map(list, table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.heading))]
    print(table.title)
    for line in lines:
        cells = (
            cell.ljust(width) if i < table.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())
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
    }
    for section, title in titles.items():
        rows = [row for row in run.rows if row.section == section]
        _share_table(f"{title}: GB/s and share of the memory limit", rows).show()
        _peer_table(f"{title}: times faster than", rows).show()
    for count in sorted({row.count for row in run.rows}):
        _variant_table([row for row in run.rows if row.count == count], count).show()
    _call_table(run.calls).show()
    for note in [*_wrong_limits(run.rows), *_differences(run.rows), *run.notes]:
        print(f"note: {note}")


def _share_table(title: str, rows: Sequence[Row]) -> Table:
    counts = sorted({row.count for row in rows})
    table = Table(title, ["cast", "ISA", *(short_size(count) for count in counts)], left=2)
    cells = {(row.source, row.target, _isa_label(row), row.count): _speed(row) for row in rows}
    last = None
    for source, target, isa in dict.fromkeys((row.source, row.target, _isa_label(row)) for row in rows):
        pair = f"{source} -> {target}"
        speeds = [cells.get((source, target, isa, count), "") for count in counts]
        table.rows.append(["" if pair == last else pair, isa, *speeds])
        last = pair
    return table


def _isa_label(row: Row) -> str:
    return row.isa if row.threads == 1 else f"{row.isa}, {row.threads or 'all'} threads"


def _speed(row: Row) -> str:
    if row.share is None:
        return f"{row.gbps:.1f}     "
    return f"{row.gbps:.1f} {row.share:.2f}{'!' if row.share > WRONG_LIMIT else ' '}"


def _peer_table(title: str, rows: Sequence[Row]) -> Table:
    """Make a table of the best instruction set against every peer, at every size."""
    best: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        if row.threads == 1:
            best.setdefault((row.source, row.target, row.count), row)
    counts = sorted({count for _, _, count in best})
    peers = [peer for peer in NAMES if any(peer in row.peers for row in rows)]
    differing = {(row.source, row.target, peer) for row in rows for peer, time in row.peers.items() if time.differ}
    isas = "/".join(dict.fromkeys(row.isa for row in best.values()))
    table = Table(
        f"{title} ({isas})",
        ["cast", *(f"{LABELS.get(peer, peer)}, {short_size(count)}" for peer in peers for count in counts)],
    )
    for source, target in dict.fromkeys((source, target) for source, target, _ in best):
        cells = []
        for peer in peers:
            for count in counts:
                row = best.get((source, target, count))
                ratio = row.times_faster(peer) if row else None
                mark = "*" if (source, target, peer) in differing else " "
                cells.append("" if ratio is None else times(ratio) + mark)
        table.rows.append([f"{source} -> {target}", *cells])
    return table


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


def _call_table(calls: Iterable[CallTime]) -> Table:
    table = Table("Small things", ["what", "time", "beside", "time", "ratio"])
    for call in calls:
        table.rows.append(
            [call.name, _duration(call.seconds), call.yardstick, _duration(call.yardstick_seconds), f"{call.ratio:.2f}"]
        )
    return table


def _duration(seconds: float) -> str:
    return f"{seconds * 1e9:.0f} ns" if seconds < 1e-5 else f"{seconds * 1e3:.1f} ms"


def _wrong_limits(rows: Iterable[Row]) -> list[str]:
    wrong = [row for row in rows if row.share is not None and row.share > WRONG_LIMIT]
    if not wrong:
        return []
    worst = max(wrong, key=lambda row: row.share or 0)
    return [
        f"! marks {len(wrong)} shares above {WRONG_LIMIT}: there the limit loop is not the limit, or the machine was "
        f"not quiet (largest: {worst.share:.2f}, {worst.source} -> {worst.target}, {short_size(worst.count)})"
    ]


def _differences(rows: Iterable[Row]) -> list[str]:
    """Say which peers gave other bits, once for each pair."""
    found = {}
    for row in rows:
        for peer, time in row.peers.items():
            if time.differ:
                key = (row.source, row.target, peer)
                if key not in found or found[key].differ < time.differ:
                    found[key] = time
    return [
        f"* {LABELS.get(peer, peer)}, {source} -> {target}: {time.differ} of {time.checked} elements differ "
        f"({time.example})"
        for (source, target, peer), time in found.items()
    ]


def show_goals(verdicts: Sequence[Verdict]) -> None:
    """Print the goals and what became of them."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    table = Table("Goals", ["cast", "against", "goal", "found", "", "slowest"], left=2)
    for verdict in verdicts:
        word = "part" if verdict.met is None and verdict.found else words[verdict.met]
        table.rows.append([verdict.name, verdict.where, verdict.needed, verdict.found, word, verdict.worst])
    table.show()
    counts = {word: sum(verdict.met is met for verdict in verdicts) for met, word in words.items()}
    print(", ".join(f"{count} {word.lower()}" for word, count in counts.items()))


def show_comparison(comparison: Comparison) -> None:
    """Print what changed from one run to another."""
    for warning in comparison.warnings:
        print(f"note: {warning}")
    summary = Table("B against A, by section: speed ratio (geometric mean)", ["section", "ISA", "casts", "ratio"], left=2)
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


