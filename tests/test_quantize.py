"""quantize, dequantize and fake_quantize: granularities, dtypes, options and forms, against quant_model.py, on every
instruction set. What depends on the dialect is in test_dialects.py.

Wrong arguments are in test_quantize_arguments.py, strides in test_quantize_strides.py, the objects and tensors in
test_quant_spec.py.
"""

import itertools

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
import quant_model as model
import quantize_cases
from quantize_cases import DIALECT_TARGETS, GRANULARITIES, SOURCES, check, deep, dtype_of, hard, same

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (*range(1, 9), 16)]
FLOATS = [row.name for row in nc.formats() if row.is_float and row.storage_bytes == 1 and row.has_zero]


def test_the_known_example():
    """A range of [-234.1, 251.51] to int8, asymmetric, from the literature: typed, not computed."""
    x = np.array([-234.1, 0, 251.51], np.float32)
    codes, scale, zero_point, spec = nc.quantize(x, "int8", symmetric=False)
    assert codes.tolist() == [-128, -5, 127]
    assert scale.tolist() == [np.float32(1.9043529).item()]
    assert zero_point.tolist() == [-5]
    assert spec == nc.QuantSpec("int8", symmetric=False)


@pytest.mark.parametrize("name", ["int8", "uint8", "int4", "float8_e4m3fn"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_granularities(granularity, name, isa):
    for x in (hard(), deep()):
        options = GRANULARITIES[granularity]
        q = check(x, name, **options)
        block = model.block_of(x.shape, **options)
        assert q.scale.shape == model.scale_shape(x.shape, block)
        assert q.scale.ndim == x.ndim


@pytest.mark.parametrize("dialect", ["onnx", "torch", "torchao", "compressed_tensors", "vllm"])
def test_both_forms(dialect, isa):
    for symmetric, name in itertools.product((True, False), DIALECT_TARGETS[dialect]):
        if "float" not in name:
            q = check(hard(), name, dialect=dialect, symmetric=symmetric, granularity="row")
            assert (q.zero_point is None) == (symmetric and not name.startswith("u"))


@pytest.mark.parametrize("name", INTEGERS + FLOATS)
def test_every_target(name, isa):
    q = check(hard(), name, granularity="row")
    bits = target_bits(name)
    expected = {2: name, 4: name}.get(bits, ("u" if name.startswith("u") else "") + ("int16" if bits > 8 else "int8"))
    assert q.codes.dtype == (dtype_of(expected) if "int" in name else nc.finfo(name).dtype)


def target_bits(name):
    return quantize_cases.target_of(name).bits


@pytest.mark.parametrize("name", ["int8", "uint4", "float4_e2m1fn"])
def test_every_length(name, isa):
    """Each tail of a vector, and a bit more than a tile of the core."""
    random = np.random.default_rng(3)
    for columns in (*range(1, 36), 63, 64, 65, 127, 128, 129, 511, 512, 513, 1100):
        x = random.normal(size=(2, columns)).astype(np.float32)
        check(x, name, granularity="row")
        check(x, name, granularity="group", group_size=columns // 2 + 1)
        check(x, name)


@pytest.mark.parametrize("group_size", [1, 2, 3, 5, 8, 16, 31, 32, 33, 64, 100, 128, 1 << 62])
def test_every_group_size(group_size, isa):
    for columns in (96, 100, 257):
        check(hard(columns=columns)[[0, 3]], "int4", granularity="group", group_size=group_size)


@pytest.mark.parametrize("source", ["float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float6_e2m3fn",
                                    "float4_e2m1fn", "float8_e8m0fnu"])  # fmt: skip
def test_every_source(source, isa):
    x = np.random.default_rng(4).normal(size=(5, 41)).astype(np.float32)
    x = (np.abs(x) + 0.01 if source == "float8_e8m0fnu" else x).astype(dtype_of(source))
    check(x, "int8", granularity="row")
    check(x, "uint4", granularity="group", group_size=8)


def test_float64_beyond_float32():
    """Counts as the largest float32."""
    q = nc.quantize(np.array([1e300, -1e-300, 1.0]), "int8")
    assert q.scale.tolist() == [float(np.float32(np.finfo(np.float32).max) / np.float32(127))]
    assert q.codes.tolist() == [127, 0, 0]


@pytest.mark.parametrize("scale_dtype", ["float32", "float16", "bfloat16", "float8_e8m0fnu"])
def test_scale_dtypes(scale_dtype, isa):
    """Codes come of the rounded scale."""
    for name in ("int8", "uint8", "float8_e4m3fn"):
        q = check(hard()[:9], name, granularity="row", scale_dtype=scale_dtype)
        assert q.scale.dtype == dtype_of(scale_dtype)
        again = nc.quantize(hard()[:9], name, granularity="row", scale=q.scale, zero_point=q.zero_point)
        assert same(again.codes, q.codes)


def test_options(isa):
    x = hard()
    for options in (
        {"qmin": -127},
        {"qmin": -7, "qmax": 7},
        {"qmin": 0, "qmax": 100, "symmetric": False},
        {"scale_max": 0.25},
        {"compute_dtype": "bfloat16"},
        {"compute_dtype": "float16", "dialect": "torchao"},
    ):
        check(x[:11], "int8", granularity="row", **options)
    for source in ("bfloat16", "float16"):
        for dialect in ("torchao", "compressed_tensors", "quanto"):
            q = check(hard(source), "int8", granularity="row", dialect=dialect, compute_dtype="float32")
            assert q.scale.dtype == np.float32


def test_given_scales(isa):
    x = hard()[:4]
    boxes = (4, 1)
    scale = np.float32([0.1, 0.02, 1, 0.5])
    expected = model.quantize(x, scale.reshape(boxes), None, quantize_cases.target_of("int8"), "onnx", (1, 37))
    for form in (scale, scale.reshape(boxes), scale.tolist(), tuple(scale.tolist()), scale.astype(np.float64)):
        q = nc.quantize(x, "int8", granularity="channel", axis=0, scale=form)
        assert same(q.codes, expected)
        assert q.scale.shape == boxes
        assert q.scale.dtype == np.float32
        assert q.zero_point is None
    kept = scale.reshape(boxes)
    assert nc.quantize(x, "int8", granularity="row", scale=kept).scale is kept
    for one in (0.25, np.float32(0.25), np.array(0.25), np.array([0.25]), [[0.25]], 1, dtype_of("bfloat16").type(0.25)):
        q = nc.quantize(x, "int8", scale=one)
        assert q.scale.shape == (1, 1)
        expected = model.quantize(x, np.float32([[float(np.asarray(one).ravel()[0])]]), None,
                                  quantize_cases.target_of("int8"))  # fmt: skip
        assert same(q.codes, expected)
    for name in ("float16", "bfloat16", "float8_e8m0fnu"):
        q = nc.quantize(x, "int8", granularity="row", scale=np.float32([0.25, 0.5, 1, 2]).astype(dtype_of(name)))
        assert q.scale.dtype == dtype_of(name)
        assert same(q.codes, model.quantize(x, q.scale, None, quantize_cases.target_of("int8"), "onnx", (1, 37)))
    q = nc.quantize(x, "int8", scale=0.3, scale_dtype="float8_e8m0fnu")
    assert q.scale.astype(np.float32).tolist() == [[0.25]]


@pytest.mark.parametrize("dialect", ["onnx", "torch", "torchao", "compressed_tensors", "vllm"])
def test_given_zero_points(dialect, isa):
    x = hard()
    for name, zero in (("int8", -5), ("uint8", 131), ("uint4", 7)):
        target = quantize_cases.target_of(name)
        for form in (zero, np.int32(zero), np.array([zero]), np.array(zero, np.int64), [[zero]]):
            q = nc.quantize(x, name, scale=0.5, zero_point=form, dialect=dialect)
            assert q.zero_point.dtype == np.int32
            assert q.zero_point.tolist() == [[zero]]
            assert same(q.codes, model.quantize(x, np.float32([[0.5]]), np.int32([[zero]]), target, dialect))
    q = nc.quantize(x, "uint8", scale=0.5, dialect=dialect)
    assert q.zero_point.tolist() == [[0]]
    q = nc.quantize(x, "uint8", scale=0.5, dialect=dialect, symmetric=True)
    assert q.zero_point.tolist() == [[128]]
    narrow = np.array([1, 2, 3, 4] * 3, ml_dtypes.uint4)  # ONNX: of the dtype of the codes
    q = nc.quantize(x, "uint4", granularity="channel", axis=0, scale=np.ones(12), zero_point=narrow)
    assert q.zero_point.ravel().tolist() == narrow.tolist()


def test_a_tie_with_an_odd_zero_point():
    """The dialects differ: to even before the zero point (onnx, torchao), after it (torch, compressed_tensors)."""
    for dialect, code in {"onnx": 1, "torchao": 1, "torch": 2, "compressed_tensors": 2, "vllm": 2}.items():
        assert nc.quantize(np.float32([0.5]), "uint8", scale=1, zero_point=1, dialect=dialect).codes.tolist() == [code]


def test_special_values(isa):
    """NaN is the lowest code, with torch the highest; infinities are the ends."""
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
    for dialect in ("onnx", "torchao", "compressed_tensors", "vllm", "torch", "quanto"):
        nan = 127 if dialect == "torch" else -128
        assert nc.quantize(x, "int8", scale=1, dialect=dialect).codes.tolist() == [nan, nan, 127, -128, 0, 0]
    assert nc.quantize(x, "uint8", scale=1).codes.tolist() == [0, 0, 255, 0, 0, 0]
    assert nc.quantize(x, "float8_e4m3fn", scale=1).codes.view(np.uint8).tolist() == [0x7F, 0x7F, 0x7E, 0xFE, 0x80, 0]


def test_empty_rows(isa):
    """All zero, or without a finite value: scale 1, and the codes of 0."""
    x = np.zeros((3, 5), np.float32)
    x[1] = np.nan
    q = nc.quantize(x, "uint8", granularity="row")
    assert q.scale.ravel().tolist() == [1, 1, 1]
    assert q.zero_point.ravel().tolist() == [0, 0, 0]
    assert q.codes.tolist() == np.zeros((3, 5)).tolist()


def test_row_sums(isa):
    for x, name in itertools.product((hard(), deep(), hard(columns=4096)), ("int8", "uint8", "int4", "uint16")):
        for granularity in ("row", "tensor", "group", "channel -1"):
            q = nc.quantize(x, name, row_sums=True, **GRANULARITIES[granularity])
            assert q.row_sums.dtype == np.int32
            assert q.row_sums.tolist() == q.codes.astype(np.int64).sum(axis=-1).tolist()
    q = nc.quantize(hard(columns=64), "int4", granularity="group", group_size=32, layout="lsb", row_sums=True)
    plain = nc.quantize(hard(columns=64), "int4", granularity="group", group_size=32)
    assert q.row_sums.tolist() == plain.codes.astype(np.int64).sum(axis=-1).tolist()


@pytest.mark.parametrize("name", ["int1", "uint2", "int3", "int4", "uint4", "uint5", "int6", "int7", "int8",
                                  "float4_e2m1fn", "float6_e3m2fn"])  # fmt: skip
def test_packed(name, isa):
    """The codes of an unpacked result, packed; and the values of both."""
    for x, options in itertools.product(
        (hard(columns=64), deep()[..., :32]), ({"granularity": "row"}, {"granularity": "group", "group_size": 24}, {})
    ):
        plain, q = nc.quantize(x, name, **options), nc.quantize(x, name, layout="lsb", **options)
        bits = target_bits(name)
        assert q.codes.dtype == np.uint8
        assert q.codes.shape == (*x.shape[:-1], x.shape[-1] * bits // 8)
        raw = plain.codes.view(np.uint8)
        stream = ((raw[..., None] >> np.arange(bits, dtype=np.uint8)) & 1).reshape(*x.shape[:-1], -1)
        assert same(q.codes, np.packbits(stream, axis=-1, bitorder="little"))
        assert q.shape == x.shape
        assert same(q.scale, plain.scale)
        assert same(q.dequantize(), plain.dequantize())
        values = nc.dequantize(q.codes, q.scale, q.zero_point, spec=q.spec)
        assert same(values, plain.dequantize())


@pytest.mark.parametrize("layout", ["msb_nibble", "ggml", "quanto", "gptq", "awq", "compressed_tensors", "marlin"])
def test_other_layouts(layout):
    x = np.random.default_rng(5).normal(size=(64, 64)).astype(np.float32)
    plain, q = nc.quantize(x, "uint4", granularity="row"), nc.quantize(x, "uint4", granularity="row", layout=layout)
    assert same(nc.unpack(q.codes, "uint4", shape=x.shape, layout=layout), plain.codes)
    assert same(q.dequantize(), plain.dequantize())
    again = nc.QuantizedArray(np.zeros_like(q.codes), np.zeros_like(q.scale), np.zeros_like(q.zero_point), q.spec)
    assert nc.quantize(x, q.spec, out=again) is again
    assert same(again.codes, q.codes)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "float8_e5m2", "tfloat32"])
def test_dequantize_to_every_float(dtype, isa):
    """The float32 values, cast once more."""
    for name, layout in (("int8", None), ("uint4", "lsb"), ("float8_e4m3fn", None), ("int16", None)):
        q = nc.quantize(hard(columns=48), name, granularity="group", group_size=16, layout=layout)
        assert same(q.dequantize(dtype), nc.astype(q.dequantize(), dtype))


def test_dequantize_guesses_the_granularity():
    """From scales whose shape says it."""
    codes = np.arange(-24, 24, dtype=np.int8).reshape(4, 12)
    for shape in ((), (1,), (1, 1), (4, 1), (1, 12), (4, 12), (4, 3), (2, 4)):
        scale = (np.arange(np.prod(shape)) + 1).astype(np.float32).reshape(shape)
        full = scale if not shape or scale.size == 1 else np.kron(
            scale, np.ones([n // s for n, s in zip(codes.shape, shape, strict=True)])
        )  # fmt: skip
        assert same(nc.dequantize(codes, scale), (codes * full).astype(np.float32))
    assert nc.dequantize(codes, 0.5, 3).tolist() == ((codes.astype(int) - 3) * 0.5).tolist()
    rows = nc.dequantize(codes, [1, 2, 3, 4], granularity="channel", axis=0)
    assert rows.tolist() == (codes * np.array([[1], [2], [3], [4]])).tolist()


def test_dequantize_others_codes():
    """Codes that no one here made: wider than their bits, in packed bytes of odd numbers, scales of 0 and NaN."""
    assert nc.dequantize(np.array([0x7F, 0xF8], np.uint8).view(np.int8), 1.0, spec="int4").tolist() == [-1, -8]
    packed = np.array([[0x21, 0x03]], np.uint8)
    assert nc.dequantize(packed, 2.0, spec="uint4", layout="lsb", shape=(1, 3)).tolist() == [[2, 4, 6]]
    assert nc.dequantize(np.int8([3]), 0.0).tolist() == [0]
    assert np.isnan(nc.dequantize(np.int8([3]), np.nan)).all()


@pytest.mark.parametrize("dialect", [name for name in DIALECT_TARGETS if name != "llm_int8"])
def test_fake_quantize(dialect, isa):
    """What quantize and dequantize give, in the dtype of x."""
    for source in SOURCES:
        x = hard(source)
        for name in DIALECT_TARGETS[dialect]:
            options = {"granularity": "row", "dialect": dialect}
            expected = nc.quantize(x, name, **options).dequantize(source)
            got = nc.fake_quantize(x, name, **options)
            assert got.dtype == x.dtype
            assert same(got, expected)
    out = np.zeros(x.shape, x.dtype)
    assert nc.fake_quantize(x, "int8", scale=0.5, out=out) is out
    assert same(out, nc.quantize(x, "int8", scale=0.5).dequantize(source))


def test_threads():
    """The same as one thread, whoever shares the boxes."""
    x = np.random.default_rng(6).normal(size=(300, 1024)).astype(np.float32)
    for options in ({}, *GRANULARITIES.values(), {"granularity": "row", "layout": "lsb"}):
        one = nc.quantize(x, "int4", threads=1, row_sums=True, **options)
        for threads in (2, 3, 0):
            many = nc.quantize(x, "int4", threads=threads, row_sums=True, **options)
            assert same(many.codes, one.codes)
            assert same(many.scale, one.scale)
            assert same(many.row_sums, one.row_sums)
            assert same(many.dequantize(threads=threads), one.dequantize())
            assert same(nc.fake_quantize(x, one.spec, threads=threads), nc.fake_quantize(x, one.spec))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
def test_empty(shape):
    x = np.zeros(shape, np.float32)
    for options in ({}, {"granularity": "row"}, {"granularity": "group", "group_size": 4}, {"scale": 0.5},
                    {"granularity": "channel", "axis": 0}, {"calibration": "entropy"}):  # fmt: skip
        q = nc.quantize(x, "uint8", row_sums=True, **options)
        assert q.codes.shape == q.shape == shape
        assert q.scale.ndim == len(shape)
        assert (q.scale == options.get("scale", 1)).all()
        assert q.row_sums.shape == shape[:-1]
        assert not q.row_sums.any()
        assert q.dequantize().shape == shape
        assert nc.quantize(x, q.spec, out=q, scale=options.get("scale")) is q
        assert nc.fake_quantize(x, q.spec).shape == shape
        assert nc.quantization_error(x, q).elements == 0


def test_one_value():
    for x in (np.float32(-3), np.array(-3.0), -3.0):
        q = nc.quantize(x, "int8")
        assert (q.codes.shape, q.scale.shape, q.shape) == ((), (), ())
        assert q.codes == -127
        assert q.dequantize() == -3
        assert nc.quantize(x, q.spec, out=q) is q
    assert nc.fake_quantize(np.float32(0.3), "int8", scale=0.25) == 0.25
    q = nc.quantize(-3.0, "uint8", granularity="row")
    assert (q.codes.shape, q.zero_point.shape) == ((), ())


def test_rows_of_fbgemm(isa):
    """Codes, scale and bias in one row of bytes, which the parts are views of."""
    x = hard()[[0, 1, 2, 3, 4, 6, 10]]
    for bits, name in ((8, "uint8"), (4, "uint4"), (2, "uint2")):
        q = nc.quantize(x, name, granularity="row", dialect="fbgemm")
        number = np.float32 if bits == 8 else np.float16
        width = -(-37 * bits // 8)
        assert q.fused.shape == (7, width + 2 * np.dtype(number).itemsize)
        assert q.fused.dtype == np.uint8
        codes, scale, shift, values, _ = quantize_cases.expect(x, name, granularity="row", dialect="fbgemm")
        stream = ((codes[..., None] >> np.arange(bits)) & 1).reshape(7, -1).astype(np.uint8)
        tail = np.concatenate([scale.astype(number), -shift.astype(number)], axis=1)
        expected = np.concatenate([np.packbits(stream, axis=1, bitorder="little"), tail.view(np.uint8)], axis=1)
        assert same(q.fused, expected)
        assert all(np.shares_memory(part, q.fused) for part in q[:3])
        assert same(q.dequantize(), values)
        assert same(nc.dequantize(q.fused, None, spec=name, dialect="fbgemm", shape=x.shape), values)
        q.fused[...] = 0
        assert nc.quantize(x, q.spec, out=q) is q
        assert same(q.fused, expected)
        assert same(nc.quantize(x[:, ::-1], q.spec).dequantize()[:, ::-1], values)


def test_outlier_columns_of_llm_int8(isa):
    """A column with a magnitude of 6 or more is left out: not in the scale, and 0 in the codes."""
    x = np.clip(hard()[[0, 1, 2, 6, 7]], -5, 5)
    plain = nc.quantize(x, "int8", granularity="row", dialect="llm_int8", threshold=6.0)
    assert plain.outlier_columns.tolist() == []
    assert same(plain.codes, nc.quantize(x, "int8", granularity="row", dialect="llm_int8").codes)
    assert nc.quantize(x, "int8", granularity="row", dialect="llm_int8").outlier_columns is None
    wide = x.copy()
    wide[1, 7], wide[2, 30], wide[4, 7] = 6, -1e9, np.inf
    q = nc.quantize(wide, "int8", granularity="row", dialect="llm_int8", threshold=6.0, row_sums=True)
    assert q.outlier_columns.tolist() == [7, 30]
    assert not q.codes[:, [7, 30]].any()
    left = np.where(np.abs(wide) >= 6, 0, wide)
    expected = nc.quantize(left, "int8", granularity="row", dialect="llm_int8")
    assert same(q.scale, expected.scale)
    kept = [i for i in range(37) if i not in (7, 30)]
    assert same(q.codes[:, kept], expected.codes[:, kept])
    assert q.row_sums.tolist() == q.codes.astype(int).sum(axis=1).tolist()
