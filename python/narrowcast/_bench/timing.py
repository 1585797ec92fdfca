"""Timing in turns: all contenders of one case, one after the other, again and again.

Machines drift: clocks change, neighbours wake up. So no contender is timed in a block of its own; each round gives
every one of them a turn, and each keeps its best turn. A turn of a short call is a batch of calls, long enough for the
clock.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import repeat
from statistics import median
from time import perf_counter_ns

BATCH_NS = 60_000
MAX_BATCH = 2_000


@dataclass
class Contender:
    """A call to time.

    Attributes
    ----------
    name
        Its key in the result.
    call
        Does the work once.
    context
        Entered around each turn, outside of the clock (chooses an instruction set).
    patience_ns
        Once it has used this much time, a contender that has `min_turns` turns gets no more; 0 means all turns.
    min_turns
        How many turns it gets however slow it is.
    """

    name: str
    call: Callable[[], object]
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    patience_ns: int = 0
    min_turns: int = 1
    turns_ns: list[float] = field(default_factory=list)
    spent_ns: int = 0
    batch: int = 0

    def wants_turn(self) -> bool:
        """Return whether it still has patience for another turn."""
        return not self.patience_ns or len(self.turns_ns) < self.min_turns or self.spent_ns < self.patience_ns

    def take_turn(self) -> None:
        """Run one batch under the clock."""
        with self.context():
            if not self.batch:
                self._choose_batch()
            call = self.call
            start = perf_counter_ns()
            for _ in repeat(None, self.batch):
                call()
            elapsed = perf_counter_ns() - start
        self.turns_ns.append(elapsed / self.batch)
        self.spent_ns += elapsed

    def _choose_batch(self) -> None:
        start = perf_counter_ns()
        self.call()
        elapsed = perf_counter_ns() - start
        self.spent_ns += elapsed
        if elapsed > 20 * BATCH_NS:  # a slow one: the trial is a turn like any other
            self.turns_ns.append(float(elapsed))
            self.batch = 1
            return
        start = perf_counter_ns()
        self.call()
        elapsed = max(1, perf_counter_ns() - start)
        self.batch = max(1, min(MAX_BATCH, BATCH_NS // elapsed))

    @property
    def best(self) -> float:
        """Seconds of the best call."""
        return min(self.turns_ns) / 1e9

    @property
    def spread(self) -> float:
        """How far the median turn lies above the best one, as a fraction."""
        return median(self.turns_ns) / min(self.turns_ns) - 1


def race(contenders: list[Contender], rounds: int) -> None:
    """Give every contender a turn in each of `rounds` rounds."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for contender in contenders:
                if contender.wants_turn():
                    contender.take_turn()
    finally:
        if was_enabled:
            gc.enable()
