"""NaN, by hand: the codes that each target gives for quiet and signalling NaNs of each source, signs and payloads.

That every NaN of every source is right is test_cast_values.py; here are the examples a reader can check by eye.
"""

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

pytestmark = pytest.mark.emulated

QUIET, SIGNALLING, NEGATIVE, LOW = 0x7FC00000, 0x7F800001, 0xFFD55555, 0x7F801FFF

# target: the codes of those four float32 NaNs
FROM_FLOAT32 = {
    "float64": [0x7FF8000000000000, 0x7FF8000020000000, 0xFFFAAAAAA0000000, 0x7FF803FFE0000000],
    "float16": [0x7E00, 0x7E00, 0xFEAA, 0x7E00],
    "bfloat16": [0x7FC0, 0x7FC0, 0xFFC0, 0x7FC0],
    "tfloat32": [0x7FC00000, 0x7FC00000, 0xFFD54000, 0x7FC00000],
    "float8_e4m3fn": [0x7F, 0x7F, 0xFF, 0x7F],
    "float8_e5m2": [0x7E, 0x7E, 0xFE, 0x7E],
    "float8_e4m3fnuz": [0x80] * 4,
    "float8_e5m2fnuz": [0x80] * 4,
    "float8_e4m3b11fnuz": [0x80] * 4,
    "float8_e4m3": [0x7C, 0x7C, 0xFC, 0x7C],
    "float8_e3m4": [0x78, 0x78, 0xF8, 0x78],
    "float8_e8m0fnu": [0xFF] * 4,
    "float6_e2m3fn": [0x20, 0x20, 0x00, 0x20],
    "float6_e3m2fn": [0x20, 0x20, 0x00, 0x20],
    "float4_e2m1fn": [0x08, 0x08, 0x00, 0x08],
}


@pytest.mark.parametrize("dst", FROM_FLOAT32)
def test_from_float32(dst, isa):
    # Long enough for a vector and a tail, with numbers in between.
    codes = np.full(67, 0x3F800000, np.uint32)
    codes[0::16], codes[1::16], codes[2::16], codes[3::16] = QUIET, SIGNALLING, NEGATIVE, LOW
    got = nc.astype(codes.view(np.float32), dst).view(oracle.storage_dtype(dst))
    for start in range(0, 64, 16):
        assert [int(c) for c in got[start : start + 4]] == FROM_FLOAT32[dst]


# (source, code, target, code)
OTHERS = [
    ("float64", 0x7FF0000000000001, "float32", 0x7FC00000),  # signalling, payload too low to keep: quiet, not Inf
    ("float64", 0xFFF4000000000000, "float32", 0xFFE00000),
    ("float64", 0xFFF4000000000000, "float16", 0xFF00),
    ("float64", 0xFFF0000000000001, "bfloat16", 0xFFC0),
    ("float64", 0xFFF0000000000001, "float8_e5m2", 0xFE),
    ("float16", 0x7C01, "float32", 0x7FC02000),
    ("float16", 0xFD55, "float64", 0xFFFD540000000000),
    ("float16", 0xFC01, "bfloat16", 0xFFC0),
    ("float16", 0xFC01, "float8_e4m3fn", 0xFF),
    ("bfloat16", 0x7F81, "float32", 0x7F810000),  # a shift: still signalling
    ("bfloat16", 0xFFFF, "float32", 0xFFFF0000),
    ("bfloat16", 0x7F81, "float64", 0x7FF8200000000000),
    ("bfloat16", 0x7F81, "float16", 0x7E08),
    ("bfloat16", 0x7F81, "tfloat32", 0x7FC10000),
    ("float8_e4m3fn", 0x7F, "float32", 0x7FC00000),
    ("float8_e4m3fn", 0xFF, "float16", 0xFE00),
    ("float8_e5m2", 0x7D, "float32", 0x7FC00000),
    ("float8_e5m2", 0xFF, "float64", 0xFFF8000000000000),
    ("float8_e5m2", 0xFD, "bfloat16", 0xFFC0),
    ("float8_e4m3fnuz", 0x80, "float32", 0xFFC00000),
    ("float8_e5m2fnuz", 0x80, "float16", 0xFE00),
    ("float8_e5m2fnuz", 0x80, "float8_e4m3fn", 0xFF),
    ("float8_e8m0fnu", 0xFF, "float32", 0x7FC00000),
    ("float8_e8m0fnu", 0xFF, "float8_e5m2", 0x7E),
    ("float8_e3m4", 0xF1, "float4_e2m1fn", 0x00),
    ("float8_e8m0fnu", 0xFF, "float6_e2m3fn", 0x20),
]


@pytest.mark.parametrize(("src", "code", "dst", "expected"), OTHERS)
def test_from_other_formats(src, code, dst, expected, isa):
    x = np.full(35, code, oracle.storage_dtype(src)).view(oracle.numpy_dtype(src))
    got = nc.astype(x, dst).view(oracle.storage_dtype(dst))
    assert {int(c) for c in got} == {expected}


@pytest.mark.parametrize("name", [n for n in oracle.FLOATS if oracle.FLOATS[n].nan_codes and n in oracle.SOURCES])
def test_copies_keep_every_bit(name):
    """The same format on both sides: signalling NaNs and wide codes stay as they are, whatever the options."""
    code = int(oracle.FLOATS[name].nan_codes[0].split("-")[0], 16)
    x = np.array([code], oracle.storage_dtype(name)).view(oracle.numpy_dtype(name))
    for options in ({}, {"rounding": "up"}, {"overflow": "saturate"}, {"overflow": "raise"}):
        got = nc.astype(x, name, **options, **cases.reading(name))
        assert got is not x
        assert int(got.view(oracle.storage_dtype(name))[0]) == code
