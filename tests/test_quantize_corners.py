"""Where calls of quantize, dequantize and pack meet what is seldom there: no elements, masks, tensors of other kinds,
numbers of other libraries, results taken apart. What each must give is written out; the arithmetic is tested elsewhere.
"""

import dataclasses
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
from quantize_cases import check

X = np.linspace(-3, 3, 64, dtype=np.float32).reshape(4, 16)


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ({}, {(0, 5): (1, 1), (5, 0): (1, 1)}),
        ({"granularity": "row"}, {(0, 5): (0, 1), (5, 0): (5, 1)}),
        ({"granularity": "channel", "axis": 0}, {(0, 5): (0, 1), (5, 0): (5, 1)}),
        ({"granularity": "group", "group_size": 2}, {(0, 5): (0, 3), (5, 0): (5, 0)}),
        ({"granularity": "block", "block_shape": (2, 2)}, {(0, 5): (0, 3), (5, 0): (3, 0)}),
    ],
)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_scales_of_nothing(options, scales, shape):
    """There is a scale for each row, group or block that there is: buffers are cut to the tokens of a batch, also 0."""
    q = nc.quantize(np.zeros(shape, np.float32), "int8", **options)
    assert q.scale.shape == scales[shape]
    codes, scale = np.ones((8, 8), np.int8)[: shape[0], : shape[1]], np.ones((8, 8), np.float32)
    out = (codes, scale[tuple(map(slice, q.scale.shape))], None)
    assert nc.quantize(np.zeros(shape, np.float32), q.spec, out=out) is out
    assert nc.dequantize(q.codes, q.scale, spec=q.spec).shape == shape
    assert nc.quantize(np.zeros(shape, np.float32), q.spec, scale=q.scale).scale.shape == scales[shape]


@pytest.mark.parametrize("dtype", ["uint8", "uint4"])
def test_no_fused_rows(dtype):
    spec = nc.QuantSpec(dtype, granularity="row", dialect="fbgemm")
    x = np.zeros((0, 5), np.float32)
    q = nc.quantize(x, spec)
    assert (q.codes.shape[0], q.scale.shape, q.fused.shape[0]) == (0, (0, 1), 0)
    assert nc.quantize(x, spec, out=q) is q
    assert q.dequantize().shape == (0, 5)
    assert nc.dequantize(q.fused, None, spec=spec, shape=(0, 5)).shape == (0, 5)


@pytest.mark.parametrize("layout", [None, "lsb"])
def test_one_code(layout):
    q = nc.quantize(np.float32(-3), "int8", layout=layout)
    assert q.dequantize() == -3
    assert nc.quantization_error(np.float32(-3), q).max_abs == 0
    assert nc.quantize(np.float32(3), q.spec, out=q).dequantize() == 3


def test_codes_in_the_other_byte_order():
    codes = np.array([[1, -2], [300, 4]], np.int16)
    words = nc.pack(np.arange(16, dtype=np.uint8).reshape(2, 8), "uint4", layout="awq")
    assert (nc.dequantize(codes.astype(codes.dtype.newbyteorder()), 0.5) == codes * 0.5).all()
    q = nc.quantize(codes.astype(np.float32), "int16", scale=0.5)
    assert nc.quantization_error(codes.astype(np.float32), q._replace(codes=q.codes.astype(">i2"))).max_abs == 0
    y = nc.dequantize(words.astype(words.dtype.newbyteorder()), 1.0, spec="uint4", layout="awq")
    assert (y.ravel() == np.arange(16)).all()


def test_masks():
    """What is masked has no number, so no range and no code; an array of which nothing is masked is one like others."""
    masked = np.ma.masked_array(X, X > 2)
    for call in (nc.quantize, nc.fake_quantize, nc.choose_qparams):
        with pytest.raises(ValueError, match=r"^x has masked elements, .*x.filled\(0\)"):
            call(masked)
    assert (nc.quantize(np.ma.masked_array(X)).codes == nc.quantize(X).codes).all()


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_symmetric_codes_lie_around_zero(dtype):
    for ends in ({"qmin": 3}, {"qmax": -1}):
        with pytest.raises(ValueError, match=r"^qmin is -?\d+, and qmax is -?\d+; allowed with symmetric signed codes"):
            nc.QuantSpec(dtype, **ends)
        assert nc.quantize(X, dtype, symmetric=False, **ends).codes.astype(int).max() <= ends.get("qmax", 127)
    assert nc.quantize(X, dtype, qmin=0).codes.astype(int).min() == 0


def test_symmetric_codes_with_none_above_zero():
    """vllm and quanto divide the largest magnitude by the largest code, which must not be that of zero."""
    for dialect, options in (
        ("vllm", {"dtype": "int1"}),
        ("vllm", {"dtype": "uint1", "symmetric": True}),
        ("vllm", {"dtype": "int8", "qmax": 0}),
        ("quanto", {"dtype": "int1"}),
    ):
        with pytest.raises(ValueError, match=rf"^dialect is '{dialect}', whose symmetric codes need some above zero; "):
            nc.QuantSpec(dialect=dialect, **options)
    x = np.array([[0, 0], [1, -2], [np.inf, np.nan]], np.float32)
    for dialect in ("onnx", "torch", "torchao", "compressed_tensors", "vllm", "quanto"):
        for dtype in ("int1", "uint1") if dialect not in ("vllm", "quanto") else ("int2", "uint1"):
            scale = nc.quantize(x, dtype, dialect=dialect, granularity="row").scale
            assert ((scale > 0) & (scale < 10)).all(), (dialect, dtype)


def test_numbers_of_other_libraries():
    """numpy's scalars and fractions are numbers; strings and truth values are not."""
    row = {"granularity": "row", "dialect": "llm_int8"}
    assert nc.QuantSpec("int8", threshold=np.float32(6), **row) == nc.QuantSpec("int8", threshold=6.0, **row)
    assert nc.Calibration("percentile", percentile=np.float32(99)).percentile == 99
    assert nc.QuantSpec("int8", scale_max=np.float16(0.5)).scale_max == 0.5
    for options in ({"threshold": True, **row}, {"threshold": "6", **row}, {"scale_max": "1"}, {"scale_max": True}):
        name = next(iter(options))
        with pytest.raises(TypeError, match=f"^{name} is .*; allowed are finite"):
            nc.QuantSpec("int8", **options)
    with pytest.raises(ValueError, match=r"^scale_max is 1e-40; allowed are finite normal float32 numbers above 0"):
        nc.QuantSpec("int8", scale_max=1e-40)
    with pytest.raises(ValueError, match=r"^threshold is 1e\+300; allowed are finite numbers from 0"):
        nc.QuantSpec("int8", threshold=1e300, **row)


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = nc.QuantSpec("int8", granularity="row", dialect="llm_int8", threshold=1e5)
        assert nc.quantize(X.astype(np.float16), row).outlier_columns.size == 0
        assert nc.quantize(X, calibration=nc.Calibration("mse", norm=1e300)).scale.shape == (1, 1)


def test_a_spec_says_at_once_what_no_call_could_use():
    for dtype, zero_point, error, words in (
        ("uint8", 300, ValueError, "^zero_point holds 300; in the dialect onnx it must be 0 to 255"),
        ("uint8", 1.5, TypeError, "^zero_point has dtype float64; allowed with dialect 'onnx' are integers"),
        ("uint8", (1, 2, 3), ValueError, r"^scale has shape \(2,\); allowed are \(3,\)"),
        ("float8_e4m3fn", 0, ValueError, "^zero_point is given; allowed with integer codes only"),
    ):
        with pytest.raises(error, match=words):
            nc.QuantSpec(dtype, scale=[0.1, 0.2], zero_point=zero_point)
    with pytest.raises(TypeError, match=r"^scale has dtype bool"):
        nc.QuantSpec("int8", scale=True)
    with pytest.raises(ValueError, match=r"^scale is 0.0; allowed are finite float32 numbers above 0"):
        nc.QuantSpec("int8", scale=1e-9, scale_dtype="float16")
    assert nc.QuantSpec("uint8", scale=0.5, zero_point=300, dialect="vllm").zero_point == 300


def test_what_a_spec_holds_stays_as_it_is():
    spec = nc.QuantSpec("uint8", granularity="channel", axis=0, scale=[0.1, 0.2, 0.3, 0.4], zero_point=7)
    q = nc.quantize(X, spec)
    expected = [part.copy() for part in q[:3]]
    q.scale[...], q.zero_point[...] = 5, 9
    for made in (nc.quantize(X, spec), nc.quantize(X, spec, out=q)):
        assert all((part == wanted).all() for part, wanted in zip(made, expected, strict=False))
    with pytest.raises(ValueError, match=r"^scale has shape \(4,\); allowed are \(2, 1\) or"):
        nc.quantize(X[:2], spec)


def test_fields_of_a_spec_are_its_arguments():
    spec = nc.QuantSpec("int4", granularity="group", group_size=4)
    assert nc.QuantSpec(**dataclasses.asdict(spec) | {"calibration": "minmax"}) == spec
    assert {one.name for one in dataclasses.fields(spec)} == set(dataclasses.asdict(spec))


def test_results_made_by_hand():
    q = nc.QuantizedArray(np.ones((2, 3), np.int8), 0.5, None, nc.QuantSpec("int8"))
    assert repr(q) == "<QuantizedArray 2x3 as QuantSpec('int8'): 6 bytes, 1 scales>"
    assert (q.dequantize() == 0.5).all()
    with pytest.raises(ValueError, match=r"^x has shape \(4, 16\), and q is of \(2, 3\)"):
        nc.quantization_error(X, q)
    cut = nc.quantize(X)
    with pytest.raises(ValueError, match=r"^shape is \(4, 16\), and codes of int8 have shape \(2, 16\)"):
        nc.quantization_error(X, cut._replace(codes=cut.codes[:2]))


def test_a_result_keeps_its_zero_points():
    """A result without a place for zero points that came with the call would stand for other values."""
    q = nc.quantize(X, "int8")
    with pytest.raises(ValueError, match=r"^out.zero_point is None; allowed is an array of int32"):
        nc.quantize(X, q.spec, scale=0.1, zero_point=3, out=q)
    out = (q.codes, q.scale, None)
    assert nc.quantize(X, q.spec, scale=0.1, zero_point=3, out=out) is out
    assert (q.codes == nc.quantize(X, scale=0.1, zero_point=3).codes).all()


def test_parts_of_a_result_replaced():
    q = nc.quantize(np.vstack([X, X]), "int4", layout="gptq", granularity="row", row_sums=True)
    doubled = q._replace(scale=q.scale * 2)
    assert type(doubled) is nc.QuantizedArray
    assert (doubled.shape, doubled.dtype, doubled.row_sums) == ((8, 16), np.float32, None)
    assert (doubled.dequantize() == 2 * q.dequantize()).all()


@pytest.mark.parametrize("layout", ["gptq", "awq", "compressed_tensors", "ggml", "quanto", "msb_nibble", "marlin"])
def test_codes_of_others_fill_their_words(layout):
    """A checkpoint's words say how many codes there are, as they do to unpack."""
    codes = (np.arange(64 * 64).reshape(64, 64) % 16).astype(np.uint8)
    packed = nc.pack(codes, "uint4", layout=layout)
    scale = np.linspace(0.5, 1, 64, dtype=np.float32)
    y = nc.dequantize(packed, scale, spec="uint4", layout=layout, granularity="channel", axis=1)
    assert (y == codes * scale).all()


def test_words_of_a_wrong_size():
    with pytest.raises(TypeError, match=r"^codes have dtype uint8; allowed in layout awq are int32 and uint32"):
        nc.dequantize(np.zeros((4, 4), np.uint8), 1.0, spec="uint4", layout="awq")
    with pytest.raises(TypeError, match=r"^codes have dtype int32, which does not say what they are; name"):
        nc.dequantize(np.zeros((4, 4), np.int32), 1.0, layout="awq")


@pytest.mark.parametrize("layout", ["awq", "gptq", "quanto"])
def test_memory_for_words(layout):
    """Of another shape or dtype it is refused with a sentence, before anything is computed."""
    x = np.vstack([X, X])
    q = nc.quantize(x, "int4", layout=layout)
    for codes, error, words in (
        (q.codes.astype(np.int64), TypeError, "^out.codes has dtype int64; allowed are u?int"),
        (q.codes[:, :1], ValueError, r"^out.codes has shape \(\d+, 1\); allowed is \(\d+, \d+\)"),
    ):
        scale = np.full((1, 1), 7, np.float32)
        with pytest.raises(error, match=words):
            nc.quantize(x, q.spec, out=(codes, scale, None))
        assert scale == 7
    with pytest.raises(ValueError, match=r"^the codes have .*; allowed are multiples of"):
        nc.quantize(x[:3, :3], "int4", layout=layout)


def test_ranges_beyond_float32():
    """Values of float64 count as the largest float32 there, and so do ranges."""
    x = np.array([-1e300, 0, 1e300])
    assert nc.choose_qparams(low=-1e300, high=1e300).scale == nc.choose_qparams(x).scale
    with pytest.raises(ValueError, match=r"^high is inf; allowed are finite numbers"):
        nc.choose_qparams(low=0.0, high=np.inf)
    with pytest.raises(TypeError, match=r"^low has dtype <U1; allowed are"):
        nc.choose_qparams(low="a", high=1.0)


def test_a_wrong_target_is_named_as_it_was_given():
    for call in (
        lambda: nc.quantize(X, "int9"),
        lambda: nc.fake_quantize(X, "int9"),
        lambda: nc.dequantize(nc.quantize(X).codes, 1.0, spec="int9"),
    ):
        with pytest.raises(TypeError, match=r"^spec is 'int9'; allowed are int1 to int8"):
            call()
    with pytest.raises(TypeError, match=r"^dtype is 'int9'; allowed are int1 to int8"):
        nc.QuantSpec("int9")


def test_words_of_pack():
    for name in ("pad", "check"):
        with pytest.raises(TypeError, match=f"^{name} is 'no'; allowed are True and False"):
            nc.pack([1], "uint4", **{name: "no"})
    with pytest.raises(TypeError, match=r"^pad is 1; allowed are True and False"):
        nc.repack(np.zeros(1, np.uint8), "uint4", "lsb", "awq", shape=2, pad=1)
    for shape in ((1 << 64,), (4, 1 << 63)):
        with pytest.raises(ValueError, match=r"^shape is \(.*; an extent must be 0 or more, and less than"):
            nc.unpack(np.zeros(4, np.uint8), "uint4", shape=shape)


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float32"])
def test_values_of_quanto(source):
    """Products are rounded to the dtype of the scale, which is that of the source."""
    x = np.asarray(nc.astype(np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32), source))
    q = check(x, "int8", dialect="quanto", granularity="row")
    assert q.scale.dtype == x.dtype


@pytest.fixture
def torch(request):
    module = pytest.importorskip("torch", reason="torch is not installed")
    assert sys.modules["torch"] is module
    return module


def test_tensors_that_are_no_codes(torch):
    """A tensor is what its dtype says, though numpy has no name for it: bits of floats are not packed as integers."""
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float16):
        with pytest.raises(TypeError, match=f"^codes has dtype {str(dtype).removeprefix('torch.')}; allowed for"):
            nc.pack(torch.ones(8).to(dtype), "uint8")
    wide = torch.arange(8, dtype=torch.int32).to(torch.uint16)
    assert nc.pack(wide, "uint4").tolist() == [0x10, 0x32, 0x54, 0x76]


@pytest.mark.parametrize("dtype", ["uint8", "uint4", "uint2"])
@pytest.mark.parametrize("n", range(1, 9))
def test_fused_rows_of_tensors(torch, dtype, n):
    """Scale and bias can lie where no float tensor can; the rows are written all the same."""
    x = torch.from_numpy(X[:, :n].copy())
    spec = nc.QuantSpec(dtype, granularity="row", dialect="fbgemm")
    q = nc.quantize(x, spec)
    assert nc.quantize(x * 2 + 1, spec, out=q) is q
    assert torch.equal(q.fused, nc.quantize(x * 2 + 1, spec).fused)
    assert torch.equal(nc.dequantize(q.fused, None, spec=spec, shape=x.shape), q.dequantize())
    q.fused = q.fused[:, :-1]
    with pytest.raises(ValueError, match=r"^out.fused has shape"):
        nc.quantize(x, spec, out=q)


def test_fp4_of_torch(torch):
    """float4_e2m1fn_x2, torch's dtype of two codes to a byte, lowest first."""
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this torch has no float4_e2m1fn_x2")
    packed = torch.tensor([[0xF2, 0x10]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    y = nc.dequantize(packed, 2.0, spec="float4_e2m1fn", layout="lsb")
    assert y.tolist() == [[2.0, -12.0, 0.0, 1.0]]


def test_gradients(torch):
    """No result has one, so no argument may want one; the straight-through estimator of the documentation does."""
    w = torch.linspace(-1, 1, 8, requires_grad=True)
    for call in (nc.quantize, nc.fake_quantize, nc.choose_qparams, lambda x: nc.pack(x, "int4")):
        with pytest.raises(ValueError, match=r"^\w+ requires a gradient, .*; pass \w+.detach\(\)"):
            call(w)
    y = w + (nc.fake_quantize(w.detach(), "int4") - w).detach()
    y.sum().backward()
    assert (w.grad == 1).all()
    assert torch.equal(y.detach(), nc.fake_quantize(w.detach(), "int4"))


def test_bits_of_bfloat16(torch):
    assert nc.quantize(torch.ones(4, dtype=torch.bfloat16)).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4"])
def test_a_scale_that_the_spec_holds(dtype):
    """With out= by the compiled entry, without by Python: the same codes, and the scale in the result."""
    zero = 3 if dtype == "uint8" else None
    spec = nc.QuantSpec(dtype, scale=0.03, zero_point=zero)
    for shape in [(5,), (3, 70), (2, 3, 4)]:
        x = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
        fresh = nc.quantize(x, spec)
        assert fresh.codes.tolist() == nc.quantize(x, dtype, scale=0.03, zero_point=zero).codes.tolist()
        q = nc.quantize(np.zeros_like(x), spec)
        q.scale[...] = 7
        assert nc.quantize(x, spec, out=q) is q
        assert q.codes.tobytes() == fresh.codes.tobytes()
        assert q.scale.tolist() == fresh.scale.tolist()
        assert zero is None or q.zero_point.tolist() == fresh.zero_point.tolist()
    if zero is None:  # a scale of the call comes first
        assert nc.quantize(x, spec, scale=np.full_like(q.scale, 0.5), out=q) is q
        assert q.codes.tolist() == nc.quantize(x, dtype, scale=0.5).codes.tolist()


def test_denormal_scales_where_denormals_count_as_zero():
    torch = pytest.importorskip("torch")
    x, scale = np.full((4, 8), 1e-40, np.float32), np.full((4, 1), 1e-41, np.float32)
    expected = nc.quantize(x, "int8", granularity="row", scale=scale)
    prepared = nc.QuantSpec("int8", granularity="row", scale=tuple(scale[:, 0].tolist()))
    torch.set_flush_denormal(True)
    try:
        found = nc.quantize(x, "int8", granularity="row", scale=scale)
        again = nc.quantize(x, prepared)
        with pytest.raises(ValueError, match=r"^scale is 0.0; "):
            nc.quantize(x, "int8", granularity="row", scale=scale * 0)
    finally:
        torch.set_flush_denormal(False)
    for made in (found, again):
        np.testing.assert_array_equal(made.codes, expected.codes)
    assert (expected.codes == 10).all()
