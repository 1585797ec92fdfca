"""dequantize called as it was before: a spec remembers dtypes and shapes, so the second call of a loop takes a shorter
way. The values are the same, the refusals are the same, and nothing is remembered of values.
"""

import numpy as np
import pytest

import narrowcast as nc

SPECS = {
    "int8": nc.QuantSpec("int8", granularity="row"),
    "int4": nc.QuantSpec("int4", granularity="group", group_size=32),
    "packed": nc.QuantSpec("int4", granularity="group", group_size=32, layout="lsb"),
    "int16": nc.QuantSpec("int16"),
    "float8": nc.QuantSpec("float8_e5m2", granularity="channel", axis=1),
    "uint8": nc.QuantSpec("uint8", granularity="row"),
}


def values(seed, shape=(4, 64)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", np.float16])
def test_the_same_values(name, dtype):
    spec = SPECS[name]
    for seed in range(4):
        q = nc.quantize(values(seed), spec)
        fresh = nc.dequantize(*q[:3], dtype=dtype, spec=spec.replace())
        out = np.empty_like(fresh)
        assert q.dequantize(dtype, out=out) is out
        assert out.tobytes() == fresh.tobytes()
    assert len(spec._calls) == (0 if name == "uint8" else len({(key[5], key[6]) for key in spec._calls}))


def test_the_same_refusals():
    spec = SPECS["int8"]
    q, out = nc.quantize(values(0), spec), np.empty((4, 64), np.float32)
    for _ in range(2):
        q.dequantize(out=out)
    with pytest.raises(ValueError, match="overlap"):
        nc.dequantize(q.codes, out[:, :1], spec=spec, out=out)
    with pytest.raises(ValueError, match=r"^out has shape"):
        q.dequantize(out=np.empty((4, 65), np.float32))
    with pytest.raises(ValueError, match=r"^granularity is 'channel', and spec is a QuantSpec"):
        nc.dequantize(*q[:2], spec=spec, granularity="channel", out=out)
    with pytest.raises(ValueError, match=r"^threads"):
        q.dequantize(out=out, threads=-1)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out is read-only"):
        q.dequantize(out=out)


def test_strides_and_byte_orders():
    spec = SPECS["int8"]
    q = nc.quantize(values(1), spec)
    for step in (1, -1, 2):
        codes = np.zeros((4, 64 * abs(step)), np.int8)[:, ::step]
        codes[...] = q.codes
        out = np.zeros((4, 128), np.float32)[:, ::2]
        nc.dequantize(codes, q.scale, spec=spec, out=out)
        assert np.array_equal(out, q.dequantize())
    swapped = np.zeros((4, 64), ">f4")
    nc.dequantize(q.codes, q.scale, spec=spec, out=swapped)
    assert np.array_equal(swapped, q.dequantize())
    nc.dequantize(q.codes, q.scale.astype(">f4"), spec=spec, out=swapped)
    assert np.array_equal(swapped, q.dequantize())


def test_what_is_remembered_has_bounds():
    spec = nc.QuantSpec("int8", granularity="row")
    for n in range(1, 200):
        q = nc.quantize(np.ones((1, n), np.float32), spec)
        q.dequantize(out=np.empty((1, n), np.float32))
    assert 0 < len(spec._calls) <= 64
