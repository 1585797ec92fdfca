"""quantize, dequantize and fake_quantize in memory: strides, byte orders, out= in parts of larger arrays, overlap."""

import itertools

import numpy as np
import pytest

import narrowcast as nc
from narrowcast._quant.quantize import quantize
from quantize_cases import GRANULARITIES, dtype_of, same

SHAPE = (6, 5, 32)


def values(source="float32"):
    x = np.random.default_rng(1).normal(size=SHAPE).astype(dtype_of(source))
    x[0, 0, 3] = np.nan
    return x


def placed(x):
    """The same values in memory of every kind."""
    yield "plain", x
    yield "Fortran", np.asfortranarray(x)
    yield "backwards", np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1]
    yield "moved axes", np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    first, second, last = x.shape
    wide = np.zeros((first, 2 * second, 2 * last), x.dtype)
    wide[:, ::2, 1::2] = x
    yield "every other", wide[:, ::2, 1::2]
    rows = np.zeros((first, second, last + 8), x.dtype)
    rows[..., 3:-5] = x
    yield "parts of rows", rows[..., 3:-5]
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    yield "unaligned", unaligned
    if x.dtype.isbuiltin == 1:
        yield "other byte order", x.astype(x.dtype.newbyteorder())


@pytest.mark.parametrize("source", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_sources(granularity, source, isa):
    x = values(source)
    options = GRANULARITIES[granularity]
    for name, layout in (("int8", None), ("uint4", "lsb")):
        expected = nc.quantize(x, name, layout=layout, row_sums=True, **options)
        grid = nc.fake_quantize(x, name, **options)
        for kind, same_values in placed(x):
            q = nc.quantize(same_values, name, layout=layout, row_sums=True, **options)
            for got, wanted in zip((*q[:3], q.row_sums), (*expected[:3], expected.row_sums), strict=True):
                assert got is wanted is None or same(got, wanted), kind
            assert same(nc.fake_quantize(same_values, name, **options), grid), kind
            given = nc.quantize(same_values, name, layout=layout, scale=q.scale, zero_point=q.zero_point, **options)
            assert same(given.codes, expected.codes), kind


@pytest.mark.parametrize("source", ["float32", "float16", "float8_e5m2"])
def test_prepared_specs(source, isa):
    """The compiled entry and the function behind it: new results, and out=."""
    x = np.nan_to_num(values().astype(np.float32)).astype(dtype_of(source))
    for name, options in itertools.product(
        ("int8", "uint4", "float8_e4m3fn"), ({}, {"granularity": "row"}, {"granularity": "group", "group_size": 12})
    ):
        for layout, threads in ((None, None), ("lsb", 2)):
            spec = nc.QuantSpec(name, layout=layout, threads=threads, **options)
            expected = quantize(x, spec)
            out = nc.quantize(x, spec)
            given = {"scale": expected.scale, "zero_point": expected.zero_point}
            for kind, same_values in placed(x):
                for q in (
                    nc.quantize(same_values, spec),
                    nc.quantize(same_values, spec, out=out),
                    nc.quantize(same_values, spec, **given),
                    nc.quantize(same_values, spec, **given, out=out),
                ):
                    assert (q.shape, q.dtype, q.spec) == (x.shape, x.dtype, spec)
                    for got, wanted in zip(q[:3], expected[:3], strict=True):
                        assert got is wanted is None or same(got, wanted), kind
                for part in out[:3]:
                    if part is not None:
                        part[...] = 1


def test_broadcast_values():
    x = np.broadcast_to(np.float32([[1], [-2]]), (2, 40))
    assert nc.quantize(x, "int8", granularity="row").codes.tolist() == [[127] * 40, [-127] * 40]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_outputs(granularity, isa):
    """Codes, scales and zero points in memory of every kind; nothing beside them is touched."""
    x = values()[1:]
    options = GRANULARITIES[granularity]
    expected = nc.quantize(x, "uint8", **options)
    for (kind, codes), (_, scale) in itertools.product(
        placed(np.zeros(x.shape, np.uint8)), list(placed_small(expected.scale.shape))
    ):
        if kind == "other byte order":
            continue
        base = codes.base if codes.base is not None else codes
        zero = np.zeros(expected.scale.shape, np.int32)
        out = (codes, scale, zero)
        assert nc.quantize(x, "uint8", out=out, **options) is out
        assert same(codes, expected.codes), kind
        assert same(scale, expected.scale), kind
        assert same(zero, expected.zero_point), kind
        codes[...] = 0
        assert not base.any(), kind
        back = np.full((*x.shape[:-1], 70), 7, np.float32)
        view = back[..., 2:66:2]
        assert nc.dequantize(expected.codes, scale, zero, out=view, **options) is view
        assert same(view, expected.dequantize())
        view[...] = 7
        assert (back == 7).all()


def placed_small(shape):
    yield "plain", np.zeros(shape, np.float32)
    yield "every other", np.zeros((*shape, 2), np.float32)[..., 0]


def test_values_of_strided_codes(isa):
    codes = np.random.default_rng(2).integers(-128, 128, (6, 5, 32)).astype(np.int8)
    scale = np.float32([[[0.5]], [[1]], [[2]], [[3]], [[4]], [[5]]])
    expected = nc.dequantize(codes, scale)
    assert same(expected, codes * scale)
    for kind, same_codes in placed(codes):
        assert same(nc.dequantize(same_codes, scale), expected), kind


def test_pages_of_a_cache(isa):
    """Rows of codes that lie apart, with their scales behind them, as paged caches have them."""
    page = np.full((16, 2, 64 + 8), 0xEE, np.uint8)
    x = np.random.default_rng(3).normal(size=(5, 2, 64)).astype(np.float32)
    codes = page[3:8, :, :64].view(np.int8)
    scale = page[3:8, :, 64:68].view(np.float32)
    spec = nc.QuantSpec("int8", granularity="row")
    out = nc.QuantizedArray(codes, scale, None, spec)
    assert nc.quantize(x, spec, out=out) is out
    expected = nc.quantize(x, spec)
    assert same(codes, expected.codes)
    assert same(scale, expected.scale)
    assert same(out.dequantize(), expected.dequantize())
    page[3:8, :, :68] = 0xEE
    assert (page == 0xEE).all()


def test_packed_pages(isa):
    page = np.full((8, 40), 0xEE, np.uint8)
    x = np.random.default_rng(4).normal(size=(8, 64)).astype(np.float32)
    spec = nc.QuantSpec("int4", granularity="group", group_size=32, layout="lsb")
    expected = nc.quantize(x, spec)
    out = (page[:, 4:36], np.zeros((8, 2), np.float32), None)
    assert nc.quantize(x, spec, out=out) is out
    assert same(out[0], expected.codes)
    assert same(nc.dequantize(*out, spec=spec), expected.dequantize())
    assert (page[:, :4] == 0xEE).all()
    assert (page[:, 36:] == 0xEE).all()


def overlapping():
    memory = np.arange(4096, dtype=np.uint8)
    x = memory[:512].view(np.float32).reshape(8, 16)
    codes, scale, zero = memory[1024:1152].reshape(8, 16), memory[1536:1568].view(np.float32), memory[2048:2080]
    scale, zero = scale.reshape(8, 1), zero.view(np.int32).reshape(8, 1)
    yield "x, codes", x, (memory[500:628].reshape(8, 16), scale, zero), "x"
    yield "x itself", x, (memory[:128].reshape(8, 16), scale, zero), "x"
    yield "x, scale", x, (codes, memory[:32].view(np.float32).reshape(8, 1), zero), "out.scale overlaps x"
    yield "x, zero", x, (codes, scale, memory[508:540].view(np.int32).reshape(8, 1)), "out.zero_point overlaps x"
    yield "codes, scale", x, (codes, memory[1148:1180].view(np.float32).reshape(8, 1), zero), "out.codes overlaps out"
    yield "codes, zero", x, (codes, scale, memory[1028:1060].view(np.int32).reshape(8, 1)), "out.codes overlaps out"
    yield "scale, zero", x, (codes, scale, memory[1536:1568].view(np.int32).reshape(8, 1)), "out.scale overlaps out"
    yield "codes themselves", x, (np.lib.stride_tricks.as_strided(codes, (8, 16), (8, 1)), scale, zero), "codes overlap"


@pytest.mark.parametrize("options", [{}, {"calibration": "percentile"}, {"scale": 0.5, "zero_point": 3}], ids=str)
def test_overlap(options):
    for kind, x, out, words in overlapping():
        memory = x.base
        while memory.base is not None:
            memory = memory.base
        before = memory.copy()
        with pytest.raises(ValueError, match=words):
            nc.quantize(x, "uint8", granularity="row", out=out, **options)
        assert np.array_equal(memory, before), kind


def test_overlap_of_given_scales():
    scale = np.ones((4, 1), np.float32)
    x = np.ones((4, 4), np.float32)
    codes = scale.view(np.int8).reshape(4, 4)
    with pytest.raises(ValueError, match="overlaps scale"):
        nc.quantize(x, "int8", granularity="row", scale=scale, out=(codes, None, None))
    assert (scale == 1).all()
    out = (np.zeros((4, 4), np.int8), scale, None)
    assert nc.quantize(x, "int8", granularity="row", scale=scale, out=out) is out
    assert (scale == 1).all()
    assert (out[0] == 1).all()


def test_overlap_of_values():
    x = np.ones(64, np.float32)
    for out in (x, x[::-1]):
        with pytest.raises(ValueError, match="overlap"):
            nc.fake_quantize(x, "int8", out=out)
    codes = x.view(np.int8)
    with pytest.raises(ValueError, match="overlap"):
        nc.dequantize(codes[:64], 1.0, out=x)
    assert (x == 1).all()


def test_many_dimensions(isa):
    x = np.random.default_rng(5).normal(size=(2, 3, 1, 2, 3, 4)).astype(np.float32)
    q = nc.quantize(x, "int8", granularity="channel", axis=(1, -2, 0))
    assert q.scale.shape == (2, 3, 1, 1, 3, 1)
    flat = x.transpose(0, 1, 4, 2, 3, 5).reshape(18, -1)
    expected = nc.quantize(flat, "int8", granularity="row")
    assert same(q.codes.transpose(0, 1, 4, 2, 3, 5).reshape(18, -1), expected.codes)
    assert same(q.scale.ravel(), expected.scale.ravel())


def test_overlap_of_what_a_prepared_spec_writes():
    """The compiled entry sees it, too."""
    spec = nc.QuantSpec("uint8")
    for kind, x, (codes, scale, zero), _ in overlapping():
        if scale.size != 1:
            scale, zero = scale[:1], zero[:1]
        memory = x
        while memory.base is not None:
            memory = memory.base
        before = memory.copy()
        given = {"scale": np.float32([[0.5]]), "zero_point": np.int32([[3]])}
        for options in ({}, given):
            with pytest.raises(ValueError, match="overlap"):
                nc.quantize(x, spec, out=(codes, scale, zero), **options)
            assert np.array_equal(memory, before), kind
