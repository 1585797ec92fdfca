"""nc.pack and nc.unpack are compiled entries, which do plain calls of the layout lsb alone. What they say is what the
Python functions behind them say, in value, dtype, shape and every word of a refusal. Arrays of every kind are in
test_pack_arrays.py; the functions themselves are tested in test_pack_calls.py and test_pack_layouts.py.
"""

import inspect
import itertools
import pickle

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
from entry_calls import Hostile, agree, at_the_same_time, outcome
from narrowcast._quant import pack as python
from pack_cases import CODES, INTEGERS, KINDS, PACK, PACKED, UNPACK, bits_of, codes_of, ends_of, own_dtype

pytestmark = pytest.mark.emulated


@pytest.mark.parametrize("kind", KINDS)
def test_plain_calls_need_no_python(kind, monkeypatch):
    codes, own = codes_of(kind), own_dtype(kind)
    packed = python.pack(codes, kind)
    back = python.unpack(packed, kind)
    part = python.pack(codes[:, :13], kind, pad=True)
    monkeypatch.setattr(python, "plan", None)
    names = [kind] if own is None else [kind, own, own.type]
    inputs = [codes] if own is None else [codes, codes.view(own)]
    for name, given in itertools.product(names, inputs):
        out = np.zeros_like(packed)
        plain = [
            nc.pack(given, name),
            nc.pack(codes=given, dtype=name, layout="lsb", axis=None, pad=False, check=True, out=None, threads=None),
            nc.pack(given, dtype=name, axis=-1, check=False, threads=2),
            nc.pack(given, name, axis=1, out=out),
            nc.pack(given, name, out=np.zeros(packed.shape, np.int8)),
            nc.pack(given.ravel(), name).reshape(packed.shape),
        ]
        assert plain[3] is out
        assert [one.dtype for one in plain] == [np.uint8] * 4 + [np.int8, np.uint8]
        assert all(one.tobytes() == packed.tobytes() for one in plain)
    if own is not None:
        above = np.uint8(0xFF << bits_of(kind) & 0xFF)  # what stands there is no part of a code
        assert nc.pack((codes.view(np.uint8) ^ above).view(own)).tobytes() == packed.tobytes()
        assert nc.pack(codes.view(own)).tobytes() == packed.tobytes()
        assert nc.pack(codes.view(own), None, check=False).tobytes() == packed.tobytes()
    for name in names:
        out = np.zeros_like(back)
        plain = [
            nc.unpack(packed, name),
            nc.unpack(packed=packed, dtype=name, shape=None, layout="lsb", axis=None, out=None, threads=None),
            nc.unpack(packed.view(np.int8), dtype=name, axis=-1, threads=2, shape=(3, 16)),
            nc.unpack(packed, name, axis=1, out=out),
            nc.unpack(packed.ravel(), name, shape=48).reshape(back.shape),
            nc.unpack(packed, name, out=np.zeros(back.shape, np.uint8)),
            nc.unpack(packed, name, out=np.zeros(back.shape, np.int8)),
        ]
        assert plain[3] is out
        assert [one.dtype for one in plain] == [back.dtype] * 5 + [np.uint8, np.int8]
        assert all(one.tobytes() == back.tobytes() for one in plain)
        assert nc.unpack(part, name, shape=(3, 13)).tobytes() == back[:, :13].tobytes()


@pytest.mark.parametrize(
    "dtype",
    [
        *KINDS, *nc.formats(), np.int8, np.uint8, ml_dtypes.uint4, ml_dtypes.int4, ml_dtypes.float6_e2m3fn,
        np.dtype(ml_dtypes.uint4), np.dtype(np.int8), np.dtype(">i2"), np.str_("uint4"), "".join(["uin", "t4"]), "int9",
        "uint0", "int16", "float32", "u1", ">i1", bool, int, object, np.integer, None, 3, [], {}, Hostile(),
    ],
    ids=str,
)  # fmt: skip
def test_every_dtype(dtype):
    for kind in (np.uint8, np.int8, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.float4_e2m1fn, np.int32, bool):
        agree(PACK, CODES.astype(kind), dtype)
        agree(PACK, CODES.astype(kind), dtype, check=False, out=np.full((3, 8), 7, np.uint8))
    agree(UNPACK, PACKED, dtype)
    for kind in (np.uint8, np.int8, ml_dtypes.uint4, ml_dtypes.int4, np.uint16):
        agree(UNPACK, PACKED, dtype, out=np.full((3, 16), 7, kind))


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f(),
        lambda f: f(CODES),
        lambda f: f(CODES, None),
        lambda f: f(CODES, "uint4", "lsb"),
        lambda f: f(CODES, "uint4", dtype="uint4"),
        lambda f: f(CODES, None, dtype="uint4"),
        lambda f: f(dtype="uint4"),
        lambda f: f(codes=CODES, dtype="uint4"),
        lambda f: f(packed=CODES, dtype="uint4"),
        lambda f: f(CODES, "uint4", codes=CODES),
        lambda f: f(CODES, "uint4", copy=True),
        lambda f: f(CODES, **{"".join(["dty", "pe"]): "uint4"}),
        *(
            lambda f, option=option, value=value: f(CODES, "uint4", **{option: value})
            for option, values in {
                "layout": (
                    "".join(["l", "sb"]), "msb_nibble", "ggml", "quanto", "gptq", "awq", "compressed_tensors",
                    "compressed_tensors_pre018", "marlin", "LSB", b"lsb", None, 1, [],
                ),
                "axis": (0, 1, 2, -1, -2, -3, 1 << 80, -(1 << 80), True, np.int8(-1), np.int64(1), 1.0, "1", None),
                "pad": (True, False, None, 0, 1, np.False_, "no"),
                "check": (True, False, None, 0, 1, np.True_, "no"),
                "threads": (None, 0, 1, 2, True, -1, 1 << 40, np.int8(2), "2", 1.0),
                "out": (None, 3, [], "out", bytearray(24), CODES, PACKED),
                "shape": (
                    None, (3, 32), (3, 31), [3, 32], (3, 33), (3, 30), (96,), 96, 0, -1, (), (3, 0), (0, 32), (3, -32),
                    (2, 32), 32, (3, 32, 1), (3, np.int64(32)), (True, 32), (3, 32.0), (3, 1 << 62), (3, 1 << 80), 3.0,
                    "x",
                ),
            }.items()
            for value in values
        ),
    ],
)  # fmt: skip
def test_every_form_of_call(call):
    for functions in (PACK, UNPACK):
        assert outcome(lambda f=functions: call(f[0])) == outcome(lambda f=functions: call(f[1]))


@pytest.mark.parametrize(
    "shape", [1, 2, 3, 4, 7, 8, 9, -1, -2, 0, 1 << 61, -(1 << 63), 1 << 63, True, np.int8(8), (4,), (3,)]
)
def test_every_extent_of_a_line(shape):
    for kind, size in itertools.product(("uint1", "int3", "uint4", "int6", "uint8"), (0, 1, 2, 3, 4)):
        agree(UNPACK, np.arange(50, 50 + size, dtype=np.uint8), kind, shape=shape)


@pytest.mark.parametrize("shape", [(2, 3, 8), (3, 2, 8), (6, 1, 8), (1, 6, 8), (2, 3, 7), (3, 2, 7), (6, 8), (6, 2, 4)])
def test_every_shape_of_lines(shape):
    agree(UNPACK, np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "uint4", shape=shape)


@pytest.mark.parametrize("kind", [kind for kind in INTEGERS if not kind.endswith("8")])
@pytest.mark.parametrize("size", [8, 1000, 20_000])
def test_codes_that_do_not_fit_are_refused_before_anything_is_written(kind, size):
    codes = codes_of(kind, (size,))
    low, high = ends_of(kind)
    for place, wrong in itertools.product({0, 5, size // 2, size - 1}, (low - 1, high + 1)):
        bad = codes.copy()
        bad[place] = np.array(wrong).astype(codes.dtype)
        refused = agree(PACK, bad, kind, out=np.full(python.pack(codes, kind).shape, 0xA5, np.uint8))
        assert refused[0] is OverflowError
        assert f"codes[{place}]" in refused[1]
        assert set(refused[2]) == {0xA5}
        assert agree(PACK, bad, kind)[0] is OverflowError
        taken = agree(PACK, bad, kind, check=False)
        assert taken[0] is np.ndarray


def test_the_choices_of_a_context():
    for isa in nc.isas():
        with nc.use_isa(isa):
            assert nc.pack(CODES, "uint4").tobytes() == PACKED.tobytes()
            assert nc.unpack(PACKED, "uint4").tobytes() == CODES.tobytes()
    before = nc.get_num_threads()
    try:
        nc.set_num_threads(2)
        assert nc.pack(CODES, "uint4").tobytes() == PACKED.tobytes()
    finally:
        nc.set_num_threads(before)


def test_threads_of_python():
    """Calls at the same time do not meet: large ones let go of the GIL, small ones keep it."""
    large = codes_of("uint4", (256, 512))
    expected = [(codes, python.pack(codes, "uint4").tobytes()) for codes in (large, CODES)]
    wrong = []

    def work():
        for _ in range(20):
            for codes, packed in expected:
                made = nc.pack(codes, "uint4")
                if made.tobytes() != packed or nc.unpack(made, "uint4").tobytes() != codes.tobytes():
                    wrong.append(codes)

    at_the_same_time(work)
    assert not wrong


@pytest.mark.parametrize(("entry", "function"), [PACK, UNPACK], ids=["pack", "unpack"])
def test_help_sees_what_python_says(entry, function):
    def shown(of):
        return [(one.name, one.kind, one.default) for one in inspect.signature(of).parameters.values()]

    assert shown(entry) == shown(function)
    assert inspect.getdoc(entry) == inspect.getdoc(function)
    assert (entry.__name__, entry.__module__) == (function.__name__, "narrowcast")
    assert pickle.loads(pickle.dumps(entry)) is entry
