"""Writes the README's tables of speeds from kept results: python bench/readme_table.py RESULT.json README.md

A result of casts goes between the lines <!-- bench table --> and <!-- /bench table -->, one of quantization and packing
between <!-- operations table --> and <!-- /operations table -->.
"""

from __future__ import annotations

import sys
from pathlib import Path

from narrowcast._bench.operations import SECTIONS
from narrowcast._bench.peers import LABELS, NAMES
from narrowcast._bench.plan import IN_CACHE, IN_MEMORY
from narrowcast._bench.report import WRONG_LIMIT
from narrowcast._bench.results import Row, Run, load

MARKS = "<!-- {} -->\n", "<!-- /{} -->\n"

WIDE_TO_NARROW = [("float32", name) for name in ("float16", "bfloat16")]
FP8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float6_e2m3fn", "float4_e2m1fn")
CASTS = [
    *WIDE_TO_NARROW,
    *(("float32", name) for name in FP8),
    *((name, "float32") for name in ("float16", "bfloat16", *FP8)),
    ("float16", "bfloat16"),
    ("bfloat16", "float16"),
    ("float8_e4m3fn", "bfloat16"),
    ("bfloat16", "float8_e4m3fn"),
]


def find(run: Run, source: str, target: str, count: int) -> Row | None:
    """Return the row of the best instruction set, one thread, nearest-even, contiguous."""
    wanted = (source, target, count, run.machine["isa"], "nearest_even", "contiguous", 1)
    return next((row for row in run.rows if row.key == tuple(map(str, wanted))), None)


def share(row: Row | None) -> str:
    if row is None or row.share is None:
        return ""
    return f"{row.share:.2f}{'!' if row.share > WRONG_LIMIT else ''}"


def ratio(row: Row | None, peer: str) -> str:
    times = None if row is None else row.times_faster(peer)
    if row is None or times is None:
        return ""
    time = row.peers[peer]
    mark = "*" if time.differ else "+" if time.differ_difficult else ""
    return (f"{times:.1f}" if times < 10 else f"{times:.0f}") + mark


def table(run: Run) -> str:
    peers = [name for name in NAMES if name in run.settings["peers"]]
    heads = ["cast", "share, 64 Ki", "share, 64 Mi"]
    heads += [LABELS[name] for name in peers]
    lines = [heads, ["---"] * len(heads)]
    for source, target in CASTS:
        rows = [find(run, source, target, count) for count in (IN_CACHE, IN_MEMORY)]
        cells = [f"{source} → {target}", *map(share, rows)]
        cells += [" / ".join(filter(None, (ratio(row, peer) for row in rows))) for peer in peers]
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def operations_table(run: Run) -> str:
    """Return a row for each operation: the shares, and how many times faster than each library, at both sizes."""
    rows = [row for row in run.rows if row.section in SECTIONS and row.isa == run.machine["isa"]]
    peers = list(dict.fromkeys(name for row in rows for name in row.peers if name in LABELS))
    lines = [["operation", "share, 1 Mi", "share, 64 Mi", *(LABELS[name] for name in peers)]]
    lines.append(["---"] * len(lines[0]))
    for key in dict.fromkeys((row.source, row.target, row.layout) for row in rows):
        pair = [row for row in rows if (row.source, row.target, row.layout) == key]
        cells = [f"{key[0]} → {key[1]}, {key[2]}", *map(share, pair)]
        cells += [" / ".join(filter(None, (ratio(row, peer) for row in pair))) for peer in peers]
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def replace(text: str, run: Run) -> str:
    """Return a text with the table that the result is of made new, between its marks."""
    is_operations = any(row.section in SECTIONS for row in run.rows)
    begin, end = (mark.format("operations table" if is_operations else "bench table") for mark in MARKS)
    before, _, rest = text.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"no lines {begin.strip()} and {end.strip()}")
    return before + begin + (operations_table if is_operations else table)(run) + end + after


if __name__ == "__main__":
    result, readme = map(Path, sys.argv[1:])
    readme.write_text(replace(readme.read_text(encoding="utf-8"), load(result)), encoding="utf-8")
