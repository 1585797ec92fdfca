"""A weight and its quantized form, one made from the other, some rows at a time.

Arithmetic and layouts are the core's: dialect and layout are compressed_tensors. Which weights there are, and what is
where, is settled before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from narrowcast import _core, _formats
from narrowcast._files import stream
from narrowcast._files.container import FileFormatError, Source, Tensor, check_range, shown
from narrowcast._files.crew import Worker
from narrowcast._files.positional import OpenFile, open_regular
from narrowcast._files.quantized import CODES, SCALE, SHAPE, WORDS, ZERO, Scheme
from narrowcast._files.report import TensorReport
from narrowcast._files.stream import Unsurveyed, cut, is_packed, packed_bytes
from narrowcast._quant.array import QuantizedArray
from narrowcast._quant.call import Call
from narrowcast._quant.collectors import Calibration
from narrowcast._quant.dequantize import dequantize
from narrowcast._quant.error import measure
from narrowcast._quant.pack import pack, unpack
from narrowcast._quant.params import choose
from narrowcast._quant.quantize import quantize
from narrowcast._quant.ranges import find_ranges
from narrowcast._quant.spec import QuantSpec
from narrowcast._sums import Sums

Array = np.ndarray[Any, Any]


def spec_of(scheme: Scheme, **others: Any) -> QuantSpec:
    """Return how an array of two dimensions is quantized."""
    shapes: dict[str, dict[str, Any]] = {
        "tensor": {"granularity": "tensor"},
        "channel": {"granularity": "channel", "axis": 0},
        "group": {"granularity": "group", "axis": 1, "group_size": scheme.group_size},
        "block": {"granularity": "block", "block_shape": scheme.block_shape},
    }
    shape = shapes[scheme.strategy]
    return QuantSpec(
        scheme.codes, symmetric=scheme.symmetric, dialect="compressed_tensors", threads=1, **shape, **others
    )


def _step(scheme: Scheme, row_bytes: int, unit: int = 1) -> int:
    """Return how many rows make a piece: a multiple of `unit`, whole boxes, and whole words of zero points."""
    unit *= scheme.block_shape[0] if scheme.block_shape else 1
    if scheme.packs_zero_points:
        unit *= 32 // scheme.bits if scheme.has_gaps else 32
    return max(1, stream.PIECE_BYTES // max(row_bytes, 1) // unit) * unit


class Quantize:
    """A weight that becomes codes, scales and what else belongs to them.

    The scale of a whole tensor needs a look at all of it first.
    """

    measured: Final = True

    def __init__(
        self,
        source: Tensor,
        targets: Sequence[Tensor],
        scheme: Scheme,
        calibration: Calibration,
        scale_dtype: str | None,
    ) -> None:
        self._source, self._scheme, self._calibration = source, scheme, calibration
        self._format = _formats.BY_NAME[str(source.format)]
        self._spec = spec_of(scheme, calibration=calibration, scale_dtype=scale_dtype)
        self._targets = targets
        module = source.name.removesuffix(CODES)
        self._parts = {target.name.removeprefix(module): target for target in targets}
        self._lock = threading.Lock()
        self._range = np.zeros((2, 1, 1), np.float32)  # of the whole tensor; zero is always in it

    @property
    def report(self) -> TensorReport:
        """See `crew.Task`."""
        source = self._source
        return TensorReport(
            name=source.name,
            source_format=str(source.format),
            target_format=str(self._scheme),
            size=source.size,
            bytes_before=source.nbytes,
            bytes_after=sum(target.nbytes for target in self._targets),
            targets=tuple(target.name for target in self._targets),
        )

    @property
    def _is_plain(self) -> bool:
        return self._calibration == Calibration()

    def surveys(self) -> Iterator[tuple[int, int]]:
        """See `crew.Task`; the units are rows."""
        if self._scheme.strategy != "tensor":
            return iter(())
        # All calibrations but the plain one go through the values more than once, and hold them.
        return self.pieces() if self._is_plain else iter([(0, self._source.shape[0])])

    def survey(self, worker: Worker, start: int, number: int) -> None:
        """See `crew.Task`."""
        call = Call.read(self._read(worker, start, number), self._spec, 1)
        found = np.stack(find_ranges(call))
        with self._lock:
            np.minimum(self._range[0], found[0], out=self._range[0])
            np.maximum(self._range[1], found[1], out=self._range[1])

    def pieces(self) -> Iterator[tuple[int, int]]:
        """See `crew.Task`; the units are rows."""
        rows, _ = self._source.shape
        return cut(rows, _step(self._scheme, self._source.nbytes // rows))

    def do(self, worker: Worker, start: int, number: int) -> tuple[int, Sums]:
        """See `crew.Task`."""
        scheme, parts = self._scheme, self._parts
        x = self._read(worker, start, number)
        if scheme.strategy == "tensor":
            given = choose(self._spec._resolved, self._range[0], self._range[1], self._format)
            q = quantize(x, self._spec, scale=given.scale, zero_point=given.zero)
        else:
            q = quantize(x, self._spec)
        if not scheme.is_packed:
            _write_rows(worker, parts[CODES], start, q.codes)
        else:
            packed = pack(q.codes, scheme.codes, layout=scheme.layout, axis=1, pad=True)
            _write_rows(worker, parts[WORDS], start, packed)
        if start == 0 or scheme.strategy != "tensor":
            self._write_scales(worker, start, q.scale, q.zero_point)
        return x.nbytes, _measured(x, q, scheme)

    def _write_scales(self, worker: Worker, start: int, scale: Array, zero: Array | None) -> None:
        scheme, parts = self._scheme, self._parts
        high = scheme.block_shape[0] if scheme.block_shape else 1
        _write_rows(worker, parts[SCALE], start // high, scale)
        if start == 0 and SHAPE in parts:
            _write_rows(worker, parts[SHAPE], 0, np.array(self._source.shape, "<i8"))
        if zero is None or scheme.symmetric:
            return
        codes = zero.astype(np.int8)
        if scheme.packs_zero_points:
            packed = pack(codes, scheme.codes, layout=scheme.layout, axis=0, pad=True)
            _write_rows(worker, parts[ZERO], scheme.words(start // high), packed)
        else:
            _write_rows(worker, parts[ZERO], start // high, codes)

    def _read(self, worker: Worker, start: int, number: int) -> Array:
        rows, columns = self._source.shape
        size = self._source.nbytes // rows
        raw = worker.read(self._source, start * size, number * size)
        return raw.view(self._format.dtype).reshape(number, columns)


def _measured(x: Array, q: QuantizedArray, scheme: Scheme) -> Sums:
    """Return what became of the values."""
    found = measure(x, q)
    sums = Sums.from_core(found)
    if (lost := x.size - found[1]) > 0:  # NaN and infinities, of which only NaN may have a code: that of a float
        lost -= int(np.isnan(q.codes).sum()) if scheme.is_float else 0
    return replace(sums, overflowed=sums.overflowed + lost)


def _write_rows(worker: Worker, target: Tensor, start: int, rows: Array) -> None:
    """Write rows from a place on; those of an array of one dimension are its elements."""
    size = target.nbytes // max(target.shape[0], 1)
    worker.write(target, start * size, np.ascontiguousarray(rows).reshape(-1).view(np.uint8))


class Place(NamedTuple):
    """A tensor, and the file that it lies in if that is another one than the one that is read."""

    tensor: Tensor
    path: Path | None = None

    def read(self, source: Source, at: int, size: int) -> Array:
        """Return some of its bytes."""
        raw = np.empty(size, np.uint8)
        if self.path is None:
            source.read(self.tensor, at, raw.data)
            return raw
        check_range(self.tensor, at, size)
        with open_regular(str(self.path)) as file:
            if OpenFile(file).read(self.tensor.offset + at, raw.data) != size:
                raise FileFormatError(f"{self.path}: has become shorter since it was opened")
        return raw

    def rows(self, source: Source, start: int, number: int) -> Array:
        """Return some rows, as arrays of two dimensions; those of one dimension are columns."""
        shape = (self.tensor.shape[0] if self.tensor.shape else 1, *self.tensor.shape[1:])
        dtype = _formats.BY_NAME[str(self.tensor.format)].dtype
        size = self.tensor.nbytes // max(shape[0], 1)
        found: Array = self.read(source, start * size, number * size).view(dtype).reshape(number, -1)
        return found

    def numbers(self, source: Source) -> tuple[int, int]:
        """Return the two numbers that it is."""
        if self.tensor.format != "int64" or self.tensor.size != 2:
            raise FileFormatError(f"tensor {self.tensor.name!r} is not two numbers of 64 bits")
        rows, columns = self.read(source, 0, 16).view("<i8").tolist()
        return rows, columns


class Dequantize(Unsurveyed):
    """Codes, scales and zero points that become a weight."""

    measured: Final = False

    def __init__(self, path: Path, places: Sequence[Place], target: Tensor, scheme: Scheme) -> None:
        self._path = path
        self._codes, self._scale = places[:2]
        self._zero = None if scheme.symmetric else places[2]
        self._target, self._scheme, self._places = target, scheme, places
        # A byte may hold a code beyond its bits, which the package takes for the number that it is.
        self._spec = spec_of(scheme if scheme.is_packed or scheme.is_float else replace(scheme, codes="int8"))
        self._format = _formats.BY_NAME[str(target.format)]

    @property
    def report(self) -> TensorReport:
        """See `crew.Task`."""
        tensors = [place.tensor for place in self._places]
        return TensorReport(
            name=self._target.name,
            source_format=str(self._scheme),
            target_format=str(self._target.format),
            size=self._target.size,
            bytes_before=sum(tensor.nbytes for tensor in tensors),
            bytes_after=self._target.nbytes,
            sources=tuple(tensor.name for tensor in tensors),
            targets=(self._target.name,),
        )

    def pieces(self) -> Iterator[tuple[int, int]]:
        """See `crew.Task`; the units are rows."""
        rows, _ = self._target.shape
        unit = 8 if is_packed(self._target) else 1  # rows that end on a byte, whatever their length
        return cut(rows, _step(self._scheme, self._target.size * self._format.storage_bytes // max(rows, 1), unit))

    def do(self, worker: Worker, start: int, number: int) -> tuple[int, None]:
        """See `crew.Task`."""
        scheme, source, columns = self._scheme, worker.crew.source, self._target.shape[1]
        codes = self._codes.rows(source, start, number)
        size = codes.nbytes
        if scheme.is_packed:
            codes = unpack(codes, scheme.codes, shape=(number, columns), layout=scheme.layout, axis=1)
        scale, zero = self._boxes(source, start, number)
        try:
            x = dequantize(codes, scale, zero, dtype=self._format.name, spec=self._spec, threads=1)
        except ValueError as error:  # zero points that no package makes
            raise FileFormatError(f"{self._path}: tensor {shown(self._target.name)}: {error}") from None
        if not is_packed(self._target):
            _write_rows(worker, self._target, start, x)
            return size, None
        bits = self._format.bits
        out = worker.buffer("packed", packed_bytes(x.size, bits))
        _core.pack(np.ascontiguousarray(x).reshape(-1).view(np.uint8), out, bits, isa=worker.isa)
        worker.write(self._target, packed_bytes(start * columns, bits), out)
        return size, None

    def _boxes(self, source: Source, start: int, number: int) -> tuple[Array, Array | None]:
        """Return the scales and zero points of some rows."""
        scheme = self._scheme
        if scheme.strategy == "tensor":
            first, count = 0, 1
        else:
            high = scheme.block_shape[0] if scheme.block_shape else 1
            first, count = start // high, -(-number // high)
        scale = self._scale.rows(source, first, count)
        if self._zero is None:
            return scale, None
        if not scheme.packs_zero_points:
            return scale, self._zero.rows(source, first, count).astype(np.int32)
        packed = self._zero.rows(source, scheme.words(first), scheme.words(count))
        zero = unpack(packed, scheme.codes, shape=scale.shape, layout=scheme.layout, axis=0)
        return scale, zero.astype(np.int32)
