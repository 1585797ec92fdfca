"""What a run found, as plain data, and the file it is kept in.

A row is one case on one instruction set. Seconds are the best turn; spread is how far the median turn lay above it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass
class PeerTime:
    """One peer on one case: its best seconds, and how it compares with the expected bits.

    Attributes
    ----------
    differ
        How many of the values that were timed come out with other bits; None if that was not asked (it does something
        else: nearest-even beside another rounding) or not at this size.
    differ_difficult
        The same for the values chosen to be difficult: overflow, ties, subnormals, infinities, random bits.
    example
        The first element that differs.
    """

    seconds: float
    turns: int
    differ: int | None = None
    differ_difficult: int | None = None
    difficult: int = 0
    example: str = ""


@dataclass
class Row:
    """One case on one instruction set; in the section "files" the cast of a file.

    `peak_bytes` is the memory of its own that a process takes for the cast of a file.
    """

    section: str
    source: str
    target: str
    count: int
    isa: str
    rounding: str
    layout: str
    threads: int
    seconds: float
    spread: float
    turns: int
    moved_bytes: int
    limit_seconds: float | None = None
    limit_form: str = ""
    peers: dict[str, PeerTime] = field(default_factory=dict)
    peak_bytes: int | None = None

    @property
    def gbps(self) -> float:
        """Bytes read plus bytes written, in 10^9 a second."""
        return self.moved_bytes / self.seconds / 1e9

    @property
    def share(self) -> float | None:
        """Best time of the limit over best time of the cast."""
        return None if self.limit_seconds is None else self.limit_seconds / self.seconds

    def times_faster(self, peer: str) -> float | None:
        """How many times as long the peer takes, or None if it was not timed."""
        return self.peers[peer].seconds / self.seconds if peer in self.peers else None

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows of different runs the same measurement."""
        case = (self.source, self.target, self.count, self.isa, self.rounding, self.layout, self.threads)
        return tuple(map(str, case))


@dataclass
class CallTime:
    """One small thing: seconds of ours and of the yardstick."""

    name: str
    yardstick: str
    seconds: float
    yardstick_seconds: float
    spread: float = 0.0

    @property
    def ratio(self) -> float:
        """Our time over the yardstick's."""
        return self.seconds / self.yardstick_seconds


@dataclass
class Run:
    """Everything one run found."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    calls: list[CallTime] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def save(run: Run, path: Path) -> None:
    """Write a run, whole or not at all."""
    text = json.dumps({"schema": SCHEMA, **asdict(run)}, indent=1) + "\n"
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> Run:
    """Read a run that `save` wrote.

    Raises
    ------
    ValueError
        If the file is not such a run.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"{path} has schema {data['schema']}, this version reads schema {SCHEMA}")
        rows = [Row(**{**row, "peers": {k: PeerTime(**v) for k, v in row["peers"].items()}}) for row in data["rows"]]
        calls = [CallTime(**call) for call in data["calls"]]
        return Run(data["machine"], data["settings"], rows, calls, data["notes"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a result of narrowcast bench: {error!r}") from error
