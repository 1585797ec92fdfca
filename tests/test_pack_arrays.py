"""nc.pack and nc.unpack, the compiled entries, on arrays, outputs and tensors of every kind: as the Python functions
behind them. All other arguments are in test_pack_entry.py.
"""

import itertools

import ml_dtypes
import numpy as np
import pytest

from entry_calls import agree, outcome
from pack_cases import CODES, KINDS, PACK, PACKED, UNPACK

pytestmark = pytest.mark.emulated


class Mine(np.ndarray):
    pass


def read_only(array):
    array.flags.writeable = False
    return array


SMALL = np.arange(96).reshape(2, 6, 8) % 4
ARRAYS = {
    "uint8": SMALL.astype(np.uint8),
    "int8": SMALL.astype(np.int8),
    "large codes": np.arange(248, 256, dtype=np.uint8),
    "negative codes": np.arange(-4, 4, dtype=np.int8),
    **{str(np.dtype(kind)): SMALL.astype(kind) for kind in (bool, np.int16, ">i2", np.uint32, np.int64, np.float32)},
    **{
        kind: SMALL.astype(getattr(ml_dtypes, kind)) for kind in ("uint4", "int4", "uint2", "float6_e3m2fn", "bfloat16")
    },
    **{kind: SMALL.astype(getattr(ml_dtypes, kind)) for kind in ("int1", "uint1") if hasattr(ml_dtypes, kind)},
    "object": SMALL.astype(object),
    "strings": SMALL.astype("S1"),
    "records": np.zeros((2, 6, 8), [("code", "u1")]),
    "swapped codes": SMALL.astype(np.dtype(ml_dtypes.uint4).newbyteorder(">")),
    "strided": SMALL.astype(np.uint8)[:, ::2],
    "reversed": SMALL.astype(np.uint8)[..., ::-1],
    "columns": np.asfortranarray(SMALL.astype(np.uint8)),
    "broadcast": np.broadcast_to(np.uint8(1), (4, 8)),
    "read-only": read_only(SMALL.astype(np.uint8)),
    "a scalar": np.array(3, np.uint8),
    "one": np.array([3], np.uint8),
    "five": np.array([3, 2, 1, 0, 1], np.uint8),
    "a column": np.ones((8, 1), np.uint8),
    "empty": np.zeros(0, np.uint8),
    "empty lines": np.zeros((0, 8), np.uint8),
    "no lines": np.zeros((8, 0), np.uint8),
    "many axes": np.ones((1,) * 63 + (8,), np.uint8),
    "masked": np.ma.masked_array([1, 2, 3, 1], [0, 1, 0, 0], np.uint8),
    "a subclass": SMALL.astype(np.uint8).view(Mine),
    "a list": SMALL.tolist(),
    "bytes": bytes(range(8)),
    "bytearray": bytearray(range(8)),
    "memoryview": memoryview(bytes(8)),
    "a number": 3,
    "a numpy number": np.uint8(3),
    "text": "codes",
    "nothing": None,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array(name):
    for dtype, axis in itertools.product(
        (None, "uint4", "int4", "uint3", "uint8", "int2", "float6_e3m2fn"), (None, -1, 0)
    ):
        for functions in (PACK, UNPACK):
            agree(functions, ARRAYS[name], dtype, axis=axis)
    agree(PACK, ARRAYS[name], "uint4", pad=True)
    agree(PACK, ARRAYS[name], "uint2", layout="quanto")


OUTS = {
    **{str(np.dtype(kind)): lambda shape, kind=kind: np.full(shape, 1, kind)
       for kind in (np.uint8, np.int8, bool, np.uint16, np.int32, ml_dtypes.uint4, ml_dtypes.int4, ml_dtypes.uint2)},
    "strided": lambda shape: np.full((*shape, 2), 1, np.uint8)[..., 0],
    "columns": lambda shape: np.full(shape, 1, np.uint8, order="F"),
    "reversed": lambda shape: np.full(shape, 1, np.uint8)[::-1],
    "read-only": lambda shape: read_only(np.full(shape, 1, np.uint8)),
    "one line more": lambda shape: np.full((shape[0] + 1, *shape[1:]), 1, np.uint8),
    "one axis more": lambda shape: np.full((1, *shape), 1, np.uint8),
    "flat": lambda shape: np.full(shape, 1, np.uint8).ravel(),
    "transposed": lambda shape: np.full(shape[::-1], 1, np.uint8),
    "a subclass": lambda shape: np.full(shape, 1, np.uint8).view(Mine),
    "masked": lambda shape: np.ma.masked_array(np.full(shape, 1, np.uint8)),
    "a list": lambda shape: np.full(shape, 1, np.uint8).tolist(),
    "bytearray": lambda shape: bytearray(int(np.prod(shape))),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTS)
def test_every_output(name):
    def out(shape):
        return lambda: OUTS[name](shape)

    agree(PACK, CODES, "uint4", out=out((3, 8)))
    agree(PACK, CODES, "uint3", out=out((3, 6)))
    agree(PACK, CODES.astype(ml_dtypes.uint4), out=out((3, 8)))
    agree(PACK, CODES, "uint2", out=out((3, 4)))  # does not fit
    agree(PACK, CODES, "uint3", check=False, out=out((3, 6)))
    for dtype in ("uint4", "int4"):
        agree(UNPACK, PACKED, dtype, out=out((3, 16)))
        agree(UNPACK, PACKED, dtype, shape=(3, 15), out=out((3, 15)))


@pytest.mark.parametrize("begin", [0, 1, 8, 24, 47])
def test_memory_in_common(begin):
    """Packing in place is a plain call, all else that overlaps is refused: by both."""
    results = {PACK: [], UNPACK: []}
    for functions, dtype, size in ((PACK, "uint4", (48, 24)), (PACK, "uint8", (48, 48)), (UNPACK, "uint4", (24, 48))):
        for function in functions:
            memory = np.arange(96, dtype=np.uint8) % 16
            given, out = memory[: size[0]], memory[begin : begin + size[1]]
            results[functions].append(
                (*outcome(lambda f=function, g=given, d=dtype, o=out: f(g, d, out=o)), memory.tobytes())
            )
    assert results[PACK][0] == results[PACK][1]
    assert results[PACK][2] == results[PACK][3]
    assert results[UNPACK][0] == results[UNPACK][1]


def test_many_calls_of_every_kind():
    """Options meet in every way: the same calls, drawn once and for all."""
    random = np.random.default_rng(7)

    def one(*choices):
        return choices[random.integers(len(choices))]

    arrays = [
        ARRAYS[name] for name in ("uint8", "int8", "uint4", "int4", "strided", "int16", "one", "five", "many axes")
    ]
    plain = 0
    for _ in range(600):
        array, dtype = arrays[random.integers(len(arrays))], KINDS[random.integers(len(KINDS))]
        common = {"axis": one(None, -1, -1, 0, 1), "layout": one("lsb", "lsb", "lsb", "gptq", "msb_nibble")}
        common["threads"] = one(None, None, 1, 2)
        extents = tuple(int(extent) for extent in array.shape)
        shape = one(None, None, None, extents, (*extents[:-1], extents[-1] * 2), (*extents[:-1], extents[-1] * 2 - 1))
        packing = agree(PACK, array, one(dtype, None), pad=one(False, False, True), check=one(True, False), **common)
        unpacking = agree(UNPACK, array, dtype, shape=shape, **common)
        plain += (packing[0] is np.ndarray) + (unpacking[0] is np.ndarray)
    assert plain > 200


def test_tensors():
    torch = pytest.importorskip("torch")
    for codes, out in itertools.product(
        (torch.from_numpy(CODES), CODES), (None, torch.zeros((3, 8), dtype=torch.uint8))
    ):
        made = [agree(PACK, codes, "uint4", out=out), agree(PACK, codes, torch.uint8)]
        assert made[0][0] is (np.ndarray if codes is CODES and out is None else torch.Tensor)
    for packed, out in itertools.product(
        (torch.from_numpy(PACKED), PACKED), (None, torch.zeros((3, 16), dtype=torch.int8))
    ):
        agree(UNPACK, packed, "int4", out=out)
        agree(UNPACK, packed, torch.int8)
