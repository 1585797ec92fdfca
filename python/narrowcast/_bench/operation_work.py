"""Operations on their buffers: values to time and values to check, the call, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np

import narrowcast as nc

from .formats import Array
from .inputs import BLOCK, Memory, fill, timed_block
from .operations import GROUP, ROW, Operation
from .reference_operations import expected_codes, expected_quantized, expected_values

_GIVEN_SCALE = np.float32(0.031)  # normally distributed values use most codes, and a few are clipped


@dataclass(frozen=True)
class Work:
    """An operation on its buffers.

    Attributes
    ----------
    x
        What is read: values in rows, or codes; packed codes as bytes.
    out
        What is written, likewise.
    scale
        float32 scales, in as many dimensions as the values; read or written; None without scales.
    """

    operation: Operation
    x: Array
    out: Array
    scale: Array | None

    @property
    def each(self) -> Array:
        """The scales, to be broadcast to rows, or to rows of groups."""
        assert self.scale is not None
        return self.scale[..., None] if self.operation.granularity == "group" else self.scale

    @cached_property
    def want(self) -> tuple[Array, Array | None]:
        """What `out` and `scale` must be: for the block that the input repeats, if it is larger than that."""
        if self.operation.section == "pack":
            return expected_codes(self.operation, self.x[: _part(self.operation, self.x.size)]), None
        assert self.scale is not None
        rows = min(len(self.x), BLOCK // ROW)
        scale = self.scale[:rows]
        if self.operation.section == "dequantize":
            return expected_values(self.operation, self.x[:rows], scale), scale.copy()
        return expected_quantized(self.operation, self.x[:rows], scale)

    def call(self, threads: int = 1) -> Any:
        """Return the operation, ready to be timed."""
        op, x, out, scale = self.operation, self.x, self.out, self.scale
        more: dict[str, Any] = {} if threads == 1 else {"threads": threads}
        if op.section == "pack":
            if op.target == "packed":
                return lambda: nc.pack(x, op.codes, check=False, out=out, **more)
            return lambda: nc.unpack(x, op.codes, out=out, **more)
        spec = op.spec()
        if op.section == "dequantize":
            return lambda: nc.dequantize(x, scale, dtype=op.target, spec=spec, out=out, **more)
        result = (out, scale, None)
        if op.given:
            given = scale.copy() if scale is not None else None
            return lambda: nc.quantize(x, spec, scale=given, out=result, **more)
        return lambda: nc.quantize(x, spec, out=result, **more)


def sizes(operation: Operation) -> tuple[int, int, int]:
    """Return bytes of source and target, and the number of scales."""
    count, (source, target) = operation.count, operation.unit
    elements = _elements(operation)
    boxes = {"": 0, "tensor": 1, "row": count // ROW, "group": count // GROUP}[operation.granularity]
    return count // elements * source, count // elements * target, boxes


def memory_of(operation: Operation) -> int:
    """Return the bytes that `work` cuts from memory, and some."""
    source, target, boxes = sizes(operation)
    return source + target + 4 * boxes + (3 << 12)


def _elements(operation: Operation) -> int:
    """Return how many elements a unit is."""
    source, target = operation.unit
    if operation.section == "pack":
        return max(source, target)
    return 2 if operation.packed else 1


def _part(operation: Operation, size: int) -> int:
    """Return how many items of the source make a block of elements."""
    return min(size, BLOCK // _elements(operation) * operation.unit[0])


def work(operation: Operation, memory: Memory) -> Work:
    """Return the operation on values to time: normally distributed, or codes made of such."""
    source, target, boxes = sizes(operation)
    parts = memory.cut(source, target, 4 * boxes)
    x, out = _typed(operation, parts[0], parts[1])
    scale = _scales(operation, parts[2].view(np.float32)) if boxes else None
    if operation.section == "quantize":
        fill(x.reshape(-1).view(np.uint32), timed_block("float32", True)[: x.size])
    else:
        random = np.random.default_rng(23)
        codes = random.integers(0, 1 << (operation.bits if x.dtype == np.uint8 else 8), BLOCK).astype(np.uint8)
        if operation.packed or operation.source == "packed":
            codes = random.integers(0, 256, _part(operation, x.size)).astype(np.uint8)
        fill(x.reshape(-1).view(np.uint8), codes[: x.size])
    if scale is not None and operation.given:
        scale[...] = _GIVEN_SCALE
    elif scale is not None:
        fill(scale.reshape(-1).view(np.uint32), _scale_block(min(scale.size, BLOCK // _box(operation))))
    return Work(operation, x, out, scale)


def _box(operation: Operation) -> int:
    return GROUP if operation.granularity == "group" else ROW


def _scale_block(count: int) -> Array:
    return np.random.default_rng(24).uniform(0.001, 0.1, count).astype(np.float32).view(np.uint32)


def _typed(operation: Operation, x: Array, out: Array) -> tuple[Array, Array]:
    if operation.section == "pack":
        return x, out
    views = []
    for part, name in ((x, operation.source), (out, operation.target)):
        if "int" in name:
            array = part if operation.packed else part.view(np.int8)
        else:
            array = part.view(getattr(ml_dtypes, name, None) or name)
        views.append(array.reshape(operation.count // ROW, -1))
    return views[0], views[1]


def _scales(operation: Operation, scales: Array) -> Array:
    return scales.reshape(1, 1) if operation.granularity == "tensor" else scales.reshape(operation.count // ROW, -1)


def difficult(operation: Operation) -> Work:
    """Return the operation on what it may get wrong: ties, clipped and special values; all codes; extreme scales."""
    rows = 24
    small = replace(operation, count=rows * ROW)
    made = work(small, Memory(memory_of(small)))
    if operation.section == "quantize":
        made.x[...] = _difficult_values(rows)
        if operation.given and operation.granularity == "row":
            assert made.scale is not None
            made.scale[:8, 0] = [1e-30, 1e30, 1.0, 2.0**-126, 3e38, 1 / 3, 2.0**-140, 0.1]
    elif made.scale is not None:
        made.scale.reshape(-1)[:6] = [3e38, 2.0**-126, 2.0**-149, 1.0, 1e-39, 1e36]
    return made


def _difficult_values(rows: int) -> Array:
    random = np.random.default_rng(25)
    x = random.standard_normal((rows, ROW)).astype(np.float32)
    halves = (np.arange(ROW) - ROW // 2 + 0.5).astype(np.float32) / 8
    with np.errstate(all="ignore"):
        for at, scale in enumerate((_GIVEN_SCALE, np.float32(1 / 3), np.float32(0.1), np.float32(1))):
            ties = halves * np.float32(8) * scale
            x[at] = ties
            x[4 + at] = np.nextafter(ties, np.float32(np.inf))
            x[8 + at] = np.nextafter(ties, np.float32(-np.inf))
        x[12] = random.integers(0, 1 << 32, ROW, np.uint32).view(np.float32)
    x[13] = 0
    x[14] = 0
    x[14, 77] = -3.0
    x[15] *= np.float32(2.0**-140)
    x[16] *= np.float32(2.0**-124)
    x[17, ::5] = [np.inf]
    x[17, 1::7] = [np.nan]
    x[18] = np.nan
    x[19] *= np.float32(3e37)
    x[20] = -np.inf
    x[21, :GROUP] = -0.0
    return x
