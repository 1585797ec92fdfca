"""quantize by what must hold whatever comes in: random shapes, boxes, dtypes and memory orders."""

import numpy as np
import pytest

import narrowcast as nc
import quant_model as model
from quantize_cases import same

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = ["int8", "uint8", "int4", "uint4", "int3", "uint2", "int16"]


@st.composite
def calls(draw):
    """Values of any shape and order, and options of quantize that fit them."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    kind = draw(
        st.sampled_from(["tensor", "row", "channel", "group", "block"] if len(shape) > 1 else ["tensor", "row"])
    )
    options = {"granularity": kind}
    axes = st.integers(-len(shape), len(shape) - 1)
    if kind == "channel":
        options["axis"] = tuple(
            draw(st.lists(axes, min_size=1, max_size=len(shape), unique_by=lambda i: i % len(shape)))
        )
    elif kind == "group":
        options |= {"axis": draw(axes), "group_size": draw(st.integers(1, 12))}
    elif kind == "block":
        options["block_shape"] = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    options["symmetric"] = draw(st.sampled_from([None, True, False]))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    order = draw(st.permutations(range(len(shape))))
    x = random.normal(size=shape) * np.exp(random.normal(size=shape) * 2)
    x = x.astype(np.float32).transpose(order).copy().transpose(np.argsort(order))
    return x, draw(st.sampled_from(TARGETS)), options


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(calls())
def test_what_must_hold(call):
    x, name, options = call
    q = nc.quantize(x, name, row_sums=True, **options)
    symmetric = options.pop("symmetric")
    block = tuple(map(min, model.block_of(x.shape, **options), x.shape))
    assert q.scale.shape == model.scale_shape(x.shape, block)
    assert q.codes.shape == x.shape
    values = q.dequantize()
    for index, box in model.boxes(x.shape, block):
        one = nc.quantize(x[box], name, symmetric=symmetric)  # a box does not know of the others
        assert same(q.codes[box], one.codes)
        assert q.scale[index] == one.scale.item()
        assert np.abs(values[box] - x[box]).max() <= q.scale[index] * 1.001, "zero point and value are rounded"
    assert q.row_sums.tolist() == q.codes.astype(np.int64).sum(axis=-1).tolist()
    again = nc.quantize(x, q.spec, scale=q.scale, zero_point=q.zero_point)
    assert same(again.codes, q.codes)
    assert same(nc.fake_quantize(x, q.spec), values)
    error = nc.quantization_error(x, q)
    assert error.max_abs <= q.scale.max() * 1.001
    assert error.elements == error.finite == x.size
