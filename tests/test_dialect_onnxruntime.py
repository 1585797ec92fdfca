"""Dialect onnx against onnxruntime: its quantization tool for scales, QuantizeLinear and DequantizeLinear for codes.

What that tool does in two ways is done in one here: symmetric unsigned zeros have the middle as their zero point (the
tool: 0, or the middle in blocks), and asymmetric blocks have the scales of the formula for tensors.
"""

import numpy as np
import pytest

import dialect_cases
import dialect_check as check
import narrowcast as nc
import quant_model as model
from dialect_check import Result, ordinary
from quant_model import Target

onnx = check.package("onnx", "compares with onnxruntime 1.32")
ort = check.package("onnxruntime", "compares with onnxruntime 1.32")
tool = check.package("onnxruntime.quantization.quant_utils", "compares with onnxruntime 1.32")

pytestmark = check.quiet_package

TARGETS = {
    "int8": Target(),
    "uint8": Target(signed=False),
    "int4": Target(4),
    "uint4": Target(4, False),
    "int16": Target(16),
    "uint16": Target(16, False),
}
SOURCES = ("float32", "float16")  # the scale is of the dtype of x


def tensor(name, array, dtype):
    """An initialiser; 4-bit ones are packed by hand, the first in the low bits."""
    kind = getattr(onnx.TensorProto, {"float32": "FLOAT", "float16": "FLOAT16"}.get(dtype, dtype.upper()))
    if dtype in ("int4", "uint4"):
        code = np.append(np.asarray(array, np.int64).ravel() & 15, [0] * (np.size(array) % 2)).astype(np.uint8)
        raw = (code[::2] | code[1::2] << 4).tobytes()
    else:
        raw = np.asarray(array).astype(dtype).tobytes()
    return onnx.helper.make_tensor(name, kind, np.shape(array), raw, raw=True)


def run(x, scale, zero, dtype, **attributes):
    """The codes, as int32, and the values, as float32, of the two operators."""
    make = onnx.helper
    nodes = [
        make.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], **attributes),
        make.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["values"], **attributes),
        make.make_node("Cast", ["codes"], ["codes32"], to=onnx.TensorProto.INT32),
        make.make_node("Cast", ["values"], ["values32"], to=onnx.TensorProto.FLOAT),
    ]
    outputs = [
        make.make_tensor_value_info("codes32", onnx.TensorProto.INT32, None),
        make.make_tensor_value_info("values32", onnx.TensorProto.FLOAT, None),
    ]
    numbers = [tensor("x", x, x.dtype.name), tensor("scale", scale, x.dtype.name), tensor("zero", zero, dtype)]
    graph = make.make_graph(nodes, "quantize", [], outputs, numbers)
    proto = make.make_model(graph, opset_imports=[make.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {})


def choose(data, dtype, symmetric):
    """compute_data_quant_params of one tensor."""
    zero, scale = tool.compute_data_quant_params(data, getattr(onnx.TensorProto, dtype.upper()), symmetric)
    return np.asarray(scale, data.dtype), int(zero)


def result(x, scale, zero, dtype, symmetric, **attributes):
    codes, values = run(x, scale, zero, dtype, **attributes)
    hidden = symmetric and TARGETS[dtype].signed
    return Result(codes, scale, None if hidden else zero, values.astype(x.dtype))


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("dtype", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
@ordinary
def test_tensor_and_axis(case, source, dtype, symmetric):
    x = dialect_cases.data(case, source)
    rows = [choose(row, dtype, symmetric) for row in x]
    scales, zeros = (np.array(part) for part in zip(*rows, strict=True))
    everything = {
        "tensor": (result(x, *choose(x, dtype, symmetric), dtype, symmetric), x.shape),
        "row": (result(x, scales, zeros, dtype, symmetric, axis=0), check.ROW),
    }
    for granularity, (wanted, block) in everything.items():
        got = check.modelled(x, TARGETS[dtype], "onnx", block, symmetric, scale_dtype=source)
        check.assert_same(got, wanted, "model", granularity)
        got = check.ours(x, dtype, granularity=granularity, symmetric=symmetric, scale_dtype=source)
        check.assert_same(got, wanted, granularity)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["int8", "uint4"])
@pytest.mark.parametrize("source", SOURCES)
@ordinary
def test_blocks(case, source, dtype, axis):
    """Codes for our scales; the last block of the axis is short."""
    x = dialect_cases.data(case, source)
    q = nc.quantize(x, dtype, granularity="group", axis=axis, group_size=4, symmetric=False, scale_dtype=source)
    codes, values = run(x, q.scale, q.zero_point, dtype, axis=axis, block_size=4)
    check.assert_same(
        Result(q.codes, None, None, q.dequantize(x.dtype)), Result(codes, None, None, values.astype(x.dtype))
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4"])
@pytest.mark.parametrize("case", ["zeros", "tiny"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_scale_too_small_is_one(case, dtype, source):
    x = dialect_cases.data(case, source)
    for symmetric in (True, False) if TARGETS[dtype].signed else (False,):
        scales, zeros = (np.array(part) for part in zip(*(choose(row, dtype, symmetric) for row in x), strict=True))
        wanted = result(x, scales, zeros, dtype, symmetric, axis=0)
        got = check.ours(x, dtype, granularity="row", symmetric=symmetric, scale_dtype=source)
        check.assert_same(got, wanted, symmetric)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_nan_and_infinities(dtype):
    x = dialect_cases.data("special")
    codes, _ = run(x, np.float32(0.1), 3, dtype)
    q = nc.quantize(x, dtype, scale=np.float32(0.1), zero_point=3, symmetric=False)
    check.assert_same(Result(q.codes, None, None, None), Result(codes, None, None, None))


def test_ties_go_before_the_zero_point():
    x = np.arange(-20, 20, dtype=np.float32)[None] / 4
    codes, _ = run(x, np.float32(0.5), 1, "int8")
    q = nc.quantize(x, scale=0.5, zero_point=1, symmetric=False)
    check.assert_same(Result(q.codes, None, None, None), Result(codes, None, None, None))
    scale, zero = np.float32([[0.5]]), np.array([[1]])
    check.assert_same(
        Result(model.quantize(x, scale, zero, Target()), None, None, None), Result(codes, None, None, None)
    )


def test_the_example_of_the_documentation():
    scale, zero = choose(np.float32([-234.1, 251.51]), "int8", False)
    assert (scale, zero) == (np.float32(1.9043529), -5)
    chosen = nc.choose_qparams(low=-234.1, high=251.51, spec="int8", symmetric=False)
    assert (chosen.scale, chosen.zero_point) == (scale, zero)
    q = nc.quantize(np.float32([-234.1, 251.51]), symmetric=False)
    assert q.codes.tolist() == [-128, 127]
