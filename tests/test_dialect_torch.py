"""Dialect torch against torch's observers and quantized tensors, and dialect torchao in float32 against fake_quantize,
which rounds before the zero point.

torch.quantize_per_tensor is a fused multiply-add in torch 2.13, the rule of this dialect; torch 2.15 rounds before the
zero point. torch.quantize_per_channel adds the zero point in a step of its own: only zero points of 0 are compared.
"""

import numpy as np
import pytest

import dialect_cases
import dialect_check as check
import narrowcast as nc
import quant_model as model
from dialect_check import Result, from_torch, ordinary, sources, to_torch
from quant_model import Target

torch = check.package("torch", "compares with torch 2.13")
observers = check.package("torch.ao.quantization.observer", "compares with torch 2.13")

pytestmark = check.quiet_package

TARGETS = {
    "int8": (Target(), "qint8", {}),
    "uint8": (Target(signed=False), "quint8", {}),
    "int4": (Target(4), "qint8", {"quant_min": -8, "quant_max": 7}),
    "uint4": (Target(4, False), "quint8", {"quant_min": 0, "quant_max": 15}),
    "int16": (Target(16), "int16", {}),
    "uint16": (Target(16, False), "uint16", {}),
}


@pytest.fixture
def fused():
    """This torch adds the zero point before it rounds."""
    tie = torch.quantize_per_tensor(torch.tensor([0.5]), 1.0, 1, torch.qint8)
    if tie.int_repr().item() != 2:
        pytest.skip(f"torch {torch.__version__} rounds before the zero point; the dialect is that of torch 2.13")


def observe(observer, x, name, symmetric, kind, **keywords):
    _, dtype, ends = TARGETS[name]
    scheme = getattr(torch, f"{kind}_{'symmetric' if symmetric else 'affine'}")
    found = observer(dtype=getattr(torch, dtype), qscheme=scheme, **ends, **keywords)
    found(to_torch(x))
    return found.calculate_qparams()


@pytest.mark.parametrize("name", TARGETS)
@sources
@pytest.mark.parametrize("case", [*(case.__name__ for case in dialect_cases.ORDINARY), "zeros", "tiny"])
def test_observers(case, source, name):
    x = dialect_cases.data(case, source)
    target, _, _ = TARGETS[name]
    for symmetric in (True, False):
        tensor = observe(observers.MinMaxObserver, x, name, symmetric, "per_tensor")
        rows = observe(observers.PerChannelMinMaxObserver, x, name, symmetric, "per_channel", ch_axis=0)
        for granularity, (scale, zero), block in (("tensor", tensor, x.shape), ("row", rows, check.ROW)):
            zero = None if symmetric and target.signed else zero.numpy()
            wanted = Result(None, scale.numpy(), zero, None)
            found = nc.choose_qparams(x, name, granularity=granularity, dialect="torch", symmetric=symmetric)
            check.assert_same(Result(None, *found, None), wanted, granularity, symmetric)
            found = model.choose_qparams(*model.ranges(x, block), target, "torch", symmetric, x.dtype)
            check.assert_same(Result(None, *found, None), wanted, "model", granularity, symmetric)


@pytest.mark.parametrize("name", ["int8", "uint8"])
@pytest.mark.parametrize("zero_point", [0, 1, 113])
@ordinary
def test_quantize_per_tensor(case, zero_point, name, fused):
    x = dialect_cases.data(case)
    target, dtype, _ = TARGETS[name]
    for scale in np.float32([0.5, 0.0123, 1 / 3, 7e-6]):
        quantized = torch.quantize_per_tensor(to_torch(x), float(scale), zero_point, getattr(torch, dtype))
        wanted = Result(quantized.int_repr().numpy(), None, None, quantized.dequantize().numpy())
        q = nc.quantize(x, name, scale=scale, zero_point=zero_point, dialect="torch", symmetric=False)
        check.assert_same(Result(q.codes, None, None, q.dequantize()), wanted, scale)
        numbers = np.full((1, 1), scale), np.full((1, 1), zero_point)
        codes = model.quantize(x, *numbers, target, "torch")
        values = model.dequantize(codes, *numbers, "torch")
        check.assert_same(Result(codes, None, None, values), wanted, "model", scale)


@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_nan_and_infinities(name, fused):
    x = dialect_cases.data("special")
    quantized = torch.quantize_per_tensor(to_torch(x), 0.5, 2, getattr(torch, TARGETS[name][1]))
    q = nc.quantize(x, name, scale=0.5, zero_point=2, dialect="torch", symmetric=False)
    check.assert_same(Result(q.codes, None, None, None), Result(quantized.int_repr().numpy(), None, None, None))


@sources
@ordinary
def test_quantize_per_channel_symmetric(case, source):
    x = dialect_cases.data(case, source)
    scale, zero = observe(observers.PerChannelMinMaxObserver, x, "int8", True, "per_channel", ch_axis=0)
    quantized = torch.quantize_per_channel(to_torch(x).float(), scale, zero, 0, torch.qint8)
    wanted = Result(quantized.int_repr().numpy(), scale.numpy(), None, None)
    got = check.ours(x, "int8", granularity="row", dialect="torch")
    check.assert_same(got, wanted)


@pytest.mark.parametrize("zero_point", [0, 1, 37])
@ordinary
def test_fake_quantize(case, zero_point):
    x = dialect_cases.data(case)
    for scale in np.float32([0.5, 0.0123]):
        wanted = torch.fake_quantize_per_tensor_affine(to_torch(x), float(scale), zero_point, -128, 127)
        got = nc.fake_quantize(
            x, "int8", scale=scale, zero_point=zero_point, dialect="torchao", symmetric=False, compute_dtype="float32"
        )
        check.assert_same(Result(None, None, None, got), Result(None, None, None, from_torch(wanted)), scale)
