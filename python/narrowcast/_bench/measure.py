"""One case: check the bits of every instruction set, then time casts, limit loops and peers in turns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import narrowcast as nc

from . import limits
from .check import Difference, MismatchError, difference
from .formats import Array, code_dtype, is_signed, numpy_dtype, short_size, typed
from .inputs import BLOCK, Memory, difficult, fill, timed_block
from .peer import Cast
from .peers import Found
from .plan import IN_CACHE, IN_MEMORY, SEED, Case
from .reference import expected
from .results import PeerTime, Row
from .timing import Contender, race


@dataclass(frozen=True)
class Effort:
    """How long to try.

    Attributes
    ----------
    rounds
        Turns of every cast and limit loop; three times as many in cache, where they cost nothing.
    peer_patience_ns
        Time after which a slow peer (or the portable code) gets no more turns of one case.
    threads
        Number of threads to time besides one; 1 for none.
    all_peers_in_memory
        Whether peers also run on arrays beyond the caches where that doubles the memory (those that make their own
        output) or takes long and tells little (between 16 bits and less).
    """

    rounds: int = 15
    peer_patience_ns: int = 250_000_000
    threads: int = 1
    all_peers_in_memory: bool = False


@dataclass(frozen=True)
class Buffers:
    """Source and destination of a case: codes, and the same bytes as values."""

    x: Array
    out: Array
    values: Array
    result: Array


class Bench:
    """Measures cases on one block of memory, with the peers that were found."""

    def __init__(self, memory: Memory, found: Found, effort: Effort) -> None:
        self._memory = memory
        self._found = found
        self._effort = effort
        self._checked: set[tuple[str, str, str]] = set()
        self._peer_checks: dict[tuple[str, str, str], Difference] = {}

    def measure(self, case: Case) -> list[Row]:
        """Check and time one case; one row for each instruction set (and one more if threads were asked for).

        Raises
        ------
        MismatchError
            If any instruction set gives a wrong bit. Nothing of the case is timed then.
        """
        with np.errstate(all="ignore"):  # numpy warns about NaN and overflow; here they are the point
            return self._measure(case)

    def _measure(self, case: Case) -> list[Row]:
        self._check_difficult(case)
        buffers, block, want = self._prepare(case)
        for isa in case.isas:
            buffers.out[...] = 0
            with nc.use_isa(isa):
                self._cast(case, buffers)()
            self._compare(case, isa, buffers, block, want)
        return self._time(case, buffers, want)

    # -- checking ------------------------------------------------------------------------------------------------

    def _check_difficult(self, case: Case) -> None:
        """Cast difficult values, once for each pair and instruction set, and once with each peer."""
        isas = [isa for isa in case.isas if (case.source, case.target, isa) not in self._checked]
        if not isas or case.rounding != "nearest_even":
            return
        codes = difficult(case.source, case.target)
        values = typed(codes, case.source)
        want = self._expected(values, case)
        out = np.empty_like(want)
        for isa in isas:
            out[...] = 0
            with nc.use_isa(isa):
                _astype(values, out, case)
            _require(difference(out, want, values, case.target), case, isa)
            self._checked.add((case.source, case.target, isa))
        for peer in self._found.present:
            key = (case.source, case.target, peer.name)
            if key not in self._peer_checks and (cast := peer.prepare(case.source, case.target, codes, out)):
                out[...] = 0
                cast.run()
                self._peer_checks[key] = difference(cast.result(), want, values, case.target)

    def _expected(self, values: Array, case: Case) -> Array:
        """Return the codes expected; for a format that numpy does not know, those of the portable code."""
        want = expected(values, case.target, case.rounding, SEED)
        if want is None:
            want = np.empty(values.shape, code_dtype(case.target))
            with nc.use_isa("scalar"):
                _astype(values, want, case)
        return want

    def _compare(self, case: Case, isa: str, buffers: Buffers, block: Array, want: Array) -> None:
        out = buffers.out.reshape(-1)
        # The values repeat after a block, and the codes with them; random words do not.
        end = want.size if case.rounding == "stochastic" else out.size
        for start in range(0, end, want.size):
            part = out[start : start + want.size]
            found = difference(part, want[: part.size], block[: part.size], case.target)
            if found.count:
                _require(found, case, isa, start)

    # -- preparing -----------------------------------------------------------------------------------------------

    def _prepare(self, case: Case) -> tuple[Buffers, Array, Array]:
        """Return the buffers, one block of values in logical order, and the codes expected for it."""
        strided = case.layout != "contiguous"
        x, out = self._memory.pair(case.source, case.target, case.count, 2 if strided else 1)
        signed = is_signed(case.target)
        fill(x, timed_block(case.source, signed)[: x.size])
        if case.layout == "step 2":
            x = x[::2]
        elif case.layout == "transposed":
            rows = min(case.count & -case.count, 1 << (case.count.bit_length() // 2))
            x, out = x[: case.count].reshape(-1, rows).T, out.reshape(rows, -1)
        values, result = typed(x, case.source), typed(out, case.target)
        logical = values[:BLOCK] if not strided else np.ascontiguousarray(values)
        want = self._expected(logical, case)
        return Buffers(x, out, values, result), logical.reshape(-1), want.reshape(-1)

    # -- timing --------------------------------------------------------------------------------------------------

    def _cast(self, case: Case, buffers: Buffers, threads: int | None = None) -> Callable[[], object]:
        x, out = buffers.values, buffers.result
        dtype = case.target if numpy_dtype(case.target) is None or case.target == "tfloat32" else out.dtype
        astype: Any = nc.astype
        options = _options(case, x)
        if threads is not None:
            options["threads"] = threads
        if options:
            return partial(astype, x, dtype, out=out, **options)
        return lambda: astype(x, dtype, out=out)

    def _time(self, case: Case, buffers: Buffers, want: Array) -> list[Row]:
        patience = self._effort.peer_patience_ns
        casts = [self._contender(case, buffers, isa) for isa in case.isas]
        threads = self._effort.threads
        threaded = [self._contender(case, buffers, case.isas[0], threads)] if threads != 1 else []
        bounds = limits.contenders(buffers.x, buffers.out) if case.layout == "contiguous" else []
        prepared = self._prepare_peers(case, buffers, want)
        peers = [Contender(name, cast.run, patience_ns=patience) for name, (cast, _) in prepared.items()]
        race(casts + threaded + bounds + peers, self._effort.rounds * (3 if case.count <= IN_CACHE else 1))

        limit = min(bounds, key=lambda bound: bound.best, default=None)
        times = {peer.name: self._peer_time(case, peer, prepared[peer.name][1]) for peer in peers}
        rows = [self._row(case, cast, 1, limit, times) for cast in casts]
        return rows + [self._row(case, cast, threads, None, times) for cast in threaded]

    def _contender(self, case: Case, buffers: Buffers, isa: str, threads: int | None = None) -> Contender:
        context: Callable[[], AbstractContextManager[object]] = partial(nc.use_isa, isa)
        portable = isa == "scalar" and len(case.isas) > 1
        patience = self._effort.peer_patience_ns if portable else 0
        return Contender(isa, self._cast(case, buffers, threads), context, patience)

    def _prepare_peers(self, case: Case, buffers: Buffers, want: Array) -> dict[str, tuple[Cast, Difference | None]]:
        prepared = {}
        for peer in self._found.present:
            costly = peer.allocates or case.section == "16 bit"
            if costly and case.count >= IN_MEMORY and not self._effort.all_peers_in_memory:
                continue
            cast = peer.prepare(case.source, case.target, buffers.x, buffers.out)
            if cast is None:
                continue
            found = None
            if case.count <= BLOCK and case.rounding == "nearest_even":
                buffers.out[...] = 0
                cast.run()
                found = difference(cast.result(), want, np.ascontiguousarray(buffers.values), case.target)
            prepared[peer.name] = (cast, found)
        return prepared

    def _peer_time(self, case: Case, peer: Contender, timed: Difference | None) -> PeerTime:
        hard = self._peer_checks.get((case.source, case.target, peer.name))
        return PeerTime(
            seconds=peer.best,
            turns=len(peer.turns_ns),
            differ=timed.count if timed else None,
            differ_difficult=hard.count if hard else None,
            difficult=hard.total if hard else 0,
            example=next((found.example for found in (timed, hard) if found and found.count), ""),
        )

    def _row(
        self, case: Case, cast: Contender, threads: int, limit: Contender | None, peers: dict[str, PeerTime]
    ) -> Row:
        moved = case.count * (code_dtype(case.source).itemsize + code_dtype(case.target).itemsize)
        return Row(
            section=case.section,
            source=case.source,
            target=case.target,
            count=case.count,
            isa=cast.name,
            rounding=case.rounding,
            layout=case.layout,
            threads=threads,
            seconds=cast.best,
            spread=cast.spread,
            turns=len(cast.turns_ns),
            moved_bytes=moved,
            limit_seconds=limit.best if limit else None,
            limit_form=limit.name if limit else "",
            peers=peers,
        )


def _options(case: Case, values: Array) -> dict[str, Any]:
    """Return the options of the cast that are not its default."""
    options: dict[str, Any] = {}
    if values.dtype.kind == "u":  # codes
        options["src_dtype"] = case.source
    if case.rounding != "nearest_even":
        options["rounding"] = case.rounding
    if case.rounding == "stochastic":
        options["seed"] = SEED
    return options


def _astype(values: Array, out: Array, case: Case) -> None:
    nc.astype(values, case.target, out=out, **_options(case, values))


def _require(found: Difference, case: Case, isa: str, offset: int = 0) -> None:
    if found.count:
        place = f" (block at {offset})" if offset else ""
        raise MismatchError(
            f"{case.pair}, {case.rounding}, {case.layout}, {short_size(case.count)} elements, {isa}: "
            f"{found.count} of {found.total} elements differ{place}; {found.example}"
        )
