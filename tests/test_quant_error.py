"""quantization_error and cast_error, against sums in float64 over what quantize and astype give."""

import math

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
import quantize_cases
from quantize_cases import GRANULARITIES


def sums(x, y):
    """Errors of the finite pairs, exactly enough."""
    x, y = (np.asarray(values).astype(np.float64).ravel() for values in (x, y))
    kept = np.isfinite(x) & np.isfinite(y)
    error = np.abs(x - y)[kept]
    signal, noise = (x[kept] ** 2).sum(), (error**2).sum()
    return {
        "finite": int(kept.sum()),
        "max_abs": error.max(initial=0),
        "mean_abs": error.mean() if error.size else 0,
        "rmse": math.sqrt((error**2).mean()) if error.size else 0,
        "sqnr_db": 10 * math.log10(signal / noise) if noise and signal else math.inf,
        "zeroed": int(((y == 0) & (x != 0) & ~np.isnan(x)).sum()),
        "became_nan": int((np.isnan(y) & ~np.isnan(x)).sum()),
    }


def agree(got, expected):
    for name, value in expected.items():
        assert getattr(got, name) == pytest.approx(value, rel=1e-5, abs=0), name


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", ["int8", "uint4", "float8_e4m3fn"])
def test_quantization_error(name, granularity, isa):
    x = quantize_cases.hard()[:11]
    for layout in (None, "lsb"):
        values = x[:, :32] if layout else x
        q = nc.quantize(values, name, layout=layout, **GRANULARITIES[granularity])
        got = nc.quantization_error(values, q)
        assert got.elements == values.size
        agree(got, sums(values, q.dequantize()))


def test_clipped():
    """Finite values beyond the codes, by their rounded quotient."""
    x = np.float32([127.4, 127.6, -128.4, -129, 1e30, np.inf, -np.inf, np.nan, 0])
    got = nc.quantization_error(x, nc.quantize(x, "int8", scale=1.0))
    assert got.clipped == 3
    assert got.finite == 6
    assert nc.quantization_error(x[:1], nc.quantize(x[:1], "int8", scale=1.0, qmax=100)).clipped == 1
    got = nc.quantization_error(np.float32([448, 464, 465, 500]), nc.quantize([448.0, 464, 465, 500], "float8_e4m3fn",
                                                                              scale=1.0))  # fmt: skip
    assert got.clipped == 2


def test_codes_of_others():
    """The codes count, not what quantize would make of x."""
    x = np.float32([1, 2, 3])
    q = nc.quantize(np.float32([1, 2, 4]), "int8", scale=1.0)
    got = nc.quantization_error(x, q)
    assert (got.max_abs, got.mean_abs, got.rmse) == (1, pytest.approx(1 / 3), pytest.approx(math.sqrt(1 / 3)))
    assert got.sqnr_db == pytest.approx(10 * math.log10(14))


def test_nothing_lost():
    x = np.float32([1, -2, 0])
    got = nc.quantization_error(x, nc.quantize(x, "int8", scale=1.0))
    assert (got.max_abs, got.rmse, got.sqnr_db, got.clipped, got.zeroed) == (0, 0, math.inf, 0, 0)


@pytest.mark.parametrize("source", ["float32", "float64", "bfloat16", "int32"])
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float16", "float4_e2m1fn"])
def test_cast_error(dtype, source, isa):
    random = np.random.default_rng(1)
    x = (random.normal(size=(700, 211)) * np.exp(random.normal(size=(700, 211)) * 3)).astype(
        quantize_cases.dtype_of(source)
    )
    for values in (x, x[:30].T, x[::7, ::3], x[:0]):
        for overflow in ("ieee", "saturate"):
            got = nc.cast_error(values, dtype, overflow=overflow)
            y = nc.astype(values, dtype, overflow=overflow)
            assert got.elements == values.size
            expected = sums(values, y)
            if values.size:
                agree(got, expected)
            largest = float(nc.finfo(dtype).max)
            beyond = nc.astype(values, "float64")
            assert got.clipped >= (np.abs(beyond[np.isfinite(beyond)]) > largest * 1.5).sum()


def test_cast_error_by_hand():
    got = nc.cast_error(np.float32([1, 1.0625, 1e-9, 1e9, np.nan, -np.inf]), "float8_e4m3fn", overflow="saturate")
    assert (got.elements, got.finite, got.clipped, got.zeroed, got.became_nan) == (6, 4, 1, 1, 0)
    assert got.max_abs == pytest.approx(1e9 - 448)
    got = nc.cast_error(np.float32([1, 1e9, -np.inf]), "float8_e4m3fn")
    assert (got.finite, got.clipped, got.became_nan) == (1, 1, 2)


def test_cast_error_rounds_as_astype():
    x = np.random.default_rng(2).normal(size=200000).astype(np.float32)
    for options in ({"rounding": "up"}, {"rounding": "toward_zero"}, {"rounding": "stochastic", "seed": 3}):
        agree(nc.cast_error(x, "float8_e5m2", **options), sums(x, nc.astype(x, "float8_e5m2", **options)))
    bits = x.view(np.uint32)
    assert nc.cast_error(bits, "bfloat16", src_dtype="float32") == nc.cast_error(x, "bfloat16")


def test_statistics_are_a_tuple():
    got = nc.cast_error(np.float32([1, 3]), "float16")
    assert got == (2, 2, 0, 0, 0, math.inf, 0, 0, 0)
    assert got._fields[:2] == ("elements", "finite")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x, q: nc.quantization_error(x, q.codes), TypeError, "^q is a ndarray; allowed is a QuantizedArray"),
        (lambda x, q: nc.quantization_error(x[:2], q), ValueError, r"^x has shape \(2,\), and q is of \(3,\)"),
        (lambda x, q: nc.quantization_error(x.astype(np.int32), q), TypeError, "^x has dtype int32"),
        (lambda x, q: nc.cast_error(x, "int8"), TypeError, "^dtype is int8"),
        (lambda x, q: nc.cast_error(x, "float16", overflow="raise"), ValueError, "^overflow is 'raise'; allowed are"),
        (lambda x, q: nc.cast_error(x, "float16", seed=3), ValueError, "^seed is 3"),
        (lambda x, q: nc.cast_error("x", "float16"), TypeError, "^x has dtype"),
    ],
)
def test_wrong_arguments(call, error, words):
    x = np.ones(3, np.float32)
    with pytest.raises(error, match=words):
        call(x, nc.quantize(x, "int8"))


def test_bfloat16_values():
    x = np.arange(100).astype(ml_dtypes.bfloat16)
    agree(nc.quantization_error(x, q := nc.quantize(x, "int4")), sums(x, q.dequantize()))
