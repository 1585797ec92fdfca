"""Dialect compressed_tensors against compressed-tensors: calculate_qparams, quantize and dequantize, integers and
floats, by channel, tensor, group and block.
"""

import numpy as np
import pytest

import dialect_cases
import dialect_check as check
import quant_model as model
from dialect_check import Result, from_torch, ordinary, sources, to_torch
from quant_model import Target

ct = check.package("compressed_tensors.quantization", "compares with compressed-tensors 0.20")
torch = check.package("torch", "compressed-tensors computes with torch")
forward = check.package("compressed_tensors.quantization.lifecycle.forward", "compares with compressed-tensors 0.20")
utils = check.package("compressed_tensors.quantization.utils", "compares with compressed-tensors 0.20")

pytestmark = check.quiet_package

INTEGERS = {"int8": Target(), "int4": Target(4), "int3": Target(3)}
FLOATS = {name: Target(format=name) for name in ("float8_e4m3fn", "float6_e2m3fn", "float4_e2m1fn")}
BITS = {"float8_e4m3fn": 8, "float6_e2m3fn": 6, "float4_e2m1fn": 4}

# Their strategy, our granularity, and the block.
SHAPES = {
    "channel": ({}, {"granularity": "row"}, check.ROW),
    "tensor": ({}, {"granularity": "tensor"}, (dialect_cases.ROWS, dialect_cases.COLUMNS)),
    "group": ({"group_size": 50}, {"granularity": "group", "group_size": 50}, (1, 50)),
    "block": ({"block_structure": [4, 64]}, {"granularity": "block", "block_shape": (4, 64)}, (4, 64)),
}


def theirs(x, dtype, strategy, symmetric):
    target = FLOATS.get(dtype) or INTEGERS[dtype]
    keywords, _, block = SHAPES[strategy]
    arguments = ct.QuantizationArgs(
        num_bits=BITS.get(dtype, target.bits), type="float" if target.format else "int", symmetric=symmetric,
        strategy=strategy, **keywords
    )  # fmt: skip
    low, high = (to_torch(end.astype(x.dtype)) for end in model.ranges(x, block))
    scale, zero = utils.calculate_qparams(low, high, arguments)
    one = (lambda t: t.reshape(-1)) if strategy == "tensor" else (lambda t: t)
    used = one(scale), None if symmetric else one(zero)
    kept = torch.float8_e4m3fn if dtype == "float8_e4m3fn" else None if target.format else torch.int8
    codes = forward.quantize(to_torch(x), *used, arguments, dtype=kept)  # FP6 and FP4 in the dtype of x
    values = forward.dequantize(codes, *used, arguments)
    codes = from_torch(codes).astype(np.float32).astype(target.dtype or np.int32)
    return Result(codes, from_torch(scale), None if symmetric else from_torch(zero), from_torch(values))


def one_zero(result):
    """The codes of FP4 without the sign of zero: theirs, sign(x) * |x|, lose it where the quotient is -0 itself."""
    codes, values = (np.where(part == 0, np.zeros((), part.dtype), part) for part in (result.codes, result.values))
    return result._replace(codes=codes, values=values)


@pytest.mark.parametrize("strategy", SHAPES)
@pytest.mark.parametrize("dtype", INTEGERS)
@sources
@ordinary
def test_integers(case, source, dtype, strategy):
    x = dialect_cases.data(case, source)
    _, options, block = SHAPES[strategy]
    for symmetric in (True, False):
        wanted = theirs(x, dtype, strategy, symmetric)
        got = check.modelled(x, INTEGERS[dtype], "compressed_tensors", block, symmetric)
        check.assert_same(got, wanted, "model", symmetric)
        got = check.ours(x, dtype, dialect="compressed_tensors", symmetric=symmetric, **options)
        check.assert_same(got, wanted, symmetric)


@pytest.mark.parametrize("strategy", ["channel", "tensor", "group"])
@pytest.mark.parametrize("dtype", FLOATS)
@sources
@ordinary
def test_floats(case, source, dtype, strategy):
    x = dialect_cases.data(case, source)
    _, options, block = SHAPES[strategy]
    same = one_zero if dtype == "float4_e2m1fn" else (lambda result: result)
    wanted = same(theirs(x, dtype, strategy, True))
    for who, got in (
        ("model", check.modelled(x, FLOATS[dtype], "compressed_tensors", block)),
        ("ours", check.ours(x, dtype, dialect="compressed_tensors", **options)),
    ):
        check.assert_same(same(got), wanted, who)


@pytest.mark.parametrize("case", ["zeros", "tiny"])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float8_e4m3fn"])
@sources
def test_a_scale_of_zero_is_eps(case, dtype, source):
    x = dialect_cases.data(case, source)
    for symmetric in (True, False)[: 1 if dtype in FLOATS else 2]:
        wanted = theirs(x, dtype, "channel", symmetric)
        got = check.ours(x, dtype, granularity="row", dialect="compressed_tensors", symmetric=symmetric)
        check.assert_same(got, wanted, symmetric)
