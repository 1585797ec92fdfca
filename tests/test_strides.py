"""Layouts: any stride, order and byte order, in and out, gives the bits that the contiguous cast gives; and `order=`
means what it means to numpy.
"""

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

PAIRS = [
    ("float32", "float8_e4m3fn"),
    ("float32", "float16"),
    ("float64", "bfloat16"),
    ("bfloat16", "float4_e2m1fn"),
    ("float8_e5m2", "float32"),
    ("int16", "float6_e3m2fn"),
    ("uint64", "float64"),
    ("float16", "float16"),
]
LAYOUTS = {
    "step": lambda a: a[::2, 1::3],
    "negative": lambda a: a[::-1, ::-1],
    "one_row": lambda a: a[3:4, ::-2],
    "transposed": lambda a: a.T,
    "column": lambda a: a[:, 5],
    "permuted": lambda a: a.reshape(6, 16, -1).transpose(2, 0, 1),
    "permuted_step": lambda a: a.reshape(6, 16, -1).transpose(1, 2, 0)[::-3, ::2],
    "row_gaps": lambda a: a[:, :-3],
    "diagonal": lambda a: np.lib.stride_tricks.as_strided(a, (90,), (a.strides[0] + a.strides[1],)),
    "broadcast_row": lambda a: np.broadcast_to(a[2], (7, a.shape[1])),
    "broadcast_column": lambda a: np.broadcast_to(a[:, :1], (a.shape[0], 40)),
    "broadcast_all": lambda a: np.broadcast_to(a[4, 4], (3, 700)),
    "five_axes": lambda a: a.reshape(2, 3, 4, 4, -1)[:, ::-1, :, ::2].transpose(4, 1, 0, 3, 2),
    "empty": lambda a: a[:, 3:3],
    "overlapping_windows": lambda a: np.lib.stride_tricks.sliding_window_view(a[:, 0], 5),
}
SWAPPABLE = ("float64", "float32", "float16", "int16", "int32", "uint64")


def grid(src):
    """Codes of a 96 x 110 array with everything that matters among them."""
    codes = cases.codes_for(src, "bfloat16" if src != "bfloat16" else "float16")
    return cases.rng("grid", src).choice(codes, (96, 110))


def answer(src, codes, dst, **options):
    return oracle.cast(src, codes, dst, **options).reshape(codes.shape)


@pytest.mark.emulated
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("src", "dst"), PAIRS)
def test_strided_input(src, dst, layout, isa):
    codes = LAYOUTS[layout](grid(src))
    x = cases.array(src, codes)
    got = nc.astype(x, dst)
    assert got.shape == x.shape
    assert np.array_equal(got.view(oracle.storage_dtype(dst)), answer(src, codes, dst))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if not name.startswith(("broadcast", "overlapping"))])
@pytest.mark.parametrize(("src", "dst"), PAIRS)
def test_strided_output(src, dst, layout, isa):
    storage = oracle.storage_dtype(dst)
    memory = np.full((96, 110), 0xA5, storage)
    before = memory.copy()
    out = LAYOUTS[layout](memory)
    codes = np.resize(grid(src), out.shape)
    assert nc.astype(cases.array(src, codes), dst, out=out) is out
    assert np.array_equal(out, answer(src, codes, dst))
    LAYOUTS[layout](before)[...] = answer(src, codes, dst)
    assert np.array_equal(memory, before), "wrote between the elements of out"


@pytest.mark.parametrize("layout", ["step", "negative", "transposed", "permuted_step"])
@pytest.mark.parametrize("rounding", ["up", "stochastic"])
@pytest.mark.parametrize(("src", "dst"), [("float32", "float8_e5m2"), ("float64", "float32"), ("int64", "float16")])
def test_strided_both_sides_with_modes(src, dst, rounding, layout, isa):
    codes = LAYOUTS[layout](grid(src))
    memory = np.zeros((96, 110), oracle.storage_dtype(dst))
    out = LAYOUTS[layout](memory)
    random = {"seed": 11, "offset": 5} if rounding == "stochastic" else {}
    words = oracle.random_words(11, 5, codes.size) if random else None
    nc.astype(LAYOUTS[layout](cases.array(src, grid(src))), dst, out=out, rounding=rounding, **random)
    assert np.array_equal(out, answer(src, codes, dst, rounding=rounding, words=words))


def swapped(array):
    return array.byteswap().view(array.dtype.newbyteorder())


@pytest.mark.emulated
@pytest.mark.parametrize("layout", ["row_gaps", "transposed", "negative", "column"])
@pytest.mark.parametrize("src", SWAPPABLE)
@pytest.mark.parametrize("dst", ["float32", "float16", "float8_e4m3fn", "bfloat16", "float64"])
def test_byte_order_of_input(src, dst, layout, isa):
    if src == dst:
        got = nc.astype(LAYOUTS[layout](swapped(cases.array(src, grid(src)))), dst)
        assert got.dtype.isnative
    else:
        got = nc.astype(LAYOUTS[layout](swapped(cases.array(src, grid(src)))), dst)
    assert np.array_equal(got.view(oracle.storage_dtype(dst)), answer(src, LAYOUTS[layout](grid(src)), dst))


@pytest.mark.parametrize("layout", ["row_gaps", "transposed", "negative", "column"])
@pytest.mark.parametrize("src", ["float32", "float8_e4m3fn", "int32"])
@pytest.mark.parametrize("dst", ["float32", "float16", "float64"])
def test_byte_order_of_output(src, dst, layout, isa):
    codes = LAYOUTS[layout](grid(src))
    for kind in (np.dtype(dst), oracle.storage_dtype(dst)):
        out = LAYOUTS[layout](np.zeros((96, 110), kind.newbyteorder()))
        nc.astype(LAYOUTS[layout](cases.array(src, grid(src))), dst, out=out)
        native = out.astype(kind) if kind.kind == "u" else out.byteswap().view(kind)
        assert np.array_equal(native.view(oracle.storage_dtype(dst)), answer(src, codes, dst))


def test_both_swapped_is_a_copy():
    x = swapped(cases.array("float32", grid("float32")))
    out = np.empty_like(x)
    nc.astype(x, "float32", out=out)
    assert out.tobytes() == x.tobytes()


def test_a_swapped_dtype_as_target():
    got = nc.astype(np.arange(5, dtype=np.float64), np.dtype(">f4"))
    assert got.dtype == np.dtype(">f4")
    assert got.tolist() == [0, 1, 2, 3, 4]


ORDER_LAYOUTS = {
    "c": lambda a: a,
    "f": lambda a: np.asfortranarray(a),
    "permuted": lambda a: a.transpose(1, 0, 2),
    "reversed": lambda a: a[::-1],
    "gaps": lambda a: a[:, ::2],
    "broadcast": lambda a: np.broadcast_to(a[0], (4, *a.shape[1:])),
    "column": lambda a: a[:, :1, :1],
}


@pytest.mark.parametrize("order", ["K", "C", "F", "A"])
@pytest.mark.parametrize("layout", ORDER_LAYOUTS)
def test_order_is_numpys(layout, order):
    x = ORDER_LAYOUTS[layout](np.arange(4 * 6 * 10, dtype=np.float32).reshape(4, 6, 10))
    got = nc.astype(x, "float16", order=order)
    theirs = x.astype(np.float16, order=order)
    assert got.strides == theirs.strides
    assert np.array_equal(got, theirs)
    assert got.flags.owndata
    assert got.flags.writeable


@pytest.mark.parametrize("ndim", [0, 1, 2, 8, 32, 64])
def test_any_number_of_axes(ndim):
    shape = (1,) * (ndim - 1) + (5,) if ndim else ()
    x = np.full(shape, 2.5, np.float32)
    got = nc.astype(x, "float8_e5m2")
    assert got.shape == shape
    assert np.all(got.astype(np.float32) == 2.5)
    if ndim:
        spread = np.lib.stride_tricks.as_strided(np.arange(10, dtype=np.float32), shape, (8,) * ndim)
        assert nc.astype(spread, "float16").ravel().tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (0, 0)])
def test_empty(shape):
    got = nc.astype(np.empty(shape, np.float32), "bfloat16", overflow="raise")
    assert got.shape == shape
    assert got.dtype == oracle.numpy_dtype("bfloat16")
