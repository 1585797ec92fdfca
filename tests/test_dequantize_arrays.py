"""What the compiled entry of dequantize makes of arrays is what Python makes of them, value or refusal: every spec,
kind of memory, shape, scale and zero point. Forms of calls are in test_dequantize_entry.py.
"""

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
from dequantize_cases import BF16, ODD_SPECS, PLAIN, SPECS, Q, check, slow, values
from entry_calls import outcome


@pytest.mark.parametrize("name", SPECS | ODD_SPECS)
def test_every_spec(name):
    """In every form of a call, plain or not, also where the spec is asked for what it cannot do."""
    spec = (SPECS | ODD_SPECS)[name]
    q = Q[name] if name in Q else nc.quantize(values(), "int8") if "axis" in name else nc.quantize(values(), spec)
    out = np.zeros(q.shape, np.float32)
    for more in ({}, {"dtype": "float16"}, {"shape": q.shape}, {"out": out}, {"threads": 1}):
        check(*q[:3], spec=spec, **more)
    for shape in ((), (8, 65), (8, 64, 1), [8, 64], (8, np.int64(64)), (-8, 64), (8, 1 << 70), (8, 64.0), 512):
        check(*q[:3], spec=spec, shape=shape)
    check(q.codes, q.scale, spec=spec)
    check(q.codes, q.scale, np.zeros(np.shape(q.scale), np.int32), spec=spec)
    check(q.codes, q.scale, np.zeros(np.shape(q.scale), np.float16), spec=spec)
    check(q.codes, 0.25, q.zero_point, spec=spec)
    check(q.codes, np.float32([0.25]), spec=spec)


class Subclass(np.ndarray):
    pass


def arrays_like(array):
    """The same numbers in other forms of memory, and some that are no arrays."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    bytes_apart = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    bytes_apart[...] = array
    return {
        "strided": wide[..., ::2],
        "backwards": array[::-1, ::-1].copy()[::-1, ::-1],
        "Fortran": np.asfortranarray(array),
        "unaligned": bytes_apart,
        "swapped": array.astype(array.dtype.newbyteorder()),
        "read-only": np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
        "masked": np.ma.masked_equal(array, array.flat[0]),
        "subclass": array.view(Subclass),
        "bits": array.view(f"u{array.itemsize}"),
        "signed": array.view(f"i{array.itemsize}"),
        "double": array.astype(np.float64),
        "list": array.tolist(),
        "number": array.flat[0],
        "flat": array.ravel(),
        "squeezed": array.squeeze(),
        "deeper": array[None],
        "empty": array[:0],
        "none": None,
        "object": array.astype(object),
        "text": "abc",
    }


@pytest.mark.parametrize("name", ["row", "unsigned", "packed", "wide", "float6", "e8m0", "quanto", "channels"])
def test_every_kind_of_array(name):
    q = Q[name]
    parts = [q.codes, q.scale, q.zero_point]
    plain = outcome(lambda: q.dequantize())
    for place in range(3):
        if parts[place] is None:
            continue
        for kind, other in arrays_like(parts[place]).items():
            given = [*parts[:place], other, *parts[place + 1 :]]
            got = check(*given, spec=q.spec)
            if kind in ("strided", "backwards", "unaligned", "read-only") and (name, place) != ("packed", 0):
                assert got == plain
            made = q._replace(**dict(zip(("codes", "scale", "zero_point"), given, strict=True)))
            assert outcome(lambda made=made: made.dequantize()) == outcome(
                lambda g=given: slow(*g, spec=q.spec, shape=q.shape)
            )


def test_every_kind_of_out():
    for kind, out in arrays_like(np.zeros(PLAIN.shape, np.float32)).items():
        check(*PLAIN[:3], spec=PLAIN.spec, out=out)
        assert outcome(lambda out=out: PLAIN.dequantize(out=out)) == outcome(
            lambda out=out: slow(*PLAIN[:3], spec=PLAIN.spec, shape=PLAIN.shape, out=out)
        ), kind
    for shape in ((), (0,), (8,), (8, 65), (1, 8, 64), (64, 8)):
        check(*PLAIN[:3], spec=PLAIN.spec, out=np.zeros(shape, np.float32))
    check(*PLAIN[:3], spec=PLAIN.spec, out=bytearray(8 * 64 * 4))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (0, 3), (1, 1, 1), (2, 3, 8), (1,) * 64, (5,)], ids=str)
def test_every_shape(shape):
    for spec in (*SPECS.values(), *ODD_SPECS.values()):
        codes = np.zeros(shape, spec._resolved.target.dtype if spec.layout is None else np.uint8)
        scale = np.ones((1,) * len(shape), np.float32)
        check(codes, scale, spec=spec)
        check(codes, scale[()], scale.astype(np.int32), spec=spec, shape=shape)


def overwritten(function, codes, scale, spec, out):
    return outcome(lambda: function(codes, scale, spec=spec, out=out), out)


def test_memory_that_overlaps():
    """One scale is copied by Python before it is written over; more of them are refused."""
    for spec, rows in ((PLAIN.spec, 8), (PLAIN.spec, 1), (SPECS["tensor"], 1)):
        results = []
        for function in (nc.dequantize, slow):
            memory = np.full((rows, 64), 0.5, np.float32)
            codes, own = np.ones((rows, 64), np.int8), memory.view(np.int8)[:, :64]
            calls = [(codes, memory[:, :1]), (codes, memory[:, 3:4]), (codes, memory[0, 5:6]), (own, np.float32([2]))]
            results.append([overwritten(function, *call, spec, memory) for call in calls])
        assert results[0] == results[1]


@pytest.mark.parametrize("zero", [0, 127, 128, -128, -129, 255, 1 << 14, (1 << 14) + 1, -(1 << 24), 1 << 24, 1 << 31])
def test_every_zero_point(zero):
    for q in Q.values():
        given = np.full(q.scale.shape, zero, np.int32 if zero < 1 << 31 else np.int64)
        check(q.codes, q.scale, given, spec=q.spec)
        check(q.codes, q.scale, given.ravel()[:1], spec=q.spec)
        check(q.codes, q.scale, given.squeeze(), spec=q.spec)
        check(q.codes, q.scale, given.astype(np.float32), spec=q.spec)


@pytest.mark.parametrize("scale", [0.0, -0.0, -1.0, 1e-45, 3e38, np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16, ml_dtypes.float8_e8m0fnu, np.float64])
def test_every_scale(scale, dtype):
    for q in Q.values():
        with np.errstate(all="ignore"):
            check(q.codes, np.full(q.scale.shape, scale, dtype), q.zero_point, spec=q.spec)
