"""_core.cast_error: what a cast lost, against a plain float64 model over the values that the oracle decodes."""

import functools
import itertools
import threading

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle
from narrowcast import _core

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

CODES = {row["name"]: row["code"] for row in _core.formats()}
FIELDS = ("count", "finite", "x2", "error2", "error", "max_error", "overflowed", "became_zero", "became_nan")
COUNTS = ("count", "finite", "overflowed", "became_zero", "became_nan")
SUMS = {"x2": 2.0**-19, "error2": 2.0**-19, "error": 2.0**-19, "max_error": 2.0**-24}  # relative tolerance


def measure(x, src, out, dst, rounding="nearest_even", isa=None):
    numbers = _core.cast_error(x, CODES[src], out, CODES[dst], oracle.ROUNDINGS.index(rounding), isa)
    return dict(zip(FIELDS, numbers, strict=True))


def values(name, codes):
    """The values of codes as float64, and what 64-bit integers have beyond it."""
    v = oracle.decode("float32" if name == "tfloat32" else name, codes)
    sign = np.where(v.negative, -1.0, 1.0)
    return np.where(v.nan, np.nan, sign * v.magnitude), sign * v.residual


def overflows(src, codes, dst, rounding):
    if rounding != "stochastic":
        return oracle.refusals(src, codes, dst, rounding) == "finite"
    x, _ = values(src, codes)
    fmt = oracle.FLOATS[dst]
    if src == dst or dst in ("float32", "float64"):
        largest = np.finfo(dst).max if src != dst and dst == "float32" else np.inf
    else:
        largest = fmt.values[fmt.max_index]
    return np.isfinite(x) & ((x if fmt.unsigned else np.abs(x)) > largest)


def model(src, codes, dst, out, rounding="nearest_even"):
    (x, low), (y, _) = values(src, codes), values(dst, out)
    both = np.isfinite(x) & np.isfinite(y)
    with np.errstate(over="ignore", under="ignore"):
        error = np.abs((x[both] - y[both]) + low[both])
        squares, errors, total = np.square(x[both]).sum(), np.square(error).sum(), error.sum()
    return {
        "count": x.size,
        "finite": np.count_nonzero(both),
        "x2": squares,
        "error2": errors,
        "error": total,
        "max_error": error.max(initial=0),
        "overflowed": np.count_nonzero(overflows(src, codes, dst, rounding)),
        "became_zero": np.count_nonzero(~np.isnan(x) & (x != 0) & (y == 0)),
        "became_nan": np.count_nonzero(~np.isnan(x) & np.isnan(y)),
    }


def check(found, expected):
    assert {key: found[key] for key in COUNTS} == {key: expected[key] for key in COUNTS}
    for key, tolerance in SUMS.items():
        assert found[key] == pytest.approx(expected[key], rel=tolerance, abs=0), key


def some_codes(src, dst, count=4000):
    codes = cases.codes_for(src, dst)
    return codes if codes.size <= count else cases.rng("cast_error", src, dst).choice(codes, count, replace=False)


@functools.lru_cache(64)
def modelled(src, dst, rounding, overflow):
    """Some codes, what a cast makes of them, and what it loses; for all instruction sets."""
    codes = some_codes(src, dst)
    out = oracle.cast(src, codes, dst, rounding, overflow, oracle.random_words(7, 0, codes.size))
    return codes, out, model(src, codes, dst, out, rounding)


@pytest.mark.emulated
@pytest.mark.parametrize("src", ["float32", "float64", "bfloat16", "int64", "float8_e5m2"])
@pytest.mark.parametrize("dst", oracle.TARGETS)
def test_against_a_plain_model(src, dst, isa):
    for rounding in oracle.ROUNDINGS:
        for overflow in oracle.POLICIES if rounding in ("nearest_even", "stochastic") else ("ieee",):
            codes, out, expected = modelled(src, dst, rounding, overflow)
            check(measure(codes, src, out, dst, rounding, isa), expected)


@pytest.mark.parametrize("src", [name for name in oracle.SOURCES if name not in ("float32", "float64")])
def test_every_source(src, isa):
    codes = some_codes(src, "float8_e4m3fn")
    out = oracle.cast(src, codes, "float8_e4m3fn")
    check(measure(codes, src, out, "float8_e4m3fn", isa=isa), model(src, codes, "float8_e4m3fn", out))


@pytest.mark.emulated
def test_numbers_worked_out_by_hand(isa):
    """float8_e4m3fn: largest 448, overflow above 464, half of the smallest value is 2^-10."""
    x = np.array([0, -0.0, 1.0625, -448, 464, 465, -1e30, 2.0**-10, -(2.0**-20), np.inf, np.nan], np.float32)
    out = nc.astype(x, "float8_e4m3fn")
    found = measure(x, "float32", out, "float8_e4m3fn", isa=isa)
    assert found == {
        "count": 11,
        "finite": 7,
        "x2": pytest.approx(1.0625**2 + 448**2 + 464**2 + 2.0**-20 + 2.0**-40, rel=1e-6),
        "error2": pytest.approx(0.0625**2 + 16**2 + 2.0**-20 + 2.0**-40, rel=1e-6),
        "error": pytest.approx(0.0625 + 16 + 2.0**-10 + 2.0**-20, rel=1e-6),
        "max_error": 16,
        "overflowed": 2,
        "became_zero": 2,
        "became_nan": 3,
    }
    out = nc.astype(x, "float8_e4m3fn", overflow="saturate")
    found = measure(x, "float32", out, "float8_e4m3fn", isa=isa)
    assert (found["overflowed"], found["became_nan"], found["finite"]) == (2, 0, 9)
    assert found["max_error"] == float(np.float32(1e30)) - 448


def test_squares_beyond_float32_and_below_it(isa):
    for power in (-130, -70, -60, 60, 64, 100, 127):
        x = cases.rng("power").uniform(1, 2, 3000).astype(np.float32) * np.float32(2.0**power)
        out = nc.astype(x, "bfloat16")
        out_codes = out.view(np.uint16)
        check(
            measure(x, "float32", out, "bfloat16", isa=isa), model("float32", x.view(np.uint32), "bfloat16", out_codes)
        )


def test_a_sum_that_float64_cannot_hold():
    x = np.array([1e300, 1.0])
    found = measure(x, "float64", x, "float64")
    assert (found["x2"], found["error2"], found["finite"]) == (np.inf, 0, 2)


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_any_layout(byte_order, isa):
    x = cases.rng("layout").normal(size=(30, 40, 7)).astype(np.float32)
    out = np.asarray(nc.astype(x, "float16"))
    whole = model("float32", x.view(np.uint32), "float16", out.view(np.uint16))
    for layout in (
        lambda a: a,
        np.asfortranarray,
        lambda a: np.flip(np.flip(a, 0).copy(), 0),
        lambda a: np.repeat(a, 3, 2)[..., ::3],
    ):
        for other in (lambda a: a, np.asfortranarray):
            swapped = layout(x.astype(f"{byte_order}f4"))
            check(measure(swapped, "float32", other(out.astype(f"{byte_order}f2")), "float16", isa=isa), whole)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["float32", "float64", "float16", "int32"]),
    st.sampled_from(oracle.TARGETS),
    st.sampled_from(nc.isas()),
    st.lists(st.integers(0, 700), max_size=6),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_pieces_add_up(src, dst, isa, lengths, seed, any_bits):
    rng = np.random.default_rng(seed)
    storage = oracle.storage_dtype(src)
    size = sum(lengths)
    codes = rng.integers(0, np.iinfo(storage).max, size, storage, endpoint=True)
    if not any_bits:
        codes = rng.normal(0, 8, size).astype(src).view(storage)
    out = oracle.cast(src, codes, dst)
    parts = np.cumsum([0, *lengths])
    found = [measure(codes[a:b], src, out[a:b], dst, isa=isa) for a, b in itertools.pairwise(parts)]
    total = {key: max if key == "max_error" else sum for key in FIELDS}
    with np.errstate(over="ignore"):
        check(
            {key: add([0, *(part[key] for part in found)]) for key, add in total.items()},
            model(src, codes, dst, out),
        )


def test_the_same_pieces_give_the_same_sums_on_any_thread(isa):
    x = cases.rng("threads").normal(size=100_000).astype(np.float32)
    out = nc.astype(x, "bfloat16")
    once = measure(x, "float32", out, "bfloat16", isa=isa)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(measure(x, "float32", out, "bfloat16", isa=isa))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [once] * 4


def test_refusals():
    x, out = np.ones(4, np.float32), np.ones(4, np.float16)
    with pytest.raises(ValueError, match=r"out\.shape\[0\] is 3 but x\.shape\[0\] is 4"):
        measure(x, "float32", out[:3], "float16")
    with pytest.raises(ValueError, match="item size"):
        measure(x, "float64", out, "float16")
    with pytest.raises(ValueError, match="sse9"):
        measure(x, "float32", out, "float16", isa="sse9")
    with pytest.raises(ValueError, match=r"out\.format is int16"):
        measure(x, "float32", out, "int16")
    with pytest.raises(TypeError, match="ndarrays"):
        measure([1.0], "float32", out, "float16")
