"""The oracle against everything else that defines an answer: the typed facts, ml_dtypes, numpy, gfloat (rounding
modes), Berkeley SoftFloat, and exact fractions. The core takes no part.
"""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import cases
import oracle

TABLES = [name for name in oracle.FLOATS if name not in ("float32", "float64")]
WITH_DTYPE = [name for name in oracle.TARGETS if oracle.has_dtype(name) and name != "float64"]


@pytest.mark.parametrize("name", TABLES)
def test_table_has_the_typed_facts(name):
    fmt = oracle.FLOATS[name]
    values = fmt.values
    assert np.all(np.diff(values) > 0)
    assert values[fmt.max_index] == oracle.number(fmt.spec["max"])
    assert values[int(fmt.smallest_normal_code, 16) >> fmt.shift] == oracle.number(fmt.smallest_normal)
    assert values[int(fmt.smallest_subnormal_code, 16) >> fmt.shift] == oracle.number(fmt.smallest_subnormal)
    assert fmt.bits == fmt.sign_bits + fmt.exponent_bits + fmt.mantissa_bits


@pytest.mark.parametrize("name", [n for n in oracle.FLOATS if n != "float64"])
def test_leaves_max(name):
    """The typed first value that rounds past max, and the one before it."""
    fmt = oracle.FLOATS[name]
    src = "float64" if name == "float32" else "float32"
    first = np.array([oracle.number(fmt.leaves_max)], src)
    before = np.nextafter(first, first.dtype.type(0))
    codes = np.r_[first, before].view(oracle.storage_dtype(src))
    assert list(oracle.refusals(src, codes, name)) == ["finite", ""]
    assert oracle.cast(src, codes, name)[1] == int(fmt.max_code, 16)


@pytest.mark.parametrize("dst", ["float32", "float64"])
@pytest.mark.parametrize("src", [n for n in cases.SMALL if n != "bool" and oracle.has_dtype(n)])
def test_decodes_as_ml_dtypes(src, dst):
    codes = cases.all_codes(src)
    if src in oracle.INTEGERS or oracle.FLOATS[src].bits >= 8:
        narrow = codes
    else:
        narrow = codes & ((1 << oracle.FLOATS[src].bits) - 1)
    with np.errstate(invalid="ignore"):
        theirs = narrow.view(oracle.numpy_dtype(src)).astype(dst)
    ours = oracle.cast(src, codes, dst).view(dst)
    nan = np.isnan(theirs)
    assert np.array_equal(nan, np.isnan(ours))
    assert np.array_equal(ours[~nan].view(f"u{ours.itemsize}"), theirs[~nan].view(f"u{ours.itemsize}"))
    if src not in ("float16", "bfloat16"):
        assert np.array_equal(np.signbit(ours), np.signbit(theirs))


NOT_WIDE = [
    n for n in oracle.SOURCES if oracle.has_dtype(n) and n not in ("float64", "int32", "uint32", "int64", "uint64")
]


@pytest.mark.parametrize("dst", WITH_DTYPE)
@pytest.mark.parametrize("src", NOT_WIDE)
def test_encodes_as_ml_dtypes(src, dst):
    codes = cases.codes_for(src, dst)
    bits = oracle.FLOATS[src].bits if src in oracle.FLOATS else max(oracle.INTEGERS[src][0], 8)
    codes = codes[codes < 1 << bits] if bits < 8 else codes
    theirs = cases.numpy_cast(cases.array(src, codes), oracle.numpy_dtype(dst)).view(oracle.storage_dtype(dst))
    ours = oracle.cast(src, codes, dst)
    # ml_dtypes' float16 and float32 targets keep signalling NaNs; every other code is the same, NaN included.
    same = ours == theirs
    if dst in ("float16", "float32"):
        same |= oracle.decode(src, codes).nan
    assert same.all(), f"{codes[~same][:4]} gives {ours[~same][:4]}, ml_dtypes {theirs[~same][:4]}"


WIDE = [("float64", "float32"), ("float64", "float16")]
WIDE += [(src, dst) for src in ("int32", "uint32", "int64", "uint64") for dst in ("float32", "float64")]


@pytest.mark.parametrize(("src", "dst"), WIDE)
def test_rounds_wide_sources_once_as_numpy(src, dst):
    codes = cases.codes_for(src, dst)
    codes = codes[~oracle.decode(src, codes).nan]
    with np.errstate(over="ignore", under="ignore"):
        theirs = codes.view(src).astype(dst)
    assert np.array_equal(oracle.cast(src, codes, dst), theirs.view(oracle.storage_dtype(dst)))


GFLOAT = {
    "float16": "binary16",
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "ocp_e4m3",
    "float8_e5m2": "ocp_e5m2",
    "float6_e2m3fn": "ocp_e2m3",
    "float6_e3m2fn": "ocp_e3m2",
    "float4_e2m1fn": "ocp_e2m1",
}
MODES = {
    "nearest_even": "TiesToEven",
    "toward_zero": "TowardZero",
    "up": "TowardPositive",
    "down": "TowardNegative",
    "nearest_away": "TiesToAway",
}


@pytest.mark.parametrize("overflow", oracle.POLICIES)
@pytest.mark.parametrize("rounding", oracle.DETERMINISTIC)
@pytest.mark.parametrize("dst", GFLOAT)
def test_rounds_as_gfloat(dst, rounding, overflow):
    gfloat = pytest.importorskip("gfloat")
    info = getattr(pytest.importorskip("gfloat.formats"), f"format_info_{GFLOAT[dst]}")
    codes = cases.codes_for("float64", dst)
    codes = codes[:: max(1, codes.size // 20000)]
    x = codes.view(np.float64)
    finite = np.isfinite(x)
    ours = oracle.cast("float64", codes, dst, rounding, overflow)
    value = oracle.cast(dst, ours, "float64").view(np.float64)
    saturate = overflow == "saturate" or not info.num_nans  # gfloat refuses to overflow a format with nowhere to go
    with np.errstate(all="ignore"):
        theirs = gfloat.round_ndarray(info, x, gfloat.RoundMode[MODES[rounding]], saturate)
    check = finite & ~np.isnan(theirs)
    assert np.array_equal(value[check], theirs[check])
    assert np.array_equal(np.signbit(value[check]), np.signbit(theirs[check]))
    assert np.array_equal(np.isnan(value[finite]), np.isnan(theirs[finite]))


@pytest.mark.parametrize("dst", ["float16", "bfloat16", "float8_e4m3fn", "float6_e3m2fn", "float4_e2m1fn"])
def test_stochastic_is_gfloats_stochastic_fastest(dst):
    gfloat = pytest.importorskip("gfloat")
    info = getattr(pytest.importorskip("gfloat.formats"), f"format_info_{GFLOAT[dst]}")
    random = cases.rng("gfloat", dst)
    x = random.normal(size=4000).astype(np.float32)
    words = random.integers(0, 1 << 32, x.size, np.uint32, endpoint=False)
    ours = oracle.cast("float32", x.view(np.uint32), dst, "stochastic", "saturate", words)
    mode = gfloat.RoundMode.StochasticFastest
    theirs = gfloat.round_ndarray(info, x.astype(float), mode, True, words.astype(np.int64), 32)
    assert np.array_equal(oracle.cast(dst, ours, "float64").view(np.float64), theirs)


SOFTFLOAT = {
    "nearest_even": "NEAR_EVEN",
    "toward_zero": "MIN_MAG",
    "up": "MAX",
    "down": "MIN",
    "nearest_away": "NEAR_MAX_MAG",
}
SOFTFLOAT_NAMES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "int32": "i32",
                   "uint32": "ui32", "int64": "i64", "uint64": "ui64"}  # fmt: skip
SOFTFLOAT_TYPES = {"f16": "Float16", "bf16": "BFloat16", "f32": "Float32", "f64": "Float64", "i32": "Int32",
                   "ui32": "UInt32", "i64": "Int64", "ui64": "UInt64"}  # fmt: skip
SOFTFLOAT_PAIRS = [("float32", "float16"), ("float32", "bfloat16"), ("float64", "float16"), ("float64", "float32")]
SOFTFLOAT_PAIRS += [(i, f) for i in ("int32", "uint32", "int64", "uint64") for f in ("float16", "float32", "float64")]


@pytest.mark.parametrize("rounding", oracle.DETERMINISTIC)
@pytest.mark.parametrize(("src", "dst"), SOFTFLOAT_PAIRS)
def test_rounds_as_softfloat(src, dst, rounding):
    softfloat = pytest.importorskip("softfloatpy")
    short, target = SOFTFLOAT_NAMES[src], SOFTFLOAT_NAMES[dst]
    convert = getattr(softfloat, f"{short}_to_{target}")
    make = getattr(softfloat, SOFTFLOAT_TYPES[short]).from_bytes
    codes = cases.codes_for(src, dst)
    codes = codes[~oracle.decode(src, codes).nan]
    codes = codes[:: max(1, codes.size // 2500)]
    before = softfloat.get_rounding_mode()
    softfloat.set_rounding_mode(softfloat.RoundingMode[SOFTFLOAT[rounding]])
    try:
        theirs = [
            int.from_bytes(convert(make(int(c).to_bytes(codes.itemsize, "big"))).to_bytes(), "big") for c in codes
        ]
    finally:
        softfloat.set_rounding_mode(before)
    ours = oracle.cast(src, codes, dst, rounding)
    assert np.array_equal(ours, np.array(theirs, ours.dtype))


def round_fraction(x, fmt, rounding, word):
    """One exact value onto the format's grid, from the definition: an index, unbounded above."""
    magnitude = abs(x)
    values = fmt.values
    index = int(np.searchsorted(values, float(magnitude), side="right")) - 1
    while index >= 0 and Fraction(values[index]) > magnitude:
        index -= 1
    if index < 0 or index == values.size - 1 or Fraction(values[index]) == magnitude:
        return max(index, 0)
    lo, hi = Fraction(values[index]), Fraction(values[index + 1])
    delta = (magnitude - lo) / (hi - lo)
    if rounding == "nearest_even":
        up = delta > Fraction(1, 2) or (delta == Fraction(1, 2) and index % 2 == 1)
    elif rounding == "nearest_away":
        up = delta >= Fraction(1, 2)
    elif rounding == "stochastic":
        up = (delta.numerator << 32) // delta.denominator + word >= 1 << 32
    else:
        up = {"toward_zero": False, "up": x > 0, "down": x < 0}[rounding]
    return index + up


@pytest.mark.parametrize("rounding", oracle.ROUNDINGS)
@pytest.mark.parametrize("src", ["float64", "int64", "uint64"])
@pytest.mark.parametrize("dst", ["float16", "bfloat16", "float8_e5m2", "float8_e4m3b11fnuz", "float4_e2m1fn"])
def test_exact_fractions(src, dst, rounding):
    """Values that float32, or float64, cannot hold, against arithmetic on fractions."""
    fmt = oracle.FLOATS[dst]
    codes = cases.codes_for(src, dst)
    codes = codes[:: max(1, codes.size // 600)]
    words = oracle.random_words(7, 3, codes.size)
    values = oracle.decode(src, codes)
    ours = oracle.cast(src, codes, dst, rounding, "saturate", words)
    for i, code in enumerate(codes):
        if values.nan[i] or np.isinf(values.magnitude[i]):
            continue
        x = (Fraction(values.magnitude[i]) + int(values.residual[i])) * (-1 if values.negative[i] else 1)
        expected = min(round_fraction(x, fmt, rounding, int(words[i])), fmt.max_index)
        sign = fmt.sign_code if values.negative[i] and (expected or "negative_zero" in fmt.spec) else 0
        assert ours[i] == expected | sign, f"{code:#x}"


def test_int64_values_are_exact():
    for src in ("int64", "uint64"):
        codes = cases.codes_for(src, "float64")
        values = oracle.decode(src, codes)
        exact = [
            (-1 if n else 1) * (int(m) + int(r))
            for n, m, r in zip(values.negative, values.magnitude, values.residual, strict=True)
        ]
        assert exact == [int(v) for v in codes.view(src)]


def test_philox_known_answer():
    assert [f"{word:08x}" for word in oracle.philox(0, 0, 1)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    whole = oracle.random_words(2**40 + 3, 0, 64)
    assert np.array_equal(oracle.random_words(2**40 + 3, 13, 30), whole[13:43])


def test_every_ml_dtypes_float_is_specified():
    """A format that ml_dtypes gains should not go unnoticed."""
    theirs = {n for n in dir(ml_dtypes) if n.startswith(("float", "bfloat"))}
    assert theirs <= set(oracle.FLOATS), theirs - set(oracle.FLOATS)
