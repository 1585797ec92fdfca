"""dequantize: every call but the plain one of a prepared spec, which the compiled entry does alone.

Codes and scales become values again, whoever made them. Codes in a layout other than the plain one are unpacked first;
the rest is one call of the core.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from narrowcast import _config, _core, _formats, _torch
from narrowcast._arrays import read_out
from narrowcast._formats import FormatLike
from narrowcast._quant import fbgemm, params
from narrowcast._quant.boxes import Granularity, count_boxes, guess_block
from narrowcast._quant.call import read_spec, workers_of
from narrowcast._quant.codes import find_shape, read_codes, to_array
from narrowcast._quant.spec import QuantSpec
from narrowcast._quant.target import TARGETS, name_of


def dequantize(
    codes: Any,
    scale: Any,
    zero_point: Any = None,
    *,
    dtype: FormatLike = "float32",
    spec: FormatLike | QuantSpec | None = None,
    granularity: Granularity | None = None,
    axis: int | tuple[int, ...] | None = None,
    group_size: int | None = None,
    block_shape: tuple[int, int] | None = None,
    layout: str | None = None,
    dialect: str = "onnx",
    shape: tuple[int, ...] | None = None,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Return the values that codes stand for: (code - zero point) * scale.

    Parameters
    ----------
    codes : ndarray or torch.Tensor
        Codes, one per item or packed; any bits may come in.
    scale : float, array_like or None
        One scale, or one per box, with or without dimensions of 1. None with dialect ``"fbgemm"``: `codes` are fused
        rows, which hold scale and bias.
    zero_point : int or array_like, optional
        Zero points in the shape of `scale`; by default 0 (symmetric unsigned codes: the middle one). In the dialects
        whose zero is a float also floats.
    dtype : str, dtype or type, default "float32"
        A float format.
    spec : str, dtype, type or QuantSpec, optional
        What the codes are, by default what their dtype says. A `QuantSpec` also says all that follows up to `dialect`.
    granularity, axis, group_size, block_shape
        As in `quantize`. By default the shape of `scale` says it, where that is beyond doubt: one scale, or as many
        dimensions as the codes have, which the scales divide.
    layout : str, optional
        The layout in which codes are packed.
    dialect : str, default "onnx"
        As in `quantize`; it matters for quanto, fbgemm and llm_int8.
    shape : tuple of int, optional
        The shape of the values. Packed codes need it where the last axis may have been padded; by default they fill
        it.
    out : ndarray or torch.Tensor, optional
        Where to write, in the shape of the values and of the dtype asked for.
    threads : int, optional
        As in `quantize`.

    Returns
    -------
    ndarray or torch.Tensor
        `out` if it was given. The product is rounded to float32 and then to `dtype`; with dialect ``"quanto"`` first
        to the dtype of the scale, as there.

    Raises
    ------
    TypeError, ValueError
        As in `quantize`.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> packed = np.array([[0x21, 0xF8]], np.uint8)
    >>> nc.dequantize(packed, 0.5, spec="int4", layout="lsb").tolist()
    [[0.5, 1.0, -4.0, -0.5]]
    """
    options = {
        "granularity": granularity or "tensor", "axis": axis, "group_size": group_size, "block_shape": block_shape,
        "layout": layout, "dialect": dialect,
    }  # fmt: skip
    is_tensor = _torch.is_tensor(codes)
    array, found = to_array(codes)
    guesses = granularity is None and not isinstance(spec, QuantSpec) and dialect not in ("fbgemm", "llm_int8")
    if dialect in ("fbgemm", "llm_int8") and granularity is None:
        options["granularity"] = "row"
    if spec is None and found not in TARGETS:
        raise TypeError(f"codes have dtype {found}, which does not say what they are; name it with spec=, as 'int4'")
    prepared = read_spec(found if spec is None else spec, options)
    resolved = prepared._resolved
    row, _ = _formats.find_float(dtype, "dtype")
    workers = workers_of(prepared, threads)
    if scale is None:
        if not resolved.is_fused:
            raise ValueError(f"scale is None, and dialect is {prepared.dialect!r}; allowed are numbers and arrays")
        array, scale, zero_point = fbgemm.split_given(array, resolved.target)
        found = "uint8"
    values_shape = find_shape(array, resolved, shape)
    array, code_format, options_for_core = read_codes(array, found, resolved, values_shape)

    whole = values_shape or (1,)
    if guesses:
        scales, _ = params.read_scale(scale, None)
        block = guess_block(whole, scales.shape)
    else:
        block = resolved.partition.block(whole)
    used = params.read_given(resolved, scale, zero_point, count_boxes(whole, block), positive=False)

    result = np.empty(values_shape, row.dtype) if out is None else read_out(out, row, values_shape)
    if result.size:
        _core.dequantize(
            array.reshape(whole) if not resolved.packed else array,
            code_format,
            *used.for_core(),
            result.reshape(whole),
            row.code,
            block,
            options_for_core,
            workers,
            _config.chosen_isa.get(),
        )
    if out is not None:
        return out
    return _torch.from_array(result, name_of(row.dtype)) if is_tensor else result
