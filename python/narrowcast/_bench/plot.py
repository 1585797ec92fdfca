"""The picture of a run: every cast between float32 and a narrow format, beside the memory limit and the peers.

One panel for the largest size in cache and one for the largest in memory; logarithmic, since the libraries lie up to
two orders of magnitude apart. Only the best instruction set is drawn; the tables have the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Any

from .formats import short_size
from .peers import LABELS, NAMES
from .plan import IN_CACHE, IN_MEMORY
from .results import Row, Run

# Okabe and Ito's colours, which stay apart for colour-blind eyes, and a marker each, which stay apart in print.
_OURS = "#0072B2"
_PEERS = {
    "numpy": ("#D55E00", "s"),
    "torch": ("#CC79A7", "D"),
    "numkong": ("#009E73", "^"),
    "onnxruntime": ("#E69F00", "v"),
    "jax": ("#56B4E9", "P"),
}
_INK = "#222222"
_GRID = "#DDDDDD"
_ROW_INCHES = 0.27
_WIDTH_INCHES = 10.5


def draw(run: Run, path: Path) -> None:
    """Draw a run into a picture file; its suffix chooses the kind (png, svg, pdf).

    Raises
    ------
    ValueError
        If the run has no cast between float32 and another format.
    """
    rows = [row for row in run.rows if row.section in ("encode", "decode") and row.threads == 1]
    panels = _panels(rows)
    if not panels:
        raise ValueError("there is no cast between float32 and another format to draw")
    figure_module = import_module("matplotlib.figure")
    import_module("matplotlib.backends.backend_agg")
    lines, labels = _lines(panels)
    height = _ROW_INCHES * len(labels) + 1.9
    figure = figure_module.Figure(figsize=(_WIDTH_INCHES, height), dpi=160, facecolor="white")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel, lines)
    _label_rows(axes[0], labels)
    _decorate(figure, axes, panels, run, height)
    part = path.with_name(f"{path.name}.part{path.suffix}")
    try:
        figure.savefig(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _panels(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of one or two sizes, each with its best instruction set only."""
    cached = [row.count for row in rows if row.count <= IN_CACHE]
    large = [row.count for row in rows if row.count >= IN_MEMORY] or [row.count for row in rows if row.count > IN_CACHE]
    counts = [max(cached)] if cached else []
    counts += [max(large)] if large else []
    panels = []
    for count in counts:
        best: dict[tuple[str, str], Row] = {}
        for row in rows:
            if row.count == count:
                best.setdefault((row.source, row.target), row)
        panels.append(list(best.values()))
    return panels


def _lines(panels: Sequence[Sequence[Row]]) -> tuple[dict[tuple[str, str], float], dict[float, str]]:
    """Return the height of each cast's line, from the top, and the labels of all heights, headings included."""
    pairs = list(dict.fromkeys((row.source, row.target) for panel in panels for row in panel))
    lines: dict[tuple[str, str], float] = {}
    labels: dict[float, str] = {}
    height = 0.0
    for heading, part in (
        ("from float32 to", [pair for pair in pairs if pair[0] == "float32"]),
        ("to float32 from", [pair for pair in pairs if pair[0] != "float32"]),
    ):
        if part:
            labels[height] = heading
        for pair in part:
            height -= 1
            lines[pair] = height
            labels[height] = pair[1] if pair[0] == "float32" else pair[0]
        height -= 1.3
    return lines, labels


def _draw_panel(axis: Any, rows: Sequence[Row], lines: dict[tuple[str, str], float]) -> None:
    for row in rows:
        y = lines[row.source, row.target]
        peers = {name: row.moved_bytes / time.seconds / 1e9 for name, time in row.peers.items()}
        slowest = min([*peers.values(), row.gbps])
        axis.plot([slowest, row.gbps], [y, y], color=_GRID, linewidth=5, solid_capstyle="round", zorder=1)
        if row.limit_seconds is not None:
            limit = row.moved_bytes / row.limit_seconds / 1e9
            axis.plot([limit, limit], [y - 0.36, y + 0.36], color=_INK, linewidth=1.6, zorder=3)
        for name, speed in peers.items():
            color, marker = _PEERS[name]
            axis.plot(speed, y, marker=marker, color=color, markersize=5.5, markeredgecolor="white",
                      markeredgewidth=0.5, zorder=4)  # fmt: skip
        axis.plot(row.gbps, y, marker="o", color=_OURS, markersize=8.5, markeredgecolor="white", markeredgewidth=0.8,
                  zorder=5)  # fmt: skip
    axis.set_xscale("log")
    place = "in cache" if rows[0].count <= IN_CACHE else "in memory"
    axis.set_title(f"{short_size(rows[0].count)} elements, {place}", loc="left", fontsize=10.5, color=_INK, pad=8)
    axis.set_xlabel("GB/s, read and written", fontsize=9, color=_INK)
    axis.grid(axis="x", which="major", color=_GRID, linewidth=0.8, zorder=0)
    axis.set_axisbelow(True)
    ticker = import_module("matplotlib.ticker")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.tick_params(axis="both", length=0, labelsize=9, labelcolor=_INK)
    axis.set_ylim(min(lines.values()) - 0.7, 0.4)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def _label_rows(axis: Any, labels: dict[float, str]) -> None:
    axis.set_yticks(list(labels), list(labels.values()))
    for text in axis.get_yticklabels():
        if " " in text.get_text():
            text.set_fontweight("bold")


def _decorate(figure: Any, axes: Any, panels: Sequence[Sequence[Row]], run: Run, height: float) -> None:
    lines_module = import_module("matplotlib.lines")
    isas = "/".join(dict.fromkeys(row.isa for panel in panels for row in panel))
    present = [name for name in NAMES if any(name in row.peers for panel in panels for row in panel)]
    keys = [
        lines_module.Line2D([], [], marker="o", linestyle="", color=_OURS, markersize=8, label=f"narrowcast ({isas})"),
        lines_module.Line2D([], [], marker="|", linestyle="", color=_INK, markersize=11, markeredgewidth=1.6,
                            label="memory limit"),
    ]  # fmt: skip
    keys += [
        lines_module.Line2D([], [], marker=_PEERS[name][1], linestyle="", color=_PEERS[name][0], markersize=5.5,
                            label=LABELS.get(name, name))
        for name in present
    ]  # fmt: skip
    left = 0.02
    figure.suptitle("Casts from and to float32, one thread", x=left, y=1 - 0.16 / height, ha="left", va="top",
                    fontsize=13, fontweight="bold", color=_INK)  # fmt: skip
    figure.legend(handles=keys, loc="upper left", bbox_to_anchor=(left - 0.008, 1 - 0.38 / height), ncols=len(keys),
                  frameon=False, fontsize=9, handletextpad=0.3, columnspacing=1.4, labelcolor=_INK)  # fmt: skip
    figure.text(left, 0.12 / height, _caption(run), fontsize=7.5, color="#666666", ha="left", va="bottom")
    figure.subplots_adjust(left=1.85 / figure.get_figwidth(), right=0.985, top=1 - 0.98 / height, bottom=0.86 / height,
                           wspace=0.06)  # fmt: skip


def _caption(run: Run) -> str:
    used = {"numpy", "ml_dtypes", *run.settings["peers"]}
    versions = ", ".join(f"{name} {version}" for name, version in run.machine["versions"].items() if name in used)
    caption = f"{run.machine['cpu']}; narrowcast {run.machine['narrowcast']}, {versions}. Best of alternated turns."
    return fill(caption, 190)
