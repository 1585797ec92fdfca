"""Where results go: new arrays, or those of `out=`, which are checked before anything is computed.

Codes and row sums are written by the core in place; scales and zero points are computed apart and copied last, so that
a call that fails leaves them alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from narrowcast import _formats, _torch
from narrowcast._arrays import Array
from narrowcast._arrays import read_out as read_plain
from narrowcast._formats import Format
from narrowcast._quant import fbgemm, params
from narrowcast._quant.array import QuantizedArray
from narrowcast._quant.boxes import Shape
from narrowcast._quant.call import Call, widen
from narrowcast._quant.layouts import plan, word_dtypes
from narrowcast._quant.pack import pack
from narrowcast._quant.params import UINT8, Params
from narrowcast._quant.target import memory_of, name_of

_PATIENCE: Final = 10_000  # how long numpy may search for an element that two arrays share


@dataclass(slots=True)
class Outputs:
    """The memory of one result, in one dimension at least; None: not wanted, or made anew."""

    codes: Array | None
    scale: Array | None = None
    zero: Array | None = None
    row_sums: Array | None = None
    fused: Array | None = None
    columns: Array | None = None  # the outlier columns that were found
    given: Any = None  # what came in as out=
    is_packed_by_core: bool = False
    code_format: int = 0
    _unpacked: Array | None = None  # codes that are packed by another layout's rules afterwards

    def codes_for_core(self, call: Call) -> Array:
        """Return what the core writes codes into; anything that is not `codes` is brought there by `store`."""
        target = call.spec._resolved.target
        packed = call.spec._resolved.packed
        self.is_packed_by_core = packed and call.spec._resolved.layout == "lsb" and call.ends_on_byte
        if packed and not self.is_packed_by_core:
            self._unpacked = np.empty(call.array.shape, target.carrier)
        array = self.codes if self._unpacked is None else self._unpacked
        assert array is not None
        if self.is_packed_by_core:
            self.code_format = UINT8.code
            return array
        if target.is_float:
            self.code_format = target.format
            return array.view(target.dtype)
        self.code_format = _formats.BY_DTYPE[target.carrier].code
        return array.view(target.carrier)

    def leave_out_columns(self, call: Call) -> Call:
        """Find the columns with large values; return a call in which these values are 0."""
        values = widen(call.array)
        with np.errstate(over="ignore"):  # beyond float16 only infinities are as large
            limit = widen(np.array(call.spec.threshold).astype(call.source.format.dtype))
        large = np.abs(values) >= limit
        self.columns = np.flatnonzero(large.any(axis=tuple(range(large.ndim - 1))))
        array = np.where(large, np.float32(0), values)
        return call._replace(array=array, source=call.source._replace(format=params.FLOAT32))

    def store(self, used: Params, call: Call) -> None:
        """Bring everything to its place that the core has not put there."""
        spec = call.spec
        if self.columns is not None:
            assert self.codes is not None
            self.codes[..., self.columns] = 0
            if self.row_sums is not None:
                self.row_sums[...] = self.codes.sum(axis=-1, dtype=np.int32)
        if self._unpacked is not None:
            layout, dtype = spec._resolved.layout, spec._resolved.target.name
            made = pack(self._unpacked, dtype, layout=layout, pad=spec._resolved.is_fused, check=False)
            if self.codes is None:
                self.codes = made
            else:
                self.codes[...] = made.reshape(self.codes.shape)
        used = params.shown(spec._resolved, used)
        if self.scale is not None:
            self.scale[...] = used.scale
        if self.zero is not None and used.zero is not None:
            self.zero[...] = used.zero
        if isinstance(self.given, QuantizedArray):
            if self.fused is not None:  # of which tensors cannot always be views
                parts = fbgemm.split(self.fused, spec._resolved.target)
                for part, made in ((parts.codes, self.codes), (parts.scale, self.scale), (parts.bias, self.zero)):
                    part[...] = made
            self._tell(self.given, call)

    def _tell(self, result: QuantizedArray, call: Call) -> None:
        result.shape, result.dtype = call.source.array.shape, call.source.format.dtype
        is_tensor = _torch.is_tensor(result.codes)
        if self.columns is not None:
            result.outlier_columns = _wrap(self.columns, "int64", is_tensor)
        if self.row_sums is not None and result.row_sums is None:
            result.row_sums = _wrap(self.row_sums.reshape(result.shape[:-1]), "int32", is_tensor)

    def wrap(self, used: Params, call: Call) -> QuantizedArray:
        """Return a new result."""
        source, resolved = call.source, call.spec._resolved
        is_tensor = source.kind == "tensor"
        no_dimensions = source.array.ndim == 0
        assert self.codes is not None
        shape = () if no_dimensions else self.codes.shape
        codes = self.codes.reshape(shape)
        if is_tensor and not resolved.packed and not resolved.target.is_float:
            codes = codes.view(resolved.target.carrier)  # torch has names for narrower integers, but no operations
        codes = _wrap(codes, name_of(codes.dtype), is_tensor)
        boxes = () if no_dimensions else call.boxes
        if self.fused is not None:
            assert self.scale is not None
            shown = used._replace(scale=self.scale, zero=self.zero)
        else:
            shown = params.shown(resolved, used)
        scale, zero = params.wrap(shown, boxes, is_tensor)
        result = QuantizedArray(codes, scale, zero, call.spec)
        if self.fused is not None:
            result.fused = _wrap(self.fused, "uint8", is_tensor)
        self._tell(result, call)
        return result


def _wrap(array: Array, name: str, is_tensor: bool) -> Any:
    return _torch.from_array(array, name) if is_tensor else array


def make(call: Call) -> Outputs:
    """Return new arrays for a call."""
    resolved, shape = call.spec._resolved, call.array.shape
    sums = np.zeros(shape[:-1], np.int32) if call.spec.row_sums else None
    if resolved.is_fused:
        parts = fbgemm.allocate(shape, resolved.target)
        return Outputs(parts.codes, parts.scale, parts.bias, sums, parts.rows)
    if not resolved.packed:
        return Outputs(np.empty(shape, resolved.target.dtype), row_sums=sums)
    packed_shape, _ = _packed(call)
    return Outputs(np.empty(packed_shape, np.uint8) if resolved.layout == "lsb" else None, row_sums=sums)


def _packed(call: Call) -> tuple[Shape, tuple[str, ...]]:
    """Return the shape of packed codes and the dtypes that they may have; refuse an axis that would need padding."""
    *outer, last = call.array.shape
    resolved = call.spec._resolved
    if resolved.layout != "lsb":
        layout, dtype = (resolved.layout, "layout"), (resolved.target.name, "dtype")
        row, _, lines = plan(layout, dtype, call.array.shape, (None, "axis"), divides=True)
        return lines.packed_shape, tuple(map(name_of, word_dtypes(row)))
    if not call.ends_on_byte and not resolved.is_fused:
        raise ValueError(
            f"layout is {resolved.layout!r}, and the last axis has {last} codes of {resolved.target.bits} bits, which "
            "do not end on a byte; pad x, or leave out layout= and pack with pad=True"
        )
    return (*outer, resolved.target.items(last)), ("uint8",)


def read_out(out: Any, call: Call, given: Params | None) -> Outputs:
    """Return the memory of an argument out=, if a result of this call fits into it."""
    if not isinstance(out, tuple) or len(out) not in (3, 4):
        what = f"tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"out is a {what}; allowed are a QuantizedArray and a tuple (codes, scale, zero_point)")
    spec, target = call.spec, call.spec._resolved.target
    if len(out) == 4 and out[3] is not spec and out[3] != spec:
        raise ValueError(f"out has {out[3]!r}; allowed is the spec of this call, {spec!r}")
    sums = None
    if spec.row_sums:
        if not isinstance(out, QuantizedArray):
            raise TypeError("out is a tuple without row sums; allowed with row_sums=True is a QuantizedArray")
        sums = np.zeros(call.array.shape[:-1], np.int32)
        if out.row_sums is not None:
            sums = _read(out.row_sums, "out.row_sums", ("int32",), call, call.array.shape[:-1])
    made = given or params.allocate(spec._resolved, call.source.format, call.boxes)
    needed = given is None or isinstance(out, QuantizedArray)
    found = Outputs(
        _read_codes(out[0], call),
        _read_numbers(out[1], "out.scale", made.scale, made.scale_row, call, needed),
        _read_numbers(out[2], "out.zero_point", made.zero, made.zero_row, call, needed),
        sums,
        given=out,
    )
    if isinstance(out, QuantizedArray) and out.fused is not None:
        found.fused = _read(out.fused, "out.fused", ("uint8",), call, fbgemm.rows_shape(call.array.shape, target))
    _refuse_overlap(found, call, given)
    return found


def _read_codes(codes: Any, call: Call) -> Array:
    target = call.spec._resolved.target
    if call.spec._resolved.packed:
        shape, names = _packed(call)
    else:
        shape, names = call.array.shape, tuple(dict.fromkeys((name_of(target.dtype), name_of(target.carrier))))
    return _read(codes, "out.codes", names, call, shape)


def _read_numbers(given: Any, name: str, made: Array | None, row: Format, call: Call, needed: bool) -> Array | None:
    if made is None:
        if given is not None:
            raise ValueError(f"{name} is given, and {call.spec!r} has none; allowed is None")
        return None
    if given is None:
        if needed:
            raise ValueError(f"{name} is None; allowed is an array of {row.name}")
        return None
    return _read(given, name, (name_of(row.dtype),), call, made.shape)


def _read(given: Any, name: str, dtypes: tuple[str, ...], call: Call, shape: Shape) -> Array:
    """Return an array that may be written, of one of these dtypes, in this shape or, for a scalar x, in none."""
    array, found = memory_of(given, name)
    if found not in dtypes or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {array.dtype}; allowed are {', '.join(dtypes)}")
    if call.source.array.ndim == 0 and array.shape == ():
        array = array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; allowed is {shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only; allowed are writable arrays and tensors")
    return array.view(_formats.BY_NAME[found].dtype) if found in _formats.BY_NAME else array


def _refuse_overlap(found: Outputs, call: Call, given: Params | None) -> None:
    written = {"out.codes": found.codes, "out.scale": found.scale, "out.zero_point": found.zero}
    written["out.row_sums"] = found.row_sums
    read = {"x": call.array}
    pairs = [*itertools.combinations(written.items(), 2), *itertools.product(written.items(), read.items())]
    if given is not None:  # a given scale may be the one that out has, but for nothing else
        pairs += itertools.product(
            [("out.codes", found.codes), ("out.row_sums", found.row_sums)],
            [("scale", given.scale), ("zero_point", given.zero)],
        )
    for (name, array), (other, memory) in pairs:
        if array is not None and memory is not None and _overlap(array, memory):
            raise ValueError(f"{name} overlaps {other}; it needs memory of its own")


def _overlap(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=_PATIENCE))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def read_values_out(out: Any, call: Call) -> tuple[Array, Any]:
    """Return where `fake_quantize` writes, and what it returns."""
    row, shape = call.source.format, call.source.array.shape
    if out is None:
        made = np.empty(shape, row.dtype)
        return made.reshape(call.array.shape), call.source.wrap(made, row)
    return read_plain(out, row, shape).reshape(call.array.shape), out
