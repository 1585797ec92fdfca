"""Every dialect against quant_model.py, on every instruction set and every source: codes, scales and zero points that
are computed, the same codes from given ones, and values. The packages themselves are in test_dialect_*.py, what does
not depend on a dialect in test_quantize.py.
"""

import functools

import ml_dtypes
import numpy as np
import pytest

import dialect_cases
import dialect_check as check
import narrowcast as nc
import quant_model as model
from narrowcast import _core

TENSOR = {"granularity": "tensor"}
ROW = {"granularity": "row"}
COLUMN = {"granularity": "channel", "axis": 1}
GROUP = {"granularity": "group", "group_size": 32}  # the last of a row is short
BLOCK = {"granularity": "block", "block_shape": (4, 64)}
AFFINE = {"symmetric": False}

# What is asked of each dialect: a dtype and options.
FORMS = {
    "onnx": [
        ("int8", ROW),
        ("int8", TENSOR | AFFINE),
        ("uint8", COLUMN | {"qmin": 3, "qmax": 250}),
        ("uint4", GROUP | {"scale_dtype": "float16"}),
        ("int2", BLOCK),
        ("uint16", ROW | {"symmetric": True}),
        ("float8_e4m3fn", ROW | {"scale_dtype": "float8_e8m0fnu"}),
    ],
    "torch": [("int8", ROW), ("uint8", TENSOR), ("int8", GROUP | AFFINE), ("uint4", ROW | {"symmetric": True})],
    "torchao": [
        ("int8", ROW),
        ("int8", TENSOR | AFFINE),
        ("uint4", GROUP),
        ("int4", GROUP | {"scale_dtype": "float32"}),
        ("uint8", ROW | {"compute_dtype": "float32"}),
        ("float8_e4m3fn", ROW),
    ],
    "compressed_tensors": [
        ("int8", ROW),
        ("int8", TENSOR | AFFINE),
        ("int4", GROUP | AFFINE),
        ("int3", COLUMN | {"scale_dtype": "float16"}),
        ("float8_e4m3fn", BLOCK),
        ("float4_e2m1fn", GROUP),
    ],
    "vllm": [("int8", ROW), ("int8", ROW | AFFINE), ("int8", ROW | {"scale_max": 0.01}), ("float8_e4m3fn", ROW)],
    "quanto": [("int8", ROW), ("uint4", GROUP), ("uint2", ROW), ("float8_e5m2", TENSOR)],
    "fbgemm": [("uint8", ROW), ("uint4", ROW), ("uint2", ROW)],
    "llm_int8": [("int8", ROW)],
}
COLUMNS = dialect_cases.COLUMNS - 2  # fused rows end on a byte at 2 and 4 bits


def test_all_dialects_are_here():
    rows = {name: tuple(words) for name, _, *words in _core.dialects()}
    assert rows == {name: (d.quotient, d.zero, d.steps, d.nan) for name, d in model.DIALECTS.items()}
    assert list(FORMS) == list(rows)


def numpy_dtype(name):
    return None if name is None else np.dtype(getattr(ml_dtypes, name, name))


def target(dtype, qmin=None, qmax=None):
    if dtype.startswith("float"):
        return model.Target(format=dtype)
    return model.Target(int(dtype.lstrip("uint")), dtype[0] != "u", None, qmin, qmax)


def values(case, source):
    return dialect_cases.data(case, source)[:, :COLUMNS]


@functools.cache
def expected(dialect, case, source, position):
    dtype, options = FORMS[dialect][position]
    options = dict(options)
    shape = {
        name: options.pop(name) for name in ("granularity", "axis", "group_size", "block_shape") if name in options
    }
    codes = target(dtype, options.pop("qmin", None), options.pop("qmax", None))
    symmetric = options.pop("symmetric", codes.signed or codes.format is not None) and dialect != "fbgemm"
    dtypes = {"scale_dtype": numpy_dtype(options.pop("scale_dtype", None))}
    dtypes["compute"] = numpy_dtype(options.pop("compute_dtype", None))
    x = values(case, source)
    found = check.modelled(x, codes, dialect, model.block_of(x.shape, **shape), symmetric, **dtypes, **options)
    return found._replace(zero=-found.zero) if dialect == "fbgemm" else found  # there it is the bias


def ours(x, dtype, dialect, options):
    if dialect != "fbgemm":
        return check.ours(x, dtype, dialect=dialect, **options)
    q = nc.quantize(x, dtype, dialect=dialect, **options)
    codes = q.codes if dtype == "uint8" else nc.unpack(np.ascontiguousarray(q.codes), dtype)
    return check.Result(codes, q.scale, q.zero_point.astype(np.float32), q.dequantize(x.dtype))


@pytest.mark.parametrize("source", dialect_cases.SOURCES)
@pytest.mark.parametrize("dialect", FORMS)
def test_everything(dialect, source, isa):
    for position, (dtype, options) in enumerate(FORMS[dialect]):
        for case in dialect_cases.CASES:
            got = ours(values(case, source), dtype, dialect, options)
            check.assert_same(got, expected(dialect, case, source, position), case, dtype, options)


@pytest.mark.parametrize("source", ["float64", "float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float4_e2m1fn"])
@pytest.mark.parametrize("dialect", FORMS)
def test_other_sources_are_widened(dialect, source, isa):
    """Steps are float32 then. float64 is rounded to it first; past its end it is the largest value."""
    with np.errstate(all="ignore"):
        cases = [values(case, "float32").astype(np.float64) for case in ("halfway", "outlier", "zeros", "special")]
        if source == "float64":
            beside = 1 + np.ldexp(1.0, -25 - np.arange(COLUMNS) % 20)  # half of float32's last place, and less
            cases += [cases[0] * beside, cases[1] * 1e40, cases[2] * 1e-42]
        cases = [x.astype(numpy_dtype(source)) for x in cases]
    dtype = "uint4" if dialect == "fbgemm" else "int8"
    for number, x in enumerate(cases):
        got = ours(x, dtype, dialect, ROW)
        symmetric = dialect != "fbgemm"
        wanted = check.modelled(x, target(dtype), dialect, model.block_of(x.shape, **ROW), symmetric)
        if dialect == "fbgemm":
            wanted = wanted._replace(zero=-wanted.zero)
        check.assert_same(got, wanted, number)


@pytest.mark.parametrize("dialect", FORMS)
def test_one_nan_payload_after_another(dialect, isa):
    """Quiet and signalling NaN of both signs are one thing, wherever they are."""
    bits = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF], np.uint32)
    x = np.tile(bits.view(np.float32), 29)[None, :144]
    unsigned = dialect == "fbgemm"
    q = nc.quantize(x, "uint8" if unsigned else "int8", granularity="row", dialect=dialect)
    low, high = (0, 255) if unsigned else (-128, 127)
    assert np.all(np.asarray(q.codes) == (high if model.DIALECTS[dialect].nan == "high" else low))


def test_fma_rounds_once():
    """The model's only trick, against exact fractions."""
    from fractions import Fraction

    rng = np.random.default_rng(5)
    a, b, c = np.ldexp(rng.integers(-(2**24), 2**24, (3, 400)), rng.integers(-40, 20, (3, 400))).astype(np.float32)
    c[:100] = -(a * b)[:100]
    c[100:200] = np.ldexp(np.sign(c[100:200]), np.frexp(a * b)[1][100:200] + 23)
    got = model.fma(a, b, c)
    for x, y, z, w in zip(a, b, c, got, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        around = [np.nextafter(w, np.float32(-np.inf)), w, np.nextafter(w, np.float32(np.inf))]
        off = [abs(Fraction(float(v)) - exact) for v in around]
        assert off[1] <= min(off)
        if off[1] in (off[0], off[2]):
            assert w.view(np.uint32) % 2 == 0
