"""onnxruntime runs models whose 4-bit initialisers narrowcast has packed: what DequantizeLinear makes of them is what
nc.dequantize says, for groups along both axes, whole tensors and shapes that do not end on a byte.

pip install onnx onnxruntime; skipped where they are not installed.
"""

import numpy as np
import pytest

import narrowcast as nc

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper = pytest.importorskip("onnx.helper")

pytestmark = pytest.mark.filterwarnings("default")

TYPES = {"int4": onnx.TensorProto.INT4, "uint4": onnx.TensorProto.UINT4}


def initialiser(name, dtype, shape, packed):
    return helper.make_tensor(name, TYPES[dtype], shape, packed.tobytes(), raw=True)


def run(dtype, shape, packed, scale, zero=None, *, x=None, **attributes):
    """Dequantize an initialiser in a model, and multiply x by it if there is one."""
    constants = [
        initialiser("w", dtype, shape, packed),
        helper.make_tensor("scale", onnx.TensorProto.FLOAT, scale.shape, scale.tobytes(), raw=True),
    ]
    if zero is not None:
        constants.append(initialiser("zero", dtype, scale.shape, zero))
    names = [constant.name for constant in constants]
    nodes = [helper.make_node("DequantizeLinear", names, ["y" if x is None else "values"], **attributes)]
    if x is not None:
        nodes.append(helper.make_node("MatMul", ["x", "values"], ["y"]))
    inputs = [] if x is None else [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)]
    out = shape if x is None else (x.shape[0], shape[1])
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, out)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")  # products in float32, not int8
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {} if x is None else {"x": x})
    return found


def weight(shape, seed=5):
    return np.random.default_rng(seed).normal(0.01, 0.05, shape).astype(np.float32)


def packed_zeros(q, dtype):
    return None if q.zero_point is None else nc.pack(q.zero_point.ravel(), dtype, pad=True)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_groups(dtype, axis):
    """Blocked quantization, with zero points for uint4; and the product of a layer."""
    w = weight((96, 64))
    q = nc.quantize(w, dtype, granularity="group", axis=axis, group_size=32, layout="lsb")
    zero = packed_zeros(q, dtype)
    values = q.dequantize()
    assert (q.codes.nbytes, np.abs(values - w).max() < 0.03) == (w.size // 2, True)
    found = run(dtype, w.shape, q.codes, q.scale, zero, axis=axis, block_size=32)
    assert np.array_equal(found, values)
    x = weight((3, 96), seed=6)
    found = run(dtype, w.shape, q.codes, q.scale, zero, x=x, axis=axis, block_size=32)
    np.testing.assert_allclose(found, x @ values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (1, 1)])
@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_whole_tensors(dtype, shape):
    """One scale; a last byte that is half full."""
    w = weight(shape)
    q = nc.quantize(w, dtype)
    packed = nc.pack(q.codes.ravel(), dtype, pad=True)
    zero = packed_zeros(q, dtype)
    constants = q.scale.reshape(())
    assert np.array_equal(run(dtype, shape, packed, constants, zero), q.dequantize())


@pytest.mark.parametrize("axis", [0, 1])
def test_channels(axis):
    w = weight((10, 12))
    q = nc.quantize(w, "int4", granularity="channel", axis=axis)
    found = run("int4", w.shape, nc.pack(q.codes, "int4"), q.scale.ravel(), axis=axis)
    assert np.array_equal(found, q.dequantize())


def test_onnx_packs_the_same():
    """The package's own packing of the same codes, byte by byte."""
    codes = nc.quantize(weight((7, 9)), "int4").codes
    own = helper.make_tensor("w", TYPES["int4"], codes.shape, codes.astype(np.int8).ravel())
    assert np.array_equal(onnx.numpy_helper.to_array(own).astype(np.int8), codes.astype(np.int8))
    packed = nc.pack(codes.ravel(), "int4", pad=True).tobytes()
    assert bytes(np.array(own.int32_data, np.uint8)) == packed or own.raw_data == packed
