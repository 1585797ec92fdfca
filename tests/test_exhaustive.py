"""Every float32 there is, to every narrow format, on every instruction set, against ml_dtypes; all other roundings
against the oracle on every 31st. Only with --exhaustive: minutes per format.
"""

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

pytestmark = pytest.mark.exhaustive

CHUNK = 1 << 20  # stays in the cache
WITH_DTYPE = [name for name in oracle.NARROW if oracle.has_dtype(name)]


@pytest.mark.parametrize("dst", WITH_DTYPE)
def test_all_of_float32_as_ml_dtypes(dst):
    """All sets in one pass, since ml_dtypes takes most of the time."""
    storage = oracle.storage_dtype(dst)
    got = np.empty(CHUNK, storage)
    for start in range(0, 1 << 32, CHUNK):
        codes = np.arange(start, start + CHUNK, dtype=np.uint32)
        x = codes.view(np.float32)
        expected = cases.numpy_cast(x, oracle.numpy_dtype(dst)).view(storage)
        if dst == "float16" and np.isnan(x).any():  # numpy keeps signalling NaNs; all else is equal
            expected = np.where(np.isnan(x), oracle.cast("float32", codes, dst), expected)
        for name in nc.isas():
            with nc.use_isa(name):
                nc.astype(x, dst, out=got)
            assert np.array_equal(got, expected), f"{name}, from {start:#x}: {codes[got != expected][:4]}"


@pytest.mark.parametrize("dst", oracle.NARROW)
def test_policies_and_roundings(dst):
    storage = oracle.storage_dtype(dst)
    for start in range(0, 1 << 32, 31 * CHUNK):
        codes = np.arange(start, min(start + 31 * CHUNK, 1 << 32), 31, dtype=np.int64).astype(np.uint32)
        for rounding in oracle.DETERMINISTIC:
            for overflow in oracle.POLICIES:
                expected = oracle.cast("float32", codes, dst, rounding, overflow)
                for name in nc.isas():
                    with nc.use_isa(name):
                        got = nc.astype(codes.view(np.float32), dst, rounding=rounding, overflow=overflow).view(storage)
                    assert np.array_equal(got, expected), (
                        f"{name}, {rounding}, {overflow}: {codes[got != expected][:4]}"
                    )


@pytest.mark.parametrize("src", ["float16", "bfloat16"])
@pytest.mark.parametrize("dst", ["float8_e4m3fn", "float32"])
def test_all_pairs_of_halves(src, dst):
    """Every 16-bit code at every place of a vector: 65,536 codes, rolled by each of 64."""
    codes = cases.all_codes(src)
    expected = oracle.cast(src, codes, dst)
    for name in nc.isas():
        with nc.use_isa(name):
            for shift in range(64):
                got = nc.astype(cases.array(src, np.roll(codes, shift)), dst).view(expected.dtype)
                assert np.array_equal(got, np.roll(expected, shift)), (name, shift)
