"""The rules of quantization as quant_model.py has them: what a dialect is, one step of its arithmetic, and how a
scale and a zero point follow from a range.

Each rule names its source: a function of the package, in the version of pyproject.toml's `dialects` extra. Where a
package leaves the answer undefined, or gives two, the docstring says which one this is; that is the contract.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

F32 = np.dtype(np.float32)
HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
E8M0 = np.dtype(ml_dtypes.float8_e8m0fnu)
LARGEST = np.float32(np.finfo(np.float32).max)
SMALLEST_NORMAL = np.float32(2.0**-126)
FIRST_INEXACT = 2.0**24  # zero points stay below: float32 holds every integer up to here


@dataclass(frozen=True)
class Dialect:
    quotient: str  # divide: x / s; multiply: x * (1 / s); fma: the same, and the zero point, rounded once
    zero: str  # after: added to the rounded quotient; before: to the quotient; shift: a float, added to x
    steps: str  # source: steps in float16 or bfloat16 if x and the scale are of it; float32: never
    nan: str  # the end of the range that a NaN gets


DIALECTS = {
    "onnx": Dialect("divide", "after", "float32", "low"),  # onnxruntime QuantizeLinear; ties go before the zero point
    "torch": Dialect("fma", "before", "float32", "high"),  # FBGEMM's QuantizeAvx2; ties go after it; torch <= 2.13
    "torchao": Dialect("multiply", "after", "source", "low"),  # _quantize_affine_no_dtype_cast
    "compressed_tensors": Dialect("divide", "before", "source", "low"),  # lifecycle/forward_helpers.py _quantize
    "vllm": Dialect("multiply", "before", "float32", "low"),  # csrc/cpu/dnnl_kernels.cpp *_scaled_int8_quant_impl
    "quanto": Dialect("divide", "shift", "source", "low"),  # library/quantize.py
    "fbgemm": Dialect("multiply", "shift", "float32", "low"),  # FloatToFused8BitRowwiseQuantized and ...NBit...SBHalf
    "llm_int8": Dialect("multiply", "after", "float32", "low"),  # bitsandbytes int8_vectorwise_quant
}


@dataclass(frozen=True)
class Target:
    """Integer codes of so many bits, or those of a float format; qmin and qmax None: all that the bits hold."""

    bits: int = 8
    signed: bool = True
    format: str | None = None
    qmin: int | None = None
    qmax: int | None = None

    @property
    def low(self):
        return self.qmin if self.qmin is not None else -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self):
        return self.qmax if self.qmax is not None else (1 << (self.bits - self.signed)) - 1

    @property
    def whole_range(self):
        return self.qmin is None and self.qmax is None

    @property
    def dtype(self):
        return np.dtype(getattr(ml_dtypes, self.format)) if self.format else None

    @property
    def max(self):
        return np.float32(ml_dtypes.finfo(self.dtype).max)


def quiet(function):
    """Infinities and NaN are arguments and results here, not accidents."""

    def wrapper(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    wrapper.__doc__ = function.__doc__
    return wrapper


# --- steps -----------------------------------------------------------------------------------------------------------


def step(value, dtype):
    """float32 values rounded to dtype, as float32."""
    value = np.asarray(value, F32)
    return value if dtype == F32 else value.astype(dtype).astype(F32)


def step_dtype(dialect, x_dtype, scale_dtype=None, compute=None):
    """What each step is rounded to: torch's promotion of x and the scale, where the dialect computes as torch does.

    A float32 scale makes every step float32; E8M0 has no arithmetic and leaves it to x.
    """
    if compute is not None:
        return np.dtype(compute)
    x_dtype = np.dtype(x_dtype)
    if DIALECTS[dialect].steps != "source" or x_dtype not in HALVES:
        return F32
    return x_dtype if scale_dtype is None or np.dtype(scale_dtype) in (x_dtype, E8M0) else F32


def fma(a, b, c):
    """a * b + c of float32 values, rounded once.

    The product is exact in float64. The sum is rounded to odd there (its last bit set if anything was cut off), and
    53 bits to odd and then 24 to nearest is the same as 24 to nearest at once.
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    c = np.broadcast_to(np.asarray(c, np.float64), product.shape)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)  # Knuth's two-sum: total + error is the exact sum
    inexact = np.isfinite(total) & (error != 0)
    even = (total.view(np.int64) & 1) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    return np.where(inexact & even, np.nextafter(total, toward), total).astype(F32)


def reciprocal(scale, dtype=F32):
    """1 / scale, at most the largest float32, so that zero times it is zero also for a denormal scale."""
    return np.clip(step(np.float32(1) / scale, dtype), -LARGEST, LARGEST)


def widen(x):
    """Any float array as float32: exact but for float64, which is rounded once; what is beyond is the largest value."""
    x = np.asarray(x)
    if x.dtype != np.float64:
        return x if x.dtype == F32 else x.astype(F32)
    return np.where(np.isfinite(x), np.clip(x, -float(LARGEST), float(LARGEST)), x).astype(F32)


# --- from a range to a scale and a zero point ------------------------------------------------------------------------


def default_scale_dtype(dialect, target, x_dtype, compute=None):
    if dialect == "fbgemm":
        return np.dtype(np.float32 if target.bits == 8 else np.float16)
    return step_dtype(dialect, x_dtype, None, compute) if DIALECTS[dialect].steps == "source" else F32


def over(low, high, divisor, dtype):
    """(high - low) / divisor, each step rounded to dtype; by way of float64 where the difference overflows it."""
    difference = step(high - low, dtype)
    exact = (np.asarray(high, np.float64) - low) / divisor
    return np.where(
        np.isfinite(difference), step(difference / np.float32(divisor), dtype), step(exact.astype(F32), dtype)
    )


def store(scale, dtype):
    """The scale in its own dtype: rounded once, never past the largest value, as float32."""
    dtype = np.dtype(dtype)
    largest = float(ml_dtypes.finfo(dtype).max)
    return np.minimum(scale, largest).astype(dtype)


def floor_of(dtype):
    """The smallest scale where a dialect has no floor of its own: 2^-126, and in float16 its smallest number."""
    return np.float32(2.0**-24) if np.dtype(dtype) == np.float16 else SMALLEST_NORMAL


def middle(dialect, target):
    """The zero point of symmetric codes: 0 if they are signed."""
    if target.signed:
        return 0
    both = target.low + target.high
    if dialect == "onnx":
        return int(np.rint(both / 2))  # compute_scale_zp
    if dialect == "torch":  # observer.py: 128 and 32768, or the middle rounded down (uint4: 7)
        return (1 << (target.bits - 1)) if target.whole_range and target.bits in (8, 16) else both // 2
    return (both + 1) // 2  # torchao's int((quant_max + quant_min + 1) / 2)


def onnx_qparams(low, high, target, symmetric, scale_dtype, scale_max):
    """onnxruntime.quantization.quant_utils.compute_scale_zp: float64 throughout, also the zero point's scale.

    Symmetric int8 and int16 have the range +-(2^(bits-1) - 1) there. A scale below the smallest normal float32 (float16
    scales: that rounds to 0) is 1 and the zero point 0. That package disagrees with itself: for zeros, symmetric and
    unsigned, the zero point is 0 by this function and the middle by compute_scale_zp_blocked, which is what it is here.
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high
    whole = symmetric and target.signed and target.whole_range and target.bits in (8, 16)
    span = 2 * target.high if whole else target.high - target.low
    scale = np.minimum((high - low) / span, scale_max)
    empty = store(scale, scale_dtype) == 0 if scale_dtype == np.float16 else scale < float(SMALLEST_NORMAL)
    if symmetric:
        zero = np.full(scale.shape, middle("onnx", target))
    else:
        zero = np.where(empty, 0, np.rint(target.low - low / np.where(empty, 1, scale)))
    return np.where(empty, 1, scale), np.clip(zero, target.low, target.high)


def zero_of(low, scale, target, dtype):
    """clamp(qmin - rint(low / scale)): torch's and torchao's."""
    zero = step(target.low - np.rint(step(low / scale, dtype)), dtype)
    return np.clip(zero, target.low, target.high)


def torch_qparams(low, high, target, symmetric, scale_max):
    """torch.ao.quantization.observer.UniformQuantizationObserverBase._calculate_qparams: at least 2^-23."""
    half = (target.high - target.low) / 2
    scale = over(0, np.maximum(-low, high), half, F32) if symmetric else over(low, high, target.high - target.low, F32)
    scale = np.minimum(np.maximum(scale, np.float32(2.0**-23)), scale_max)
    return scale, np.full(scale.shape, middle("torch", target)) if symmetric else zero_of(low, scale, target, F32)


def torchao_qparams(low, high, target, symmetric, dtype, scale_max):
    """_choose_qparams_affine, MappingType.SYMMETRIC or ASYMMETRIC: at least the smallest normal of x's dtype."""
    half = (target.high - target.low) / 2
    scale = (
        over(0, np.maximum(-low, high), half, dtype) if symmetric else over(low, high, target.high - target.low, dtype)
    )
    scale = np.minimum(np.maximum(scale, np.float32(ml_dtypes.finfo(dtype).smallest_normal)), scale_max)
    return scale, np.full(scale.shape, middle("torchao", target)) if symmetric else zero_of(low, scale, target, dtype)


def compressed_tensors_qparams(low, high, target, symmetric, dtype, scale_dtype, scale_max):
    """calculate_qparams: the zero point is clamped before it is rounded; a scale of 0 is the eps of its dtype.

    Only 0: denormal scales stay. The zero point is made before that, with the 0: of a box of zeros it is 0 / 0, which
    the conversion to an integer turns into 0.
    """
    eps = np.float32(ml_dtypes.finfo(scale_dtype).eps)
    span = target.high - target.low
    scale = over(0, np.maximum(-low, high), span / 2, dtype) if symmetric else over(low, high, span, dtype)
    scale = np.minimum(scale, scale_max)
    if symmetric:
        zero = np.full(scale.shape, middle("compressed_tensors", target))
    else:
        zero = step(target.low - step(low / scale, dtype), dtype)
        zero = np.rint(np.where(np.isnan(zero), 0, np.clip(zero, target.low, target.high)))
    return np.where(store(scale, scale_dtype) == 0, eps, scale), zero


def vllm_qparams(low, high, target, symmetric, scale_max):
    """dynamic_scaled_int8_quant_impl: zero is not forced into the range and the zero point may leave the codes.

    Where that is undefined (a row of one value; a zero point that float32 does not hold) zero is taken into the range.
    """

    def asymmetric(low, high):
        scale = np.minimum(over(low, high, target.high - target.low, F32), scale_max)
        return scale, np.rint(target.low - low / scale)

    if symmetric:
        zero = middle("vllm", target)
        scale = np.minimum(np.maximum(-low, high) / np.float32(target.high - zero), scale_max)
        return scale, np.full(scale.shape, zero)
    scale, zero = asymmetric(low, high)
    lost = ~(np.abs(zero) < FIRST_INEXACT)
    scale_again, zero_again = asymmetric(np.minimum(low, 0), np.maximum(high, 0))
    zero_again = np.where(np.isfinite(zero_again), zero_again, target.low)
    return np.where(lost, scale_again, scale), np.where(lost, zero_again, zero)


def quanto_qparams(low, high, target, symmetric, dtype, scale_max):
    """AbsmaxOptimizer and MaxOptimizer (whose shift is -min, a float; zero is not forced into the range)."""
    if symmetric:
        scale = step(np.maximum(-low, high) / np.float32(target.high), dtype)
        return np.minimum(scale, scale_max), np.zeros(scale.shape)
    return np.minimum(over(low, high, target.high - target.low, dtype), scale_max), -low


def fbgemm_qparams(low, high, target):
    """FloatToFused8BitRowwiseQuantizedSBFloat, and FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf for fewer bits.

    8 bits: float32 scale and bias. Fewer: float16, the bias rounded before the range is taken.
    """
    if target.bits == 8:
        return over(low, high, 255, F32), -low
    low = np.clip(low, -65504, 65504).astype(np.float16).astype(F32)
    scale = over(low, high, target.high, F32)
    scale = np.clip(scale, 0, 65504).astype(np.float16).astype(F32)
    return np.where((scale == 0) | np.isinf(np.float32(1) / scale), np.float32(1), scale), -low


@quiet
def choose_qparams(low, high, target, dialect="onnx", symmetric=None, x_dtype=F32, scale_dtype=None, scale_max=None,
                   compute=None):  # fmt: skip
    """Scales in scale_dtype and zero points (int32, or float32 shifts) for ranges of finite values.

    Zero is taken into the range but by vllm, quanto and fbgemm. A zero point follows from the scale before that is
    rounded to scale_dtype.
    """
    symmetric = (target.signed or target.format is not None) if symmetric is None else symmetric
    dtype = step_dtype(dialect, x_dtype, None, compute)
    scale_dtype = np.dtype(scale_dtype or default_scale_dtype(dialect, target, x_dtype, compute))
    cap = np.inf if scale_max is None else np.float32(scale_max)
    low, high = step(low, dtype), step(high, dtype)
    neg, pos = np.minimum(low, 0), np.maximum(high, 0)
    if dialect == "llm_int8":  # row_stats: the largest magnitude itself, 0 for zeros
        return np.maximum(-neg, pos), np.zeros(low.shape, np.int32)
    if target.format is not None:
        scale, zero = np.minimum(step(np.maximum(-neg, pos) / target.max, dtype), cap), np.zeros(low.shape)
        if dialect == "compressed_tensors":
            scale = np.where(store(scale, scale_dtype) == 0, np.float32(ml_dtypes.finfo(scale_dtype).eps), scale)
    elif dialect == "onnx":
        scale, zero = onnx_qparams(neg, pos, target, symmetric, scale_dtype, float(cap))
    elif dialect == "torch":
        scale, zero = torch_qparams(neg, pos, target, symmetric, cap)
    elif dialect == "torchao":
        scale, zero = torchao_qparams(neg, pos, target, symmetric, dtype, cap)
    elif dialect == "compressed_tensors":
        scale, zero = compressed_tensors_qparams(neg, pos, target, symmetric, dtype, scale_dtype, cap)
    elif dialect == "vllm":
        scale, zero = vllm_qparams(low, high, target, symmetric, cap)
    elif dialect == "quanto":
        scale, zero = quanto_qparams(low, high, target, symmetric, dtype, cap)
    else:
        scale, zero = fbgemm_qparams(low, high, target)
    keeps_small = dialect in ("compressed_tensors", "fbgemm")
    if not keeps_small:
        scale = np.where(scale == 0, 1, np.maximum(scale, floor_of(scale_dtype)))
    shifts = DIALECTS[dialect].zero == "shift" and not symmetric
    return store(scale, scale_dtype), np.asarray(zero, F32 if shifts else np.int32)
