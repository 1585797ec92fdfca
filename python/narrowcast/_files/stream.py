"""The cast from one file of tensors to another, and the copy of tensors that stay as they are.

Every piece is read, unpacked if its codes are smaller than a byte, cast, measured, packed and written by one thread.
Which tensors are cast, and where the files are, is settled before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from narrowcast import _astype, _core, _formats
from narrowcast._files.container import Tensor
from narrowcast._files.crew import Task, Worker
from narrowcast._files.options import CastOptions
from narrowcast._files.report import TensorReport, printable
from narrowcast._formats import Format
from narrowcast._sums import Sums

# Bytes of the larger side of a piece: what is read and what is made of it stay in a core's caches.
PIECE_BYTES: Final = 1 << 21
# Pieces begin at multiples of this many elements, so that packed codes begin at a byte.
_ALIGNMENT: Final = 64


class Casts:
    """What becomes of each of a source's tensors, made when it comes up."""

    def __init__(self, sources: Sequence[Tensor], targets: Sequence[Tensor], options: CastOptions) -> None:
        self._sources, self._targets, self._options = sources, targets, options
        self._modes = _astype.read_modes(options.rounding, options.overflow, options.seed, 0)[:2]

    def __iter__(self) -> Iterator[Task]:
        for old, new in zip(self._sources, self._targets, strict=True):
            if old.format is None or new.format is None or old.format == new.format:
                yield Copy(old, new)
            else:
                route = _route(old.format, old.swapped, is_packed(old), new.format, is_packed(new))
                yield _Cast(old, new, route, self._options, self._modes)


class Unsurveyed:
    """A task that looks at nothing beforehand."""

    __slots__ = ()

    def surveys(self) -> Iterator[tuple[int, int]]:
        """See `crew.Task`."""
        return iter(())

    def survey(self, worker: Worker, start: int, number: int) -> None:
        """See `crew.Task`."""


class Copy(Unsurveyed):
    """The bytes of a tensor as they are."""

    __slots__ = ("source", "target")
    measured: Final = False

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self.source, self.target = source, target

    @property
    def report(self) -> TensorReport:
        """See `crew.Task`."""
        return reported(self.source, self.target)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """See `crew.Task`; the units are bytes."""
        return cut(self.source.nbytes, PIECE_BYTES)

    def do(self, worker: Worker, start: int, number: int) -> tuple[int, None]:
        """See `crew.Task`."""
        worker.write(self.target, start, worker.read(self.source, start, number))
        return number, None


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


@lru_cache
def _route(source: str, swapped: bool, source_packed: bool, target: str, target_packed: bool) -> _Route:
    x, y = _formats.BY_NAME[source], _formats.BY_NAME[target]
    dtype = x.dtype.newbyteorder(">") if swapped else x.dtype
    bits = [row.bits if packed else 8 * row.storage_bytes for row, packed in ((x, source_packed), (y, target_packed))]
    return _Route(x, dtype, bits[0], y, bits[1])


class _Cast(Unsurveyed):
    """A tensor of the source in another format."""

    __slots__ = ("_key", "_modes", "_options", "_route", "source", "target")
    measured: Final = True

    def __init__(
        self, source: Tensor, target: Tensor, route: _Route, options: CastOptions, modes: tuple[int, int]
    ) -> None:
        self.source, self.target = source, target
        self._route, self._options, self._modes = route, options, modes
        self._key = options.key(source.name)

    @property
    def report(self) -> TensorReport:
        """See `crew.Task`."""
        return reported(self.source, self.target)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """See `crew.Task`; the units are elements."""
        if self._needs_c_order:
            return iter([(0, self.source.size)])  # whole: its pieces are not contiguous
        return cut(self.source.size, self._route.step)

    def do(self, worker: Worker, start: int, number: int) -> tuple[int, Sums]:
        """See `crew.Task`."""
        if self._needs_c_order:
            parts = [self._cast(worker, x, first) for first, x in self._c_order_pieces(worker)]
            return self.source.nbytes, Sums.total(parts)
        sums = self._cast(worker, self._read(worker, start, number), start)
        return packed_bytes(number, self._route.source_bits), sums

    @property
    def _needs_c_order(self) -> bool:
        """Whether elements do not lie in the order in which random words are counted."""
        return self.source.fortran and self._options.rounding == "stochastic"

    def _read(self, worker: Worker, start: int, count: int) -> np.ndarray[Any, Any]:
        bits = self._route.source_bits
        raw = worker.read(self.source, packed_bytes(start, bits), packed_bytes(count, bits))
        if bits < 8:
            packed, raw = raw, worker.buffer("codes", count)
            _core.unpack(packed, raw, bits, isa=worker.isa)
        return raw.view(self._route.dtype)

    def _c_order_pieces(self, worker: Worker) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """Yield the elements of a Fortran-ordered tensor in C order; it is held in memory."""
        shape, size = self.source.shape, self._route.step
        pieces = [self._read(worker, start, number).copy() for start, number in cut(self.source.size, size)]
        x = np.concatenate(pieces).reshape(shape, order="F")
        axis = next(k for k in range(len(shape)) if math.prod(shape[k + 1 :]) <= size)
        step = max(1, size // math.prod(shape[axis + 1 :]))
        start = 0
        for leading in product(*map(range, shape[:axis])):
            for first in range(0, shape[axis], step):
                block = np.ascontiguousarray(x[leading][first : first + step]).reshape(-1)
                yield start, block
                start += block.size

    def _cast(self, worker: Worker, x: np.ndarray[Any, Any], start: int) -> Sums:
        """Cast elements `start`, ... and write them."""
        route, target = self._route, self._route.target
        rounding, overflow = self._modes
        out = worker.buffer("out", x.size * target.storage_bytes)
        failure, found = _core.compared_cast(
            x,
            route.source.code,
            out.view(target.dtype),
            target.code,
            rounding,
            overflow,
            self._key,
            start if self._options.seed is not None else 0,
            worker.isa,
        )
        if failure is not None:
            self._fail(start, failure)
        if route.target_bits < 8:
            codes, out = out, worker.buffer("packed", packed_bytes(x.size, route.target_bits))
            _core.pack(codes, out, route.target_bits, isa=worker.isa)
        worker.write(self.target, packed_bytes(start, route.target_bits), out)
        return Sums.from_core(found)

    def _fail(self, start: int, failure: tuple[int, int, int, float, str]) -> None:
        status, reason, position, value, message = failure
        if status != _core.ERROR_OVERFLOW:
            raise ValueError(message)
        place = _index_of(start + position, self.source.shape, fortran=self.source.fortran)
        target = _formats.BY_NAME[self._options.format]
        element = _astype.name_element(printable(self.source.name), place)
        why = _astype.say_why(target, self._options.rounding, reason)
        raise OverflowError(f"{element} is {value!r}, {why}")


def _index_of(position: int, shape: tuple[int, ...], *, fortran: bool) -> tuple[int, ...]:
    """Return the index of an element by its position in the file: numpy does so for no more than 64 dimensions."""
    index = []
    for extent in shape if fortran else reversed(shape):
        position, place = divmod(position, extent)
        index.append(place)
    return tuple(index if fortran else reversed(index))


def reported(source: Tensor, target: Tensor) -> TensorReport:
    """Return what is known of a tensor that becomes another of its name, before anything is done."""
    return TensorReport(
        name=source.name,
        source_format=source.format or source.dtype,
        target_format=target.format or target.dtype,
        size=source.size,
        bytes_before=source.nbytes,
        bytes_after=target.nbytes,
    )


def cut(total: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield start and number of pieces of `step` units, and of the shorter one at the end."""
    return ((start, min(step, total - start)) for start in range(0, total, step))


def is_packed(tensor: Tensor) -> bool:
    """Whether codes of less than a byte lie densely in the file."""
    row = _formats.BY_NAME[str(tensor.format)]
    return row.is_float and row.bits < 8 and tensor.nbytes < tensor.size


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` elements take that lie densely."""
    return (count * bits + 7) // 8
