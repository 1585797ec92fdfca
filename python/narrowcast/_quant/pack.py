"""pack, unpack and repack: codes of 1 to 8 bits, and the layouts in which packages store them. Only bits move here.

Plain calls of the layout "lsb" end in the compiled entries of pack_entry.py. What a layout is, and the shapes of both
sides, are in layouts.py; scales and zero points are not here.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from narrowcast import _config, _core, _formats
from narrowcast._quant.checks import check_bool
from narrowcast._quant.layouts import (
    Shape,
    check_divides,
    check_packed,
    find_layout,
    plan,
    read_shape,
    word_dtypes,
)
from narrowcast._quant.pack_memory import Target, at_place, bytes_of, raw_codes, read_input, read_out, read_words


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
    check_bool(pad, "pad", False)
    check_bool(check, "check", False)
    array, is_tensor = read_input(codes, "codes")
    kind = (array.dtype, "codes.dtype") if dtype is None else (dtype, "dtype")
    row, code, lines = plan((layout, "layout"), kind, array.shape, (axis, "axis"), divides=not pad)
    workers = _threads(threads)
    result = None if out is None else read_out(out, lines.packed_shape, word_dtypes(row))
    raw, unchecked = raw_codes(array, code, check)
    if lines.shape != array.shape:
        raw = np.pad(raw, [(0, to - extent) for to, extent in zip(lines.shape, array.shape, strict=True)])
    target = Target(result, lines.packed_shape, word_dtypes(row)[0])
    if raw.size:
        try:
            _core.pack(
                bytes_of(raw),
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
            raise at_place(refusal, array.shape) from None
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
    words, is_tensor = read_words(packed, find_layout(layout, "layout"))
    given = words.shape if shape is None else read_shape(shape)
    row, code, lines = plan((layout, "layout"), (dtype, "dtype"), given, (axis, "axis"), packed=shape is None)
    wanted = lines.shape if shape is None else given
    check_packed(words, lines, wanted, row, code)
    workers = _threads(threads)
    allowed = (code.dtype, np.dtype(np.int8), np.dtype(np.uint8))
    result = None if out is None else read_out(out, wanted, allowed)
    whole = lines.shape == wanted
    target = Target(result if whole else None, lines.shape, code.dtype)
    if prod(lines.shape):
        _core.unpack(
            bytes_of(words),
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
    >>> [hex(word) for word in awq.view(np.uint32)[:2, 0]]
    ['0x75316420', '0xfdb9eca8']
    """
    check_bool(pad, "pad", False)
    wanted = read_shape(shape)
    source, code, given = plan((from_layout, "from_layout"), (dtype, "dtype"), wanted, (from_axis, "from_axis"))
    target_row, _, made = plan((to_layout, "to_layout"), (dtype, "dtype"), wanted, (to_axis, "to_axis"))
    words, is_tensor = read_words(packed, source)
    if not pad or made.shape != wanted:
        check_divides(target_row, code, made, wanted)
    if given.shape != wanted:
        check_divides(source, code, given, wanted)
    check_packed(words, given, wanted, source, code)
    workers = _threads(threads)
    result = None if out is None else read_out(out, made.packed_shape, word_dtypes(target_row))
    target = Target(result, made.packed_shape, word_dtypes(target_row)[0])
    if prod(wanted):
        _core.repack(
            bytes_of(words),
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


def _threads(threads: int | None) -> int:
    return _config.get_num_threads() if threads is None else _config.check_threads(threads, "threads")
