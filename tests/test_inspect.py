"""inspect: fields, exact values, errors and neighbours, from exact numbers and from codes."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
import oracle


def test_the_example_of_the_textbooks():
    found = nc.inspect(9.625, "float32")
    assert str(found).splitlines()[0] == "0 10000010 00110100000000000000000"
    assert (found.sign, found.exponent, found.fraction) == ("0", "10000010", "00110100000000000000000")
    assert (found.code, found.stored, found.error, found.exact) == (0x411A0000, 9.625, 0, "9.625")
    assert (found.below, found.above) == (np.nextafter(np.float32(9.625), 0), np.nextafter(np.float32(9.625), 10))


@pytest.mark.parametrize("name", [row.name for row in nc.formats() if row.is_float])
def test_every_code_by_its_bits(name):
    """Decoding agrees with the table of values; the fields joined are the code; neighbours are one code away."""
    fmt = oracle.FLOATS[name]
    last = (1 << fmt.bits) - 1
    for code in (place << fmt.shift for place in {i * last // 255 for i in range(256)}):
        found = nc.inspect(code, name, bits=True)
        assert int(found.bits.replace(" ", ""), 2) << fmt.shift == code
        assert [len(found.sign), len(found.exponent), len(found.fraction)] == [
            fmt.sign_bits,
            fmt.exponent_bits,
            fmt.mantissa_bits,
        ]
        src = "float32" if name == "tfloat32" else name
        stored = oracle.cast(src, np.array([code], fmt.storage), "float64").view(np.float64)[0]
        assert np.array_equal(found.stored, stored, equal_nan=True)
        assert np.signbit(found.stored) == np.signbit(stored) or np.isnan(stored)
        if np.isfinite(stored):
            assert float(found.exact) == stored
            assert found.error == 0
            for near in (found.below, found.above):
                if near is not None and np.isfinite(near) and near != stored:
                    assert nc.inspect(near, name).stored == near
            if found.above is not None and found.below is not None:
                assert found.below <= stored <= found.above


def test_neighbours_at_the_ends():
    assert nc.inspect(448, "float8_e4m3fn").above is None
    assert nc.inspect(448, "float8_e4m3fn").below == 416
    assert nc.inspect(57344, "float8_e5m2").above == np.inf
    assert nc.inspect(6, "float4_e2m1fn").above is None
    assert nc.inspect(0, "float8_e5m2").below == -(2.0**-16)
    assert nc.inspect(0, "float8_e5m2").above == 2.0**-16
    assert nc.inspect(2.0**-127, "float8_e8m0fnu").below is None
    assert nc.inspect("nan", "float16").above is None


@pytest.mark.parametrize(
    ("value", "name", "stored", "error"),
    [
        ("0.1", "float8_e4m3fn", 0.1015625, Fraction(13, 128) - Fraction(1, 10)),
        ("1/3", "bfloat16", 0.333984375, Fraction(171, 512) - Fraction(1, 3)),
        ("-1e-40", "float16", -0.0, Fraction(1, 10**40)),
        (Fraction(1, 3), "float16", 0.333251953125, Fraction(1365, 4096) - Fraction(1, 3)),
        (10**30, "float32", 1.0000000150474662e30, Fraction(int(1.0000000150474662e30)) - 10**30),
        ("16777217", "float32", 16777216.0, -1),
        (2**53 + 1, "float64", 2.0**53, -1),
        # A hair above the midpoint between 1 and 1.125: a float64 cannot tell it from the midpoint.
        (Fraction(17, 16) + Fraction(1, 10**30), "float8_e4m3fn", 1.125, Fraction(1, 16) - Fraction(1, 10**30)),
        (Fraction(17, 16), "float8_e4m3fn", 1.0, -Fraction(1, 16)),
        (np.float32(0.1), "float64", float(np.float32(0.1)), 0),
        (ml_dtypes.bfloat16(1.5), "float4_e2m1fn", 1.5, 0),
        (np.uint64(2**64 - 1), "float64", 2.0**64, 1),
    ],
)
def test_exact_numbers(value, name, stored, error):
    found = nc.inspect(value, name)
    assert found.stored == stored
    assert np.signbit(found.stored) == np.signbit(stored)
    assert found.error == error


def test_specials():
    assert nc.inspect("inf", "float8_e5m2").bits == "0 11111 00"
    assert nc.inspect("-inf", "float16").code == 0xFC00
    assert nc.inspect("nan", "float8_e4m3fn").code == 0x7F
    assert nc.inspect(-0.0, "float16").code == 0x8000
    assert nc.inspect("-0", "float16").code == 0x8000
    assert nc.inspect("-0", "float8_e4m3fnuz").code == 0
    assert nc.inspect(float("inf"), "float4_e2m1fn").stored == 6
    assert nc.inspect("inf", "float16").error is None
    assert nc.inspect(1e300, "float16").error is None


def test_text():
    text = str(nc.inspect("0.1", "float8_e4m3fn")).splitlines()
    assert text[0] == "0 0011 101"
    assert text[1].split() == ["format", "float8_e4m3fn"]
    assert text[2].split() == ["code", "0x1d"]
    assert text[3].split() == ["stored", "0.1015625"]
    assert text[4].split() == ["error", "+0.0015625"]
    assert nc.inspect("0x41a", "float16", bits=True).bits == "0 00001 0000011010"
    assert nc.inspect(5, "tfloat32").bits == "0 10000001 0100000000"


@pytest.mark.parametrize("value", ["", "one", "1/0", [], None, "0x", "1e999999999", 1j])
def test_values_that_are_not_numbers(value):
    with pytest.raises(ValueError, match=r"^value is "):
        nc.inspect(value, "float32")


@pytest.mark.parametrize("value", [-1, 256, "0x100", "zz", 1.5, None])
def test_codes_that_are_not_codes(value):
    with pytest.raises(ValueError, match=r"^value is "):
        nc.inspect(value, "float8_e5m2", bits=True)


def test_wrong_formats():
    with pytest.raises(TypeError, match=r"^dtype is int8"):
        nc.inspect(1, "int8")
