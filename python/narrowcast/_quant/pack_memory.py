"""The memory of packing: codes and words that come in, results that go out, and codes that do not fit.

Shapes are the matter of layouts.py, the calls themselves of pack.py.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from narrowcast import _formats, _torch
from narrowcast._quant.layouts import INTEGER_NAME, Array, CodeType, Layout, Shape, word_dtypes

_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))  # what the core takes as it is


def read_input(x: Any, argument: str) -> tuple[Array, bool]:
    """Return an input as an array, and whether it is a tensor."""
    if type(x) is np.ndarray:
        return x, False
    if _torch.is_tensor(x):
        array, name = _torch.to_array(x, argument)
        row = _formats.BY_NAME.get(name)
        return array if row is None or row.is_codes else array.view(row.dtype), True
    return np.asarray(x), False


def read_words(packed: Any, row: Layout) -> tuple[Array, bool]:
    """Return packed words as an array of the layout's items, and whether it is a tensor."""
    array, is_tensor = read_input(
        np.frombuffer(packed, np.uint8) if isinstance(packed, bytes | bytearray) else packed, "packed"
    )
    if isinstance(packed, bytes | bytearray) and row.word_bits == 32 and array.size % 4 == 0:
        array = array.view(np.int32)
    if array.dtype not in word_dtypes(row):
        raise TypeError(
            f"packed has dtype {array.dtype}; allowed for layout {row.name} are "
            f"{' and '.join(map(str, word_dtypes(row)))}"
        )
    return array, is_tensor


def raw_codes(array: Array, code: CodeType, check: bool) -> tuple[Array, bool]:
    """Return codes a byte each, and whether the core has yet to look for those that do not fit."""
    if array.dtype == code.dtype and code.dtype.isbuiltin != 1:
        return array.view(np.uint8), False  # what is above such a code is not its value
    if array.dtype.itemsize == 1 and array.dtype.kind == ("i" if code.is_signed else "u"):
        return array.view(np.uint8), check and code.bits < 8
    integers = array
    if array.dtype.kind not in "iub":
        if INTEGER_NAME.fullmatch(array.dtype.name) is None:
            raise TypeError(f"codes has dtype {array.dtype}; allowed for {code.name} are integers and {code.name}")
        integers = array.astype(np.int8)
    if check and integers.dtype.kind != "b":
        wrong = (integers < code.low) | (integers > code.high)
        if wrong.any():
            first = np.unravel_index(int(wrong.argmax()), array.shape)
            place = ", ".join(str(int(i)) for i in first)
            raise OverflowError(
                f"codes[{place}] is {int(integers[first])}; {'' if code.is_signed else 'un'}signed codes of "
                f"{code.bits} bits are {code.low} to {code.high}"
            )
    return integers.astype(np.uint8), False


def at_place(refusal: OverflowError, shape: Shape) -> OverflowError:
    """Return the core's refusal with the place of the code in an array of this shape."""
    flat = int(refusal.index)  # type: ignore[attr-defined]
    place = ", ".join(str(int(i)) for i in np.unravel_index(flat, shape))
    return OverflowError(str(refusal).replace(f"[{flat}]", f"[{place}]", 1))


def read_out(out: Any, shape: Shape, allowed: tuple[_formats.DType, ...]) -> Array:
    """Return the memory of an output argument, if it can hold the result."""
    if not (isinstance(out, np.ndarray) or _torch.is_tensor(out)):
        raise TypeError(f"out is a {type(out).__name__}; allowed are ndarrays and torch tensors")
    array, _ = read_input(out, "out")
    if array.dtype not in allowed:
        raise TypeError(f"out has dtype {array.dtype}; allowed are {', '.join(dict.fromkeys(map(str, allowed)))}")
    if array.shape != shape:
        raise ValueError(f"out has shape {array.shape}; allowed is {shape}")
    if not array.flags.writeable:
        raise ValueError("out is read-only; allowed are writable arrays and tensors")
    return array


def bytes_of(array: Array) -> Array:
    """Return the bytes of an array in C order, in its own memory if that has no gaps."""
    if array.flags.c_contiguous and array.dtype in _BYTES:
        return array
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


class Target:
    """Memory that the core writes: that of a result, or its own, from which a result with gaps is filled.

    Attributes
    ----------
    bytes : ndarray
        That memory.
    """

    def __init__(self, result: Array | None, shape: Shape, dtype: _formats.DType) -> None:
        direct = result is not None and result.flags.c_contiguous
        self.array: Array = result if direct and result is not None else np.empty(shape, dtype)
        self.result = None if direct else result
        self.bytes: Array = bytes_of(self.array)

    def cut(self, result: Array | None, shape: Shape) -> Target:
        """Keep the first codes of each axis."""
        part = self.array[tuple(slice(extent) for extent in shape)]
        self.array, self.result = np.ascontiguousarray(part), result
        return self

    def finish(self, out: Any, is_tensor: bool) -> Any:
        """Return what a call returns."""
        if self.result is not None:
            self.result.view(np.uint8 if self.result.itemsize == 1 else np.int32)[...] = self.array.view(
                np.uint8 if self.array.itemsize == 1 else np.int32
            )
        if out is not None:
            return out
        if not is_tensor:
            return self.array
        name = self.array.dtype.name
        if self.array.dtype.isbuiltin != 1:  # torch has no tensors of these, but of their bytes
            name = "int8" if name.startswith("int") else "uint8"
        return _torch.from_array(self.array.view(name), name)
