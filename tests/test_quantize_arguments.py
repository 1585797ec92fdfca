"""What quantize and its kin say about wrong arguments: one sentence, the right exception, and nothing written."""

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc

X = np.arange(-8, 8, dtype=np.float32).reshape(2, 8)
ROW = {"granularity": "row"}
HUGE = 10**30


@pytest.mark.parametrize(
    "spec", ["int9", "int0", "uint32", "int64", "float16", "float8_e8m0fnu", "bool", "", None, 3, [], np.float32,
             np.int32, object(), ml_dtypes.bfloat16]
)  # fmt: skip
def test_targets_that_are_none(spec):
    for name, call in (
        ("dtype", nc.QuantSpec),
        ("spec", lambda spec: nc.quantize(X, spec)),
        ("spec", lambda spec: nc.fake_quantize(X, spec)),
    ):
        with pytest.raises(TypeError, match=rf"^{name} is .*allowed are int1 to int8, .*float8_e4m3fn"):
            call(spec)


@pytest.mark.parametrize(
    "spec", ["int8", np.int8, np.dtype(np.int8), "i1", next(row for row in nc.formats() if row.name == "int8")]
)
def test_ways_to_name_a_target(spec):
    assert nc.quantize(X, spec).spec == nc.QuantSpec("int8")
    assert nc.QuantSpec(ml_dtypes.int4).dtype == "int4"
    assert nc.QuantSpec(np.dtype(ml_dtypes.float8_e4m3fn)).dtype == "float8_e4m3fn"


OPTIONS = [
    ({"granularity": "rows"}, ValueError, "^granularity is 'rows'; allowed are tensor, row, channel, group, block"),
    ({"granularity": None}, ValueError, "^granularity is None"),
    ({"granularity": "channel"}, ValueError, "^axis is None; granularity='channel' needs an axis"),
    ({"granularity": "channel", "axis": 1.0}, TypeError, "^axis is 1.0; allowed are integers"),
    ({"granularity": "channel", "axis": ()}, ValueError, r"^axis is \(\)"),
    ({"granularity": "channel", "axis": (0, "1")}, TypeError, "^axis is '1'"),
    ({"axis": 0}, ValueError, "^axis is 0; allowed with granularity 'channel' and 'group' only"),
    ({"granularity": "row", "axis": 0}, ValueError, "^axis is 0; allowed with"),
    ({"granularity": "group"}, ValueError, "^group_size is None; granularity='group' needs"),
    ({"granularity": "group", "group_size": 0}, ValueError, "^group_size is 0; allowed are integers from 1"),
    ({"granularity": "group", "group_size": -HUGE}, ValueError, "^group_size is -1000"),
    ({"granularity": "group", "group_size": HUGE}, ValueError, "^group_size is 1000"),
    ({"granularity": "group", "group_size": 32.0}, TypeError, "^group_size is 32.0"),
    ({"granularity": "group", "group_size": 4, "axis": (0, 1)}, ValueError, r"^axis is \(0, 1\)"),
    ({"group_size": 32}, ValueError, "^group_size is 32; allowed with granularity='group' only"),
    ({"granularity": "block"}, ValueError, "^block_shape is None; allowed with granularity='block' are two integers"),
    ({"granularity": "block", "block_shape": 128}, ValueError, "^block_shape is 128"),
    ({"granularity": "block", "block_shape": (128,)}, ValueError, r"^block_shape is \(128,\)"),
    ({"granularity": "block", "block_shape": (128, 0)}, ValueError, r"^block_shape\[1\] is 0"),
    ({"granularity": "block", "block_shape": ("a", 1)}, TypeError, r"^block_shape\[0\] is 'a'"),
    ({"block_shape": (2, 2)}, ValueError, "^block_shape is .*; allowed with granularity='block' only"),
    ({"symmetric": 1}, TypeError, "^symmetric is 1; allowed are True, False and None"),
    ({"symmetric": "yes"}, TypeError, "^symmetric is 'yes'"),
    ({"row_sums": 1}, TypeError, "^row_sums is 1; allowed are True and False"),
    ({"spec": "float8_e4m3fn", "row_sums": True}, ValueError, "^row_sums is True; allowed with integer codes only"),
    ({"spec": "float8_e4m3fn", "symmetric": False}, ValueError, "^symmetric is False, and dtype is float8_e4m3fn"),
    ({"spec": "float4_e2m1fn", "qmax": 3}, ValueError, "^qmax is 3; allowed with integer codes only"),
    ({"qmin": -129}, ValueError, "^qmin is -129; allowed with int8 are -128 to 127"),
    ({"qmax": 128}, ValueError, "^qmax is 128; allowed with int8 are -128 to 127"),
    ({"qmax": HUGE}, ValueError, "^qmax is 1000"),
    ({"qmin": 5, "qmax": 5}, ValueError, "^qmax is 5; allowed are integers above qmin, 5"),
    ({"qmax": -128}, ValueError, "^qmax is -128; allowed are integers above qmin, -128"),
    ({"qmin": 127}, ValueError, "^qmin is 127; allowed are integers below qmax, 127"),
    ({"qmin": 1.5}, TypeError, "^qmin is 1.5"),
    ({"spec": "uint4", "qmin": -1}, ValueError, "^qmin is -1; allowed with uint4 are 0 to 15"),
    ({"calibration": "max"}, ValueError, "^calibration is 'max'; allowed are minmax, percentile, entropy, mse"),
    ({"scale_dtype": "float64"}, TypeError, "^scale_dtype is float64; allowed are float32, float16, bfloat16, float8"),
    ({"scale_dtype": "nope"}, TypeError, "^scale_dtype is 'nope'"),
    ({"compute_dtype": "float64"}, TypeError, "^compute_dtype is float64; allowed are float32, float16, bfloat16"),
    ({"scale_max": 0}, ValueError, "^scale_max is 0; allowed are finite normal float32 numbers above 0"),
    ({"scale_max": np.nan}, ValueError, "^scale_max is nan"),
    ({"scale_max": 1e39}, ValueError, r"^scale_max is 1e\+39"),
    ({"scale_max": "1"}, (TypeError, ValueError), "^scale_max is '1'"),
    ({"layout": "dense"}, ValueError, "^layout is 'dense'; allowed are lsb, "),
    ({"layout": 1}, ValueError, "^layout is 1"),
    ({"spec": "int16", "layout": "lsb"}, ValueError, "^layout is 'lsb', and dtype is int16; allowed are codes of up"),
    (
        {"spec": "int3", "layout": "awq"},
        ValueError,
        "^layout is 'awq', and dtype is int3; this layout has no codes of 3",
    ),
    ({"dialect": "tensorrt"}, ValueError, "^dialect is 'tensorrt'; allowed are onnx, torch, .*llm_int8"),
    ({"dialect": None}, ValueError, "^dialect is None"),
    ({"dialect": "fbgemm", **ROW}, ValueError, "^dtype is int8, and dialect is 'fbgemm'; allowed are uint8, uint4, u"),
    ({"dialect": "fbgemm", "spec": "uint8"}, ValueError, "^granularity is 'tensor', and dialect is 'fbgemm'"),
    (
        {"dialect": "fbgemm", "spec": "uint8", "symmetric": True, **ROW},
        ValueError,
        "^symmetric is True, and dialect is",
    ),
    (
        {"dialect": "fbgemm", "spec": "uint4", "layout": "lsb", **ROW},
        ValueError,
        "^layout is 'lsb', and dialect is 'fb",
    ),
    (
        {"dialect": "fbgemm", "spec": "uint8", "calibration": "mse", **ROW},
        ValueError,
        "^calibration is .*'mse'.*fbgemm",
    ),
    ({"dialect": "llm_int8"}, ValueError, "^granularity is 'tensor', and dialect is 'llm_int8'; allowed is 'row'"),
    (
        {"dialect": "llm_int8", "spec": "int4", **ROW},
        ValueError,
        "^dtype is int4, and dialect is 'llm_int8'; allowed a",
    ),
    ({"dialect": "llm_int8", "symmetric": False, **ROW}, ValueError, "^symmetric is False, and dialect is 'llm_int8'"),
    ({"dialect": "quanto", "symmetric": False}, ValueError, "^symmetric is False, and dialect is 'quanto'"),
    ({"threshold": 6.0}, ValueError, "^threshold is 6.0; allowed with dialect='llm_int8' only"),
    (
        {"dialect": "llm_int8", "threshold": -1, **ROW},
        ValueError,
        "^threshold is -1; allowed are finite",
    ),
    ({"threads": -1}, ValueError, "^threads is -1"),
    ({"threads": 1.0}, TypeError, "^threads is 1.0"),
]


@pytest.mark.parametrize(("options", "error", "words"), OPTIONS, ids=lambda value: str(value)[:60])
def test_wrong_options(options, error, words):
    codes, scale = np.full(X.shape, 7, np.int8), np.full((2, 1), 7, np.float32)
    for extra in ({}, {"out": (codes, scale, None)}):
        with pytest.raises(error, match=words):
            nc.quantize(X, **({"spec": "int8"} | options | extra))
    with pytest.raises(error, match=words):
        nc.QuantSpec(options.get("spec", "int8"), **{key: value for key, value in options.items() if key != "spec"})
    assert (codes == 7).all()
    assert (scale == 7).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"granularity": "channel", "axis": 2}, ValueError, "^axis is 2; allowed are -2 to 1: x has 2 dimensions"),
        ({"granularity": "channel", "axis": -HUGE}, ValueError, "^axis is -1000"),
        ({"granularity": "channel", "axis": (0, -2)}, ValueError, r"^axis is \(0, -2\), which names an axis twice"),
        ({"granularity": "group", "group_size": 4, "axis": 5}, ValueError, "^axis is 5"),
        (
            {"spec": "int3", "layout": "lsb", "x": X[:, :7]},
            ValueError,
            "^layout is 'lsb', and the last axis has 7 codes",
        ),
        (
            {"granularity": "block", "block_shape": (2, 2), "x": X[0]},
            ValueError,
            "^granularity is 'block', and x has sh",
        ),
        ({"scale": 0}, ValueError, "^scale is 0.0; allowed are finite float32 numbers above 0"),
        ({"scale": -1.0}, ValueError, "^scale is -1.0"),
        ({"scale": np.nan}, ValueError, "^scale is nan"),
        ({"scale": np.inf}, ValueError, "^scale is inf"),
        ({"scale": 1e-60}, ValueError, "^scale is 0.0"),
        ({"scale": HUGE**2}, (TypeError, ValueError), "^scale "),
        ({"scale": "1"}, TypeError, "^scale has dtype"),
        ({"scale": [1, None]}, TypeError, "^scale has dtype object"),
        ({"scale": [[1, 2], [3]]}, ValueError, "^scale is a sequence of unequal lengths"),
        ({"scale": 1j}, TypeError, "^scale has dtype complex128"),
        ({"scale": True}, TypeError, "^scale has dtype bool"),
        ({"scale": [1.0, 2.0]}, ValueError, r"^scale has shape \(2,\); allowed are \(1, 1\)"),
        (
            {"scale": np.ones((3, 1)), **ROW},
            ValueError,
            r"^scale has shape \(3, 1\); allowed are \(2, 1\) or \(2,\) or",
        ),
        ({"scale": np.ones((1, 2)), **ROW}, ValueError, r"^scale has shape \(1, 2\)"),
        (
            {"scale": np.ones(2, ml_dtypes.float8_e4m3fn), **ROW},
            TypeError,
            "^scale has dtype float8_e4m3fn; allowed are",
        ),
        ({"zero_point": 3}, ValueError, "^zero_point is given, and scale is None"),
        ({"scale": 1, "zero_point": 128}, ValueError, "zero_point.* 128"),
        (
            {"scale": 1, "zero_point": 1.5},
            TypeError,
            "^zero_point has dtype float64; allowed with dialect 'onnx' are int",
        ),
        ({"scale": 1, "zero_point": HUGE}, (TypeError, ValueError), "^zero_point "),
        ({"scale": 1, "zero_point": 1 << 24, "dialect": "vllm"}, ValueError, "^zero_point is 16777216"),
        ({"scale": 1, "zero_point": [1, 2, 3]}, ValueError, r"^zero_point has shape \(3,\)"),
        (
            {"spec": "float8_e5m2", "scale": 1, "zero_point": 0},
            ValueError,
            "^zero_point is given; allowed with integer",
        ),
        ({"spec": "uint8", "dialect": "fbgemm", "scale": 1, **ROW}, ValueError, "^zero_point is None, and dialect is"),
        ({"x": X.astype(np.int32)}, TypeError, "^x has dtype int32, an integer format; allowed are the float formats"),
        ({"x": [1, 2]}, TypeError, "^x has dtype int64"),
        ({"x": X.astype(complex)}, TypeError, "^x has dtype complex128"),
        ({"x": "text"}, TypeError, "^x has dtype"),
        ({"x": None}, TypeError, "^x has dtype object"),
        ({"x": b"abcd"}, TypeError, "^x "),
    ],
    ids=lambda value: str(value)[:60],
)
def test_wrong_for_these_values(options, error, words):
    with pytest.raises(error, match=words):
        nc.quantize(**({"x": X, "spec": "int8"} | options))


def test_sums_that_int32_cannot_hold():
    x = np.broadcast_to(np.float32(1), (1, 70000))
    with pytest.raises(ValueError, match=r"^row_sums is True, and the last axis has 70000 codes of uint16"):
        nc.quantize(x, "uint16", row_sums=True)


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        ("text", TypeError, "^out is a str; allowed are a QuantizedArray and a tuple"),
        (np.zeros(X.shape, np.uint8), TypeError, "^out is a ndarray"),
        ((), TypeError, "^out is a tuple"),
        (lambda c, s, z: (c, s), TypeError, "^out is a tuple"),
        (lambda c, s, z: (c.tolist(), s, z), TypeError, "^out.codes is a list; allowed are ndarrays and torch tensors"),
        (lambda c, s, z: (c.view(np.int8), s, z), TypeError, "^out.codes has dtype int8; allowed are uint8"),
        (lambda c, s, z: (c.astype(np.int16), s, z), TypeError, "^out.codes has dtype int16"),
        (lambda c, s, z: (c[:1], s, z), ValueError, r"^out.codes has shape \(1, 8\); allowed is \(2, 8\)"),
        (lambda c, s, z: (c, None, z), ValueError, "^out.scale is None; allowed is an array of float32"),
        (lambda c, s, z: (c, s.astype(np.float64), z), TypeError, "^out.scale has dtype float64; allowed are float32"),
        (lambda c, s, z: (c, s[:1], z), ValueError, r"^out.scale has shape \(1, 1\); allowed is \(2, 1\)"),
        (lambda c, s, z: (c, s.astype(">f4"), z), TypeError, "^out.scale has dtype >f4"),
        (lambda c, s, z: (c, s, None), ValueError, "^out.zero_point is None"),
        (lambda c, s, z: (c, s, z.astype(np.int8)), TypeError, "^out.zero_point has dtype int8; allowed are int32"),
        (
            lambda c, s, z: (c, s, z, nc.QuantSpec("uint8")),
            ValueError,
            r"^out has QuantSpec\('uint8'\); allowed is the",
        ),
        (lambda c, s, z: (frozen(c), s, z), ValueError, "^out.codes is read-only"),
        (lambda c, s, z: (c, frozen(s), z), ValueError, "^out.scale is read-only"),
    ],
)
def test_wrong_out(out, error, words):
    codes, scale, zero = np.full(X.shape, 7, np.uint8), np.full((2, 1), 7, np.float32), np.full((2, 1), 7, np.int32)
    with pytest.raises(error, match=words):
        nc.quantize(X, "uint8", out=out(codes, scale, zero) if callable(out) else out, **ROW)
    assert all((part == 7).all() for part in (codes, scale, zero))


def frozen(array):
    array.flags.writeable = False
    return array


def test_out_of_another_form():
    codes, scale = np.full(X.shape, 7, np.int8), np.full((2, 1), 7, np.float32)
    with pytest.raises(ValueError, match=r"^out.zero_point is given, and QuantSpec.* has none; allowed is None"):
        nc.quantize(X, "int8", out=(codes, scale, np.zeros((2, 1), np.int32)), **ROW)
    with pytest.raises(TypeError, match=r"^out is a tuple without row sums"):
        nc.quantize(X, "int8", out=(codes, scale, None), row_sums=True, **ROW)
    with pytest.raises(ValueError, match=r"^out.codes has shape \(2, 8\); allowed is \(2, 4\)"):
        nc.quantize(X, "int4", out=(codes.view(np.uint8), scale, None), layout="lsb", **ROW)
    assert (codes == 7).all()
    assert (scale == 7).all()
    q = nc.quantize(X, "int8", row_sums=True, **ROW)
    q.row_sums = np.zeros(3, np.int32)
    with pytest.raises(ValueError, match=r"^out.row_sums has shape \(3,\)"):
        nc.quantize(X, q.spec, out=q)


def test_a_spec_and_what_it_holds():
    spec = nc.QuantSpec("int8", granularity="row")
    for options in ({"granularity": "group"}, {"symmetric": False}, {"dialect": "torch"}, {"calibration": "mse"},
                    {"row_sums": True}, {"qmin": 0}):  # fmt: skip
        name = next(iter(options))
        with pytest.raises(ValueError, match=rf"^{name} is .*use spec.replace\({name}="):
            nc.quantize(X, spec, **options)
    assert nc.quantize(X, spec, granularity="tensor", dialect="onnx").spec is spec, "the defaults say nothing"
    with pytest.raises(TypeError, match=r"^rows is not an argument of QuantSpec"):
        spec.replace(rows=1)


def test_wrong_calls():
    for call in (
        lambda: nc.quantize(),
        lambda: nc.quantize(X, "int8", "row"),
        lambda: nc.quantize(X, "int8", bits=4),
        lambda: nc.QuantSpec("int8", "row"),
        lambda: nc.QuantSpec("int8", out=None),
        lambda: nc.dequantize(X),
    ):
        with pytest.raises(TypeError):
            call()


CODES = np.arange(16, dtype=np.int8).reshape(2, 8)
PACKED = np.arange(8, dtype=np.uint8).reshape(2, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((CODES.tolist(), 1.0), {}, TypeError, "^codes is a list; allowed are ndarrays and torch tensors"),
        ((CODES.astype(np.float32), 1.0), {}, TypeError, "^codes have dtype float32, which does not say"),
        ((CODES.astype(np.int64), 1.0), {"spec": "int8"}, TypeError, "^codes have dtype int64; allowed for int8"),
        ((CODES.view(np.uint8), 1.0), {"spec": "int4"}, TypeError, "^codes have dtype uint8; allowed for int4 are"),
        ((CODES, 1.0), {"dtype": "int8"}, TypeError, "^dtype is int8, an integer format"),
        ((CODES, 1.0), {"layout": "lsb", "spec": "int4"}, TypeError, "^codes have dtype int8; allowed for packed int4"),
        ((CODES, [1.0, 2.0]), {}, ValueError, r"^scale has shape \(2,\), and codes are \(2, 8\); without granularity="),
        ((CODES, np.ones((2, 3))), {}, ValueError, r"^scale has shape \(2, 3\)"),
        ((CODES, np.ones((3, 1))), {"granularity": "row"}, ValueError, r"^scale has shape \(3, 1\); allowed are"),
        ((CODES, None), {}, ValueError, "^scale is None, and dialect is 'onnx'"),
        ((CODES, 1.0, 0.5), {}, TypeError, "^zero_point has dtype float64"),
        ((CODES, 1.0), {"shape": (16,)}, ValueError, r"^shape is \(16,\), and codes of int8 have shape \(2, 8\)"),
        ((CODES, 1.0), {"shape": "ab"}, TypeError, "^shape is 'ab'"),
        ((PACKED, 1.0), {"layout": "lsb", "spec": "int4", "shape": (2, 10)}, ValueError, r"^shape is \(2, 10\), and"),
        ((PACKED, 1.0), {"layout": "lsb", "spec": "int4", "shape": (-2, 8)}, ValueError, r"^shape is \(-2, 8\)"),
        ((PACKED, 1.0), {"layout": "lsb", "spec": "int3"}, ValueError, "^shape is None; these packed codes need"),
        ((PACKED, 1.0), {"layout": "gptq", "spec": "uint4"}, TypeError, "^codes have dtype uint8; allowed in"),
        ((CODES, 1.0), {"out": np.zeros((2, 8))}, TypeError, "^out has dtype float64; allowed are float32 and uint32"),
        ((CODES, 1.0), {"out": np.zeros(16, np.float32)}, ValueError, "^out has shape"),
        ((CODES, 1.0), {"spec": nc.QuantSpec("int8"), "granularity": "row"}, ValueError, "^granularity is 'row', and"),
        ((CODES.view(np.uint8)[:, :3], None), {"dialect": "fbgemm", "spec": "uint8"}, ValueError, "^codes are uint8"),
        ((CODES, None), {"dialect": "fbgemm", "spec": "uint8"}, ValueError, "^codes are int8 of shape"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_dequantize(arguments, options, error, words):
    with pytest.raises(error, match=words):
        nc.dequantize(*arguments, **options)


def test_fake_quantize():
    for options, error, words in (
        ({"out": np.zeros(3, np.float32)}, ValueError, "^out has shape"),
        ({"out": np.zeros(X.shape)}, TypeError, "^out has dtype float64"),
        ({"scale": 0.0}, ValueError, "^scale is 0.0"),
        ({"scale": 1.0, "zero_point": 1.5}, TypeError, "^zero_point has dtype float64"),
    ):
        with pytest.raises(error, match=words):
            nc.fake_quantize(X, "int8", **options)
