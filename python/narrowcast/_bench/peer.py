"""The door that every other library stands behind (peers.py, peer_onnx.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .formats import Array


@dataclass
class Cast:
    """A prepared cast: `run` does it, `result` returns the codes it wrote."""

    run: Callable[[], object]
    result: Callable[[], Array]


class Peer(Protocol):
    """A library that casts some pairs of formats."""

    name: str
    package: str
    allocates: bool

    def prepare(self, source: str, target: str, x: Array, out: Array) -> Cast | None:
        """Prepare a cast of the codes `x` into the codes `out`, or return None if the library has no such cast."""
