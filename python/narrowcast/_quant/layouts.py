"""The layouts in which codes of 1 to 8 bits are packed, the dtypes that name such codes, and the shapes of both sides.

The rows come from the compiled core, which also says how many bytes a line takes. Packing itself is pack.py.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod
from operator import index
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from narrowcast import _core, _formats, _torch

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
INTEGER_NAME: Final = re.compile(r"(u?)int([1-8])")
_WORD_DTYPES: Final[dict[int, tuple[_formats.DType, ...]]] = {
    8: (np.dtype(np.uint8), np.dtype(np.int8)),
    32: (np.dtype(np.int32), np.dtype(np.uint32)),
}
PACKED_FLOATS: Final = ("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn")


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


class Lines(NamedTuple):
    """How a layout runs through an array of codes."""

    axis: int
    extents: tuple[int, int]  # codes along the axis, and of all later axes
    shape: Shape  # of the codes that are packed: with padding, in a layout of tiles
    packed_shape: Shape


class Plan(NamedTuple):
    """What a layout, a dtype and a shape of codes come to."""

    row: Layout
    code: CodeType
    lines: Lines


def plan(
    layout: tuple[str, str],
    dtype: tuple[Any, str],
    shape: Shape,
    axis: tuple[int | None, str],
    *,
    packed: bool = False,
    divides: bool = False,
) -> Plan:
    """Return the plan of a call, whose arguments come with their names: one that was made before, if there is one.

    packed: shape is that of the words. divides: refuse an axis that does not fill whole words.
    """
    try:
        return _plan(*layout, *dtype, shape, *axis, packed, divides)
    except TypeError:  # wrong, or of a type that no cache takes
        return _plan.__wrapped__(*layout, *dtype, shape, *axis, packed, divides)


@lru_cache(maxsize=512, typed=True)
def _plan(
    layout: str,
    layout_name: str,
    dtype: Any,
    dtype_name: str,
    shape: Shape,
    axis: int | None,
    axis_name: str,
    packed: bool,
    divides: bool,
) -> Plan:
    row, code = find_layout(layout, layout_name), code_type(dtype, dtype_name)
    if packed:
        shape = unpacked_shape(row, code, shape, axis)
    lines = lines_of(row, code, shape, axis, axis_name)
    if divides:
        check_divides(row, code, lines, shape)
    return Plan(row, code, lines)


def lines_of(row: Layout, code: CodeType, shape: Shape, axis: int | None, argument: str) -> Lines:
    """Return how a layout runs through codes of a shape."""
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
    return Lines(chosen, (shape[chosen], prod(shape[chosen + 1 :])), shape, packed)


def check_divides(row: Layout, code: CodeType, lines: Lines, shape: Shape) -> None:
    """Refuse an axis that does not fill whole words."""
    if row.is_tiled:
        if lines.shape != shape:
            granules = f"{_core.layout_granule(code.bits, row.name)} and {row.inner_codes}"
            raise ValueError(
                f"the codes have shape {shape}; the last two axes must be multiples of {granules} in layout "
                f"{row.name}, unless nc.pack pads them (pad=True)"
            )
        return
    granule = _core.layout_granule(code.bits, row.name)
    if shape[lines.axis] % granule:
        raise ValueError(
            f"the codes have {shape[lines.axis]} items along axis {lines.axis}; allowed are multiples of {granule} for "
            f"{code.name} in layout {row.name}, or any number with pad=True"
        )


def unpacked_shape(row: Layout, code: CodeType, packed: Shape, axis: int | None) -> Shape:
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


def check_packed(words: Array, lines: Lines, shape: Shape, row: Layout, code: CodeType) -> None:
    """Refuse words that are not as many as the codes take."""
    if words.shape != lines.packed_shape:
        raise ValueError(
            f"packed has shape {words.shape}; codes of {code.name} and shape {shape} take {lines.packed_shape} in "
            f"layout {row.name} along axis {lines.axis}"
        )


def find_layout(name: object, argument: str) -> Layout:
    """Return a layout by its name."""
    row = LAYOUTS.get(name) if isinstance(name, str) else None
    if row is None:
        raise ValueError(f"{argument} is {name!r}; allowed are {', '.join(LAYOUTS)}")
    return row


def word_dtypes(row: Layout) -> tuple[_formats.DType, ...]:
    """Return the dtypes that the words of a layout may have: first that of results."""
    return _WORD_DTYPES[row.word_bits]


def code_type(dtype: _formats.FormatLike, argument: str) -> CodeType:
    """Return the kind of code that a dtype names."""
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
    match = INTEGER_NAME.fullmatch(name)
    if match is not None:
        bits, is_signed = int(match[2]), not match[1]
        known = _formats.BY_NAME.get(name)
        return CodeType(
            name, bits, is_signed, np.dtype(np.int8 if is_signed else np.uint8) if known is None else known.dtype
        )
    if name in PACKED_FLOATS:
        row = _formats.BY_NAME[name]
        return CodeType(name, row.bits, False, row.dtype)
    raise TypeError(f"{argument} is {dtype!r}; allowed are int1 to int8, uint1 to uint8, {', '.join(PACKED_FLOATS)}")


def _read_axis(axis: int, dimensions: int, argument: str) -> int:
    try:
        chosen = index(axis)
    except TypeError:
        raise TypeError(f"{argument} is {axis!r}; allowed are integers and None") from None
    if not -dimensions <= chosen < dimensions:
        raise ValueError(f"{argument} is {chosen}; allowed are {-dimensions} to {dimensions - 1}")
    return chosen % dimensions


def read_shape(shape: int | Shape) -> Shape:
    """Return a shape as a tuple."""
    try:
        extents = tuple(index(extent) for extent in (shape if isinstance(shape, tuple | list) else (shape,)))
    except TypeError:
        raise TypeError(f"shape is {shape!r}; allowed are integers and tuples of them") from None
    if any(not 0 <= extent < 1 << 60 for extent in extents):
        raise ValueError(f"shape is {shape!r}; an extent must be 0 or more, and less than 2**60")
    return extents
