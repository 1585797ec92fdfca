"""nc.dequantize and QuantizedArray.dequantize are compiled entries, which do plain calls of a prepared spec alone. What
they say is what the Python functions behind them say, in value, dtype, shape and every word of a refusal. Arrays of
every kind are in test_dequantize_arrays.py.
"""

import copy
import inspect
import pickle

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
from dequantize_cases import BF16, PLAIN, SPECS, Q, check, slow, values
from entry_calls import Hostile, at_the_same_time, outcome


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

    at_the_same_time(work)
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
