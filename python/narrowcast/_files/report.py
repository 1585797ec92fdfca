"""What a cast of files has done, per tensor and in all: as records, as tables, as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from narrowcast._console import print_table
from narrowcast._sums import Sums

_WORST: Final = 3


@dataclass(frozen=True, slots=True)
class TensorReport:
    """What became of one tensor.

    Attributes
    ----------
    name : str
        Its name in the file.
    source_format, target_format : str
        What its elements were and are: names of formats, or the file's own word for what is no format of narrowcast.
    size : int
        Number of elements.
    bytes_before, bytes_after : int
        Bytes in the files.
    seconds : float
        Time spent on it, added over threads.
    sums : Sums or None
        What the cast did to its values; None if it was copied, or dequantized.
    file : str
        The file it lies in, relative to the directory that was cast.
    sources, targets : tuple of str
        The names of what it was made of and of what it became, where these are not its own name alone: a quantized
        weight has scales, for one.
    """

    name: str
    source_format: str
    target_format: str
    size: int
    bytes_before: int
    bytes_after: int
    seconds: float = 0.0
    sums: Sums | None = None
    file: str = ""
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    @property
    def sqnr(self) -> float | None:
        """Signal to quantization noise ratio in dB: inf if no value changed; None if the tensor was copied."""
        return None if self.sums is None else self.sums.sqnr

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "name": self.name,
            "file": self.file,
            "from": self.source_format,
            "to": self.target_format,
            "size": self.size,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "seconds": self.seconds,
            **{key: [*names] for key, names in (("sources", self.sources), ("targets", self.targets)) if names},
            **({} if self.sums is None else self.sums.as_dict()),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TensorReport:
        """Return what `as_dict` was made of."""
        return cls(
            name=record["name"],
            source_format=record["from"],
            target_format=record["to"],
            size=record["size"],
            bytes_before=record["bytes_before"],
            bytes_after=record["bytes_after"],
            seconds=record["seconds"],
            sums=Sums.from_dict(record) if "signal" in record else None,
            file=record["file"],
            sources=tuple(record.get("sources", ())),
            targets=tuple(record.get("targets", ())),
        )


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class CastReport:
    """What a cast of a file or directory has done.

    Attributes
    ----------
    source, target : Path
        What was read and what was written.
    format : str
        The target format.
    tensors : tuple of TensorReport
        Every tensor, those that were copied included.
    seconds : float
        Wall-clock time.
    complete : bool
        Whether `target` is in its place: False for a dry run, and for a rank that was not the last one.
    files, files_done : int
        How many files there are and how many of them are done.
    """

    source: Path
    target: Path
    format: str
    tensors: tuple[TensorReport, ...]
    seconds: float
    complete: bool = True
    files: int = 1
    files_done: int = 1

    @property
    def bytes_before(self) -> int:
        """Bytes of all tensors before the cast."""
        return sum(tensor.bytes_before for tensor in self.tensors)

    @property
    def bytes_after(self) -> int:
        """Bytes of all tensors after the cast."""
        return sum(tensor.bytes_after for tensor in self.tensors)

    @property
    def sums(self) -> Sums:
        """What the cast did to the values of all tensors that were cast."""
        return Sums.total(tensor.sums for tensor in self.tensors if tensor.sums is not None)

    @property
    def worst(self) -> tuple[TensorReport, ...]:
        """The three tensors with the smallest SQNR, worst first; none that is exact or has no SQNR."""
        changed = [t for t in self.tensors if t.sums is not None and t.sums.noise > 0 and not math.isnan(t.sums.sqnr)]
        return tuple(sorted(changed, key=lambda tensor: (tensor.sqnr, tensor.name))[:_WORST])

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; a number that is not finite is None."""
        found: dict[str, Any] = _without_infinities(
            {
                "source": str(self.source),
                "target": str(self.target),
                "format": self.format,
                "complete": self.complete,
                "files": self.files,
                "files_done": self.files_done,
                "seconds": self.seconds,
                "bytes_before": self.bytes_before,
                "bytes_after": self.bytes_after,
                "total": self.sums.as_dict(),
                "worst": [tensor.name for tensor in self.worst],
                "tensors": [tensor.as_dict() for tensor in self.tensors],
            }
        )
        return found

    def to_json(self) -> str:
        """Return the report as JSON text, in ASCII for names that have no UTF-8; an infinite SQNR is null."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n"


def print_report(report: CastReport, *, measured: bool = True) -> None:
    """Print a table with a row per group of tensors, the total and the worst ones."""
    columns = ["tensors", "count", "from", "to", "bytes before", "after"]
    if measured:
        columns += ["GB/s", "SQNR dB", "overflowed", "to zero", "to NaN"]
    rows = [_row(name, group, _rate(group, sum(t.seconds for t in group)), measured) for name, group in _groups(report)]
    if len(rows) > 1:
        rows.append(_row("total", report.tensors, _rate(report.tensors, report.seconds), measured))
    print_table(columns, rows, right=[name for name in columns if name not in ("tensors", "from", "to")])
    if measured and report.worst:
        print("\nworst by SQNR: " + ", ".join(f"{printable(t.name)} ({_sqnr(t.sqnr)} dB)" for t in report.worst))


def _groups(report: CastReport) -> list[tuple[str, list[TensorReport]]]:
    """Gather tensors whose names differ only in numbers (the layers of a model) and that have the same formats."""
    found: dict[tuple[str, str, str], list[TensorReport]] = {}
    for tensor in report.tensors:
        name = re.sub(r"\d+", "*", tensor.name)
        found.setdefault((name, tensor.source_format, tensor.target_format), []).append(tensor)
    return [(group[0].name if len(group) == 1 else key[0], group) for key, group in found.items()]


def _row(name: str, tensors: Sequence[TensorReport], rate: str, measured: bool) -> list[str]:
    sums = Sums.total(tensor.sums for tensor in tensors if tensor.sums is not None)
    formats = [{t.source_format for t in tensors}, {t.target_format for t in tensors}]
    row = [printable(name), str(len(tensors))]
    row += [printable(names.pop()) if len(names) == 1 else "" for names in formats]
    row += [human_bytes(sum(t.bytes_before for t in tensors)), human_bytes(sum(t.bytes_after for t in tensors))]
    if measured:
        cast = any(tensor.sums is not None for tensor in tensors)
        same = all(tensor.source_format == tensor.target_format for tensor in tensors)
        counts = [str(sums.overflowed), str(sums.zeroed), str(sums.became_nan)] if cast else ["", "", ""]
        row += [rate, _sqnr(sums.sqnr) if cast else "copied" if same else "", *counts]
    return row


def _rate(tensors: Iterable[TensorReport], seconds: float) -> str:
    moved = sum(tensor.bytes_before + tensor.bytes_after for tensor in tensors)
    return f"{moved / seconds / 1e9:.2f}" if seconds > 0 else ""


def _sqnr(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return "exact" if math.isinf(value) else f"{value:.2f}"


def printable(text: str) -> str:
    """Return a text of others, such as a tensor's name, in one line and with nothing that steers a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def human_bytes(count: float) -> str:
    """Return a number of bytes in decimal units: "90.9 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 1000 else f"{count:.0f} TB"
