"""What tests of dialects share: one result of quantization and what became of it, from narrowcast, from the model and
from a package, compared bit by bit. What a package is asked is in its test_dialect_*.py.
"""

import importlib
import warnings
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import dialect_cases
import narrowcast as nc
import quant_model as model


class Result(NamedTuple):
    codes: Any
    scale: Any
    zero: Any  # None: not compared
    values: Any  # dequantized; None: not compared


def package(name, reason):
    """A package to compare with; what it prints and warns of when it is imported is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # the latter: built for another torch
            pytest.skip(f"{reason}: {error}", allow_module_level=True)


def bits(array):
    """Codes and numbers as integers that are equal if their bits are; every NaN is one."""
    array = np.asarray(array)
    if array.dtype.kind in "iu" or array.dtype.name.startswith(("int", "uint")):
        return array.astype(np.int64)
    code = array.view(f"u{array.dtype.itemsize}").astype(np.int64)
    return np.where(np.isnan(array.astype(np.float32)), -1, code)


def assert_same(got, wanted, *what):
    """The same bits in every part, in any shape; a part that is None is not compared."""
    for name, a, b in zip(Result._fields, got, wanted, strict=True):
        if a is None or b is None:
            continue
        a, b = bits(a).ravel(), bits(b).ravel()
        assert a.size == b.size, (*what, name)
        bad = np.flatnonzero(a != b)
        shown = [(int(i), int(a[i]), int(b[i])) for i in bad[:4]]
        assert not bad.size, (*what, name, f"{bad.size} of {a.size} differ: (index, got, wanted)", shown)


def ours(x, dtype, **options):
    """What narrowcast makes of x, by all the ways there are to the same codes."""
    q = nc.quantize(x, dtype, **options)
    scale, zero = nc.choose_qparams(x, dtype, **options)
    assert_same(Result(None, scale, zero, None), Result(None, q.scale, q.zero_point, None), "choose_qparams")
    if np.all(np.asarray(scale).astype(np.float32) > 0):  # llm_int8 has scales of 0, which no one may give
        given = {name: value for name, value in options.items() if name != "scale_max"}
        static = nc.quantize(x, dtype, scale=scale, zero_point=zero, **given)
        assert_same(Result(static.codes, None, None, None), Result(q.codes, None, None, None), "given scales")
    return Result(q.codes, q.scale, q.zero_point, q.dequantize(x.dtype))


def modelled(x, target, dialect, block, symmetric=None, **options):
    codes, scale, zero = model.quantize_dynamic(x, target, dialect, block, symmetric, **options)
    return Result(codes, scale, zero, model.dequantize(codes, scale, zero, dialect, block, x.dtype))


def to_torch(x):
    torch = pytest.importorskip("torch", reason="the package computes with torch")
    x = np.array(x)  # a copy: torch refuses read-only memory
    return (
        torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16)
        if x.dtype == ml_dtypes.bfloat16
        else torch.from_numpy(x)
    )


def from_torch(tensor):
    import torch

    views = {torch.bfloat16: (torch.uint16, ml_dtypes.bfloat16)}
    views |= {
        getattr(torch, name): (torch.uint8, getattr(ml_dtypes, name)) for name in ("float8_e4m3fn", "float8_e5m2")
    }
    if tensor.dtype in views:
        plain, dtype = views[tensor.dtype]
        return tensor.contiguous().view(plain).numpy().view(dtype)
    return tensor.numpy()


ROW = (1, dialect_cases.COLUMNS)
ordinary = pytest.mark.parametrize("case", [case.__name__ for case in dialect_cases.ORDINARY])
sources = pytest.mark.parametrize("source", dialect_cases.SOURCES)
quiet_package = pytest.mark.filterwarnings("ignore")
