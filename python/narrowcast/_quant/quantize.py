"""quantize and fake_quantize: every call but the plain one of a prepared spec, which the compiled entry does alone.

What comes in is read and checked here, and nothing is written before everything is. Which calls of the core it takes
is in passes.py, where results go in outputs.py.
"""

from __future__ import annotations

from typing import Any

from narrowcast._formats import FormatLike
from narrowcast._quant.boxes import Granularity
from narrowcast._quant.call import Call, read_spec
from narrowcast._quant.collectors import Calibration
from narrowcast._quant.outputs import make as make_outputs
from narrowcast._quant.outputs import read_out, read_values_out
from narrowcast._quant.passes import run, run_fake
from narrowcast._quant.spec import QuantSpec


def quantize(
    x: Any,
    spec: FormatLike | QuantSpec = "int8",
    *,
    granularity: Granularity = "tensor",
    axis: int | tuple[int, ...] | None = None,
    group_size: int | None = None,
    block_shape: tuple[int, int] | None = None,
    scale: Any = None,
    zero_point: Any = None,
    symmetric: bool | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    calibration: str | Calibration = "minmax",
    scale_dtype: FormatLike | None = None,
    scale_max: float | None = None,
    layout: str | None = None,
    dialect: str = "onnx",
    compute_dtype: FormatLike | None = None,
    threshold: float = 0.0,
    row_sums: bool = False,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Turn numbers into narrow codes and scales: code = round(x / scale) + zero point, within the codes there are.

    Parameters
    ----------
    x : array_like or torch.Tensor
        Values of any float format, in any shape and strides; none of them masked.
    spec : str, dtype, type or QuantSpec, default "int8"
        The dtype of the codes: ``int1`` to ``int8``, ``uint1`` to ``uint8``, ``int16``, ``uint16``, a float8, float6
        or float4 format. Or a prepared `QuantSpec`, which holds this and all that follows but `out`; of the others,
        `scale`, `zero_point` and `threads` may be given with it: a scale then stands for both that the spec holds.
    granularity : {"tensor", "row", "channel", "group", "block"}, default "tensor"
        What shares a scale: everything; a row, all of the last axis; a channel, one index of `axis`; `group_size`
        neighbours along an axis; a block of the last two axes.
    axis : int or tuple of int, optional
        ``"channel"``: the axis or axes that keep a scale per index. ``"group"``: along which groups run, by default
        the last one.
    group_size : int, optional
        Elements of a group; the last group of an axis may be shorter.
    block_shape : (int, int), optional
        Rows and columns of a block; those at the edges may be smaller.
    scale : float or array_like, optional
        Scales to use, instead of computed ones: one, or one per box, with or without dimensions of 1 (a 1-D array for
        the channels of an axis, as ONNX has it). float32, float16, bfloat16 and float8_e8m0fnu are used as they are,
        float64 and integers are rounded to float32.
    zero_point : int or array_like, optional
        The zero points that belong to `scale`; by default 0 (symmetric unsigned codes: the middle one).
    symmetric : bool, optional
        Whether computed ranges are symmetric about zero, which then is the middle code. By default True for signed
        and float codes, False for unsigned ones.
    qmin, qmax : int, optional
        The smallest and the largest code in use, by default all that the dtype has.
    calibration : {"minmax", "percentile", "mse", "entropy"} or Calibration, default "minmax"
        How a range follows from values; parameters are those of `Calibration`.
    scale_dtype : str, dtype or type, optional
        float32, float16, bfloat16 or float8_e8m0fnu: what scales are rounded to, before codes are made of them. By
        default float32; in dialects that compute in the dtype of `x`, that.
    scale_max : float, optional
        Computed scales are at most this.
    layout : str, optional
        The layout in which codes are packed (see `pack`); by default there is one code per item.
    dialect : str, default "onnx"
        Whose arithmetic, rounding order, range rule and zero rule, to the bit: ``"onnx"`` (onnxruntime), ``"torch"``,
        ``"torchao"``, ``"compressed_tensors"``, ``"vllm"``, ``"quanto"``, ``"fbgemm"`` (fused rows; granularity
        ``"row"``), ``"llm_int8"`` (bitsandbytes, vector-wise; granularity ``"row"``).
    compute_dtype : str, dtype or type, optional
        float32, float16 or bfloat16: what each step is rounded to, whatever the dialect says.
    threshold : float, default 0.0
        ``"llm_int8"``: columns with a magnitude of at least this are left out and returned as outlier columns.
    row_sums : bool, default False
        Sums of the codes along the last axis, as int32, from the same pass; integer codes only.
    out : QuantizedArray or tuple, optional
        Where to write: ``(codes, scale, zero_point)``, of the shapes and dtypes that a new result has. Rows of codes
        may lie apart, as in the pages of a cache.
    threads : int, optional
        At most this many threads, 0 for one per core; by default what `get_num_threads` says, which is 1.

    Returns
    -------
    QuantizedArray
        The tuple ``(codes, scale, zero_point, spec)``; `out` itself if that was given. Tensors for a tensor. Scales
        have as many dimensions as `x`, with 1 where all of an axis shares one; zero points are int32 (floats with
        asymmetric quanto and with fbgemm), or None for float codes and, unless one was given, symmetric signed ones.

    Raises
    ------
    TypeError
        If a dtype is not one that is allowed there.
    ValueError
        If an option has a value that is not allowed, or something does not fit.

    Notes
    -----
    Ranges are over the finite values and include 0, but for fbgemm, and vllm and quanto with asymmetric codes. NaN
    gets the lowest code (dialect torch: the highest; float codes: NaN, or without one the largest value), infinities
    get the ends. A box of zeros, or without finite values, has scale 1, unless its dialect says otherwise. Dialects are
    bit-equal to onnxruntime 1.32, torch, torchao 0.18, compressed-tensors 0.20, vLLM's CPU kernels, optimum-quanto
    0.2.7, fbgemm-gpu 1.8 and bitsandbytes 0.50.

    With dialect ``"fbgemm"`` codes, scale and zero point are parts of fused rows, which are in the attribute `fused`
    of the result: n codes, float32 scale and bias, or for 4 and 2 bits packed codes, float16 scale and bias. With
    dialect ``"llm_int8"`` the scale of a row is its largest magnitude, as in bitsandbytes.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> x = np.array([[-234.1, 0.0, 251.51], [1.0, 2.0, 3.0]], np.float32)
    >>> codes, scale, zero_point, spec = nc.quantize(x, "int8", symmetric=False)
    >>> codes.tolist(), scale.tolist(), zero_point.tolist()
    ([[-128, -5, 127], [-4, -4, -3]], [[1.9043529033660889]], [[-5]])
    >>> token = nc.QuantSpec("int8", granularity="row")
    >>> q = nc.quantize(x, token)
    >>> q.codes.tolist(), q.scale.shape
    ([[-118, 0, 127], [42, 85, 127]], (2, 1))
    >>> nc.quantize(x, token, out=q) is q
    True
    """
    options = {
        "granularity": granularity, "axis": axis, "group_size": group_size, "block_shape": block_shape,
        "symmetric": symmetric, "qmin": qmin, "qmax": qmax, "calibration": calibration, "scale_dtype": scale_dtype,
        "scale_max": scale_max, "layout": layout, "dialect": dialect, "compute_dtype": compute_dtype,
        "threshold": threshold, "row_sums": row_sums,
    }  # fmt: skip
    call = Call.read(x, read_spec(spec, options), threads)
    given = call.read_params(scale, zero_point)
    outputs = make_outputs(call) if out is None else read_out(out, call, given)
    params = run(call, given, outputs)
    outputs.store(params, call)
    return outputs.wrap(params, call) if out is None else out


def fake_quantize(
    x: Any,
    spec: FormatLike | QuantSpec = "int8",
    *,
    granularity: Granularity = "tensor",
    axis: int | tuple[int, ...] | None = None,
    group_size: int | None = None,
    block_shape: tuple[int, int] | None = None,
    scale: Any = None,
    zero_point: Any = None,
    symmetric: bool | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    calibration: str | Calibration = "minmax",
    scale_dtype: FormatLike | None = None,
    scale_max: float | None = None,
    dialect: str = "onnx",
    compute_dtype: FormatLike | None = None,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Put numbers onto the grid of a quantization: quantized and dequantized, in one pass and without codes.

    Parameters are those of `quantize`, but what concerns codes in memory. Quantization-aware training sees with it what
    inference will.

    Parameters
    ----------
    x : array_like or torch.Tensor
        Values of any float format.
    spec : str, dtype, type or QuantSpec, default "int8"
        As in `quantize`; the layout, row sums and threshold of a `QuantSpec` do not matter here.
    granularity, axis, group_size, block_shape, scale, zero_point, symmetric, qmin, qmax, calibration
        As in `quantize`.
    scale_dtype, scale_max, dialect, compute_dtype, threads
        As in `quantize`.
    out : ndarray or torch.Tensor, optional
        Where to write, in the shape and dtype of `x`, but not in its memory.

    Returns
    -------
    ndarray or torch.Tensor
        Values in the shape and dtype of `x`: the products of codes and scales in float32, rounded to that dtype.

    Raises
    ------
    TypeError, ValueError
        As in `quantize`.

    Notes
    -----
    Results have no gradient, and a tensor that requires one is refused. The straight-through estimator for a torch
    tensor ``w`` is ``w + (nc.fake_quantize(w.detach()) - w).detach()``.

    Examples
    --------
    >>> import narrowcast as nc
    >>> nc.fake_quantize([0.12, 0.26, -1.0], "int4", scale=0.25).tolist()
    [0.0, 0.25, -1.0]
    """
    options = {
        "granularity": granularity, "axis": axis, "group_size": group_size, "block_shape": block_shape,
        "symmetric": symmetric, "qmin": qmin, "qmax": qmax, "calibration": calibration, "scale_dtype": scale_dtype,
        "scale_max": scale_max, "dialect": dialect, "compute_dtype": compute_dtype,
    }  # fmt: skip
    call = Call.read(x, read_spec(spec, options), threads)
    given = call.read_params(scale, zero_point)
    values, result = read_values_out(out, call)
    run_fake(call, given, values)
    return result
