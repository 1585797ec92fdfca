"""rounding="stochastic": the words are Philox4x32-10's, by logical index; shards equal the whole; and the outcome is
fair.
"""

import itertools

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle


def cast(x, dst, seed, **options):
    return nc.astype(x, dst, rounding="stochastic", seed=seed, **options).view(oracle.storage_dtype(dst))


@pytest.mark.emulated
def test_known_answer(isa):
    """Counter 0, key 0: words 6627e8d5 e169c58d bc57ac4c 9b00dbd8. A value cut at delta goes up if it reaches 2^32."""
    words = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    # float64 between 1 and the next bfloat16, 1 + 2^-7: delta = cut / 2^32.
    for above in (0, 1):
        deltas = np.array([2**32 - word - 1 + above for word in words], np.float64) * 2.0**-32
        got = cast(1 + deltas * 2.0**-7, "bfloat16", 0)
        assert got.tolist() == [0x3F80 + above] * 4


@pytest.mark.emulated
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 5, 2**32 - 3, 2**34 + 7, 2**64 - 300])
@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_words_by_seed_and_offset(seed, offset, isa):
    x = np.full(300, 1 + 2.0**-9, np.float32)
    expected = oracle.cast(
        "float32", x.view(np.uint32), "float16", "stochastic", "ieee", oracle.random_words(seed, offset, 300)
    )
    assert np.array_equal(cast(x, "float16", seed, offset=offset), expected)
    quarter = np.full(300, 1 + 2.0**-10, np.float32)
    words = oracle.random_words(seed, offset, 300)
    expected = oracle.cast("float32", quarter.view(np.uint32), "bfloat16", "stochastic", "ieee", words)
    assert 0 < np.count_nonzero(expected != 0x3F80) < 300
    assert np.array_equal(cast(quarter, "bfloat16", seed, offset=offset), expected)


@pytest.mark.parametrize("src", ["float32", "float64", "int64", "bfloat16"])
def test_shards_equal_the_whole(src, isa):
    codes = cases.rng("shards", src).permutation(cases.codes_for(src, "float8_e4m3fn"))[:3001]
    x = cases.array(src, codes)
    whole = cast(x, "float8_e4m3fn", 42)
    cuts = [0, 1, 2, 5, 63, 64, 511, 513, 1024, 2999, x.size]
    parts = [cast(x[a:b], "float8_e4m3fn", 42, offset=a) for a, b in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_order_in_memory_does_not_matter(isa):
    x = cases.rng("order").normal(size=(17, 23, 9)).astype(np.float32)
    expected = cast(x, "float8_e5m2", 5)
    for layout in (
        np.asfortranarray(x),
        np.flip(np.flip(x).copy()),
        x.transpose(1, 2, 0).copy().transpose(2, 0, 1),
        np.repeat(x, 2, 1)[:, ::2],
    ):
        for order in "KCF":
            assert np.array_equal(cast(layout, "float8_e5m2", 5, order=order), expected)
    out = np.zeros((9, 23, 17), np.uint8).T
    nc.astype(x, "float8_e5m2", rounding="stochastic", seed=5, out=out)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("dst", oracle.NARROW)
def test_exact_values_never_move(dst, isa):
    table = "bfloat16" if dst == "tfloat32" else dst  # every bfloat16 value is a TF32 value, and they are fewer
    values = oracle.FLOATS[table].values[:-1]
    for sign in (1, -1) if not oracle.FLOATS[dst].unsigned else (1,):
        plain = nc.astype(sign * values, dst)
        for seed in (0, 12345):
            assert np.array_equal(cast(sign * values, dst, seed), plain.view(oracle.storage_dtype(dst)))


@pytest.mark.parametrize(
    "dst", ["bfloat16", "float16", "float8_e4m3fn", "float6_e3m2fn", "float4_e2m1fn", "float8_e8m0fnu"]
)
def test_the_outcome_is_fair(dst):
    """A value at delta between two neighbours goes up delta of the time, within five standard deviations."""
    n = 200_000
    lo, hi = (oracle.FLOATS[dst].values[i] for i in (3, 4))
    for delta in (0.03125, 0.25, 0.5, 0.8125):
        got = cast(np.full(n, lo + delta * (hi - lo)), dst, 99)
        up = np.count_nonzero(got == 4)
        assert up + np.count_nonzero(got == 3) == n
        assert abs(up - n * delta) < 5 * np.sqrt(n * delta * (1 - delta))


def test_a_subnormal_may_become_the_smallest_value(isa):
    """Below the smallest subnormal, delta counts in its quantum."""
    n = 100_000
    got = cast(np.full(n, -(2.0**-18), np.float32), "float8_e5m2", 3)  # a quarter of the smallest
    assert set(got.tolist()) == {0x80, 0x81}
    assert abs(np.count_nonzero(got == 0x81) - n / 4) < 5 * np.sqrt(n * 3 / 16)


def test_the_largest_value_may_overflow(isa):
    x = np.full(1000, 460, np.float32)  # 3/8 of the way from 448 to where 480 would be
    assert set(cast(x, "float8_e4m3fn", 1).tolist()) == {0x7E, 0x7F}
    assert set(cast(x, "float8_e4m3fn", 1, overflow="saturate").tolist()) == {0x7E}
    assert set(cast(np.full(1000, 1e9), "float8_e5m2", 1).tolist()) == {0x7C}
    big = np.full(1000, 1.5 * 2.0**127)
    assert set(cast(big, "float8_e8m0fnu", 1).tolist()) == {0xFE, 0xFF}


def test_options_that_do_not_go_together():
    x = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"^seed is None"):
        nc.astype(x, "float16", rounding="stochastic")
    with pytest.raises(ValueError, match=r"^seed is 1"):
        nc.astype(x, "float16", seed=1)
    with pytest.raises(ValueError, match=r"^seed is 0"):
        nc.astype(x, "float16", rounding="up", seed=0)
    with pytest.raises(ValueError, match=r"^overflow is 'raise'"):
        nc.astype(x, "float16", rounding="stochastic", seed=1, overflow="raise")
    for seed, error in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("1", TypeError)):
        with pytest.raises(error, match=r"^seed is "):
            nc.astype(x, "float16", rounding="stochastic", seed=seed)
    for offset, error in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=r"^offset is "):
            nc.astype(x, "float16", rounding="stochastic", seed=1, offset=offset)
