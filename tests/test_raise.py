"""overflow="raise": which values it refuses, for which reason, which element it names, and that nothing is written."""

import functools
import re

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

WORDS = {"finite": "beyond", "infinite": "no infinity", "nan": "no NaN", "zero": "no zero", "negative": "no negative"}


@functools.lru_cache(8)
def what_is_refused(src, dst, rounding):
    """What the oracle accepts, what it becomes, and three codes of each kind that it refuses."""
    codes = cases.codes_for(src, dst)
    reasons = oracle.refusals(src, codes, dst, rounding)
    good = reasons == ""
    refused = {}
    for reason in sorted(set(reasons.tolist()) - {""}):
        bad = codes[reasons == reason]
        refused[reason] = (bad[0], bad[bad.size // 2], bad[-1])
    return codes[good], cases.expected(src, dst, rounding)[good], refused


def refused(x, dst, **options):
    """(index, reason) of an OverflowError, or None."""
    try:
        nc.astype(x, dst, overflow="raise", **options)
    except OverflowError as error:
        message = str(error)
        where = re.match(r"x\[([\d, ]+)\] is ", message)
        assert where, message
        assert dst in message
        reasons = [reason for reason, words in WORDS.items() if words in message]
        assert len(reasons) == 1, message
        return tuple(int(i) for i in where[1].split(", ")), reasons[0]
    return None


@pytest.mark.parametrize("dst", oracle.TARGETS)
@pytest.mark.parametrize(
    "src", ["float32", "float64", "float16", "bfloat16", "float8_e5m2", "float8_e8m0fnu", "int32", "uint64"]
)
def test_what_is_refused(src, dst, isa):
    """Arrays of what the oracle accepts are cast; then each kind of thing it refuses is planted among them."""
    for rounding in ("nearest_even", "toward_zero", "up"):
        good, wanted, bad = what_is_refused(src, dst, rounding)
        if good.size == 0:
            continue
        good = np.resize(good, max(300, good.size))
        got = nc.astype(cases.array(src, good), dst, overflow="raise", rounding=rounding)
        assert np.array_equal(got.view(oracle.storage_dtype(dst)), np.resize(wanted, good.size))
        x = np.resize(good, 300)
        for reason, chosen in bad.items():
            for place, code in zip((37, 131, 299), chosen, strict=True):
                planted = x.copy()
                planted[place] = code
                planted[place::97] = code
                assert refused(cases.array(src, planted), dst, rounding=rounding) == ((place,), reason), f"{code:#x}"


@pytest.mark.emulated
def test_the_edge_of_overflow(isa):
    """The last value that fits and the first that does not, by hand."""
    for name, fmt in oracle.FLOATS.items():
        if name in ("float32", "float64"):
            continue
        first = np.float32(oracle.number(fmt.leaves_max))
        x = np.full(33, np.nextafter(first, np.float32(0)))
        assert refused(x, name) is None
        x[32] = first
        assert refused(x, name) == ((32,), "finite")
        if not fmt.unsigned:
            x[5] = -first
            assert refused(x, name) == ((5,), "finite")


@pytest.mark.parametrize("layout", ["c", "f", "negative", "permuted", "broadcast"])
def test_the_index_is_in_c_order(layout, isa):
    """Whatever the order in memory, the first in C order is named, as an index of x."""
    x = np.ones((12, 30, 7), np.float32, order="F" if layout == "f" else "C")
    if layout == "negative":
        x = x[::-1, :, ::-1]
    elif layout == "permuted":
        x = x.transpose(2, 0, 1)
    x[5, 9, 3] = x[4, 6, 2] = x[6, 0, 0] = np.inf
    expected = (4, 6, 2)
    if layout == "broadcast":
        x, expected = np.broadcast_to(x[4], (3, 30, 7)), (0, 6, 2)
    for threads in (1, 4):
        assert refused(x, "float8_e4m3fn", threads=threads) == (expected, "infinite")


def test_nothing_is_written(isa):
    x = np.ones(5000, np.float32)
    x[4999] = -np.inf
    for out in (np.full(5000, 0xA5, np.uint8), np.full(10000, 0xA5, np.uint8)[::2]):
        with pytest.raises(OverflowError):
            nc.astype(x, "float8_e4m3fn", overflow="raise", out=out)
        assert np.all(out == 0xA5)


def test_the_message():
    with pytest.raises(OverflowError, match=re.escape("x[2] is -1e+30, beyond")):
        nc.astype(np.array([1, 2, -1e30]), "float16", overflow="raise")
    with pytest.raises(OverflowError, match=re.escape("x[0] is 18446744073709551615, beyond")):
        nc.astype(np.array([2**64 - 1], np.uint64), "float16", overflow="raise")
    with pytest.raises(OverflowError, match=r"^x is inf, and float4_e2m1fn has no infinity"):
        nc.astype(np.array(np.inf), "float4_e2m1fn", overflow="raise")
    with pytest.raises(OverflowError, match=re.escape("x[1, 0] is nan, and float6_e2m3fn has no NaN")):
        nc.astype(np.array([[0], [np.nan]], ">f8"), "float6_e2m3fn", overflow="raise")


def test_a_copy_refuses_nothing():
    x = np.array([np.inf, np.nan, 1e38], np.float32)
    assert nc.astype(x, "float32", overflow="raise").view(np.uint32).tolist() == x.view(np.uint32).tolist()
    assert refused(cases.array("float8_e8m0fnu", np.arange(256, dtype=np.uint8)), "float8_e8m0fnu") is None
