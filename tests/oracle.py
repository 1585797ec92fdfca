"""What every cast must give, worked out without the core.

A format is a sorted table of exact values built from specs.toml. A value is rounded by finding its two neighbours in
that table (for float32 and float64: with nextafter) and comparing it with their midpoint, exactly. No bit of this is
shared with, or modelled on, the C++ codec, which works on integers, or the kernels, which mask and shift.

Values are float64, plus an integer residual for 64-bit integers that float64 cannot hold. Inputs and results are
codes: unsigned integers of the storage width. Everything is vectorised; nothing here imports narrowcast.
"""

import functools
import os
import pathlib
import tomllib
from dataclasses import dataclass

import ml_dtypes
import numpy as np

ROUNDINGS = ("nearest_even", "toward_zero", "up", "down", "nearest_away", "stochastic")
DETERMINISTIC = ROUNDINGS[:-1]
POLICIES = ("ieee", "saturate")

# The dummy row stands only where the build under test has it; conftest.py says so.
SPECS = {
    name: spec
    for name, spec in tomllib.loads((pathlib.Path(__file__).parent / "specs.toml").read_text(encoding="utf-8")).items()
    if not spec.get("dummy") or os.environ.get("NARROWCAST_DUMMY_FORMAT")
}

# name: (value bits, signed)
INTEGERS = {
    "bool": (1, False),
    "int8": (8, True),
    "uint8": (8, False),
    "int16": (16, True),
    "uint16": (16, False),
    "int32": (32, True),
    "uint32": (32, False),
    "int64": (64, True),
    "uint64": (64, False),
    "int4": (4, True),
    "uint4": (4, False),
    "int2": (2, True),
    "uint2": (2, False),
}


def number(text):
    """The value of a decimal, a hexadecimal float, or "2^n"."""
    if text.startswith("2^"):
        return float(np.ldexp(1.0, int(text[2:])))
    return float.fromhex(text) if "0x" in text else float(text)


def code_set(ranges):
    """All codes that a list such as ["7D-7F", "FF"] names (8- and 16-bit formats)."""
    ends = [[int(end, 16) for end in item.split("-")] for item in ranges]
    return sorted(code for end in ends for code in range(end[0], end[-1] + 1))


@dataclass(frozen=True)
class Format:
    """One float format; derived tables are made on first use."""

    name: str
    spec: dict

    def __getattr__(self, key):
        try:
            return self.spec[key]
        except KeyError:
            raise AttributeError(key) from None

    def __hash__(self):
        return hash(self.name)

    @property
    def storage(self):
        return np.dtype(f"u{self.storage_bytes}")

    @property
    def shift(self):
        """Unused low bits of the container (TF32)."""
        return 13 if self.name == "tfloat32" else 0

    @property
    def unsigned(self):
        return self.sign_bits == 0

    @property
    def sign_code(self):
        return 0 if self.unsigned else 1 << (self.bits - 1 + self.shift)

    @property
    def max_index(self):
        return int(self.max_code, 16) >> self.shift

    @property
    def inf(self):
        return int(self.inf_codes[0], 16) if self.inf_codes else None

    @property
    def nan_code(self):
        return int(self.nan, 16) if self.nan_codes else None

    @property
    def saturates(self):
        """float32 and float64 ignore overflow="saturate"."""
        return self.name not in ("float32", "float64")

    @functools.cached_property
    def values(self):
        """Magnitudes by code, 0 to max, then the one that would follow if the exponent were unbounded."""
        assert self.name not in ("float32", "float64"), "too many values for a table"
        index = np.arange(self.max_index + 2)
        if self.unsigned:
            return np.ldexp(1.0, index - self.bias)
        exponent, fraction = np.divmod(index, 1 << self.mantissa_bits)
        significand = fraction + np.where(exponent > 0, 1 << self.mantissa_bits, 0)
        return np.ldexp(significand.astype(float), np.maximum(exponent, 1) - self.bias - self.mantissa_bits)


FLOATS = {name: Format(name, spec) for name, spec in SPECS.items()}
SOURCES = [name for name in FLOATS if name != "tfloat32"] + list(INTEGERS)
TARGETS = list(FLOATS)
NARROW = [name for name in TARGETS if name not in ("float32", "float64")]


@functools.cache
def numpy_dtype(name):
    """The dtype of arrays of this format; unsigned codes if neither numpy nor ml_dtypes has one."""
    if name == "tfloat32":
        return np.dtype(np.float32)
    if name in INTEGERS or name in FLOATS:
        scalar = getattr(ml_dtypes, name, None) or getattr(np, name, None)
        return np.dtype(scalar) if scalar is not None else FLOATS[name].storage
    raise KeyError(name)


@functools.cache
def has_dtype(name):
    """Whether arrays of this format say what they hold; those of tfloat32 and the dummy row do not."""
    return numpy_dtype(name).name == name


@functools.cache
def storage_dtype(name):
    return np.dtype(f"u{numpy_dtype(name).itemsize}")


@dataclass
class Values:
    """Decoded elements: sign and exact magnitude + residual, or NaN with a sign and a fraction of 52 bits."""

    negative: np.ndarray
    magnitude: np.ndarray  # float64, may be Inf; 0 where NaN
    residual: np.ndarray  # int64; nonzero only for 64-bit integers
    nan: np.ndarray
    fraction: np.ndarray  # uint64


def decode(name, codes):
    """The exact values of codes of a source format; bits above a narrow code's width are ignored."""
    codes = np.ascontiguousarray(codes, storage_dtype(name)).ravel()
    if name in INTEGERS:
        return _decode_integers(name, codes)
    fmt = FLOATS[name]
    if name in ("float32", "float64"):
        mantissa = fmt.mantissa_bits
        floats = codes.view(name)
        nan = np.isnan(floats)
        with np.errstate(invalid="ignore"):
            magnitude = np.abs(np.where(nan, 0, floats).astype(np.float64))
        fraction = (codes & ((1 << mantissa) - 1)).astype(np.uint64) << np.uint64(52 - mantissa)
        return Values(np.signbit(floats), magnitude, np.zeros(codes.size, np.int64), nan, fraction)
    return _pick(_decode_table(name), codes & ((1 << fmt.bits) - 1))


def _pick(table, index):
    return Values(*(getattr(table, field)[index] for field in Values.__dataclass_fields__))


@functools.cache
def _decode_table(name):
    fmt = FLOATS[name]
    codes = np.arange(1 << fmt.bits)
    negative = (codes & fmt.sign_code) != 0
    index = codes & ~fmt.sign_code
    magnitude = fmt.values[np.minimum(index, fmt.max_index)]
    for code in fmt.inf_codes:
        magnitude[int(code, 16)] = np.inf
    nan = np.isin(codes, code_set(fmt.nan_codes))
    magnitude[nan] = 0
    fraction = np.full(codes.size, 1 << 51, np.uint64)  # canonical quiet, for FP8
    if name in ("float16", "bfloat16"):
        mantissa = fmt.mantissa_bits
        fraction = (codes & ((1 << mantissa) - 1)).astype(np.uint64) << np.uint64(52 - mantissa)
    return Values(negative, magnitude, np.zeros(codes.size, np.int64), nan, fraction)


def _decode_integers(name, codes):
    bits, signed = INTEGERS[name]
    zero = np.zeros(codes.size, np.int64)
    if name == "bool":
        exact = (codes != 0).astype(np.int64)
    elif bits < 8:
        exact = (codes & ((1 << bits) - 1)).astype(np.int64)
        exact -= np.where(signed & (exact >> (bits - 1) != 0), 1 << bits, 0)
    else:
        exact = codes.view(name)
    magnitude = np.abs(exact.astype(np.float64))
    residual = zero
    if bits == 64:
        absolute = np.where(exact < 0, -exact, exact).astype(np.uint64)  # also of -2^63, which is its own negation
        nearest = np.where(magnitude < 2.0**64, magnitude, 0).astype(np.uint64)
        residual = (absolute - nearest).view(np.int64)  # modulo 2^64, which it is far below
    return Values(exact < 0, magnitude, residual, zero != 0, zero.astype(np.uint64))


def _neighbours(fmt, v, r):
    """Index and value of the largest magnitude not above v + r, and the value after it (unbounded exponent)."""
    if fmt.name == "float64":
        lo = np.where(r < 0, np.nextafter(v, 0), v)
        return lo.view(np.uint64).astype(np.int64), lo, np.nextafter(lo, np.inf)
    if fmt.name == "float32":
        two128 = 2.0**128
        with np.errstate(over="ignore", under="ignore"):
            near = v.astype(np.float32)
            exact = np.where(np.isinf(near), two128, near.astype(np.float64))
            near = np.where((exact > v) | ((exact == v) & (r < 0)), np.nextafter(near, np.float32(0)), near)
            after = np.nextafter(near, np.float32(np.inf)).astype(np.float64)
        beyond = np.isinf(near)
        lo = np.where(beyond, two128, near.astype(np.float64))
        hi = np.where(beyond, np.inf, np.where(np.isinf(after), two128, after))
        return near.view(np.uint32).astype(np.int64), lo, hi
    table = np.append(fmt.values, np.inf)
    index = np.searchsorted(fmt.values, v, side="right") - 1
    index -= (table[index] == v) & (r < 0)
    return index, np.where(index < 0, 0.0, table[index]), table[index + 1]


def _chance(v, r, lo, hi):
    """floor(delta * 2^32): the part cut off, in units of the last place kept."""
    with np.errstate(under="ignore"):
        result = np.floor((v - lo) / (hi - lo) * 2.0**32)
    for i in np.flatnonzero(r):
        cut = int(v[i] - lo[i]) + int(r[i])
        result[i] = (cut << 32) // int(hi[i] - lo[i]) if np.isfinite(hi[i]) else 0
    return result


@dataclass
class Place:
    """Values, and between which two magnitudes of a format each lies: what all roundings and policies begin with."""

    x: Values
    infinite: np.ndarray
    v: np.ndarray  # finite magnitudes, and 0 for infinities
    index: np.ndarray  # of the lower neighbour
    lo: np.ndarray
    hi: np.ndarray


def place(src, codes, dst):
    """Where codes of src lie in dst."""
    x = decode(src, codes)
    infinite = np.isinf(x.magnitude)
    v = np.where(infinite, 0, x.magnitude)
    return Place(x, infinite, v, *_neighbours(FLOATS[dst], v, x.residual))


def _round(fmt, at, rounding, words):
    """Index of each finite magnitude after rounding; above max_index it overflows."""
    negative, v, r, index, lo, hi = at.x.negative, at.v, at.x.residual, at.index, at.lo, at.hi
    inexact = (v != lo) | (r != 0)
    middle = ((v - lo) - (hi - lo) / 2) + r  # its sign is exact: both differences are
    if fmt.unsigned and rounding == "nearest_even":
        rounding = "nearest_away"  # ties up
    if rounding == "nearest_even":
        step = (middle > 0) | ((middle == 0) & (index % 2 == 1))
    elif rounding == "nearest_away":
        step = middle >= 0
        if fmt.unsigned:
            step |= index == 0  # (2^-127, 2^-126) gives 01
    elif rounding == "stochastic":
        step = _chance(v, r, lo, hi) + words >= 2.0**32
    else:
        step = {"toward_zero": np.zeros(v.size, bool), "up": ~negative, "down": negative}[rounding]
    index = index + (step & inexact)
    return np.maximum(index, 0)  # E8M0: below 2^-127 gives 00


def _truncates(negative, rounding):
    """Where the rounding never leaves the largest finite value."""
    if rounding == "toward_zero":
        return np.ones_like(negative)
    return negative if rounding == "up" else ~negative if rounding == "down" else np.zeros_like(negative)


def _nan_codes(src, codes, values, fmt, overflow):
    """The code of every element as if it were a NaN."""
    if src == "bfloat16" and fmt.name == "float32":
        return codes.astype(np.uint64) << np.uint64(16)
    if not fmt.nan_codes:
        code = int(fmt.max_code, 16) if overflow == "saturate" else np.where(values.negative, 0, fmt.sign_code)
        return np.full(codes.size, code)
    if fmt.name in ("float64", "float32", "tfloat32", "float16"):
        fraction = (values.fraction >> np.uint64(52 - fmt.mantissa_bits)) | np.uint64(1 << (fmt.mantissa_bits - 1))
        sign = np.where(values.negative, np.uint64(fmt.sign_code), np.uint64(0))
        return sign | np.uint64(fmt.inf) | (fraction << np.uint64(fmt.shift))
    return np.where(values.negative, int(fmt.negative_nan, 16), fmt.nan_code)


def cast(src, codes, dst, rounding="nearest_even", overflow="ieee", words=None, at=None):
    """Codes of dst for codes of src.

    words: one uint32 per element, for stochastic rounding. at: where the codes lie in dst, if that is known.
    """
    fmt = FLOATS[dst]
    codes = np.ascontiguousarray(codes, storage_dtype(src)).ravel()
    if src == dst:
        return codes.copy()
    at = at or place(src, codes, dst)
    x, infinite = at.x, at.infinite
    index = _round(fmt, at, rounding, words)
    too_big = (index > fmt.max_index) & ~infinite

    largest = np.uint64(fmt.max_index << fmt.shift)
    sign = np.where(x.negative, np.uint64(fmt.sign_code), np.uint64(0))
    if overflow == "saturate" and fmt.saturates:
        beyond = sign | largest
    elif fmt.inf is not None:
        beyond = sign | np.uint64(fmt.inf)
    elif fmt.nan_codes:
        beyond = np.where(x.negative, np.uint64(int(fmt.negative_nan, 16)), np.uint64(fmt.nan_code))
    else:
        beyond = sign | largest

    result = sign | (np.minimum(index, fmt.max_index).astype(np.uint64) << np.uint64(fmt.shift))
    result = np.where(infinite | (too_big & ~_truncates(x.negative, rounding)), beyond, result)
    if not fmt.unsigned and "negative_zero" not in fmt.spec:
        result = np.where((result == fmt.sign_code) & (index == 0) & ~infinite, 0, result)  # FNUZ has no -0
    if fmt.unsigned:
        zero = (x.magnitude == 0) & (x.residual == 0)
        result = np.where(x.negative, fmt.nan_code, result)
        result = np.where(zero, 0 if overflow == "saturate" else fmt.nan_code, result)
    result = np.where(x.nan, _nan_codes(src, codes, x, fmt, overflow), result)
    return result.astype(fmt.storage)


def refusals(src, codes, dst, rounding="nearest_even"):
    """Why overflow="raise" refuses each element: "", "finite", "infinite", "nan", "zero" or "negative"."""
    fmt = FLOATS[dst]
    codes = np.ascontiguousarray(codes, storage_dtype(src)).ravel()
    reasons = np.full(codes.size, "", "U8")
    if src == dst:
        return reasons
    at = place(src, codes, dst)
    x, infinite = at.x, at.infinite
    index = _round(fmt, at, rounding, None)
    reasons[index > fmt.max_index] = "finite"  # also where the cast itself would give the largest value
    if fmt.inf is None:
        reasons[infinite] = "infinite"
    if fmt.unsigned:
        reasons[x.negative] = "negative"
        reasons[(x.magnitude == 0) & (x.residual == 0)] = "zero"
    reasons[x.nan] = "" if fmt.nan_codes else "nan"
    return reasons


def philox(seed, first_block, blocks):
    """Philox4x32-10 (Salmon et al., SC 2011): four uint32 words for each counter, as one flat array."""
    block = np.arange(blocks, dtype=np.uint64) + np.uint64(first_block)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = block & low, block >> half, np.zeros_like(block), np.zeros_like(block)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).ravel()


def random_words(seed, offset, count):
    """The word of each of `count` elements from logical index `offset` on."""
    first = offset // 4
    words = philox(seed, first, (offset + count - 1) // 4 - first + 1 if count else 0)
    return words[offset - 4 * first :][:count]
