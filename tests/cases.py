"""The inputs that tests share: codes of a source format that lie on and around everything that matters to a target.

Nothing here knows what the result should be; that is oracle.py. Everything is cached, since each test of one pair
asks for the same codes with another rounding, policy or instruction set.
"""

import functools

import numpy as np

import oracle

# Formats of which every code is tried.
SMALL = [name for name in oracle.SOURCES if oracle.storage_dtype(name).itemsize <= 2]
FULL_TABLE = 1 << 16  # table formats with more boundaries than this are thinned out (TF32)


def rng(*key):
    """A generator that depends only on the key."""
    return np.random.default_rng([ord(letter) for part in key for letter in str(part)])


def all_codes(name):
    """Every code of a source of at most 16 storage bits, those wider than the format included."""
    dtype = oracle.storage_dtype(name)
    if name == "bool":
        return np.arange(2, dtype=dtype)
    return np.arange(1 << (8 * dtype.itemsize), dtype=dtype)


@functools.cache
def boundaries(dst):
    """Magnitudes at which a rounding to dst changes: every value, every midpoint, and the edge of overflow."""
    fmt = oracle.FLOATS[dst]
    if dst in ("float32", "float64"):
        # Too many for a table: runs at the ends of the range and of a sample of binades.
        mantissa = fmt.mantissa_bits
        top = (1 << fmt.exponent_bits) - 2
        exponents = np.unique(np.r_[0:6, top // 2, np.linspace(0, top, 40)])
        fractions = np.r_[0:4, (1 << mantissa) - 4 : 1 << mantissa, rng(dst).integers(0, 1 << mantissa, 40)]
        codes = (exponents.astype(np.uint64)[:, None] << np.uint64(mantissa)) + fractions.astype(np.uint64)
        lo = np.sort(codes.ravel()).astype(fmt.storage).view(dst)
        lo = lo[np.isfinite(lo)].astype(np.float64)
        if dst == "float64":
            return lo
        with np.errstate(over="ignore"):
            hi = np.nextafter(lo.astype(np.float32), np.float32(np.inf)).astype(np.float64)
        values = np.where(np.isinf(hi), 2.0**128, hi)
    else:
        values = fmt.values
        if values.size > FULL_TABLE:
            keep = np.unique(np.r_[0:64, values.size - 64 : values.size, np.arange(0, values.size, 29)])
            lo, values = values[keep[:-1]], values[keep[:-1] + 1]
        else:
            lo, values = values[:-1], values[1:]
    middles = lo + (values - lo) / 2
    return np.unique(np.r_[lo, values, middles])


def specials(src):
    """Zeros, subnormals, ends of the range, infinities and every kind of NaN of a float32 or float64 source."""
    fmt = oracle.FLOATS[src]
    mantissa, storage = fmt.mantissa_bits, fmt.storage
    normal, inf, largest = 1 << mantissa, fmt.inf, int(fmt.max_code, 16)
    positive = [0, 1, 2, 3, normal // 2, normal - 1, normal, normal + 1, largest - 1, largest, inf]
    positive += [normal << 1, (normal << 1) - 1]
    positive += [inf | 1 << bit for bit in range(mantissa)]  # one payload bit: quiet (the top one) and signalling
    positive += [inf | (normal - 1), inf | (normal >> 1) - 1, inf | (normal >> 1) | 1]
    codes = np.array(positive, storage)
    return np.r_[codes, codes | storage.type(fmt.sign_code)]


@functools.cache
def codes_for(src, dst):
    """Codes of src that decide every rounding to dst: both neighbours and the point of each boundary, and specials."""
    if src in SMALL:
        return all_codes(src)
    points = boundaries(dst)
    if src in oracle.INTEGERS:
        return _integers_for(src, points)
    storage = oracle.storage_dtype(src)
    with np.errstate(over="ignore", under="ignore"):
        points = points.astype(src)
        points = points[np.isfinite(points)]
        around = [points, np.nextafter(points, points.dtype.type(0)), np.nextafter(points, points.dtype.type(np.inf))]
        if src == "float64":
            # A hair beside each boundary (of large formats, some): lost if the value is first rounded to float32.
            some = points[:: 1 + points.size // 4096]
            around += [some * (1 - 2.0**-40), some * (1 + 2.0**-40)]
    magnitudes = np.unique(np.concatenate(around)).view(storage)
    noise = rng(src, dst).integers(0, np.iinfo(storage).max, 4096, storage, endpoint=True)
    return np.concatenate([magnitudes, magnitudes | storage.type(oracle.FLOATS[src].sign_code), specials(src), noise])


def _integers_for(src, points):
    bits, signed = oracle.INTEGERS[src]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    found = {0, 1, 2, 3, low, low + 1, high - 1, high}
    found |= {(1 << k) + d for k in range(bits) for d in (-2, -1, 0, 1, 2)}
    whole = points[(points >= 1) & (points < 2.0**bits)]
    if whole.size > 1500:
        whole = np.unique(np.r_[whole[:400], whole[-400:], rng(src).choice(whole, 700, replace=False)])
    found |= {int(np.floor(p)) + d for p in whole for d in (-1, 0, 1, 2)}
    found |= {int(v) for v in rng(src).integers(low, high, 512, src, endpoint=True)}
    found |= {-v for v in found} if signed else set()
    chosen = sorted(v for v in found if low <= v <= high)
    return np.array(chosen, src).view(oracle.storage_dtype(src))


@functools.cache
def words_for(src, dst):
    """Random words for stochastic rounding of codes_for(src, dst): seed 2^63 + 5, offset 2^33 + 1."""
    return oracle.random_words(SEED, OFFSET, codes_for(src, dst).size)


SEED, OFFSET = 2**63 + 5, 2**33 + 1


@functools.lru_cache(4)
def place_of(src, dst):
    """Where codes_for(src, dst) lie in dst."""
    return oracle.place(src, codes_for(src, dst), dst)


@functools.lru_cache(64)
def expected(src, dst, rounding="nearest_even", overflow="ieee"):
    """The oracle's answer for codes_for(src, dst)."""
    words = words_for(src, dst) if rounding == "stochastic" else None
    at = None if src == dst else place_of(src, dst)
    result = oracle.cast(src, codes_for(src, dst), dst, rounding, overflow, words, at)
    result.flags.writeable = False
    return result


def array(src, codes):
    """Codes as an array of the true dtype."""
    return codes.view(oracle.numpy_dtype(src))


def reading(src):
    """The options that astype needs to read array(src, codes): none, if its dtype says it all."""
    return {} if oracle.has_dtype(src) else {"src_dtype": src}


def numpy_cast(x, dtype):
    """x.astype(dtype) of numpy and ml_dtypes; through float32, which is exact, for pairs that they do not cast."""
    with np.errstate(all="ignore"):
        try:
            return x.astype(dtype)
        except TypeError:
            return x.astype(np.float32).astype(dtype)
