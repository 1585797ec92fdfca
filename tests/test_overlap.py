"""An output that shares memory with its input: exact in-place narrowing is right, everything else is refused before a
byte is written; and an output that overlaps itself is refused too.
"""

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

IN_PLACE = [
    ("float32", "float8_e4m3fn", {}),
    ("float32", "float16", {}),
    ("float32", "tfloat32", {}),
    ("float32", "float4_e2m1fn", {"rounding": "down"}),
    ("float32", "bfloat16", {"rounding": "stochastic", "seed": 3}),
    ("float64", "float32", {}),
    ("float64", "float64", {}),
    ("float64", "float8_e5m2", {"overflow": "saturate"}),
    ("int64", "float64", {}),
    ("uint32", "float32", {"rounding": "nearest_away"}),
    ("bfloat16", "float16", {}),
    ("float16", "float8_e3m4", {}),
    ("float8_e5m2", "float8_e4m3fn", {}),
    ("int8", "float8_e4m3", {}),
]


@pytest.mark.emulated
@pytest.mark.parametrize("n", [1, 15, 64, 513, 4099, 70_001])
@pytest.mark.parametrize(("src", "dst", "options"), IN_PLACE)
def test_in_place_narrowing(src, dst, options, n, isa):
    """Any two contiguous arrays that start together, if out's items are no larger; threads= is allowed, and ignored."""
    codes = np.resize(cases.codes_for(src, dst), n)
    words = oracle.random_words(3, 0, n) if "seed" in options else None
    expected = oracle.cast(
        src, codes, dst, options.get("rounding", "nearest_even"), options.get("overflow", "ieee"), words
    )
    memory = codes.copy()
    out = memory.view(oracle.storage_dtype(dst))[:n]
    nc.astype(cases.array(src, memory), dst, out=out, threads=3, **options)
    assert np.array_equal(out, expected)
    assert np.array_equal(memory.view(np.uint8)[out.nbytes :], codes.view(np.uint8)[out.nbytes :]), "wrote behind out"


@pytest.mark.parametrize(
    ("src", "dst"), [("float32", "float8_e4m3fn"), ("float64", "float32"), ("float16", "float8_e5m2")]
)
def test_in_place_narrowing_of_large_arrays(src, dst):
    """Large enough for threads, which must not be used: one would overwrite what another has yet to read."""
    n = 4_000_037
    memory = np.resize(cases.codes_for(src, dst), n)
    out = memory.view(oracle.storage_dtype(dst))[:n]
    nc.astype(cases.array(src, memory), dst, out=out, threads=4)
    assert np.array_equal(out, np.resize(cases.expected(src, dst), n))


def test_in_place_raise():
    """Nothing is written when a value is refused; else the cast goes through."""
    memory = np.ones(1000, np.float32)
    memory[777] = 1e9
    before = memory.copy()
    with pytest.raises(OverflowError, match=r"\b777\b"):
        nc.astype(memory, "float8_e5m2", out=memory.view(np.uint8)[:1000], overflow="raise")
    assert np.array_equal(memory, before)
    memory[777] = 2
    out = memory.view(np.uint8)[:1000]
    nc.astype(memory, "float8_e5m2", out=out, overflow="raise")
    assert out[777] == 0x40
    assert np.count_nonzero(out == 0x3C) == 999


def regions():
    """name: (x, out, target), made in one block of memory."""
    block = cases.rng("overlap").uniform(0.5, 2, 2048).astype(np.float32).view(np.uint8)  # no view of it overflows
    f32, f64, u8, u16 = block.view(np.float32), block.view(np.float64), block, block.view(np.uint16)
    return {
        "shifted by one": (f32[:100], u8[1:101], "float8_e5m2"),
        "out begins before": (f32[10:110], u8[:100], "float8_e5m2"),
        "out begins inside": (f32[:100], u8[40:140], "float8_e5m2"),
        "out ends at the last byte": (f32[:100], u8[399:499], "float8_e5m2"),
        "out ends on the first byte of x": (f32[10:51], u8[:41], "float8_e5m2"),
        "widening in place": (u8[:100].view("i1"), f32[:100], "float32"),
        "widening, out begins before": (u8[100:200].view("i1"), f32[:100], "float32"),
        "same items, shifted": (f32[:100], f32[1:101], "tfloat32"),
        "same items, shifted back": (f32[1:101], f32[:100], "tfloat32"),
        "strided in place": (f32[:200:2], u8[:100], "float8_e5m2"),
        "strided out in place": (f32[:100], u8[:400:4], "float8_e5m2"),
        "interleaved": (f32[:200:2], f32[1:200:2], "tfloat32"),
        "reversed in place": (f32[:100], f32[:100][::-1], "tfloat32"),
        "reversed input": (f32[:100][::-1], u8[:100], "float8_e5m2"),
        "transposed in place": (f32[:100].reshape(10, 10), f32[:100].reshape(10, 10).T, "tfloat32"),
        "two axes, row gaps": (f64[:100].reshape(10, 10)[:, :7], u8[:70].reshape(10, 7), "float8_e4m3fn"),
        "broadcast input": (np.broadcast_to(f32[:1], (50,)), u8[:50], "float8_e5m2"),
        "out with a zero stride": (
            np.ones(10, np.float32),
            np.lib.stride_tricks.as_strided(u8, (10,), (0,)),
            "float8_e5m2",
        ),
        "out overlaps itself": (
            np.ones((5, 5), np.float32),
            np.lib.stride_tricks.as_strided(u16, (5, 5), (4, 2)),
            "float16",
        ),
        "out overlaps itself by a byte": (
            np.ones(9, np.float32),
            np.lib.stride_tricks.as_strided(u16, (9,), (1,)),
            "float16",
        ),
    }


@pytest.mark.parametrize("overflow", ["ieee", "saturate", "raise"])
@pytest.mark.parametrize("name", regions())
def test_other_overlaps_are_refused(name, overflow):
    x, out, dst = regions()[name]
    memory = out
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    before = memory.tobytes()
    with pytest.raises(ValueError, match="overlap"):
        nc.astype(x, dst, out=out, overflow=overflow, threads=2)
    assert memory.tobytes() == before


@pytest.mark.parametrize("make", [lambda a: a.T, lambda a: a[::-1], lambda a: a[:, ::2], np.asfortranarray])
def test_the_same_elements_in_place(make):
    """x and out are the same view, not C-contiguous: right, or refused, but never wrong."""
    memory = cases.array("float32", np.resize(cases.codes_for("float32", "tfloat32"), 9900).reshape(90, 110).copy())
    x = make(memory)
    before = np.array(x).view(np.uint32)
    try:
        nc.astype(x, "tfloat32", out=x)
    except ValueError:
        assert np.array_equal(np.array(x).view(np.uint32), before)
    else:
        expected = oracle.cast("float32", before.ravel(), "tfloat32").reshape(before.shape)
        assert np.array_equal(np.array(x).view(np.uint32), expected)


def test_neighbours_do_not_overlap():
    block = np.zeros(500, np.uint8)
    x = block[:400].view(np.float32)
    x[...] = 1
    nc.astype(x, "float8_e5m2", out=block[400:], threads=4)
    assert np.all(block[400:] == 0x3C)
    assert np.all(x == 1)


def test_an_out_of_one_item_may_have_any_stride():
    out = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (1, 1), (0, 0))
    assert nc.astype(np.ones((1, 1), np.float32), "float8_e5m2", out=out)[0, 0] == 0x3C
