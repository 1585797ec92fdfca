"""nc.dequantize and QuantizedArray.dequantize are compiled entries, which do plain calls of a prepared spec alone. What
they say is what the Python functions behind them say, in value, dtype, shape and every word of a refusal.
"""

import copy
import inspect
import pickle
import threading

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
from narrowcast._quant.dequantize import dequantize as slow

BF16 = np.dtype(ml_dtypes.bfloat16)

# One for each way to share scales, to keep codes and to count from zero.
SPECS = {
    "tensor": nc.QuantSpec("int8"),
    "row": nc.QuantSpec("int8", granularity="row"),
    "group": nc.QuantSpec("int4", granularity="group", group_size=32),
    "short group": nc.QuantSpec("int8", granularity="group", group_size=24),
    "long group": nc.QuantSpec("int8", granularity="group", group_size=1 << 62),
    "group of rows": nc.QuantSpec("uint8", granularity="group", group_size=3, axis=0),
    "channel": nc.QuantSpec("int8", granularity="channel", axis=0),
    "channels": nc.QuantSpec("uint8", granularity="channel", axis=(-1, 0)),
    "block": nc.QuantSpec("float8_e4m3fn", granularity="block", block_shape=(3, 40)),
    "unsigned": nc.QuantSpec("uint8", granularity="row"),
    "middle": nc.QuantSpec("uint8", symmetric=True),
    "affine": nc.QuantSpec("int8", granularity="row", symmetric=False),
    "wide": nc.QuantSpec("uint16", granularity="row"),
    "odd width": nc.QuantSpec("int3", granularity="row"),
    "float6": nc.QuantSpec("float6_e2m3fn", granularity="row"),
    "packed": nc.QuantSpec("int4", granularity="group", group_size=32, layout="lsb"),
    "packed float6": nc.QuantSpec("float6_e3m2fn", granularity="row", layout="lsb"),
    "packed uint2": nc.QuantSpec("uint2", granularity="row", layout="lsb"),
    "scale_dtype": nc.QuantSpec("int8", granularity="row", scale_dtype="bfloat16"),
    "e8m0": nc.QuantSpec("float4_e2m1fn", granularity="group", group_size=32, scale_dtype="float8_e8m0fnu"),
    "narrow": nc.QuantSpec("int8", qmin=-127, qmax=127),
    "held": nc.QuantSpec("int8", scale=0.5),
    "sums": nc.QuantSpec("int8", granularity="row", row_sums=True),
    "percentile": nc.QuantSpec("int8", calibration="percentile"),
    "threads": nc.QuantSpec("int8", granularity="row", threads=2),
    "quanto": nc.QuantSpec("uint8", granularity="row", dialect="quanto"),
    "torch": nc.QuantSpec("uint8", granularity="row", dialect="torch"),
    "compressed_tensors": nc.QuantSpec("int8", granularity="row", dialect="compressed_tensors"),
    "llm_int8": nc.QuantSpec("int8", granularity="row", dialect="llm_int8", threshold=3.0),
}
# Those that only Python reads.
ODD_SPECS = {
    "fbgemm": nc.QuantSpec("uint8", granularity="row", dialect="fbgemm"),
    "msb_nibble": nc.QuantSpec("int4", granularity="row", layout="msb_nibble"),
    "gptq": nc.QuantSpec("uint4", granularity="channel", axis=1, layout="gptq"),
    "far axis": nc.QuantSpec("int8", granularity="channel", axis=10**30),
    "no such axis": nc.QuantSpec("int8", granularity="channel", axis=2),
    "an axis twice": nc.QuantSpec("int8", granularity="channel", axis=(0, -2)),
}


def values(shape=(8, 64), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


Q = {name: nc.quantize(values(), spec) for name, spec in SPECS.items()}
PLAIN = Q["row"]


def outcome(call, out=None):
    """What a call comes to: every bit of the values and of `out`, or the sentence of a refusal."""
    try:
        made = call()
    except Exception as error:  # whatever it is, it has to be the same
        return type(error), str(error), None if out is None else np.asarray(out).tobytes()
    array = np.asarray(made)
    return type(made), made is out, array.dtype, array.shape, array.tobytes()


def check(*arguments, out=None, **options):
    """Compare the entry with Python, writing to copies of `out`; return what came of it."""
    results = []
    for function in (nc.dequantize, slow):
        if out is None:
            results.append(outcome(lambda f=function: f(*arguments, **options)))
        else:
            own = copy.deepcopy(out)
            results.append(outcome(lambda f=function, o=own: f(*arguments, out=o, **options), own))
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize("name", SPECS)
def test_plain_calls_need_no_python(name, monkeypatch):
    spec, q = SPECS[name], Q[name]
    made = {dtype: slow(*q[:3], dtype=dtype, spec=spec, shape=q.shape) for dtype in ("float32", "bfloat16")}
    monkeypatch.setattr("narrowcast._quant.dequantize.find_shape", None)
    for dtype, expected in made.items():
        out = np.zeros_like(expected)
        calls = [
            lambda d=dtype: q.dequantize(d),
            lambda d=dtype: q.dequantize(dtype=np.dtype(made[d].dtype), threads=2),
            lambda d=dtype, o=out: q.dequantize(d, out=o),
            lambda d=dtype: nc.dequantize(*q[:3], dtype=d, spec=spec),
            lambda d=dtype, o=out: nc.dequantize(q.codes, q.scale, q.zero_point, spec=spec, dtype=d, out=o),
        ]
        for number, call in enumerate(calls):
            got = call()
            assert got.dtype == expected.dtype
            assert got.tobytes() == expected.tobytes()
            assert (got is out) == (number in (2, 4))
            out[...] = 0


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


@pytest.mark.parametrize(
    "dtype",
    [
        "float32", "float64", "tfloat32", "float8_e5m2", "float4_e2m1fn", "f4", ">f4", np.float32, np.dtype(">f4"),
        BF16, ml_dtypes.bfloat16, float, nc.formats()[2], "int8", np.int8, "float", "bf16", None, 3, [], {}, object,
        np.floating,
    ],
    ids=str,
)  # fmt: skip
def test_every_dtype(dtype):
    got = check(*PLAIN[:3], spec=PLAIN.spec, dtype=dtype)
    assert outcome(lambda: PLAIN.dequantize(dtype)) == got
    for kind in (np.float32, np.uint32, np.int32, np.uint16, BF16, np.uint8):
        check(*PLAIN[:3], spec=PLAIN.spec, dtype=dtype, out=np.zeros(PLAIN.shape, kind))


class Hostile:
    def __hash__(self):
        raise RuntimeError("asked for a hash")

    def __repr__(self):
        return "hostile"


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


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f(),
        lambda f: f(PLAIN.codes),
        lambda f: f(PLAIN.codes, PLAIN.scale),
        lambda f: f(PLAIN.codes, spec=PLAIN.spec),
        lambda f: f(*PLAIN[:3], PLAIN.spec),
        lambda f: f(codes=PLAIN.codes, scale=PLAIN.scale, zero_point=None, spec=PLAIN.spec),
        lambda f: f(PLAIN.codes, PLAIN.scale, scale=PLAIN.scale, spec=PLAIN.spec),
        lambda f: f(PLAIN.codes, PLAIN.scale, None, zero_point=PLAIN.scale, spec=PLAIN.spec),
        lambda f: f(*PLAIN[:2], spec="int8"),
        lambda f: f(*PLAIN[:2], spec=None),
        lambda f: f(*PLAIN[:2], spec="int9"),
        lambda f: f(*PLAIN[:2], spec=Hostile()),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, dtype=Hostile()),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, layout="lsb"),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, granularity="channel"),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, granularity=None, axis=None),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, dialect="vllm"),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, copy=True),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, threads=True),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, threads=-1),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, threads=1 << 40),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, threads=np.int8(2)),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, threads="2"),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec, **{"".join(["dty", "pe"]): "float16"}),
        lambda f: f(*PLAIN[:2], spec=PLAIN.spec.replace(threads=0)),
        lambda f: f(Q["packed"].codes[:, :3], np.ones((8, 1), np.float32), spec=SPECS["packed"]),
        lambda f: f(Q["packed float6"].codes[:, :7], Q["row"].scale, spec=SPECS["packed float6"]),
        lambda f: f(Q["packed"].codes, np.ones((8, 1), np.float32), spec=SPECS["packed"], shape=(8, 63)),
        lambda f: f(np.broadcast_to(np.uint8(1), (1 << 61,)), np.ones(1, np.float32), spec=SPECS["packed"]),
    ],
)
def test_every_form_of_call(call):
    assert outcome(lambda: call(nc.dequantize)) == outcome(lambda: call(slow))


class Written:
    """QuantizedArray as it would be without a compiled method."""

    def dequantize(self, dtype="float32", *, out=None, threads=None):
        return slow(*PLAIN[:3], dtype=dtype, spec=PLAIN.spec, shape=PLAIN.shape, out=out, threads=threads)


Written.dequantize.__qualname__ = "QuantizedArray.dequantize"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {"codes": 1}), (("float32", None), {}), (("float32",), {"dtype": "float16"}), ((), {"spec": PLAIN.spec}),
        ((), {"shape": (8, 64)}), ((), {"scale": PLAIN.scale}), ((), {"threads": -1}), ((), {"threads": "x"}),
        ((None,), {}), (("int8",), {}), ((), {"out": 3}), (("float16",), {"out": None, "threads": None}),
    ],
)  # fmt: skip
def test_every_form_of_the_method(arguments, options):
    python = outcome(lambda: Written().dequantize(*arguments, **options))
    assert outcome(lambda: PLAIN.dequantize(*arguments, **options)) == python
    assert outcome(lambda: nc.QuantizedArray.dequantize(PLAIN, *arguments, **options)) == python


def test_other_results():
    """A subclass, one that lost its shape, one without arrays, and something else altogether."""

    class Mine(nc.QuantizedArray):
        pass

    expected = PLAIN.dequantize()
    assert np.array_equal(Mine(*PLAIN).dequantize(), expected)
    assert np.array_equal(nc.QuantizedArray(*PLAIN).dequantize(), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(PLAIN)).dequantize(), expected)
    assert np.array_equal(copy.deepcopy(PLAIN).dequantize(), expected)
    assert pickle.loads(pickle.dumps(PLAIN.dequantize))().tobytes() == expected.tobytes()
    lost = nc.quantize(values(), SPECS["packed"])
    for shape in (None, (8, 64), [8, 64], (8, 63), "x", (1 << 80, 1)):
        lost.shape = shape
        assert outcome(lost.dequantize) == outcome(lambda s=shape: slow(*lost[:3], spec=lost.spec, shape=s))
    for parts in ((1, 2, 3, 4), (None,) * 4, (PLAIN.codes, None, None, PLAIN.spec), (*PLAIN[:3], "int8")):
        assert outcome(nc.QuantizedArray(*parts).dequantize) == outcome(
            lambda p=parts: slow(*p[:3], spec=p[3], shape=None)
        )
    with pytest.raises(TypeError, match="QuantizedArray"):
        nc.QuantizedArray.dequantize((1, 2, 3, 4))


def test_tensors():
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(one) for one in PLAIN[:2]]
    for given in (tensors, [tensors[0], PLAIN.scale], [PLAIN.codes, tensors[1]]):
        for out in (None, torch.zeros(PLAIN.shape), np.zeros(PLAIN.shape, np.float32)):
            made, python = (f(*given, spec=PLAIN.spec, out=out) for f in (nc.dequantize, slow))
            assert type(made) is type(python)
            assert made is out or out is None
            assert np.array_equal(np.asarray(made), PLAIN.dequantize())
    assert nc.dequantize(*tensors, spec=PLAIN.spec, dtype=torch.bfloat16).dtype == torch.bfloat16
    check(*PLAIN[:2], spec=PLAIN.spec, dtype=torch.bfloat16)


def test_the_choices_of_a_context():
    expected = PLAIN.dequantize("float16").tobytes()
    for isa in nc.isas():
        with nc.use_isa(isa):
            assert PLAIN.dequantize("float16").tobytes() == expected
    before = nc.get_num_threads()
    try:
        nc.set_num_threads(2)
        assert PLAIN.dequantize("float16").tobytes() == expected
    finally:
        nc.set_num_threads(before)


def test_threads_of_python():
    """Calls at the same time do not meet: large ones let go of the GIL, small ones keep it."""
    large = nc.quantize(values((256, 512)), SPECS["row"])
    expected = {id(q): q.dequantize().tobytes() for q in (large, PLAIN)}
    wrong = []

    def work():
        for _ in range(20):
            wrong.extend(q for q in (large, PLAIN) if q.dequantize().tobytes() != expected[id(q)])

    workers = [threading.Thread(target=work) for _ in range(4)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert not wrong


def test_help_sees_what_python_says():
    from narrowcast._quant.array import QuantizedArray

    def shown(function):
        return [(one.name, one.default) for one in inspect.signature(function).parameters.values()]

    assert shown(nc.dequantize) == shown(slow)
    assert inspect.getdoc(nc.dequantize) == inspect.getdoc(slow)
    assert shown(PLAIN.dequantize) == [("dtype", "float32"), ("out", None), ("threads", None)]
    assert [name for name, _ in shown(QuantizedArray.dequantize)] == ["self", "dtype", "out", "threads"]
    assert inspect.getdoc(QuantizedArray.dequantize).startswith("Return the values that the codes stand for")
    assert nc.dequantize.__name__ == QuantizedArray.dequantize.__name__ == "dequantize"
    assert QuantizedArray.dequantize.__qualname__ == "QuantizedArray.dequantize"
    assert nc.dequantize.__module__ == "narrowcast"
