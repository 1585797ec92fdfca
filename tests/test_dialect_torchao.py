"""Dialect torchao against torchao: choose_qparams_affine, quantize_affine and dequantize_affine, which compute in the
dtype of the values.
"""

import numpy as np
import pytest

import dialect_cases
import dialect_check as check
from dialect_check import Result, from_torch, ordinary, sources, to_torch
from quant_model import Target

ao = check.package("torchao.quantization.quant_primitives", "compares with torchao 0.18")
torch = check.package("torch", "torchao computes with torch")

pytestmark = check.quiet_package

TARGETS = {
    "int8": (Target(), {}),
    "uint8": (Target(signed=False), {}),
    "int4": (Target(4), {}),
    "uint4": (Target(4, False), {}),
    "int3": (Target(3), {}),
    "uint2": (Target(2, False), {}),
    "narrow": (Target(qmin=-127, qmax=127), {"qmin": -127, "qmax": 127}),
}


def theirs(x, target, symmetric, block, scale_dtype=None):
    kind = ao.MappingType.SYMMETRIC if symmetric else ao.MappingType.ASYMMETRIC
    wide = torch.int8 if target.signed else torch.uint8  # their int4 and the like are these with ends
    tensor = to_torch(x)
    scale, zero = ao.choose_qparams_affine(
        tensor, kind, block, wide, target.low, target.high, scale_dtype=scale_dtype, zero_point_dtype=torch.int32
    )
    codes = ao.quantize_affine(tensor, block, scale, zero, wide, target.low, target.high)
    values = ao.dequantize_affine(codes, block, scale, zero, wide, target.low, target.high, output_dtype=tensor.dtype)
    return Result(*map(from_torch, (codes, scale, zero, values)))


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("name", TARGETS)
@sources
@ordinary
def test_rows_and_tensor(case, source, name, symmetric):
    target, ends = TARGETS[name]
    dtype = name if name != "narrow" else "int8"
    x = dialect_cases.data(case, source)
    for granularity, block in (("row", check.ROW), ("tensor", x.shape)):
        wanted = theirs(x, target, symmetric, block)
        options = dict(granularity=granularity, dialect="torchao", symmetric=symmetric, **ends)
        check.assert_same(check.modelled(x, target, "torchao", block, symmetric), wanted, "model", granularity)
        check.assert_same(check.ours(x, dtype, **options), wanted, granularity)


@pytest.mark.parametrize("case", ["zeros", "tiny"])
@sources
def test_scale_is_never_below_the_smallest_normal(case, source):
    x = dialect_cases.data(case, source)
    for symmetric in (True, False):
        wanted = theirs(x, Target(), symmetric, check.ROW)
        got = check.ours(x, "int8", granularity="row", dialect="torchao", symmetric=symmetric)
        check.assert_same(got, wanted, symmetric)


@ordinary
@pytest.mark.parametrize("source", ["float16", "bfloat16"])
def test_float32_scales_make_the_steps_float32(case, source):
    x = dialect_cases.data(case, source)
    wanted = theirs(x, Target(), False, (1, 50), torch.float32)
    options = {"granularity": "group", "group_size": 50, "scale_dtype": "float32", "symmetric": False}
    check.assert_same(check.ours(x, "int8", dialect="torchao", **options), wanted)
    check.assert_same(check.modelled(x, Target(), "torchao", (1, 50), False, scale_dtype=np.float32), wanted, "model")
