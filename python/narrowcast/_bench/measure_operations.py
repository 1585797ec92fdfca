"""One operation on integer codes: check the bits of every instruction set, then time it, loops and peers in turns.

As measure.py does with casts. The limit moves the bytes of values and codes; scales, a few per cent at most, are not
counted.
"""

from __future__ import annotations

import numpy as np

import narrowcast as nc

from . import limits, peer_operations
from .check import MismatchError
from .formats import Array, short_size
from .inputs import Memory
from .measure import Effort
from .operation_work import Work, difficult, sizes, work
from .operations import ROW, TOKEN, Operation
from .peer import Cast
from .peers import Found
from .results import CallTime, PeerTime, Row
from .timing import Contender, race


class OperationBench:
    """Measures operations on one block of memory, with the peers that were found."""

    def __init__(self, memory: Memory, found: Found, effort: Effort) -> None:
        self._memory = memory
        self._found = found
        self._effort = effort

    def measure(self, operation: Operation) -> list[Row]:
        """Check and time one operation; one row for each instruction set (and one more if threads were asked for).

        Raises
        ------
        MismatchError
            If any instruction set gives a wrong bit. Nothing of the operation is timed then.
        """
        with np.errstate(all="ignore"):
            _check(difficult(operation), operation.isas, "difficult values")
            made = work(operation, self._memory)
            _check(made, operation.isas, f"{short_size(operation.count)} elements")
            return self._time(made)

    def _time(self, made: Work) -> list[Row]:
        operation, effort = made.operation, self._effort
        isas, threads = operation.isas, effort.threads
        ours = [_contender(made, isa, 1, effort) for isa in isas]
        threaded = [_contender(made, isas[0], threads, effort)] if threads != 1 else []
        bounds = limits.contenders(made.x, made.out, operation.unit)
        prepared: dict[str, tuple[Cast, PeerTime]] = {}
        for found in self._found.present:
            for name, cast in peer_operations.prepare(found.name, made).items():
                prepared[name] = (cast, _compared(made, name, cast))
        peers = [Contender(name, cast.run, patience_ns=effort.peer_patience_ns) for name, (cast, _) in prepared.items()]
        race(ours + threaded + bounds + peers, effort.rounds)

        limit = min(bounds, key=lambda bound: bound.best)
        for peer in peers:
            time = prepared[peer.name][1]
            time.seconds, time.turns = peer.best, len(peer.turns_ns)
        times = {name: time for name, (_, time) in prepared.items()}
        rows = [_row(operation, contender, 1, limit, times) for contender in ours]
        return rows + [_row(operation, contender, threads, None, times) for contender in threaded]


def token_call(rounds: int = 40) -> CallTime:
    """Time a dynamic quantization of one row of 4096 elements, with a prepared spec and out=, beside numpy's."""
    x = np.random.default_rng(26).standard_normal((1, ROW)).astype(np.float32)
    spec = nc.QuantSpec("int8", granularity="row")
    quantize, result = nc.quantize, nc.quantize(x, spec)
    codes, scale = np.empty(x.shape, np.int8), np.empty((1, 1), np.float32)

    def expression() -> None:
        np.divide(np.abs(x).max(axis=-1, keepdims=True), np.float32(127), out=scale)
        np.copyto(codes, np.clip(np.rint(x / scale), -128, 127), casting="unsafe")

    ours = Contender(TOKEN, lambda: quantize(x, spec, out=result))
    yardstick = Contender("the numpy expression", expression)
    race([ours, yardstick], rounds)
    return CallTime(ours.name, yardstick.name, ours.best, yardstick.best, ours.spread)


def _contender(made: Work, isa: str, threads: int, effort: Effort) -> Contender:
    portable = isa == "scalar" and len(made.operation.isas) > 1
    patience = effort.peer_patience_ns if portable else 0
    return Contender(isa, made.call(threads), lambda: nc.use_isa(isa), patience)


def _row(
    operation: Operation, contender: Contender, threads: int, limit: Contender | None, peers: dict[str, PeerTime]
) -> Row:
    source, target, _ = sizes(operation)
    return Row(
        section=operation.section,
        source=operation.source,
        target=operation.target,
        count=operation.count,
        isa=contender.name,
        rounding="nearest_even",
        layout=operation.detail,
        threads=threads,
        seconds=contender.best,
        spread=contender.spread,
        turns=len(contender.turns_ns),
        moved_bytes=source + target,
        limit_seconds=limit.best if limit else None,
        limit_form=limit.name if limit else "",
        peers=peers,
    )


# -- checking ------------------------------------------------------------------------------------------------------


def _check(made: Work, isas: tuple[str, ...], what: str) -> None:
    want, scale = made.want
    for isa in isas:
        made.out.reshape(-1).view(np.uint8)[...] = 0xA5
        if made.scale is not None and made.operation.section == "quantize" and not made.operation.given:
            made.scale[...] = -1
        with nc.use_isa(isa):
            made.call()()
        place = f"{made.operation.pair}, {what}, {isa}"
        if scale is not None and made.scale is not None:
            _require(made.scale, scale, f"{place}: scales")
        _require(made.out, want, f"{place}: results")


def _codes(array: Array) -> Array:
    return array.reshape(-1).view(f"u{array.itemsize}")


def _differing(got: Array, want: Array) -> tuple[int, int]:
    """Return how many codes differ, and the first place; the wanted ones repeat. A NaN is as good as another."""
    codes, expected, total, first = _codes(got), _codes(want), 0, -1
    for start in range(0, codes.size, expected.size):
        part = codes[start : start + expected.size]
        unequal = part != expected[: part.size]
        if want.dtype.kind not in "iu" and unequal.any():
            values = got.reshape(-1)[start : start + expected.size]
            unequal &= ~(np.isnan(values) & np.isnan(want.reshape(-1)[: part.size]))
        count = int(np.count_nonzero(unequal))
        if count and first < 0:
            first = start + int(np.argmax(unequal))
        total += count
    return total, first


def _example(got: Array, want: Array, first: int) -> str:
    found, expected = _codes(got)[first], _codes(want)[first % want.size]
    return f"[{first}] is 0x{found:0{2 * got.itemsize}x}, not 0x{expected:0{2 * got.itemsize}x}"


def _require(got: Array, want: Array, what: str) -> None:
    count, first = _differing(got, want)
    if count:
        raise MismatchError(f"{what}: {count} of {got.size} differ; {_example(got, want, first)}")


def _compared(made: Work, name: str, cast: Cast) -> PeerTime:
    """Run a peer once, and compare; not FBGEMM, whose rows are something else."""
    time = PeerTime(0.0, 0)
    if name == peer_operations.FBGEMM or made.operation.count > made.want[0].size * 8:
        return time
    made.out.reshape(-1).view(np.uint8)[...] = 0
    cast.run()
    got = cast.result()
    time.differ, first = _differing(got, made.want[0])
    if time.differ:
        time.example = _example(got, made.want[0], first)
    return time
