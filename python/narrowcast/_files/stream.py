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
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from narrowcast import _astype, _config, _core, _formats
from narrowcast._files.container import Sink, Source, Tensor
from narrowcast._files.options import CastOptions
from narrowcast._files.report import TensorReport
from narrowcast._files.sums import Sums

# Bytes of the larger side of a piece: what is read and what is made of it stay in a core's caches.
PIECE_BYTES: Final = 1 << 20
# Pieces begin at multiples of this many elements, so that packed codes begin at a byte.
_ALIGNMENT: Final = 64


class _Pair(NamedTuple):
    """A tensor of the source and what becomes of it."""

    source: Tensor
    target: Tensor
    cast: bool  # else its bytes are copied
    key: int


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
    sums = Sums.total([piece.sums for piece in pieces if piece.sums is not None]) if pair.cast else None
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
        self._failures: list[tuple[_Piece, BaseException]] = []

    def run(self, workers: int) -> None:
        """Do all pieces; raise the failure of the first piece that failed."""
        others = [threading.Thread(target=self._work, daemon=True) for _ in range(workers - 1)]
        try:
            for thread in others:
                thread.start()
            self._work()
        finally:
            self._pieces = iter(())  # an interrupt leaves nothing to take
            for thread in others:
                if thread.ident is not None:
                    thread.join()
        if self._failures:
            raise min(self._failures, key=lambda failure: failure[0][:2])[1]

    def take(self) -> _Piece | None:
        """Return the next piece; None if there is none, or if one has failed."""
        with self._lock:
            return None if self._failures else next(self._pieces, None)

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
            yield _Pair(old, new, old.format != new.format, self.options.key(old.name))

    def _all_pieces(self) -> Iterator[_Piece]:
        for place, pair in enumerate(self.pairs()):
            if pair.cast and _needs_c_order(pair, self.options):
                yield _Piece(place, 0, pair.source.size, pair)  # whole: its pieces are not contiguous
                continue
            total = pair.source.size if pair.cast else pair.source.nbytes
            step = piece_elements(pair.source, pair.target) if pair.cast else PIECE_BYTES
            for start in range(0, total, step):
                yield _Piece(place, start, min(step, total - start), pair)


def piece_elements(source: Tensor, target: Tensor) -> int:
    """Return how many elements make a piece of a tensor that is cast."""
    formats = (_formats.BY_NAME[tensor.format] for tensor in (source, target) if tensor.format is not None)
    return PIECE_BYTES // max(row.storage_bytes for row in formats) // _ALIGNMENT * _ALIGNMENT


def _needs_c_order(pair: _Pair, options: CastOptions) -> bool:
    """Whether elements do not lie in the order in which random words are counted."""
    return pair.source.fortran and options.rounding == "stochastic"


class _Worker:
    """One thread's buffers, and the way of a piece through them."""

    def __init__(self, crew: _Crew) -> None:
        self.crew = crew
        self.raw = np.empty(PIECE_BYTES, np.uint8)  # as read
        self.codes = np.empty(0, np.uint8)  # read codes, a byte each; only where they are smaller
        self.out = np.empty(PIECE_BYTES, np.uint8)
        self.packed = np.empty(0, np.uint8)

    def do(self, piece: _Piece) -> _Done:
        pair = piece.pair
        begin = time.perf_counter()
        if not pair.cast:
            data = self.raw[: piece.number].data
            self.crew.source.read(pair.source, piece.start, data)
            self.crew.sink.write(pair.target, piece.start, data)
            self.crew.advance(piece.number)
            return _Done(time.perf_counter() - begin, None)
        if _needs_c_order(pair, self.crew.options):
            sums = Sums.total([self._cast(pair, x, start) for start, x in self._c_order_pieces(pair)])
            self.crew.advance(pair.source.nbytes)
        else:
            sums = self._cast(pair, self._read(pair.source, piece.start, piece.number), piece.start)
            self.crew.advance(packed_bytes(pair.source, piece.number))
        return _Done(time.perf_counter() - begin, sums)

    def _read(self, tensor: Tensor, start: int, count: int) -> np.ndarray[Any, Any]:
        row = _formats.BY_NAME[str(tensor.format)]
        raw = self.raw[: packed_bytes(tensor, count)]
        self.crew.source.read(tensor, packed_bytes(tensor, start), raw.data)
        if is_packed(tensor):
            self.codes = _at_least(self.codes, count)
            _core.unpack(raw, self.codes[:count], row.bits, isa=self.crew.isa)
            raw = self.codes[:count]
        return raw.view(row.dtype.newbyteorder(">") if tensor.swapped else row.dtype)

    def _c_order_pieces(self, pair: _Pair) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """Yield the elements of a Fortran-ordered tensor in C order; it is held in memory."""
        shape, size = pair.source.shape, piece_elements(pair.source, pair.target)
        pieces = [
            self._read(pair.source, start, min(size, pair.source.size - start)).copy()
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

    def _cast(self, pair: _Pair, x: np.ndarray[Any, Any], start: int) -> Sums:
        """Cast elements `start`, ... of a pair, write and measure them."""
        source, target = _formats.BY_NAME[str(pair.source.format)], _formats.BY_NAME[self.crew.options.format]
        out = self.out[: x.size * target.storage_bytes]
        y = out.view(target.dtype)
        rounding, overflow = self.crew.modes
        first = start if self.crew.options.rounding == "stochastic" else 0
        failure = _core.cast(x, source.code, y, target.code, rounding, overflow, pair.key, first, 1, self.crew.isa)
        if failure is not None:
            self._fail(pair, start, failure)
        sums = Sums.measure(x, source, y, target, rounding, self.crew.isa)
        if is_packed(pair.target):
            self.packed = _at_least(self.packed, packed_bytes(pair.target, x.size))
            codes, out = out, self.packed[: packed_bytes(pair.target, x.size)]
            _core.pack(codes, out, target.bits, isa=self.crew.isa)
        self.crew.sink.write(pair.target, packed_bytes(pair.target, start), out.data)
        return sums

    def _fail(self, pair: _Pair, start: int, failure: tuple[int, int, int, float, str]) -> None:
        status, reason, position, value, message = failure
        if status != _core.ERROR_OVERFLOW:
            raise ValueError(message)
        place = np.unravel_index(start + position, pair.source.shape, "F" if pair.source.fortran else "C")
        target = _formats.BY_NAME[self.crew.options.format]
        element = _astype.name_element(pair.source.name, tuple(int(i) for i in place))
        why = _astype.say_why(target, self.crew.options.rounding, reason)
        raise OverflowError(f"{element} is {value!r}, {why}")


def is_packed(tensor: Tensor) -> bool:
    """Whether codes of less than a byte lie densely in the file."""
    row = _formats.BY_NAME[str(tensor.format)]
    return row.is_float and row.bits < 8 and tensor.nbytes < tensor.size


def packed_bytes(tensor: Tensor, count: int) -> int:
    """Return how many bytes of the file `count` elements take; for packed codes, up to the end of a byte."""
    row = _formats.BY_NAME[str(tensor.format)]
    return (count * row.bits + 7) // 8 if is_packed(tensor) else count * row.storage_bytes


def _at_least(buffer: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    return buffer if buffer.size >= size else np.empty(size, np.uint8)
