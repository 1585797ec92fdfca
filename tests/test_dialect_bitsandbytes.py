"""Dialect llm_int8 against bitsandbytes: int8_vectorwise_quant with and without a threshold, and its inverse."""

import numpy as np
import pytest

import dialect_cases
import dialect_check as check
import narrowcast as nc
from dialect_check import Result, from_torch, ordinary, sources, to_torch
from quant_model import Target

functional = check.package("bitsandbytes.functional", "compares with bitsandbytes 0.50")

pytestmark = check.quiet_package


@sources
@ordinary
def test_rows(case, source):
    x = dialect_cases.data(case, source)
    codes, stats, _ = functional.int8_vectorwise_quant(to_torch(x))
    values = functional.int8_vectorwise_dequant(codes, stats)
    wanted = Result(*map(from_torch, (codes, stats)), None, from_torch(values).astype(x.dtype))
    check.assert_same(check.modelled(x, Target(), "llm_int8", check.ROW), wanted, "model")
    check.assert_same(check.ours(x, "int8", granularity="row", dialect="llm_int8"), wanted)


@sources
def test_a_row_of_zeros_has_scale_zero(source):
    x = dialect_cases.data("zeros", source)
    codes, stats, _ = functional.int8_vectorwise_quant(to_torch(x))
    q = nc.quantize(x, granularity="row", dialect="llm_int8")
    check.assert_same(Result(q.codes, q.scale, None, None), Result(*map(from_torch, (codes, stats)), None, None))


@pytest.mark.parametrize("threshold", [0.02, 2.0, 6.0, 1e6])
@sources
@ordinary
def test_outlier_columns(case, source, threshold):
    x = dialect_cases.data(case, source)
    codes, stats, columns = functional.int8_vectorwise_quant(to_torch(x), threshold)
    q = nc.quantize(x, granularity="row", dialect="llm_int8", threshold=threshold)
    check.assert_same(Result(q.codes, q.scale, None, None), Result(*map(from_torch, (codes, stats)), None, None))
    np.testing.assert_array_equal(q.outlier_columns, columns.numpy())


@sources
def test_the_threshold_is_rounded_to_the_dtype_of_the_values(source):
    x = np.array([[0.02, 1e-3, 0.5], [0.01, 0.02, -0.02]]).astype(dialect_cases.SOURCES[source])
    codes, stats, columns = functional.int8_vectorwise_quant(to_torch(x), 0.02)
    q = nc.quantize(x, granularity="row", dialect="llm_int8", threshold=0.02)
    check.assert_same(Result(q.codes, q.scale, None, None), Result(*map(from_torch, (codes, stats)), None, None))
    np.testing.assert_array_equal(q.outlier_columns, columns.numpy())
