"""The objects of quantization: QuantSpec and QuantizedArray as values, out= as it is returned, torch in and out."""

import copy
import dataclasses
import inspect
import pickle

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
from quantize_cases import hard, same

SPECS = [
    nc.QuantSpec(),
    nc.QuantSpec("uint4", granularity="group", group_size=128, layout="lsb", scale_dtype="float16"),
    nc.QuantSpec("int8", granularity="channel", axis=(0, 2), symmetric=False, qmin=-127, threads=2),
    nc.QuantSpec("float8_e4m3fn", granularity="block", block_shape=(128, 128), scale_dtype="float8_e8m0fnu"),
    nc.QuantSpec("int8", calibration=nc.Calibration("percentile", percentile=99.9), scale_max=2.5, row_sums=True),
    nc.QuantSpec("int8", dialect="llm_int8", granularity="row", threshold=6),
    nc.QuantSpec("uint8", scale=0.1, zero_point=3, compute_dtype="bfloat16"),
    nc.QuantSpec("uint8", granularity="channel", axis=0, scale=[1, 2], zero_point=np.array([3, 4])),
]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_specs_are_values(spec):
    names = {"QuantSpec": nc.QuantSpec, "Calibration": nc.Calibration}
    for same_spec in (eval(repr(spec), names), pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec), spec.replace()):
        assert same_spec == spec
        assert hash(same_spec) == hash(spec)
        assert repr(same_spec) == repr(spec)
    assert sum(spec == other for other in SPECS) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.dtype = "int4"
    with pytest.raises(AttributeError):
        del spec.dtype


def test_a_spec_says_what_it_holds():
    spec = nc.QuantSpec(ml_dtypes.uint4, granularity="group", group_size=np.int64(32), calibration="mse")
    assert (spec.dtype, spec.group_size, spec.axis, spec.dialect) == ("uint4", 32, None, "onnx")
    assert type(spec.group_size) is int
    assert spec.calibration == nc.Calibration("mse")
    assert spec.replace(group_size=64).group_size == 64
    with pytest.raises(ValueError, match=r"^group_size is 0"):
        spec.replace(group_size=0)


def test_quantize_and_the_spec_have_the_same_arguments():
    """But for what belongs to a call alone."""
    call, spec = inspect.signature(nc.quantize).parameters, inspect.signature(nc.QuantSpec).parameters
    assert set(call) - {"x", "spec", "out"} == set(spec) - {"dtype"}
    assert {name: call[name].default for name in set(spec) - {"dtype"}} == {
        name: one.default for name, one in spec.items() if name != "dtype"
    }


def test_a_prepared_spec_is_what_its_arguments_are():
    x = hard()
    for spec in SPECS[:-2]:
        if spec.granularity == "channel" or spec.layout:
            continue
        options = {name: getattr(spec, name) for name in inspect.signature(nc.QuantSpec).parameters if name != "dtype"}
        one, other = nc.quantize(x, spec), nc.quantize(x, spec.dtype, **options)
        assert one.spec is spec
        assert other.spec == spec
        assert same(one.codes, other.codes)
        assert same(one.scale, other.scale)


def test_a_spec_that_holds_scales():
    x = hard()[:2]
    spec = nc.QuantSpec("uint8", granularity="channel", axis=0, scale=[0.5, 0.25], zero_point=[3, 4])
    q = nc.quantize(x, spec)
    assert q.scale.ravel().tolist() == [0.5, 0.25]
    assert q.zero_point.ravel().tolist() == [3, 4]
    expected = nc.quantize(x, "uint8", granularity="row", scale=[0.5, 0.25], zero_point=[3, 4])
    assert same(q.codes, expected.codes)
    assert same(nc.fake_quantize(x, spec), expected.dequantize())
    assert nc.quantize(x, spec, scale=[1.0, 1.0]).scale.ravel().tolist() == [1, 1], "the call comes first"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scale": -1.0}, ValueError, "^scale is -1.0; allowed are finite float32 numbers above 0"),
        ({"scale": (1.0, np.inf)}, ValueError, "^scale is inf"),
        ({"scale": "abc"}, TypeError, "^scale is a str; a QuantSpec holds numbers"),
        ({"scale": [[1.0]]}, TypeError, "^scale is a list; a QuantSpec holds numbers"),
        ({"scale": object()}, TypeError, "^scale is a object"),
        ({"zero_point": 3}, ValueError, "^zero_point is 3, and scale is None"),
    ],
)
def test_scales_that_a_spec_does_not_hold(options, error, words):
    with pytest.raises(error, match=words):
        nc.QuantSpec("uint8", **options)


def test_a_result_is_a_tuple():
    x = hard()
    q = nc.quantize(x, "uint8", granularity="row")
    codes, scale, zero_point, spec = q
    assert isinstance(q, tuple)
    assert (q.codes, q.scale, q.zero_point, q.spec) == (codes, scale, zero_point, spec)
    assert (q.shape, q.dtype) == (x.shape, x.dtype)
    assert q.nbytes == codes.nbytes + scale.nbytes + zero_point.nbytes == 12 * 37 + 12 * 4 + 12 * 4
    assert repr(q) == "<QuantizedArray 12x37 float32 as QuantSpec('uint8', granularity='row'): 540 bytes, 12x1 scales>"
    assert nc.quantize(x.astype(ml_dtypes.bfloat16), "int8").dtype == ml_dtypes.bfloat16


def test_a_result_is_no_array():
    q = nc.quantize(hard(), "int8")
    for call in (np.asarray, np.array, lambda q: np.add(q, 1), lambda q: np.asarray(q, np.float32)):
        with pytest.raises(TypeError, match=r"\.codes.*\.dequantize\(\)"):
            call(q)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("int8", {"granularity": "row", "row_sums": True}),
        ("uint4", {"granularity": "row"}),
        ("int4", {"layout": "lsb", "granularity": "group", "group_size": 4}),
        ("float8_e4m3fn", {"scale_dtype": "float8_e8m0fnu"}),
        ("uint4", {"granularity": "row", "dialect": "fbgemm"}),
        ("int8", {"granularity": "row", "dialect": "llm_int8", "threshold": 6.0}),
    ],
)
def test_results_travel(name, options):
    x = hard()[:4, :36]
    q = nc.quantize(x, name, **options)
    for other in (pickle.loads(pickle.dumps(q)), copy.copy(q), copy.deepcopy(q)):
        assert type(other) is nc.QuantizedArray
        assert other.spec == q.spec
        assert (other.shape, other.dtype, other.codes.dtype) == (q.shape, q.dtype, q.codes.dtype)
        assert same(other.codes, q.codes)
        assert same(other.scale, q.scale)
        assert (other.zero_point is None) == (q.zero_point is None)
        for extra in ("row_sums", "outlier_columns", "fused"):
            if getattr(q, extra) is None:
                assert getattr(other, extra) is None
            else:
                assert same(getattr(other, extra), getattr(q, extra))
        assert other.fused is None or np.shares_memory(other.codes, other.fused)
        assert same(other.dequantize(), q.dequantize())
        assert nc.quantize(x, q.spec, out=other) is other


def test_out_is_returned():
    x = hard()
    spec = nc.QuantSpec("uint8", granularity="row", row_sums=True)
    q = nc.quantize(x, spec)
    parts = [*q[:3], q.row_sums]
    y = x[::-1]
    assert nc.quantize(y, spec, out=q) is q
    expected = nc.quantize(y, spec)
    for part, now, wanted in zip(parts, (*q[:3], q.row_sums), (*expected[:3], expected.row_sums), strict=True):
        assert part is now
        assert same(now, wanted)
    plain = spec.replace(row_sums=False)
    for out in ((q.codes, q.scale, q.zero_point), (q.codes, q.scale, q.zero_point, plain)):
        assert nc.quantize(x, plain, out=out) is out
        assert same(q.codes, nc.quantize(x, plain).codes)
    fresh = nc.QuantizedArray(q.codes, q.scale, q.zero_point, plain)
    assert nc.quantize(x, plain, out=fresh) is fresh
    assert (fresh.shape, fresh.dtype) == (x.shape, x.dtype)
    assert nc.quantize(x, plain, out=fresh, threads=1) is fresh


def test_out_of_another_spec():
    """Codes of one spec in the result of another would be misread."""
    x = hard()
    spec = nc.QuantSpec("int8", granularity="row")
    q = nc.quantize(x, spec.replace(qmin=-7, qmax=7))
    before = q.codes.copy()
    with pytest.raises(ValueError, match=r"^out has QuantSpec\('int8', granularity='row', qmin=-7, qmax=7\); allowed"):
        nc.quantize(x, spec, out=q)
    assert same(q.codes, before)
    equal = nc.QuantSpec("int8", granularity="row", qmin=-7, qmax=7)
    assert nc.quantize(x, equal, out=q) is q


def test_out_with_given_scales():
    """They are copied into those of out, but for codes that cannot be made nothing is."""
    x = hard()[:4]
    spec = nc.QuantSpec("uint8", granularity="row")
    q = nc.quantize(x, spec)
    scale, zero = np.float32([[1], [2], [3], [4]]), np.int32([[1], [2], [3], [4]])
    assert nc.quantize(x, spec, scale=scale, zero_point=zero, out=q) is q
    assert same(q.codes, nc.quantize(x, spec, scale=scale, zero_point=zero).codes)
    assert same(q.scale, scale)
    assert same(q.zero_point, zero)
    before = [part.copy() for part in q[:3]]
    for wrong in (
        {"scale": scale, "zero_point": zero + 1000},
        {"scale": -scale, "zero_point": zero},
        {"scale": scale * np.float32(2), "zero_point": zero - 5},
    ):
        with pytest.raises(ValueError, match=r"^(scale|zero_point)"):
            nc.quantize(x, spec, out=q, **wrong)
        assert all(same(part, old) for part, old in zip(q[:3], before, strict=True))
    given = (np.zeros(x.shape, np.uint8), None, None)
    assert nc.quantize(x, spec, scale=scale, zero_point=zero, out=given) is given
    assert same(given[0], q.codes)


def test_attributes_of_a_result_made_by_hand():
    q = nc.QuantizedArray(np.int8([[1, 2]]), np.float32([[0.5]]), None, nc.QuantSpec("int8"))
    assert q.dequantize().tolist() == [[0.5, 1.0]]
    assert pickle.loads(pickle.dumps(q)).dequantize().tolist() == [[0.5, 1.0]]
    assert repr(q) == "<QuantizedArray 1x2 as QuantSpec('int8'): 6 bytes, 1x1 scales>"
    assert nc.quantization_error([[0.5, 1.5]], q).max_abs == 0.5


@pytest.fixture
def tensors():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("source", ["float32", "bfloat16", "float16", "float64"])
def test_tensors(source, tensors):
    x = hard("float16" if source == "float16" else "float32")[:11].copy()
    tensor = tensors.from_numpy(x).to(getattr(tensors, source))
    array = nc.astype(tensor, "float32").numpy() if source == "bfloat16" else tensor.numpy()
    array = array.astype(ml_dtypes.bfloat16) if source == "bfloat16" else array
    for name, carrier in (("int8", "int8"), ("uint4", "uint8"), ("float8_e4m3fn", "float8_e4m3fn"), ("int2", "int8")):
        for dialect in ("onnx", "torchao"):
            expected = nc.quantize(array, name, granularity="row", dialect=dialect)
            for spec in (name, getattr(tensors, name, name)):
                q = nc.quantize(tensor, spec, granularity="row", dialect=dialect)
                assert q.codes.dtype == getattr(tensors, carrier)
                assert str(q.scale.dtype) == f"torch.{expected.scale.dtype.name}"
                assert same(nc.astype(q.scale, "float32"), nc.astype(expected.scale, "float32"))
                if "float8" in name:
                    assert same(q.codes.view(tensors.uint8), expected.codes.view(np.uint8))
                else:
                    assert same(q.codes, expected.codes.astype(np.int16))
                assert (q.zero_point is None) == (expected.zero_point is None)
                assert q.zero_point is None or q.zero_point.dtype == tensors.int32
                values = q.dequantize()
                assert values.dtype == tensors.float32
                assert same(values, expected.dequantize())
                assert q.dequantize("bfloat16").dtype == tensors.bfloat16
                assert nc.quantize(tensor, q.spec, out=q) is q
                again = nc.quantize(tensor, q.spec, scale=q.scale, zero_point=q.zero_point)
                assert same(again.dequantize(), values)
                fake = nc.fake_quantize(tensor, q.spec)
                assert fake.dtype == tensor.dtype
                assert same(nc.astype(fake, "float32"), nc.astype(expected.dequantize(array.dtype), "float32"))
    scale, zero_point = nc.choose_qparams(tensor, "uint8", granularity="row")
    assert scale.shape == zero_point.shape == (11, 1)
    assert isinstance(scale, tensors.Tensor)
    assert nc.quantization_error(tensor, nc.quantize(tensor, "int8")).elements == tensor.numel()


def test_tensors_of_other_forms(tensors):
    x = tensors.from_numpy(hard().copy())
    q = nc.quantize(x, "uint4", granularity="row", dialect="fbgemm")
    assert q.fused.dtype == tensors.uint8
    assert q.scale.dtype == tensors.float16
    assert same(q.fused, nc.quantize(hard(), "uint4", granularity="row", dialect="fbgemm").fused)
    assert same(nc.dequantize(q.fused, None, spec="uint4", dialect="fbgemm", shape=x.shape), q.dequantize())
    assert same(pickle.loads(pickle.dumps(q)).dequantize(), q.dequantize())
    q = nc.quantize(x.t(), "int8", granularity="row", row_sums=True)
    assert q.row_sums.dtype == tensors.int32
    assert same(q.row_sums, q.codes.sum(dim=1).to(tensors.int32))
    wide = x.clone()
    wide[2, 5] = 7
    q = nc.quantize(wide, "int8", granularity="row", dialect="llm_int8", threshold=6.0)
    assert q.outlier_columns.dtype == tensors.int64
    assert 5 in q.outlier_columns.tolist()
    assert (q.codes[:, 5] == 0).all()
    packed = nc.quantize(x[:, :36], "int4", layout="lsb")
    assert packed.codes.dtype == tensors.uint8
    assert same(packed.dequantize(), nc.quantize(x[:, :36], "int4").dequantize())
    with pytest.raises(ValueError, match=r"^x requires a gradient"):
        nc.quantize(x.clone().requires_grad_(), "int8")
