"""Dialect fbgemm against FBGEMM's fused rows: torch's embedding_bag prepack operators, which are FBGEMM's functions,
and fbgemm-gpu itself where it is installed.
"""

import numpy as np
import pytest

import dialect_cases
import dialect_check as check
import narrowcast as nc
from dialect_check import from_torch, ordinary, to_torch
from quant_model import Target

torch = check.package("torch", "compares with FBGEMM as torch has it")

pytestmark = check.quiet_package

PACK = {8: "embedding_bag_byte_prepack", 4: "embedding_bag_4bit_prepack", 2: "embedding_bag_2bit_prepack"}
SOURCES = pytest.mark.parametrize("source", ["float32", "float16"])
WIDTHS = pytest.mark.parametrize("columns", [148, 64, 4])  # a whole number of bytes at 2 bits
BITS = pytest.mark.parametrize("bits", PACK)


def prepack(x, bits):
    tensor = to_torch(x)
    return one_zero(getattr(torch.ops.quantized, PACK[bits])(tensor.float() if bits == 8 else tensor).numpy(), bits)


def one_zero(rows, bits):
    """Rows with a bias of +0 for -0: which of two zeros is the smaller one depends on where they are, in FBGEMM."""
    rows = np.array(rows)
    size = 4 if bits == 8 else 2
    bias = np.ascontiguousarray(rows[:, -size:]).view(f"f{size}")
    rows[:, -size:] = np.ascontiguousarray(np.where(bias == 0, np.zeros_like(bias), bias)).view(np.uint8)
    return rows


def parts(rows, bits):
    """Codes one by one, scale and bias of fused rows."""
    end = rows.shape[1] - (8 if bits == 8 else 4)
    flat = np.unpackbits(rows[:, :end], axis=1, bitorder="little").reshape(rows.shape[0], -1, bits)
    numbers = rows[:, end:].copy().view(np.float32 if bits == 8 else np.float16)
    return (flat * (1 << np.arange(bits))).sum(-1), numbers[:, :1], numbers[:, 1:]


def ours(x, bits):
    return nc.quantize(x, f"uint{bits}", granularity="row", dialect="fbgemm")


@BITS
@WIDTHS
@SOURCES
@pytest.mark.parametrize("case", [*(case.__name__ for case in dialect_cases.ORDINARY), "zeros", "tiny"])
def test_rows(case, source, columns, bits):
    x = np.ascontiguousarray(dialect_cases.data(case, source)[:, :columns])
    wanted = prepack(x, bits)
    codes, scale, bias = parts(wanted, bits)
    model = check.modelled(x, Target(bits, False), "fbgemm", (1, columns), False)
    check.assert_same(
        check.Result(model.codes, model.scale, np.float32(0) - model.zero, None),
        check.Result(codes, scale, bias.astype(np.float32), None),
        "model",
    )
    np.testing.assert_array_equal(one_zero(ours(x, bits).fused, bits), wanted)


@BITS
@SOURCES
@ordinary
def test_values(case, source, bits):
    x = np.ascontiguousarray(dialect_cases.data(case, source)[:, :148])
    rows = prepack(x, bits)
    codes, scale, bias = parts(rows, bits)
    q = ours(x, bits)
    for values in (q.dequantize(), nc.dequantize(rows, None, spec=f"uint{bits}", dialect="fbgemm")):
        exact = codes * scale.astype(np.float64) + bias  # but for one rounding: 8 + 24 bits and a sum
        assert np.abs(values - exact).max() <= np.spacing(np.abs(exact).max().astype(np.float32))
        if bits == 8:
            wanted = torch.ops.quantized.embedding_bag_byte_unpack(torch.from_numpy(rows.copy()))
            np.testing.assert_array_equal(values, wanted.numpy())


@BITS
@SOURCES
@ordinary
def test_fbgemm_gpu(case, source, bits):
    check.package("fbgemm_gpu", "compares with fbgemm-gpu-cpu 1.8")
    fbgemm = torch.ops.fbgemm
    x = np.ascontiguousarray(dialect_cases.data(case, source)[:, :144])
    if bits == 8:
        rows = fbgemm.FloatOrHalfToFused8BitRowwiseQuantized(to_torch(x))
        wanted = fbgemm.Fused8BitRowwiseQuantizedToFloat(rows)
    else:
        rows = fbgemm.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf(to_torch(x), bits)
        wanted = fbgemm.FusedNBitRowwiseQuantizedSBHalfToFloat(rows, bits)
    q = ours(x, bits)
    np.testing.assert_array_equal(one_zero(q.fused, bits), one_zero(from_torch(rows), bits))
    np.testing.assert_array_equal(q.dequantize(), from_torch(wanted))
