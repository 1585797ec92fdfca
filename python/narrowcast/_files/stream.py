"""The cast from one file of tensors to another: piece by piece, in buffers that do not grow with the file.

Every piece is read, unpacked if its codes are smaller than a byte, cast, measured, packed and written by one thread.
Several threads take pieces from one list; what they write and report does not depend on their number. Which tensors
are cast, and where the files are, is settled before.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from narrowcast import _astype, _config, _core, _formats
from narrowcast._files.container import Sink, Source, Tensor
from narrowcast._files.options import CastOptions
from narrowcast._files.report import TensorReport, printable
from narrowcast._files.sums import Sums
from narrowcast._formats import Format

# Bytes of the larger side of a piece: what is read and what is made of it stay in a core's caches.
PIECE_BYTES: Final = 1 << 21
# Pieces begin at multiples of this many elements, so that packed codes begin at a byte.
_ALIGNMENT: Final = 64


class _Route(NamedTuple):
    """The way of elements from one format to another, as far as it does not depend on the tensor."""

    source: Format
    dtype: np.dtype[Any]  # of the source's elements, in their byte order
    source_bits: int  # of an element in the file
    target: Format
    target_bits: int

    @property
    def step(self) -> int:
        """How many elements make a piece."""
        return PIECE_BYTES // max(self.source.storage_bytes, self.target.storage_bytes) // _ALIGNMENT * _ALIGNMENT


class _Pair(NamedTuple):
    """A tensor of the source and what becomes of it."""

    source: Tensor
    target: Tensor
    key: int
    route: _Route | None  # None: its bytes are copied


class _Piece(NamedTuple):
    """Elements of a pair, or bytes if it is copied."""

    place: int  # of the pair in the file
    start: int
    number: int
    pair: _Pair


class _Done(NamedTuple):
    seconds: float
    sums: Sums | None


def cast_tensors(
    source: Source,
    sink: Sink,
    options: CastOptions,
    *,
    threads: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[TensorReport]:
    """Cast every tensor of a source that the sink has in another format, and copy the others.

    Parameters
    ----------
    source, sink : Source, Sink
        The same tensors in the same order; the sink's formats say what becomes of them.
    options : CastOptions
        Rounding, overflow and random keys.
    threads : int
        How many threads share the work, this one included; 0 is one per core.
    advance : callable
        Called with the number of source bytes of every finished piece, from any of the threads.

    Returns
    -------
    list of TensorReport
        In the order of the source's tensors.

    Raises
    ------
    OverflowError
        With overflow "raise": the first value, in the order of the file, that the target cannot hold.
    """
    crew = _Crew(source, sink, options, advance)
    crew.run(_workers(threads) if source.positional and sink.positional else 1)
    return [_report(pair, crew.done.get(place, {})) for place, pair in enumerate(crew.pairs())]


def _workers(threads: int) -> int:
    return threads or os.cpu_count() or 1


def _report(pair: _Pair, done: dict[int, _Done]) -> TensorReport:
    pieces = [done[start] for start in sorted(done)]
    sums = Sums.total([piece.sums for piece in pieces if piece.sums is not None]) if pair.route else None
    return TensorReport(
        name=pair.source.name,
        source_format=pair.source.format or pair.source.dtype,
        target_format=pair.target.format or pair.target.dtype,
        size=pair.source.size,
        bytes_before=pair.source.nbytes,
        bytes_after=pair.target.nbytes,
        seconds=math.fsum(piece.seconds for piece in pieces),
        sums=sums,
    )


class _Crew:
    """The threads of one cast, what they take their pieces from, and what they have done."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        options: CastOptions,
        advance: Callable[[int], None],
    ) -> None:
        self.source, self.sink, self.options, self.advance = source, sink, options, advance
        self.isa = _config.chosen_isa.get()
        self.modes = _astype.read_modes(options.rounding, options.overflow, options.seed, 0)[:2]
        self.done: dict[int, dict[int, _Done]] = {}  # by place and start
        self._pieces = self._all_pieces()
        self._lock = threading.Lock()
        self._stopped = False
        self._failures: list[tuple[_Piece, BaseException]] = []

    def run(self, workers: int) -> None:
        """Do all pieces; raise the failure of the first piece that failed."""
        others = [_Thread(self._work) for _ in range(workers - 1)]
        interrupt: BaseException | None = None
        try:
            for thread in others:
                thread.start()
            self._work()
        except BaseException as error:  # Ctrl-C, mostly; and no thread may outlive the files
            interrupt = error
        self._stopped = True
        for thread in others:
            while thread.ident is not None and not thread.ended.is_set():
                try:
                    thread.ended.wait()
                except BaseException as error:
                    interrupt = interrupt or error
        if interrupt is not None:
            raise interrupt
        if self._failures:
            raise min(self._failures, key=lambda failure: failure[0][:2])[1]

    def take(self) -> _Piece | None:
        """Return the next piece; None if there is none, or if one has failed, or after an interrupt."""
        with self._lock:
            return None if self._failures or self._stopped else next(self._pieces, None)

    def _work(self) -> None:
        worker = _Worker(self)
        while (piece := self.take()) is not None:
            try:
                done = worker.do(piece)
                self.done.setdefault(piece.place, {})[piece.start] = done
            except BaseException as error:  # an interrupt too: no piece may be missing unnoticed
                with self._lock:
                    self._failures.append((piece, error))

    def pairs(self) -> Iterator[_Pair]:
        """Yield all pairs, in the order of the source: made when they come up, for a file may have very many."""
        for old, new in zip(self.source.tensors, self.sink.tensors, strict=True):
            route = None
            if old.format is not None and new.format is not None and old.format != new.format:
                route = _route(old.format, old.swapped, is_packed(old), new.format, is_packed(new))
            yield _Pair(old, new, self.options.key(old.name), route)

    def _all_pieces(self) -> Iterator[_Piece]:
        for place, pair in enumerate(self.pairs()):
            if _needs_c_order(pair, self.options):
                yield _Piece(place, 0, pair.source.size, pair)  # whole: its pieces are not contiguous
                continue
            total = pair.source.size if pair.route else pair.source.nbytes
            step = pair.route.step if pair.route else PIECE_BYTES
            for start in range(0, total, step):
                yield _Piece(place, start, min(step, total - start), pair)


class _Thread(threading.Thread):
    """A thread that says when it has ended: an interrupted `join` may take a thread for ended that is not."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self._work = work

    def run(self) -> None:
        """Work."""
        try:
            self._work()
        finally:
            self.ended.set()


@lru_cache
def _route(source: str, swapped: bool, source_packed: bool, target: str, target_packed: bool) -> _Route:
    x, y = _formats.BY_NAME[source], _formats.BY_NAME[target]
    dtype = x.dtype.newbyteorder(">") if swapped else x.dtype
    bits = [row.bits if packed else 8 * row.storage_bytes for row, packed in ((x, source_packed), (y, target_packed))]
    return _Route(x, dtype, bits[0], y, bits[1])


def _needs_c_order(pair: _Pair, options: CastOptions) -> bool:
    """Whether elements do not lie in the order in which random words are counted."""
    return pair.route is not None and pair.source.fortran and options.rounding == "stochastic"


class _Worker:
    """One thread's buffers, and the way of a piece through them."""

    def __init__(self, crew: _Crew) -> None:
        self.crew = crew
        self.raw = np.empty(PIECE_BYTES, np.uint8)  # as read
        self.codes = np.empty(0, np.uint8)  # read codes, a byte each; only where they are smaller
        self.out = np.empty(PIECE_BYTES, np.uint8)
        self.packed = np.empty(0, np.uint8)

    def do(self, piece: _Piece) -> _Done:
        pair, crew = piece.pair, self.crew
        route = pair.route
        begin = time.perf_counter()
        sums = None
        if route is None:
            done = piece.number
            data = self.raw[:done].data
            crew.source.read(pair.source, piece.start, data)
            crew.sink.write(pair.target, piece.start, data)
        elif _needs_c_order(pair, crew.options):
            done = pair.source.nbytes
            parts = [self._cast(pair, route, x, start) for start, x in self._c_order_pieces(pair, route)]
            sums = Sums.total(parts)
        else:
            done = packed_bytes(piece.number, route.source_bits)
            sums = self._cast(pair, route, self._read(pair, route, piece.start, piece.number), piece.start)
        crew.advance(done)
        return _Done(time.perf_counter() - begin, sums)

    def _read(self, pair: _Pair, route: _Route, start: int, count: int) -> np.ndarray[Any, Any]:
        raw = self.raw[: packed_bytes(count, route.source_bits)]
        self.crew.source.read(pair.source, packed_bytes(start, route.source_bits), raw.data)
        if route.source_bits < 8:
            self.codes = _at_least(self.codes, count)
            packed, raw = raw, self.codes[:count]
            _core.unpack(packed, raw, route.source_bits, isa=self.crew.isa)
        return raw.view(route.dtype)

    def _c_order_pieces(self, pair: _Pair, route: _Route) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """Yield the elements of a Fortran-ordered tensor in C order; it is held in memory."""
        shape, size = pair.source.shape, route.step
        pieces = [
            self._read(pair, route, start, min(size, pair.source.size - start)).copy()
            for start in range(0, pair.source.size, size)
        ]
        x = np.concatenate(pieces).reshape(shape, order="F")
        axis = next(k for k in range(len(shape)) if math.prod(shape[k + 1 :]) <= size)
        step = max(1, size // math.prod(shape[axis + 1 :]))
        start = 0
        for leading in product(*map(range, shape[:axis])):
            for first in range(0, shape[axis], step):
                block = np.ascontiguousarray(x[leading][first : first + step]).reshape(-1)
                yield start, block
                start += block.size

    def _cast(self, pair: _Pair, route: _Route, x: np.ndarray[Any, Any], start: int) -> Sums:
        """Cast elements `start`, ... of a pair and write them."""
        crew, target = self.crew, route.target
        rounding, overflow = crew.modes
        out = self.out[: x.size * target.storage_bytes]
        failure, found = _core.compared_cast(
            x,
            route.source.code,
            out.view(target.dtype),
            target.code,
            rounding,
            overflow,
            pair.key,
            start if crew.options.seed is not None else 0,
            crew.isa,
        )
        if failure is not None:
            self._fail(pair, start, failure)
        if route.target_bits < 8:
            size = packed_bytes(x.size, route.target_bits)
            self.packed = _at_least(self.packed, size)
            codes, out = out, self.packed[:size]
            _core.pack(codes, out, route.target_bits, isa=crew.isa)
        crew.sink.write(pair.target, packed_bytes(start, route.target_bits), out.data)
        return Sums.from_core(found)

    def _fail(self, pair: _Pair, start: int, failure: tuple[int, int, int, float, str]) -> None:
        status, reason, position, value, message = failure
        if status != _core.ERROR_OVERFLOW:
            raise ValueError(message)
        place = _index_of(start + position, pair.source.shape, fortran=pair.source.fortran)
        target = _formats.BY_NAME[self.crew.options.format]
        element = _astype.name_element(printable(pair.source.name), place)
        why = _astype.say_why(target, self.crew.options.rounding, reason)
        raise OverflowError(f"{element} is {value!r}, {why}")


def _index_of(position: int, shape: tuple[int, ...], *, fortran: bool) -> tuple[int, ...]:
    """Return the index of an element by its position in the file: numpy does so for no more than 64 dimensions."""
    index = []
    for extent in shape if fortran else reversed(shape):
        position, place = divmod(position, extent)
        index.append(place)
    return tuple(index if fortran else reversed(index))


def is_packed(tensor: Tensor) -> bool:
    """Whether codes of less than a byte lie densely in the file."""
    row = _formats.BY_NAME[str(tensor.format)]
    return row.is_float and row.bits < 8 and tensor.nbytes < tensor.size


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` elements take that lie densely."""
    return (count * bits + 7) // 8


def _at_least(buffer: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    return buffer if buffer.size >= size else np.empty(size, np.uint8)
