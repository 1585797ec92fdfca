"""Every source to every target, every rounding and policy, every instruction set, against the oracle, bit for bit.

The inputs (cases.py) are all codes of sources of at most 16 bits; of the others both neighbours and the point of every
rounding boundary of the target, zeros, subnormals, infinities, every kind of NaN, and noise.
"""

import functools

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle


def check(src, dst, rounding="nearest_even", overflow="ieee"):
    """One cast of all the codes for this pair, compared with the oracle."""
    codes = cases.codes_for(src, dst)
    more = cases.reading(src)
    if rounding == "stochastic":
        more |= {"seed": cases.SEED, "offset": cases.OFFSET}
    got = nc.astype(cases.array(src, codes), dst, rounding=rounding, overflow=overflow, **more)
    assert got.dtype == oracle.numpy_dtype(dst)
    got = got.view(oracle.storage_dtype(dst))
    expected = cases.expected(src, dst, rounding, overflow)
    if not np.array_equal(got, expected):
        wrong = np.flatnonzero(got != expected)
        i = wrong[0]
        pytest.fail(
            f"{src} -> {dst}, {rounding}, {overflow}: {wrong.size} of {codes.size} differ; the first, at {i}: "
            f"{codes[i]:#x} gives {got[i]:#x}, not {expected[i]:#x}"
        )


@pytest.mark.emulated
@pytest.mark.parametrize("dst", oracle.TARGETS)
@pytest.mark.parametrize("overflow", oracle.POLICIES)
@pytest.mark.parametrize("src", ["float32", "float16", "bfloat16"])
def test_cast(src, overflow, dst, isa):
    """The fused kernels: nearest-even."""
    check(src, dst, overflow=overflow)


def other_pairs():
    """All other sources; emulated: bytes to everything, the rest to one target of each kind."""
    for src in oracle.SOURCES:
        for dst in oracle.TARGETS if src not in ("float32", "float16", "bfloat16") else ():
            few = dst in ("float32", "bfloat16", "float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn")
            marks = pytest.mark.emulated if few or oracle.storage_dtype(src).itemsize == 1 else ()
            yield pytest.param(src, dst, marks=marks)


@pytest.mark.parametrize(("src", "dst"), list(other_pairs()))
def test_cast_of_other_sources(src, dst, isa):
    """All codes of every narrow format and integer; float64 and wide integers rounded once."""
    check(src, dst)


@pytest.mark.parametrize("dst", oracle.TARGETS)
@pytest.mark.parametrize("src", oracle.SOURCES)
def test_every_rounding_and_policy(src, dst, isa):
    for rounding in oracle.ROUNDINGS:
        for overflow in oracle.POLICIES:
            check(src, dst, rounding, overflow)


@pytest.mark.emulated
@pytest.mark.parametrize("rounding", oracle.ROUNDINGS[1:])
@pytest.mark.parametrize(
    "dst", ["float16", "bfloat16", "float8_e4m3fn", "float8_e8m0fnu", "float6_e3m2fn", "float4_e2m1fn"]
)
def test_roundings(dst, rounding, isa):
    """The encoders, whose rounding is an argument."""
    check("float32", dst, rounding)


LARGE_BYTES = 48 << 20  # past the size from which stores may go around the cache
LARGE_PAIRS = [
    ("float32", "float16"),
    ("float32", "bfloat16"),
    ("float32", "tfloat32"),
    ("float32", "float8_e4m3fn"),
    ("float32", "float8_e8m0fnu"),
    ("float32", "float4_e2m1fn"),
    ("float32", "float64"),
    ("float64", "float32"),
    ("float16", "float32"),
    ("bfloat16", "float16"),
    ("bfloat16", "float8_e5m2"),
    ("float8_e4m3fn", "float32"),
    ("float8_e5m2", "bfloat16"),
    ("float4_e2m1fn", "float32"),
    ("int8", "float32"),
]


@functools.lru_cache(1)
def large(src, dst):
    """Rows of the codes for this pair, and memory for the result with room to begin anywhere."""
    codes = cases.codes_for(src, dst)[:100_003]
    times = -(-LARGE_BYTES // (codes.nbytes + cases.expected(src, dst)[: codes.size].nbytes))
    return np.tile(codes, (times, 1)), np.empty(times * codes.size + 64, oracle.storage_dtype(dst))


@pytest.mark.parametrize(("src", "dst"), LARGE_PAIRS)
def test_large_arrays(src, dst, isa):
    """The same bits at every position, wherever in a cache line the output begins and ends."""
    codes, memory = large(src, dst)
    for start in (0, 5):
        memory.view(np.uint8).fill(0x5A)
        out = memory[start : start + codes.size].reshape(codes.shape)
        assert nc.astype(cases.array(src, codes), dst, out=out) is out
        assert np.all(out == cases.expected(src, dst)[: codes.shape[1]])
        beside = np.r_[memory[:start], memory[start + codes.size :]]
        assert np.all(beside.view(np.uint8) == 0x5A)
