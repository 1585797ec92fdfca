"""Rounding and overflow by hand: codes typed from the standards and worked out on paper, no oracle; and the properties
that every rounding must have.
"""

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

pytestmark = pytest.mark.emulated

EVEN, ZERO, UP, DOWN, AWAY = "nearest_even", "toward_zero", "up", "down", "nearest_away"

# (format, rounding, value, code)
GOLDEN = [
    # The ties of FP4, whose values are 0 .5 1 1.5 2 3 4 6.
    *[
        ("float4_e2m1fn", EVEN, x, c)
        for x, c in [(0.25, 0), (0.75, 2), (1.25, 2), (1.75, 4), (2.5, 4), (3.5, 6), (5, 6)]
    ],
    *[
        ("float4_e2m1fn", AWAY, x, c)
        for x, c in [(0.25, 1), (0.75, 2), (1.25, 3), (1.75, 4), (2.5, 5), (3.5, 6), (5, 7)]
    ],
    *[("float4_e2m1fn", ZERO, x, c) for x, c in [(0.49, 0), (-0.49, 8), (5.9, 6), (-5.9, 14), (1e30, 7)]],
    *[("float4_e2m1fn", UP, x, c) for x, c in [(0.01, 1), (-0.49, 8), (4.1, 7), (-5.9, 14), (-1e30, 15)]],
    *[("float4_e2m1fn", DOWN, x, c) for x, c in [(0.49, 0), (-0.01, 9), (5.9, 6), (-4.1, 15), (1e30, 7)]],
    # Around the largest values.
    *[("float8_e4m3fn", EVEN, x, c) for x, c in [(448, 0x7E), (464, 0x7E), (464.01, 0x7F), (-464.01, 0xFF)]],
    *[("float8_e4m3fn", AWAY, x, c) for x, c in [(463.99, 0x7E), (464, 0x7F), (-464, 0xFF)]],
    *[("float8_e4m3fn", ZERO, x, c) for x, c in [(479, 0x7E), (1e9, 0x7E), (-1e9, 0xFE)]],
    *[("float8_e4m3fn", UP, x, c) for x, c in [(448.01, 0x7F), (-1e9, 0xFE), (448, 0x7E)]],
    *[("float8_e4m3fn", DOWN, x, c) for x, c in [(1e9, 0x7E), (-448.01, 0xFF), (-448, 0xFE)]],
    *[("float8_e5m2", EVEN, x, c) for x, c in [(57344, 0x7B), (61439, 0x7B), (61440, 0x7C), (-61440, 0xFC)]],
    *[("float8_e5m2", ZERO, x, c) for x, c in [(1e9, 0x7B), (-1e9, 0xFB)]],
    *[("float16", EVEN, x, c) for x, c in [(65519.99, 0x7BFF), (65520, 0x7C00), (-65520, 0xFC00)]],
    *[("float16", UP, x, c) for x, c in [(65504.01, 0x7C00), (-1e9, 0xFBFF)]],
    # Subnormals: half of the smallest one ties to zero, a hair more does not.
    *[
        ("float16", EVEN, x, c)
        for x, c in [(2.0**-25, 0), (1.001 * 2.0**-25, 1), (3 * 2.0**-25, 2), (-(2.0**-25), 0x8000)]
    ],
    *[("float8_e4m3fnuz", EVEN, x, c) for x, c in [(-(2.0**-11), 0), (-(2.0**-10), 0x81), (-1e-30, 0), (248, 0x80)]],
    *[("float8_e4m3fnuz", DOWN, x, c) for x, c in [(-1e-30, 0x81), (1e-30, 0)]],
    *[("float8_e5m2fnuz", EVEN, x, c) for x, c in [(61440, 0x80), (-61440, 0x80), (57344, 0x7F)]],
    # bfloat16: 1 + 2^-8 is half way between two neighbours.
    *[("bfloat16", EVEN, x, c) for x, c in [(1 + 2.0**-8, 0x3F80), (1 + 3 * 2.0**-8, 0x3F82)]],
    *[("bfloat16", AWAY, x, c) for x, c in [(1 + 2.0**-8, 0x3F81), (-(1 + 2.0**-8), 0xBF81)]],
    *[
        ("tfloat32", EVEN, x, c)
        for x, c in [(1 + 2.0**-11, 0x3F800000), (1 + 3 * 2.0**-11, 0x3F804000), (3.4018e38, 0x7F7FE000)]
    ],
    # E8M0: ties up, and its own rules at both ends.
    *[("float8_e8m0fnu", EVEN, x, c) for x, c in [(1, 127), (1.25, 127), (1.5, 128), (1.75, 128), (3, 129)]],
    *[
        ("float8_e8m0fnu", EVEN, x, c)
        for x, c in [(2.0**-149, 0), (2.0**-127, 0), (1.001 * 2.0**-127, 1), (2.0**127, 0xFE)]
    ],
    *[("float8_e8m0fnu", EVEN, x, c) for x, c in [(1.5 * 2.0**127, 0xFF), (0, 0xFF), (-0.0, 0xFF), (-1, 0xFF)]],
    *[("float8_e8m0fnu", DOWN, x, c) for x, c in [(1.99, 127), (1.99 * 2.0**-127, 0), (1.99 * 2.0**127, 0xFE)]],
    *[("float8_e8m0fnu", ZERO, x, c) for x, c in [(1.99, 127), (1.99 * 2.0**127, 0xFE), (-1, 0xFF)]],
    *[
        ("float8_e8m0fnu", UP, x, c)
        for x, c in [(1.01, 128), (1.01 * 2.0**-127, 1), (1.01 * 2.0**127, 0xFF), (2.0**-149, 0)]
    ],
]


@pytest.mark.parametrize("src", ["float32", "float64"])
def test_golden(src, isa):
    for name, rounding, value, code in GOLDEN:
        got = nc.astype(np.array([value], src), name, rounding=rounding).view(oracle.storage_dtype(name))
        assert got[0] == code, f"{value} {src} -> {name}, {rounding}: {got[0]:#x}, not {code:#x}"


# (format, value, code): overflow="saturate"
SATURATED = [
    ("float8_e4m3fn", 1e9, 0x7E),
    ("float8_e4m3fn", -np.inf, 0xFE),
    ("float8_e5m2", np.inf, 0x7B),
    ("float8_e4m3fnuz", -np.inf, 0xFF),
    ("float8_e8m0fnu", np.inf, 0xFE),
    ("float8_e8m0fnu", 0.0, 0),
    ("float8_e8m0fnu", -np.inf, 0xFF),
    ("float6_e2m3fn", np.nan, 0x1F),
    ("float6_e3m2fn", -np.inf, 0x3F),
    ("float4_e2m1fn", np.inf, 7),
    ("float16", 1e9, 0x7BFF),
    ("float16", -np.inf, 0xFBFF),
    ("bfloat16", np.inf, 0x7F7F),
    ("tfloat32", -np.inf, 0xFF7FE000),
]


def test_saturate(isa):
    for name, value, code in SATURATED:
        got = nc.astype(np.array([value], np.float32), name, overflow="saturate").view(oracle.storage_dtype(name))
        assert got[0] == code, f"{value} -> {name}: {got[0]:#x}, not {code:#x}"
    # float32 and float64 ignore it.
    assert nc.astype(np.array([1e300]), "float32", overflow="saturate")[0] == np.inf
    assert nc.astype(np.array([np.inf], np.float32), "float64", overflow="saturate")[0] == np.inf


def test_rounds_once(isa):
    """What two roundings, by way of float32, get wrong."""
    wide = np.array([1 + 2.0**-4 + 2.0**-40, 1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-11 + 2.0**-40])
    assert nc.astype(wide, "float8_e4m3fn").view("u1")[0] == 0x39
    assert nc.astype(wide, "bfloat16").view("u2")[1] == 0x3F81
    assert nc.astype(wide, "float16").view("u2")[2] == 0x3C01
    big = np.array([2**40 + 2**32 + 1], np.int64)
    assert nc.astype(big, "bfloat16").view("u2")[0] == 0x5381
    assert nc.astype(np.array([2**24 + 1, 2**24 + 3], np.int32), "float32").tolist() == [2.0**24, 2.0**24 + 4]
    assert nc.astype(np.array([2**53 + 1], np.int64), "float64", rounding="up")[0] == 2.0**53 + 2


@pytest.mark.parametrize("overflow", oracle.POLICIES)
@pytest.mark.parametrize("rounding", oracle.DETERMINISTIC)
@pytest.mark.parametrize(
    "dst", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float4_e2m1fn"]
)
def test_properties_of_rounding(dst, rounding, overflow):
    """Monotone; stable when repeated; and up(x) == -down(-x)."""
    x = cases.boundaries(dst)
    x = np.sort(x[x < 2.0**127][::7].astype(np.float32))
    x = np.concatenate([-x[::-1], x])
    once = nc.astype(x, dst, rounding=rounding, overflow=overflow)
    values = nc.astype(once, "float64")
    number = ~np.isnan(values)
    assert np.all(np.diff(values[number]) >= 0)
    again = nc.astype(values[number], dst, rounding=rounding, overflow=overflow)
    assert np.array_equal(again.view(oracle.storage_dtype(dst)), once[number].view(oracle.storage_dtype(dst)))
    mirror = {"up": "down", "down": "up"}.get(rounding, rounding)
    negated = nc.astype(nc.astype(-x, dst, rounding=mirror, overflow=overflow), "float64")
    assert np.array_equal(-negated, values, equal_nan=True)
