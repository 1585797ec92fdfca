"""What comes in and goes out of astype, and what is said about anything else: types, names, shapes, out=, copy=."""

import array as stdlib_array
import mmap
import re
import sys
from multiprocessing import shared_memory

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
import oracle

X = np.array([0.5, -3.0, 1000.0], np.float32)
E5M2 = [0x38, 0xC2, 0x64]


@pytest.mark.parametrize(
    "dtype",
    [
        "float8_e5m2",
        ml_dtypes.float8_e5m2,
        np.dtype(ml_dtypes.float8_e5m2),
        next(row for row in nc.formats() if row.name == "float8_e5m2"),
    ],
    ids=["name", "scalar type", "dtype", "format"],
)
def test_ways_to_name_a_target(dtype):
    for x in (X, X[::-1]):
        got = nc.astype(x, dtype)
        assert got.dtype == np.dtype(ml_dtypes.float8_e5m2)
        assert sorted(got.view(np.uint8).tolist()) == sorted(E5M2)


@pytest.mark.parametrize("dtype", ["float16", "f2", "<f2", np.float16, np.dtype(np.float16), np.dtype("<f2"), "=f2"])
def test_numpys_names(dtype):
    got = nc.astype(X, dtype)
    assert got.dtype == np.float16
    assert got.tolist() == X.tolist()


def test_float_is_float64():
    assert nc.astype(X, float).dtype == np.float64
    assert nc.astype(X, dtype="float64").dtype == np.float64


@pytest.mark.parametrize("dtype", ["int8", np.int32, "uint64", ml_dtypes.int4, bool, int, "bool"])
def test_integer_targets_point_to_quantize(dtype):
    with pytest.raises(TypeError, match=r"^dtype is .*integer.*quantize"):
        nc.astype(X, dtype)


@pytest.mark.parametrize(
    "dtype", ["float9", "", "FLOAT16", None, 3, [], {}, object(), np.complex64, "S4", str, "O", "M8[s]"]
)
def test_unknown_targets(dtype):
    with pytest.raises(TypeError, match=r"^dtype is .*allowed are .*float8_e4m3fn"):
        nc.astype(X, dtype)


@pytest.mark.parametrize(
    "x",
    [
        np.ones(3, np.complex64),
        np.ones(3, np.longdouble) if np.dtype(np.longdouble).itemsize > 8 else np.ones(3, complex),
        np.array(["a"]),
        np.array([b"a"]),
        np.array([None]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, [("a", "f4")]),
        "text",
        1j,
        None,
        [1.0, None],
        ["x"],
    ],
    ids=repr,
)
def test_sources_that_are_not_numbers(x):
    with pytest.raises(TypeError, match=r"^x has dtype "):
        nc.astype(x, "float16")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rounding": "even"}, ValueError, "^rounding is 'even'; allowed are nearest_even"),
        ({"rounding": None}, (TypeError, ValueError), "^rounding is None"),
        ({"rounding": 0}, (TypeError, ValueError), "^rounding is 0"),
        ({"overflow": "clip"}, ValueError, "^overflow is 'clip'; allowed are ieee, saturate, raise"),
        ({"overflow": []}, (TypeError, ValueError), "^overflow is "),
        ({"order": "Q"}, ValueError, "^order is 'Q'; allowed are K, C, F, A"),
        ({"threads": -1}, ValueError, "^threads is -1"),
        ({"threads": 1.0}, TypeError, "^threads is 1.0"),
        ({"threads": "2"}, TypeError, "^threads is '2'"),
        ({"offset": 1}, ValueError, "^offset is 1"),
        ({"src_dtype": "nope"}, TypeError, "^src_dtype is 'nope'"),
        ({"src_dtype": "float64"}, ValueError, "^src_dtype is float64.*8 bytes.*float32.*4"),
        ({"out": "text"}, TypeError, "^out is a str"),
        ({"out": 3}, TypeError, "^out is a int"),
        ({"out": b"abcdef"}, ValueError, "^out is read-only"),
        ({"out": np.zeros(3, np.float32)}, TypeError, "^out has dtype float32; allowed are float16 and uint16"),
        ({"out": np.zeros(3, np.int16)}, TypeError, "^out has dtype int16"),
        ({"out": np.zeros(3, ml_dtypes.bfloat16)}, TypeError, "^out has dtype bfloat16"),
        ({"out": np.zeros(4, np.float16)}, ValueError, r"^out has shape \(4,\); allowed is the shape of x, \(3,\)"),
        ({"out": np.zeros((1, 3), np.float16)}, ValueError, "^out has shape"),
        ({"out": np.zeros((), np.float16)}, ValueError, "^out has shape"),
        ({"out": bytearray(5)}, ValueError, "^out is a buffer of 5 bytes; allowed are .* 6"),
    ],
    ids=str,
)
@pytest.mark.parametrize("x", [X, X[::-1]], ids=["contiguous", "strided"])
def test_wrong_options(options, error, words, x):
    out = np.full(3, 7, np.uint16)
    with pytest.raises(error, match=words):
        nc.astype(x, "float16", **({"out": out} | options))
    assert out.tolist() == [7, 7, 7], "written in spite of the error"
    given = options.get("out")
    if isinstance(given, np.ndarray):
        assert not given.astype(float).any()


def test_wrong_calls():
    for call in (
        lambda: nc.astype(),
        lambda: nc.astype(X),
        lambda: nc.astype(X, "float16", "K"),
        lambda: nc.astype(X, "float16", casting="safe"),
        lambda: nc.astype(x=X, dtype="float16"),
        lambda: nc.astype(X, "float16", dtype="float16"),
    ):
        with pytest.raises(TypeError):
            call()


def test_read_only():
    x = X.copy()
    x.flags.writeable = False
    assert nc.astype(x, "float8_e5m2").view(np.uint8).tolist() == E5M2
    out = np.zeros(3, np.float16)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out is read-only"):
        nc.astype(X, "float16", out=out)
    assert not out.any()


def test_sequences_and_scalars():
    assert nc.astype([[1, 2], [3, 4]], "float16").tolist() == [[1, 2], [3, 4]]
    assert nc.astype((0.1,), "bfloat16").view(np.uint16).tolist() == [0x3DCD]
    assert nc.astype([True, False], "float32").tolist() == [1, 0]
    assert nc.astype([], "float32").shape == (0,)
    for scalar in (2.5, np.float32(2.5), np.float64(2.5), ml_dtypes.bfloat16(2.5)):
        got = nc.astype(scalar, "float8_e4m3fn")
        assert type(got) is ml_dtypes.float8_e4m3fn
        assert float(got) == 2.5
    for scalar in (3, True, np.int8(3), np.uint64(3), ml_dtypes.int4(3)):
        assert float(nc.astype(scalar, "float16")) == int(scalar)
    assert type(nc.astype(np.float32(1), "float16")) is np.float16


def test_scalars_are_rounded_once():
    assert nc.astype(1 + 2.0**-4 + 2.0**-40, "float8_e4m3fn").view(np.uint8) == 0x39
    assert float(nc.astype(2**53 + 1, "float64", rounding="up")) == 2.0**53 + 2


def test_zero_dimensions_stay():
    got = nc.astype(np.array(2.5), "float16")
    assert type(got) is np.ndarray
    assert got.shape == ()
    out = np.zeros((), np.uint16)
    assert nc.astype(np.array(2.5), "float16", out=out) is out
    assert out == 0x4100


def test_masked_arrays_keep_their_mask():
    x = np.ma.MaskedArray(X, mask=[False, True, False])
    got = nc.astype(x, "float16")
    assert type(got) is np.ma.MaskedArray
    assert got.dtype == np.float16
    assert got.mask.tolist() == [False, True, False]
    got.mask[0] = True
    assert x.mask.tolist() == [False, True, False]
    assert type(nc.astype(np.ma.MaskedArray(X), "float8_e5m2")) is np.ma.MaskedArray


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_masked_arrays_keep_fill_value_and_hard_mask(dtype):
    x = np.ma.MaskedArray([1.0, 2.0], mask=[False, True], fill_value=7.0, hard_mask=True)
    got, expected = nc.astype(x, dtype), x.astype(dtype)
    assert got.filled().tolist() == expected.filled().tolist() == [1.0, 7.0]
    assert got.filled().dtype == expected.filled().dtype
    assert got.hardmask
    x.fill_value = 1e300  # as numpy: Inf or NaN, but no warning
    assert nc.astype(x, "float16").fill_value == np.inf
    assert not nc.astype(np.ma.MaskedArray([1.0]), dtype).hardmask


@pytest.mark.parametrize("name", ["half", "single", "double", "float", "e", "f", "d"])
def test_numpys_other_names(name):
    assert nc.astype(X, name).dtype == np.dtype(name)


@pytest.mark.parametrize("dtype", [np.floating, np.number, np.generic, np.inexact])
def test_abstract_types_are_no_target(dtype):
    with pytest.raises(TypeError, match=r"^dtype is <class 'numpy"):
        nc.astype(X, dtype)


@pytest.mark.parametrize("argument", ["rounding", "overflow", "order"])
def test_options_that_are_arrays(argument):
    with pytest.raises(ValueError, match=f"^{argument} is array"):
        nc.astype(X, "float16", **{argument: np.array([1, 2])})


def test_other_subclasses_become_plain():
    class Mine(np.ndarray):
        pass

    got = nc.astype(X.view(Mine), "float16")
    assert type(got) is np.ndarray
    matrix = np.arange(6.0).reshape(2, 3).view(np.recarray)
    assert type(nc.astype(matrix, "float32")) is np.ndarray
    out = np.zeros(3, np.float16).view(Mine)
    assert nc.astype(X, "float16", out=out) is out


def test_copy_false():
    assert nc.astype(X, "float32", copy=False) is X
    assert nc.astype(X, "float32") is not X
    assert nc.astype(X, "float16", copy=False).dtype == np.float16
    transposed = np.ones((3, 4), np.float32).T
    assert nc.astype(transposed, "float32", copy=False) is transposed
    assert nc.astype(transposed, "float32", copy=False, order="F") is transposed
    ordered = nc.astype(transposed, "float32", copy=False, order="C")
    assert ordered is not transposed
    assert ordered.flags.c_contiguous
    swapped = X.astype(">f4")
    assert nc.astype(swapped, "float32", copy=False) is not swapped
    assert nc.astype(swapped, ">f4", copy=False) is swapped
    # tfloat32 is another format in the same dtype.
    assert nc.astype(X, "tfloat32", copy=False) is not X
    masked = np.ma.MaskedArray(X)
    assert nc.astype(masked, "float32", copy=False) is masked


def buffers(data):
    """The same bytes in every kind of buffer there is."""
    yield bytes(data)
    yield bytearray(data)
    yield memoryview(data)
    yield stdlib_array.array("B", data)
    mapped = mmap.mmap(-1, len(data))
    mapped[:] = bytes(data)
    yield mapped


@pytest.mark.parametrize("src", ["float32", "float8_e5m2", "bfloat16", "int16", "float64", "uint4"])
def test_buffers_with_src_dtype(src):
    values = np.array([1, 2, 3, 0], np.float32)
    data = values.astype(oracle.numpy_dtype(src)).tobytes()
    for buffer in buffers(data):
        assert nc.astype(buffer, "float32", src_dtype=src).tolist() == [1, 2, 3, 0]
    shared = shared_memory.SharedMemory(create=True, size=4096)
    try:
        shared.buf[: len(data)] = data
        with shared.buf[: len(data)] as view:
            assert nc.astype(view, "float32", src_dtype=src).tolist() == [1, 2, 3, 0]
    finally:
        shared.close()
        shared.unlink()


def test_buffers_need_src_dtype():
    for buffer in (b"abcd", bytearray(4), memoryview(b"abcd")):
        with pytest.raises(TypeError, match="src_dtype"):
            nc.astype(buffer, "float16")


def test_wrong_buffers():
    with pytest.raises(ValueError, match=r"^x has 7 bytes"):
        nc.astype(bytes(7), "float16", src_dtype="float32")
    with pytest.raises(ValueError, match="contiguous"):
        nc.astype(memoryview(bytes(8))[::2], "float16", src_dtype="float32")
    with pytest.raises(TypeError, match=r"^x is a dict"):
        nc.astype({}, "float16", src_dtype="float32")


def test_src_dtype_reads_the_bits_of_an_array():
    codes = np.array([[0x38, 0xC2], [0x64, 0x7C]], np.uint8)
    assert nc.astype(codes, "float32", src_dtype="float8_e5m2").tolist() == [[0.5, -3], [1024, np.inf]]
    assert nc.astype(codes[:, ::-1], "float32", src_dtype="float8_e5m2").tolist() == [[-3, 0.5], [np.inf, 1024]]
    signed = codes.view(np.int8)
    assert nc.astype(signed, "float64", src_dtype=ml_dtypes.float8_e5m2).tolist() == [[0.5, -3], [1024, np.inf]]
    assert nc.astype(np.array([0x4248], ">u2"), "float32", src_dtype=">f2").tolist() == [3.140625]
    assert nc.astype(np.array([0x4248], "u2"), "float32", src_dtype="float16").tolist() == [3.140625]
    assert nc.astype(X, "float16", src_dtype="tfloat32").tolist() == X.tolist()


def test_out_of_every_kind():
    for out in (
        np.zeros(3, ml_dtypes.float8_e5m2),
        np.zeros(3, np.uint8),
        np.zeros(6, np.uint8)[::2],
        bytearray(3),
        memoryview(bytearray(3)),
        stdlib_array.array("B", [0, 0, 0]),
    ):
        assert nc.astype(X, "float8_e5m2", out=out) is out
        assert list(np.asarray(out).view(np.uint8) if isinstance(out, np.ndarray) else out) == E5M2
    mapped = mmap.mmap(-1, 3)
    assert nc.astype(X, "float8_e5m2", out=mapped) is mapped
    assert list(mapped[:]) == E5M2
    wide = bytearray(6)
    assert nc.astype(X, "float16", out=wide) is wide
    assert np.frombuffer(wide, np.float16).tolist() == X.tolist()
    floats = stdlib_array.array("f", [0, 0, 0])
    assert nc.astype(X.astype(np.float64), "float32", out=floats) is floats
    assert floats.tolist() == X.tolist()


def test_tfloat32_comes_as_float32():
    got = nc.astype(np.array([1 + 2.0**-12], np.float32), "tfloat32")
    assert got.dtype == np.float32
    assert got.tolist() == [1]


def test_no_warnings_and_no_references_kept():
    """Warnings are errors in this suite; and a call gives back what it borrowed."""
    x = np.array([1e30, np.nan, 1e-40, -np.inf], np.float32)
    out = np.zeros(4, np.float16)
    before = sys.getrefcount(x), sys.getrefcount(out), sys.getrefcount(out.dtype)
    for _ in range(100):
        nc.astype(x, "float16", out=out)
        nc.astype(x[::-1], "float16", out=out)
        nc.astype(x, "float16", rounding="up")
        with pytest.raises(ValueError, match=re.escape("out has shape")):
            nc.astype(x[:3], "float16", out=out)
    after = sys.getrefcount(x), sys.getrefcount(out), sys.getrefcount(out.dtype)
    assert all(abs(b - a) < 20 for a, b in zip(before, after, strict=True))
