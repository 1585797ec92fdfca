"""Rows of many kinds, what each granularity means for them, and the comparison of quantize with quant_model.py."""

import functools

import ml_dtypes
import numpy as np

import narrowcast as nc
import quant_model as model

SOURCES = ("float32", "bfloat16", "float16")

# Arguments of quantize; the shapes of `hard` give each of them a short box at an edge.
GRANULARITIES = {
    "tensor": {},
    "row": {"granularity": "row"},
    "channel 0": {"granularity": "channel", "axis": 0},
    "channel -1": {"granularity": "channel", "axis": -1},
    "channels": {"granularity": "channel", "axis": (0, -1)},
    "group": {"granularity": "group", "group_size": 16},
    "group of axis 0": {"granularity": "group", "group_size": 2, "axis": 0},
    "block": {"granularity": "block", "block_shape": (2, 32)},
}

# By name, as each dialect has them.
DIALECT_TARGETS = {
    "onnx": ("int8", "uint8", "int4", "uint4", "int16", "uint16", "float8_e4m3fn"),
    "torch": ("int8", "uint8"),
    "torchao": ("int8", "uint8", "int4", "uint4"),
    "compressed_tensors": ("int8", "int4", "uint8", "float8_e4m3fn"),
    "vllm": ("int8",),
    "quanto": ("int8", "uint4", "uint2"),
    "llm_int8": ("int8",),
}


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def target_of(name, qmin=None, qmax=None):
    """What quant_model calls a target."""
    if "float" in name:
        return model.Target(ml_dtypes.finfo(dtype_of(name)).bits, True, name)
    return model.Target(int(name.lstrip("uint")), not name.startswith("u"), None, qmin, qmax)


@functools.cache
def hard(source="float32", columns=37):
    """Rows of a kind each: weights, small integers, ties, neighbours of powers of two, zeros, NaN, Inf, extremes."""
    random = np.random.default_rng(columns)
    n = columns
    rows = np.zeros((12, n), np.float64)
    rows[0] = random.normal(0, 0.05, n)
    rows[1] = random.normal(0, 0.05, n).astype(ml_dtypes.bfloat16)
    rows[2] = random.integers(-8, 9, n)
    rows[3] = random.integers(-255, 256, n) / 2  # with an amax of 127: ties
    rows[3, 0] = 127
    powers = np.exp2(random.integers(-8, 8, n)).astype(np.float32)
    rows[4] = np.nextafter(powers, random.choice([0, np.inf], n).astype(np.float32)) * random.choice([-1, 1], n)
    rows[6] = random.normal(size=n)
    rows[6, n // 2] = 1000
    rows[7] = random.normal(size=n)
    rows[7, :: max(n // 3, 1)] = np.nan
    rows[8] = random.normal(size=n)
    rows[8, 0] = np.inf
    rows[8, -1] = -np.inf
    rows[9] = np.nan
    rows[10] = np.abs(random.normal(size=n)) + 3  # without zero
    rows[11] = random.choice([-1, 1], n) * (60000 if source == "float16" else 3e38)
    x = rows.astype(np.float32).astype(dtype_of(source))
    x.flags.writeable = False
    return x


def deep(source="float32"):
    """The same in three dimensions."""
    return hard(source).reshape(3, 4, -1)


_EXPECTED = {}  # what the model said: every instruction set is asked the same


def expect(x, name, *, granularity="tensor", axis=None, group_size=None, block_shape=None, dialect="onnx",
           symmetric=None, qmin=None, qmax=None, scale_dtype=None, scale_max=None, compute_dtype=None):  # fmt: skip
    """Codes, scales, zero points and values by the model, with the arguments of quantize; and the box."""
    target = target_of(name, qmin, qmax)
    block = model.block_of(x.shape, granularity, axis, group_size, block_shape)
    block = tuple(map(min, block, x.shape))
    if symmetric is None:
        symmetric = target.signed
    scale_dtype = None if scale_dtype is None else dtype_of(scale_dtype)
    compute = None if compute_dtype is None else dtype_of(compute_dtype)
    options = (target, dialect, block, symmetric, scale_dtype, scale_max, compute)
    key = (x.tobytes(), x.shape, x.dtype, *options)
    if key not in _EXPECTED:
        codes, scale, zero = model.quantize_dynamic(x, *options)
        _EXPECTED[key] = codes, scale, zero, model.dequantize(codes, scale, zero, dialect, block), block
    return _EXPECTED[key]


def same(got, expected):
    """Whether two arrays are equal, NaN to NaN, in the values that they stand for."""
    got, expected = np.asarray(got), np.asarray(expected)
    wide = np.int64 if got.dtype.kind in "iu" else np.float64
    return got.shape == expected.shape and np.array_equal(
        got.astype(wide), expected.astype(wide), equal_nan=wide is np.float64
    )


def check(x, name, **options):
    """Quantize, compare with the model, and return what came."""
    q = nc.quantize(x, name, **options)
    options = {key: value for key, value in options.items() if key not in ("row_sums", "threads")}
    codes, scale, zero, values, _ = expect(x, name, **options)
    assert same(q.codes, codes), "codes"
    assert q.scale.dtype == scale.dtype
    assert same(q.scale, scale), "scales"
    if q.zero_point is None:
        assert not zero.any()
    else:
        assert q.zero_point.dtype == zero.dtype
        assert same(q.zero_point, zero), "zero points"
    assert same(q.dequantize(), values), "values"
    return q
