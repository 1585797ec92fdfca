"""Dialect quanto against optimum-quanto: its optimizers and its two quantization functions, which compute in the dtype
of the values and, for 4 and 2 bits, shift them.
"""

import numpy as np
import pytest

import dialect_cases
import dialect_check as check
import narrowcast as nc
import quant_model as model
from dialect_check import Result, from_torch, ordinary, sources, to_torch
from quant_model import Target

quanto = check.package("optimum.quanto", "compares with optimum-quanto 0.2.7")
torch = check.package("torch", "optimum-quanto computes with torch")

pytestmark = check.quiet_package

WHOLE = {"granularity": "tensor"}
SYMMETRIC = {"int8": "qint8", "float8_e4m3fn": "qfloat8_e4m3fn", "float8_e5m2": "qfloat8_e5m2"}
AXES = {0: ({"granularity": "row"}, check.ROW), -1: ({"granularity": "channel", "axis": 1}, (dialect_cases.ROWS, 1))}
AXES[None] = WHOLE, (dialect_cases.ROWS, dialect_cases.COLUMNS)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", SYMMETRIC)
@sources
@ordinary
def test_symmetric(case, source, dtype, axis):
    x = to_torch(dialect_cases.data(case, source))
    kind = getattr(quanto, SYMMETRIC[dtype])
    scale = quanto.AbsmaxOptimizer()(x, kind, axis)
    codes = torch.ops.quanto.quantize_symmetric(x, dtype=kind.dtype, axis=axis, scale=scale)
    wanted = Result(*map(from_torch, (codes, scale)), None, from_torch(scale * codes.to(scale.dtype)))
    options, block = AXES[axis]
    target = Target() if dtype == "int8" else Target(format=dtype)
    x = dialect_cases.data(case, source)
    check.assert_same(check.modelled(x, target, "quanto", block), wanted, "model")
    check.assert_same(check.ours(x, dtype, dialect="quanto", **options), wanted)


def affine(x, bits, group_size, zeropoint):
    kind = quanto.qint4 if bits == 4 else quanto.qint2
    scale, shift = quanto.MaxOptimizer()(x, kind, 0, group_size, zeropoint=zeropoint)
    codes = torch.ops.quanto.quantize_affine(x, bits, 0, group_size, scale, shift)
    if zeropoint:
        values = scale * (codes.to(torch.int8) - shift.to(torch.int8))
    else:  # QBitsDequantizer
        values = scale * codes
        values -= shift
    # The shift is in the dtype of x, as its -min; ours is float32.
    shift = from_torch(shift.float() if shift.is_floating_point() else shift)
    return Result(from_torch(codes), from_torch(scale), shift, from_torch(values))


@pytest.mark.parametrize("group_size", [None, 50])
@pytest.mark.parametrize("bits", [4, 2])
@sources
@ordinary
def test_shift(case, source, bits, group_size):
    x = dialect_cases.data(case, source)
    block = (1, group_size or x.shape[1])
    options = {"granularity": "group", "group_size": block[1]}
    wanted = affine(to_torch(x), bits, group_size, False)
    flat = from_torch(torch.as_tensor(wanted.scale.astype(np.float32))) == 0  # their scale of a group of one value
    scale = np.where(flat, np.array(1, wanted.scale.dtype), wanted.scale)
    wanted = wanted._replace(scale=scale)
    check.assert_same(check.modelled(x, Target(bits, False), "quanto", block, False), wanted, "model")
    check.assert_same(check.ours(x, f"uint{bits}", dialect="quanto", **options), wanted)


@pytest.mark.parametrize("bits", [4, 2])
@sources
@pytest.mark.parametrize("case", [case.__name__ for case in dialect_cases.ORDINARY if case.__name__ != "one_sided"])
def test_integer_zero_point(case, source, bits):
    x = dialect_cases.data(case, source)
    wanted = affine(to_torch(x), bits, 50, True)
    boxes = model.scale_shape(x.shape, (1, 50))
    scale, zero = wanted.scale.reshape(boxes), wanted.zero.reshape(boxes).astype(np.int32)
    options = {"granularity": "group", "group_size": 50, "dialect": "quanto"}
    q = nc.quantize(x, f"uint{bits}", scale=scale, zero_point=zero, **options)
    values = nc.dequantize(q.codes, scale, zero, spec=q.spec, dtype=x.dtype)
    check.assert_same(Result(q.codes, None, None, values), wanted)
