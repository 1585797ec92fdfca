"""What quantization must give, worked out without the core: every dialect in plain numpy, one rounding at a time.

A value is float32 throughout; a step in float16 or bfloat16 is the float32 operation and then a cast to that dtype,
which for one operation on values of that dtype is its correct rounding. The only fused operation (torch's) is exact in
float64 but for one rounding, which is made to odd. Boxes are taken one at a time. Steps and the rules by which scales
follow from ranges are in quant_rules.py, with their sources.

Nothing here imports narrowcast; what its result should be packed into is test_pack.py.
"""

import itertools

import numpy as np

from quant_rules import (
    DIALECTS,
    F32,
    HALVES,
    LARGEST,
    Target,
    choose_qparams,
    fma,
    quiet,
    reciprocal,
    step,
    step_dtype,
    widen,
)

__all__ = [
    "DIALECTS",
    "Target",
    "block_of",
    "boxes",
    "choose_qparams",
    "dequantize",
    "fma",
    "quantize",
    "quantize_dynamic",
    "ranges",
    "scale_shape",
    "spread",
]

# --- boxes -----------------------------------------------------------------------------------------------------------


def block_of(shape, granularity="tensor", axis=None, group_size=None, block_shape=None):
    """The extents of the box that shares one scale."""
    if granularity == "tensor":
        return tuple(shape)
    if granularity == "row":
        return (1,) * (len(shape) - 1) + (shape[-1],)
    if granularity == "channel":
        axes = {a % len(shape) for a in np.atleast_1d(axis)}
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    block = [1] * len(shape)
    if granularity == "group":
        block[-1 if axis is None else axis] = group_size
    else:
        block[-2:] = block_shape
    return tuple(block)


def scale_shape(shape, block):
    return tuple(-(-n // b) for n, b in zip(shape, block, strict=True))


def boxes(shape, block):
    """(index of the scale, slices of the box) for every box; the last of an axis may be short."""
    for index in itertools.product(*map(range, scale_shape(shape, block))):
        yield index, tuple(slice(i * b, min((i + 1) * b, n)) for i, b, n in zip(index, block, shape, strict=True))


def spread(params, shape, block):
    """The parameters of each element: an array of x's shape."""
    for axis, (n, b) in enumerate(zip(shape, block, strict=True)):
        params = np.repeat(params, b, axis)[(slice(None),) * axis + (slice(n),)]
    return params


@quiet
def ranges(x, block):
    """Lowest and highest finite value of each box as float32; 0 and 0 where there is none. A zero is +0."""
    x = np.asarray(x)
    value = widen(x)
    finite = np.isfinite(value)
    low, high = (np.zeros(scale_shape(x.shape, block), F32) for _ in range(2))
    for index, box in boxes(x.shape, block):
        some = value[box][finite[box]]
        if some.size:
            low[index], high[index] = some.min() + np.float32(0), some.max() + np.float32(0)
    return low, high


# --- codes -----------------------------------------------------------------------------------------------------------


def quotients(x, scale, zero, dialect, dtype, multiplier=None):
    """Each value in units of its scale, with what is added before it is rounded to a code; zero None: nothing is.

    Returns also what is added afterwards.
    """
    rule = DIALECTS[dialect]
    shifted = zero is not None and rule.zero == "shift" and zero.dtype.kind == "f"
    if shifted:
        x = step(x + zero, dtype)
    if rule.quotient == "divide":
        value = step(x / scale, dtype)
    else:
        if multiplier is None:
            multiplier = reciprocal(scale, dtype)
            if dialect == "llm_int8":  # 127.0 / row_stats, which torch computes as a reciprocal and a product
                multiplier = np.clip(multiplier * np.float32(127), -LARGEST, LARGEST)
        if rule.quotient == "fma" and zero is not None:
            return fma(x, multiplier, zero), 0
        value = step(x * multiplier, dtype)
    if zero is None or shifted:
        return value, 0
    return (step(value + step(zero, dtype), dtype), 0) if rule.zero == "before" else (value, step(zero, dtype))


@quiet
def quantize(x, scale, zero, target, dialect="onnx", block=None, compute=None, multiplier=None):
    """Codes (int32, or the float dtype of the target) of x; scale and zero have one entry per box.

    Rounded to the nearest integer, ties to even, and clamped, as floats: infinities are the ends, a NaN the end that
    the dialect names. Float targets: rounded as their dtype rounds, clamped to its largest value; a NaN stays one, and
    is the largest value where the format has none.
    """
    x, scale = np.asarray(x), np.asarray(scale)
    block = x.shape if block is None else block
    dtype = step_dtype(dialect, x.dtype, scale.dtype, compute)
    if target.format is not None:
        zero = None
    elif zero is not None:
        zero = spread(zero, x.shape, block)
    multiplier = None if multiplier is None else spread(multiplier, x.shape, block)
    each = spread(widen(scale), x.shape, block)
    value, offset = quotients(step(widen(x), dtype), each, zero, dialect, dtype, multiplier)
    if target.format is not None:
        return encode(value, target)
    end = target.low if DIALECTS[dialect].nan == "low" else target.high
    total = step(np.rint(value) + offset, dtype)
    return np.where(np.isnan(total), end, np.clip(total, target.low, target.high)).astype(np.int32)


def encode(value, target):
    """float32 values to the nearest codes of a float format, saturating."""
    has_nan = np.isnan(np.float32(np.nan).astype(target.dtype).astype(F32))
    value = np.where(np.isnan(value), value if has_nan else target.max, np.clip(value, -target.max, target.max))
    return value.astype(F32).astype(target.dtype)


@quiet
def fbgemm_multiplier(low, high):
    """255 / (range + 1e-8): the 8-bit rows of FBGEMM do not use their scale to make codes."""
    return np.clip(np.float32(255) / ((high - low) + np.float32(1e-8)), 0, LARGEST)


def quantize_dynamic(x, target, dialect="onnx", block=None, symmetric=None, scale_dtype=None, scale_max=None,
                     compute=None):  # fmt: skip
    """Codes, scales and zero points of x from its own ranges."""
    x = np.asarray(x)
    block = x.shape if block is None else block
    low, high = ranges(x, block)
    scale, zero = choose_qparams(low, high, target, dialect, symmetric, x.dtype, scale_dtype, scale_max, compute)
    multiplier = fbgemm_multiplier(low, high) if dialect == "fbgemm" and target.bits == 8 else None
    return quantize(x, scale, zero, target, dialect, block, compute, multiplier), scale, zero


@quiet
def dequantize(codes, scale, zero=None, dialect="onnx", block=None, dtype=F32):
    """(code - zero) * scale in float32, rounded to dtype at the end.

    quanto: scale * code, with a shift less that, each step in the dtype of the scale. fbgemm: fma(scale, code, bias).
    llm_int8: code * absmax * f32(1 / 127), int8_vectorwise_dequant.
    """
    codes, scale = np.asarray(codes), np.asarray(scale)
    block = codes.shape if block is None else block
    each = spread(widen(scale), codes.shape, block)
    if codes.dtype.kind != "i" and codes.dtype.kind != "u":
        return (codes.astype(F32) * each).astype(dtype)
    zero = np.zeros(scale.shape, np.int32) if zero is None else np.asarray(zero)
    zeros = spread(zero, codes.shape, block)
    if zero.dtype.kind == "f":
        if dialect == "fbgemm":
            return fma(codes.astype(F32), each, -zeros).astype(dtype)
        steps = scale.dtype if scale.dtype in HALVES else F32
        return step(step(codes.astype(F32) * each, steps) - zeros, steps).astype(dtype)
    value = (codes.astype(np.int64) - zeros).astype(F32) * each
    if dialect == "quanto" and scale.dtype in HALVES:
        value = step(value, scale.dtype)
    return (value * np.float32(7.874015718698502e-3) if dialect == "llm_int8" else value).astype(dtype)
