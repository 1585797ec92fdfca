"""What may come in and go out: arrays, scalars, sequences, buffers and tensors, as plain ndarrays over their memory.

No element is converted or copied here (sequences and Python scalars apart, which have no memory of their own). Option
checks and the cast itself are in _astype.py.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from narrowcast import _torch
from narrowcast._formats import DType, Format, FormatLike, find, format_of

Array: TypeAlias = np.ndarray[Any, Any]
Kind: TypeAlias = Literal["array", "scalar", "masked", "tensor"]

_PLAIN_BYTES: Final = ("B", "c")  # buffer formats that say nothing about the elements


class Source(NamedTuple):
    """An input: its elements, how their bits are read, and what it was."""

    array: Array  # of any dtype with the right item size and byte order
    format: Format
    kind: Kind
    given: Any
    is_result: bool  # whether the input itself may be returned if there is nothing to do

    def wrap(self, result: Array, row: Format) -> Any:
        """Give a result of format row the kind of this input."""
        if self.kind == "tensor":
            return _torch.from_array(result, row.dtype.name)
        if self.kind == "scalar":
            return result[()]
        if self.kind == "masked":
            return _masked_like(self.given, result)
        return result


def read(x: Any, src_dtype: FormatLike | None, argument: str = "x") -> Source:
    """Describe an input, which sentences call by the name of its argument."""
    named = None if src_dtype is None else find(src_dtype, "src_dtype")
    if _torch.is_tensor(x):
        array, name = _torch.to_array(x, argument)
        row, array = _reinterpret(array, named or find(name, f"{argument}.dtype"))
        return Source(array, row, "tensor", x, named is None)
    if isinstance(x, np.ndarray | np.generic):
        array = np.asarray(x)
        kind: Kind = "scalar" if isinstance(x, np.generic) else "masked" if _is_masked(x) else "array"
        if named is not None:
            row, array = _reinterpret(array, named)
            return Source(array, row, kind, x, False)
        return Source(array, _format_of_values(array, argument), kind, x, type(x) is np.ndarray or kind != "array")
    if named is not None:
        row, array = _reinterpret(_elements(x, named[1]), named)
        return Source(array, row, "array", x, False)
    _refuse_plain_bytes(x, argument)
    array = np.asarray(x)
    kind = "scalar" if isinstance(x, bool | int | float) else "array"
    return Source(array, _format_of_values(array, argument), kind, x, False)


def read_out(out: Any, row: Format, shape: tuple[int, ...]) -> Array:
    """Return the memory of an output argument as an array, if it can hold a result of this format and shape."""
    codes = np.dtype(f"u{row.storage_bytes}")
    if _torch.is_tensor(out):
        array, name = _torch.to_array(out, "out")
    else:
        array = np.asarray(out) if isinstance(out, np.ndarray) else _writable_elements(out, codes, shape)
        name = array.dtype.newbyteorder("=").name
    if name not in (row.dtype.name, codes.name):
        raise TypeError(f"out has dtype {name}; allowed are {row.dtype.name} and {codes.name}")
    if array.shape != shape:
        raise ValueError(f"out has shape {array.shape}; allowed is the shape of x, {shape}")
    if not array.flags.writeable:
        raise ValueError("out is read-only; allowed are writable arrays, buffers and tensors")
    return array


def as_buffer(a: Any) -> memoryview:
    """Return the memory of an array as a memoryview, whatever its dtype; nothing is copied.

    numpy does not export arrays of ml_dtypes dtypes through the buffer protocol. Their codes are exported here as
    unsigned integers of the same width (format ``"B"`` or ``"H"``), in the same shape and strides.

    Parameters
    ----------
    a : ndarray or torch.Tensor
        An array of any dtype that narrowcast knows, or a CPU tensor.

    Returns
    -------
    memoryview
        Writable if the array is.

    Examples
    --------
    >>> import ml_dtypes, numpy as np
    >>> import narrowcast as nc
    >>> view = nc.as_buffer(np.ones((2, 2), ml_dtypes.bfloat16))
    >>> view.format, view.shape, view.tolist()
    ('H', (2, 2), [[16256, 16256], [16256, 16256]])
    """
    if _torch.is_tensor(a):
        array, _ = _torch.to_array(a, "a")
    elif isinstance(a, np.ndarray):
        array = np.asarray(a)
    else:
        raise TypeError(f"a is a {type(a).__name__}; allowed are ndarrays and torch tensors")
    row = format_of(array.dtype)
    if row is None:
        raise TypeError(f"a has dtype {array.dtype}, which is not a format of narrowcast")
    if row.dtype.isbuiltin != 1:  # a registered dtype
        array = array.view(np.dtype(f"u{row.storage_bytes}").newbyteorder(array.dtype.byteorder))
    return array.data


def _masked_like(given: Any, result: Array) -> Any:
    """Give a result the mask of a MaskedArray, whether it is hard, and its fill value if that was chosen."""
    mask = np.ma.getmask(given)
    made: Any = np.ma.MaskedArray(result, mask if mask is np.ma.nomask else mask.copy(), hard_mask=given.hardmask)
    if given._fill_value is not None:  # numpy's own astype looks here too: the property invents one
        with np.errstate(all="ignore"):
            made._fill_value = np.asarray(given._fill_value).astype(result.dtype)
    return made


def _is_masked(x: object) -> bool:
    masked_array = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    return masked_array is not None and isinstance(x, masked_array)


def _format_of_values(array: Array, argument: str) -> Format:
    row = format_of(array.dtype)
    if row is None:
        raise TypeError(
            f"{argument} has dtype {array.dtype}; allowed are the float, integer and bool dtypes of numpy and "
            "ml_dtypes that narrowcast.formats() lists"
        )
    return row


def _reinterpret(array: Array, named: tuple[Format, DType]) -> tuple[Format, Array]:
    """Return the format that the bits of an array are to be read as, and the array in that format's byte order."""
    row, dtype = named
    row = row.as_source
    if array.dtype.hasobject or array.itemsize != row.storage_bytes:
        raise ValueError(
            f"src_dtype is {row.name}, with {row.storage_bytes} bytes per element; x has dtype {array.dtype}, with "
            f"{array.itemsize}"
        )
    return row, array if dtype.isnative else array.view(dtype)


def _elements(x: Any, dtype: DType) -> Array:
    """Return the bytes of a buffer as codes of the width and byte order of dtype."""
    try:
        view = memoryview(x)
    except TypeError:
        raise TypeError(
            f"x is a {type(x).__name__}; with src_dtype, allowed are arrays, tensors and objects with the buffer "
            "protocol"
        ) from None
    if not view.c_contiguous:
        raise ValueError("x is a buffer with gaps; allowed are contiguous buffers")
    if view.nbytes % dtype.itemsize:
        raise ValueError(f"x has {view.nbytes} bytes; allowed are multiples of the {dtype.itemsize} of src_dtype")
    return np.frombuffer(view, dtype if dtype.isbuiltin != 2 else f"u{dtype.itemsize}")


def _refuse_plain_bytes(x: Any, argument: str) -> None:
    if hasattr(x, "__array__") or hasattr(x, "__array_interface__"):
        return
    try:
        view = memoryview(x)
    except TypeError:
        return
    if view.format in _PLAIN_BYTES:
        raise TypeError(f"{argument} is a {type(x).__name__}, whose bytes have no dtype; say which with src_dtype=")


def _writable_elements(out: Any, codes: DType, shape: tuple[int, ...]) -> Array:
    """Return a buffer's items as an array: bytes as codes of the given shape, anything else as it is."""
    try:
        view = memoryview(out)
    except TypeError:
        raise TypeError(
            f"out is a {type(out).__name__}; allowed are ndarrays, torch tensors and writable buffers"
        ) from None
    if view.format not in _PLAIN_BYTES or (view.format == "B" and codes.itemsize == 1 and view.shape == shape):
        return np.asarray(view)
    needed = math.prod(shape) * codes.itemsize
    if not view.c_contiguous or view.nbytes != needed:
        raise ValueError(f"out is a buffer of {view.nbytes} bytes; allowed are contiguous buffers of {needed}")
    return np.frombuffer(view, codes).reshape(shape)
