"""pack, unpack and repack: codes of 1 to 8 bits, and the layouts in which packages store them. Only bits move here.

The rows of layouts come from the compiled core, which also says how many bytes a line takes; here are names, shapes and
what is wrong with them. Scales and zero points are not here.
"""

from __future__ import annotations

import re
from math import prod
from operator import index
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from narrowcast import _config, _core, _formats, _torch

Array: TypeAlias = np.ndarray[Any, Any]
Shape: TypeAlias = tuple[int, ...]


class Layout(NamedTuple):
    """Facts of one pack layout.

    Attributes
    ----------
    name : str
        The public name, that of its owner: ``"gptq"``.
    code : int
        The number of the layout in the C interface; never reused.
    widths : tuple of int
        The widths of codes that its owner defines.
    word_bits : int
        Bits of the items that it is stored in: 8 (uint8) or 32 (int32).
    axis : int
        The axis that it runs along if a call does not say: that of its owner.
    is_biased : bool
        Whether signed codes are stored as ``code + 2**(bits - 1)``.
    inner_codes : int
        What the extent of the last axis must be a multiple of, in a layout of tiles; else 1.
    """

    name: str
    code: int
    widths: tuple[int, ...]
    word_bits: int
    axis: int
    is_biased: bool
    inner_codes: int

    @property
    def is_tiled(self) -> bool:
        """Whether its groups run along two axes, the last ones."""
        return self.inner_codes > 1


class CodeType(NamedTuple):
    """A kind of code: its width, and the dtype of arrays with one per item."""

    name: str
    bits: int
    is_signed: bool
    dtype: _formats.DType

    @property
    def low(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def high(self) -> int:
        """The largest code."""
        return self.low + (1 << self.bits) - 1


LAYOUTS: Final = {row[0]: Layout(*row) for row in _core.layouts()}
_INTEGER: Final = re.compile(r"(u?)int([1-8])")
_PACKED_FLOATS: Final = ("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn")


def layouts() -> tuple[Layout, ...]:
    """Return the facts of every pack layout.

    Returns
    -------
    tuple of Layout
        Always in the same order; the first is ``"lsb"``.

    Examples
    --------
    >>> import narrowcast as nc
    >>> [row.name for row in nc.layouts() if row.word_bits == 32]
    ['gptq', 'awq', 'compressed_tensors', 'compressed_tensors_pre018', 'marlin']
    """
    return tuple(LAYOUTS.values())


def pack(
    codes: Any,
    dtype: _formats.FormatLike | None = None,
    *,
    layout: str = "lsb",
    axis: int | None = None,
    pad: bool = False,
    check: bool = True,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Pack codes of 1 to 8 bits, one per item, into the bytes or words of a layout.

    Parameters
    ----------
    codes : array_like or torch.Tensor
        Integers, or FP6 or FP4 codes, of any shape but () and any strides.
    dtype : str, dtype or type, optional
        What a code is: ``"int1"`` to ``"int8"``, ``"uint1"`` to ``"uint8"``, ``"float4_e2m1fn"``,
        ``"float6_e2m3fn"``, ``"float6_e3m2fn"``, or a dtype of that name; by default the dtype of `codes`.
    layout : str, default "lsb"
        A name of `layouts`:

        - ``"lsb"``: dense, the first code in the lowest bits (OCP, ONNX, torch); widths 1 to 8
        - ``"msb_nibble"``: of two codes the first is in the high nibble (bitsandbytes); 4
        - ``"ggml"``: of 32 codes, byte j holds j and j + 16; 4
        - ``"quanto"``: byte row r holds rows r, r + R, r + 2 R, ... (optimum-quanto); 2 and 4
        - ``"gptq"``: a dense stream of int32 words down each column; 2, 3, 4 and 8
        - ``"awq"``: nibble i of an int32 word is column 0 2 4 6 1 3 5 7 of eight; 4
        - ``"compressed_tensors"``: a dense stream of int32 words, signed codes plus 2**(bits - 1); 1 to 8
        - ``"compressed_tensors_pre018"``: the same up to version 0.17: no code lies in two words; 1 to 8
        - ``"marlin"``: tiles of 16 x 16 codes of the last two axes, in the order of the fp16 x int4 kernel; 4
    axis : int, optional
        The axis along which codes are packed; by default that of the layout's owner: the last one, but for gptq the
        one before it (K of (K, N)) and for quanto the first. marlin has no choice.
    pad : bool, default False
        Fill up an axis that does not divide with zero bits; without it that is an error.
    check : bool, default True
        Refuse codes that do not fit, before anything is written. False takes their low bits.
    out : ndarray or torch.Tensor, optional
        Where to write: of the shape and dtype of the result.
    threads : int, optional
        At most this many threads, 0 for one per core; by default what `get_num_threads` says.

    Returns
    -------
    ndarray or torch.Tensor
        `out` if it was given. Else uint8 or, for layouts of words, int32, in the shape of `codes` with a shorter
        `axis`; marlin gives (..., K / 16, 2 N). A tensor for a tensor.

    Raises
    ------
    TypeError
        If a dtype is not one of codes.
    ValueError
        If the layout does not have this width, the axis does not divide, or `out` does not fit.
    OverflowError
        If a code does not fit; it names the first one.

    See Also
    --------
    unpack, repack, layouts

    Notes
    -----
    Signed codes are stored as two's complement, but for compressed_tensors, whose unsigned codes are stored as they
    are: they have that package's offset already. The zero points of GPTQ, ``qzeros``, are
    ``pack(zeros, "uint4", layout="gptq", axis=-1)``, of ``zeros - 1`` in version 1 of that format.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> nc.pack([1, 2, 3, 15], "uint4")
    array([ 33, 243], dtype=uint8)
    >>> nc.pack([1, 2, 3, 15], "uint4", layout="msb_nibble")
    array([18, 63], dtype=uint8)
    >>> nc.pack(np.array([-8, 7], np.int8), "int4", layout="compressed_tensors", pad=True)
    array([240], dtype=int32)
    >>> nc.pack([1, 2, 16], "uint4", pad=True)
    Traceback (most recent call last):
    ...
    OverflowError: codes[2] is 16; unsigned codes of 4 bits are 0 to 15
    """
    row = _find_layout(layout, "layout")
    array, is_tensor = _read(codes, "codes")
    code = _code_type(array.dtype if dtype is None else dtype, "codes.dtype" if dtype is None else "dtype")
    lines = _lines(row, code, array.shape, axis, "axis")
    if not pad:
        _check_divides(row, code, lines, array.shape)
    workers = _threads(threads)
    result = None if out is None else _read_out(out, lines.packed_shape, _word_dtypes(row))
    raw, unchecked = _raw_codes(array, code, check)
    if lines.shape != array.shape:
        raw = np.pad(raw, [(0, to - extent) for to, extent in zip(lines.shape, array.shape, strict=True)])
    target = _Target(result, lines.packed_shape, _word_dtypes(row)[0])
    if raw.size:
        try:
            _core.pack(
                _bytes(raw),
                target.bytes,
                code.bits,
                row.name,
                is_signed=code.is_signed,
                check=unchecked,
                threads=workers,
                isa=_config.chosen_isa.get(),
                extents=lines.extents,
            )
        except OverflowError as refusal:
            raise _at_place(refusal, array.shape) from None
    return target.finish(out, is_tensor)


def unpack(
    packed: Any,
    dtype: _formats.FormatLike,
    *,
    shape: int | Shape | None = None,
    layout: str = "lsb",
    axis: int | None = None,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Unpack the bytes or words of a layout into codes, one per item.

    Parameters
    ----------
    packed : array_like, torch.Tensor or buffer
        uint8 or, for layouts of words, int32; of any strides. A buffer is a line of bytes.
    dtype : str, dtype or type
        What a code is, as in `pack`.
    shape : tuple of int, optional
        The shape of the codes; by default what fills `packed`. It is what cuts off padding.
    layout : str, default "lsb"
        As in `pack`.
    axis : int, optional
        As in `pack`.
    out : ndarray or torch.Tensor, optional
        Where to write: in the shape of the codes, of the dtype of the result, or of bytes.
    threads : int, optional
        As in `pack`.

    Returns
    -------
    ndarray or torch.Tensor
        `out` if it was given. Else codes of the dtype of that name where numpy, ml_dtypes or torch has one that
        arrays can have, else int8 or uint8. Codes in bytes have their sign extended. A tensor for a tensor.

    Raises
    ------
    TypeError
        If a dtype is not one of codes, or not that of the layout's words.
    ValueError
        If the layout does not have this width, or shapes do not fit.

    See Also
    --------
    pack, repack, layouts

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> nc.unpack(np.array([33, 3], np.uint8), "uint4", shape=3).tolist()
    [1, 2, 3]
    >>> nc.unpack(np.array([240], np.int32), "int4", layout="compressed_tensors", shape=2).tolist()
    [-8, 7]
    """
    row = _find_layout(layout, "layout")
    code = _code_type(dtype, "dtype")
    words, is_tensor = _read_words(packed, row)
    wanted = _unpacked_shape(row, code, words.shape, axis) if shape is None else _read_shape(shape)
    lines = _lines(row, code, wanted, axis, "axis")
    _check_packed(words, lines, wanted, row, code)
    workers = _threads(threads)
    allowed = (code.dtype, np.dtype(np.int8), np.dtype(np.uint8))
    result = None if out is None else _read_out(out, wanted, allowed)
    whole = lines.shape == wanted
    target = _Target(result if whole else None, lines.shape, code.dtype)
    if prod(lines.shape):
        _core.unpack(
            _bytes(words),
            target.bytes,
            code.bits,
            row.name,
            is_signed=code.is_signed,
            threads=workers,
            isa=_config.chosen_isa.get(),
            extents=lines.extents,
        )
    if not whole:
        target = target.cut(result, wanted)
    return target.finish(out, is_tensor)


def repack(
    packed: Any,
    dtype: _formats.FormatLike,
    from_layout: str,
    to_layout: str,
    *,
    shape: int | Shape,
    from_axis: int | None = None,
    to_axis: int | None = None,
    pad: bool = False,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Move packed codes from one layout to another, without an array of one code per item in between.

    Parameters
    ----------
    packed : array_like, torch.Tensor or buffer
        As in `unpack`.
    dtype : str, dtype or type
        What a code is, as in `pack`.
    from_layout, to_layout : str
        Two names of `layouts`.
    shape : tuple of int
        The shape of the codes.
    from_axis, to_axis : int, optional
        As `axis` in `pack`.
    pad : bool, default False
        Fill up an axis that does not divide in the layout `to_layout` with zero bits (marlin: not here).
    out : ndarray or torch.Tensor, optional
        Where to write: of the shape and dtype of the result.
    threads : int, optional
        As in `pack`.

    Returns
    -------
    ndarray or torch.Tensor
        What `pack` would give.

    Raises
    ------
    TypeError, ValueError
        As `unpack` and `pack`.

    See Also
    --------
    pack, unpack, layouts

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> codes = np.arange(64).reshape(8, 8) % 16
    >>> words = nc.pack(codes, "uint4", layout="gptq")
    >>> words.shape
    (1, 8)
    >>> awq = nc.repack(words, "uint4", "gptq", "awq", shape=(8, 8))
    >>> [hex(word) for word in awq[:, 0] % 2**32][:2]
    ['0x75316420', '0xfdb9eca8']
    """
    source, target_row = _find_layout(from_layout, "from_layout"), _find_layout(to_layout, "to_layout")
    code = _code_type(dtype, "dtype")
    words, is_tensor = _read_words(packed, source)
    wanted = _read_shape(shape)
    given = _lines(source, code, wanted, from_axis, "from_axis")
    made = _lines(target_row, code, wanted, to_axis, "to_axis")
    if not pad or made.shape != wanted:
        _check_divides(target_row, code, made, wanted)
    if given.shape != wanted:
        _check_divides(source, code, given, wanted)
    _check_packed(words, given, wanted, source, code)
    workers = _threads(threads)
    result = None if out is None else _read_out(out, made.packed_shape, _word_dtypes(target_row))
    target = _Target(result, made.packed_shape, _word_dtypes(target_row)[0])
    if prod(wanted):
        _core.repack(
            _bytes(words),
            target.bytes,
            prod(wanted),
            code.bits,
            source.name,
            given.extents,
            target_row.name,
            made.extents,
            is_signed=code.is_signed,
            threads=workers,
            isa=_config.chosen_isa.get(),
        )
    return target.finish(out, is_tensor)


# --- what a call means ------------------------------------------------------------------------------------------------


class _Lines(NamedTuple):
    """How a layout runs through an array of codes."""

    axis: int
    extents: tuple[int, int]  # codes along the axis, and of all later axes
    shape: Shape  # of the codes that are packed: with padding, in a layout of tiles
    packed_shape: Shape


def _lines(row: Layout, code: CodeType, shape: Shape, axis: int | None, argument: str) -> _Lines:
    if code.bits not in row.widths:
        widths = ", ".join(map(str, row.widths))
        raise ValueError(f"dtype is {code.name}; layout {row.name} has codes of {widths} bits")
    dimensions = len(shape)
    if dimensions == 0 or (row.is_tiled and dimensions < 2):
        raise ValueError(f"the codes have {dimensions} axes; layout {row.name} needs {2 if row.is_tiled else 1}")
    own = row.axis if row.axis >= 0 else max(dimensions + row.axis, 0)
    chosen = own if axis is None else _read_axis(axis, dimensions, argument)
    if row.is_tiled:
        if chosen != own:
            raise ValueError(f"{argument} is {axis}; layout {row.name} takes tiles of the last two axes")
        granules = (*[1] * (dimensions - 2), _core.layout_granule(code.bits, row.name), row.inner_codes)
        shape = tuple(-(-extent // granule) * granule for extent, granule in zip(shape, granules, strict=True))
        packed = (*shape[:-2], shape[-2] // granules[-2], shape[-1] * granules[-2] * code.bits // row.word_bits)
    else:
        words = _core.packed_bytes(shape[chosen], code.bits, row.name) * 8 // row.word_bits
        packed = (*shape[:chosen], words, *shape[chosen + 1 :])
    return _Lines(chosen, (shape[chosen], prod(shape[chosen + 1 :])), shape, packed)


def _check_divides(row: Layout, code: CodeType, lines: _Lines, shape: Shape) -> None:
    if row.is_tiled:
        if lines.shape != shape:
            granules = f"{_core.layout_granule(code.bits, row.name)} and {row.inner_codes}"
            raise ValueError(
                f"the codes have shape {shape}; the last two axes must be multiples of {granules} in layout {row.name}, "
                "unless nc.pack pads them (pad=True)"
            )
        return
    granule = _core.layout_granule(code.bits, row.name)
    if shape[lines.axis] % granule:
        raise ValueError(
            f"the codes have {shape[lines.axis]} items along axis {lines.axis}; allowed are multiples of {granule} for "
            f"{code.name} in layout {row.name}, or any number with pad=True"
        )


def _unpacked_shape(row: Layout, code: CodeType, packed: Shape, axis: int | None) -> Shape:
    """Return the shape of the codes that fill an array of words."""
    dimensions = len(packed)
    if dimensions == 0 or (row.is_tiled and dimensions < 2):
        raise ValueError(f"packed has {dimensions} axes; layout {row.name} needs {2 if row.is_tiled else 1}")
    granule = _core.layout_granule(code.bits, row.name) if code.bits in row.widths else 1
    if row.is_tiled:
        return (*packed[:-2], packed[-2] * granule, packed[-1] * row.word_bits // code.bits // granule)
    own = row.axis if row.axis >= 0 else max(dimensions + row.axis, 0)
    chosen = own if axis is None else _read_axis(axis, dimensions, "axis")
    if code.bits not in row.widths:
        return packed  # refused by its width
    words = _core.packed_bytes(granule, code.bits, row.name) * 8 // row.word_bits
    if packed[chosen] % words:
        raise ValueError(
            f"packed has {packed[chosen]} items along axis {chosen}, and {words} hold {granule} codes of {code.name}; "
            "say with shape= how many codes there are"
        )
    return (*packed[:chosen], packed[chosen] // words * granule, *packed[chosen + 1 :])


def _check_packed(words: Array, lines: _Lines, shape: Shape, row: Layout, code: CodeType) -> None:
    if words.shape != lines.packed_shape:
        raise ValueError(
            f"packed has shape {words.shape}; codes of {code.name} and shape {shape} take {lines.packed_shape} in layout "
            f"{row.name} along axis {lines.axis}"
        )


def _find_layout(name: str, argument: str) -> Layout:
    row = LAYOUTS.get(name) if isinstance(name, str) else None
    if row is None:
        raise ValueError(f"{argument} is {name!r}; allowed are {', '.join(LAYOUTS)}")
    return row


def _word_dtypes(row: Layout) -> tuple[_formats.DType, ...]:
    """Return the dtypes that the words of a layout may have: first that of results."""
    names = ("uint8", "int8") if row.word_bits == 8 else ("int32", "uint32")
    return tuple(np.dtype(name) for name in names)


def _code_type(dtype: _formats.FormatLike, argument: str) -> CodeType:
    if isinstance(dtype, str):
        name = dtype
    elif isinstance(dtype, _formats.Format):
        name = dtype.name
    elif _torch.is_dtype(dtype):
        name = _torch.name_of(dtype)
    else:
        try:
            name = np.dtype(dtype).newbyteorder("=").name
        except TypeError:
            name = ""
    match = _INTEGER.fullmatch(name)
    if match is not None:
        bits, is_signed = int(match[2]), not match[1]
        known = _formats.BY_NAME.get(name)
        return CodeType(
            name, bits, is_signed, np.dtype(np.int8 if is_signed else np.uint8) if known is None else known.dtype
        )
    if name in _PACKED_FLOATS:
        row = _formats.BY_NAME[name]
        return CodeType(name, row.bits, False, row.dtype)
    raise TypeError(f"{argument} is {dtype!r}; allowed are int1 to int8, uint1 to uint8, {', '.join(_PACKED_FLOATS)}")


def _read_axis(axis: int, dimensions: int, argument: str) -> int:
    try:
        chosen = index(axis)
    except TypeError:
        raise TypeError(f"{argument} is {axis!r}; allowed are integers and None") from None
    if not -dimensions <= chosen < dimensions:
        raise ValueError(f"{argument} is {chosen}; allowed are {-dimensions} to {dimensions - 1}")
    return chosen % dimensions


def _read_shape(shape: int | Shape) -> Shape:
    try:
        extents = tuple(index(extent) for extent in (shape if isinstance(shape, tuple | list) else (shape,)))
    except TypeError:
        raise TypeError(f"shape is {shape!r}; allowed are integers and tuples of them") from None
    if any(extent < 0 for extent in extents):
        raise ValueError(f"shape is {shape!r}; an extent must be 0 or more")
    return extents


def _threads(threads: int | None) -> int:
    return _config.get_num_threads() if threads is None else _config.check_threads(threads, "threads")


# --- memory -----------------------------------------------------------------------------------------------------------


def _read(x: Any, argument: str) -> tuple[Array, bool]:
    """Return an input as an array, and whether it is a tensor."""
    if _torch.is_tensor(x):
        return _torch.to_array(x, argument)[0], True
    return np.asarray(x), False


def _read_words(packed: Any, row: Layout) -> tuple[Array, bool]:
    array, is_tensor = _read(
        np.frombuffer(packed, np.uint8) if isinstance(packed, bytes | bytearray) else packed, "packed"
    )
    if isinstance(packed, bytes | bytearray) and row.word_bits == 32 and array.size % 4 == 0:
        array = array.view(np.int32)
    if array.dtype not in _word_dtypes(row):
        raise TypeError(
            f"packed has dtype {array.dtype}; allowed for layout {row.name} are {' and '.join(map(str, _word_dtypes(row)))}"
        )
    return array, is_tensor


def _raw_codes(array: Array, code: CodeType, check: bool) -> tuple[Array, bool]:
    """Return codes a byte each, and whether the core has yet to look for those that do not fit."""
    if array.dtype == code.dtype and code.dtype.isbuiltin != 1:
        return array.view(np.uint8), False  # what is above such a code is not its value
    if array.dtype.itemsize == 1 and array.dtype.kind == ("i" if code.is_signed else "u"):
        return array.view(np.uint8), check and code.bits < 8
    integers = array
    if array.dtype.kind not in "iub":
        if _INTEGER.fullmatch(array.dtype.name) is None:
            raise TypeError(f"codes has dtype {array.dtype}; allowed for {code.name} are integers and {code.name}")
        integers = array.astype(np.int8)
    if check and integers.dtype.kind != "b":
        wrong = (integers < code.low) | (integers > code.high)
        if wrong.any():
            first = np.unravel_index(int(wrong.argmax()), array.shape)
            place = ", ".join(str(int(i)) for i in first)
            raise OverflowError(
                f"codes[{place}] is {int(integers[first])}; {'' if code.is_signed else 'un'}signed codes of {code.bits} "
                f"bits are {code.low} to {code.high}"
            )
    return integers.astype(np.uint8), False


def _at_place(refusal: OverflowError, shape: Shape) -> OverflowError:
    """Return the core's refusal with the place of the code in an array of this shape."""
    flat = int(refusal.index)  # type: ignore[attr-defined]
    place = ", ".join(str(int(i)) for i in np.unravel_index(flat, shape))
    return OverflowError(str(refusal).replace(f"[{flat}]", f"[{place}]", 1))


def _read_out(out: Any, shape: Shape, allowed: tuple[_formats.DType, ...]) -> Array:
    if not (_torch.is_tensor(out) or isinstance(out, np.ndarray)):
        raise TypeError(f"out is a {type(out).__name__}; allowed are ndarrays and torch tensors")
    array, _ = _read(out, "out")
    if array.dtype not in allowed:
        raise TypeError(f"out has dtype {array.dtype}; allowed are {', '.join(dict.fromkeys(map(str, allowed)))}")
    if array.shape != shape:
        raise ValueError(f"out has shape {array.shape}; allowed is {shape}")
    if not array.flags.writeable:
        raise ValueError("out is read-only; allowed are writable arrays and tensors")
    return array


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


class _Target:
    """Memory that the core writes: that of a result, or its own, from which a result with gaps is filled."""

    def __init__(self, result: Array | None, shape: Shape, dtype: _formats.DType) -> None:
        direct = result is not None and result.flags.c_contiguous
        self.array: Array = result if direct and result is not None else np.empty(shape, dtype)
        self.result = None if direct else result
        self.bytes: Array = self.array.reshape(-1).view(np.uint8)

    def cut(self, result: Array | None, shape: Shape) -> _Target:
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
