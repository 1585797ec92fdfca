"""as_buffer: the memory of any array as a memoryview, of ml_dtypes arrays too, without a copy."""

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
import oracle


@pytest.mark.parametrize("name", [*[n for n in oracle.TARGETS if n != "tfloat32"], *oracle.INTEGERS])
def test_every_dtype(name):
    dtype = oracle.numpy_dtype(name)
    a = np.zeros((3, 4), dtype)
    view = nc.as_buffer(a)
    assert isinstance(view, memoryview)
    assert (view.shape, view.itemsize, view.nbytes) == ((3, 4), dtype.itemsize, a.nbytes)
    assert not view.readonly
    np.asarray(view).view(np.uint8)[...] = 1
    assert a.tobytes() == b"\1" * a.nbytes
    if dtype.isbuiltin != 1:
        assert view.format == {1: "B", 2: "H"}[dtype.itemsize]


def test_strides_are_kept():
    a = np.arange(24, dtype=np.uint8).view(ml_dtypes.float8_e5m2).reshape(4, 6)
    view = nc.as_buffer(a[::2, ::-3].T)
    assert view.tolist() == a.view(np.uint8)[::2, ::-3].T.tolist()
    assert nc.as_buffer(np.array(2.5, ml_dtypes.bfloat16)).shape == ()
    assert nc.as_buffer(np.zeros((0, 2), ml_dtypes.bfloat16)).shape == (0, 2)


def test_read_only_stays_read_only():
    a = np.zeros(4, ml_dtypes.bfloat16)
    a.flags.writeable = False
    view = nc.as_buffer(a)
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1


def test_it_keeps_the_memory_alive():
    view = nc.as_buffer(np.ones(1000, ml_dtypes.bfloat16))
    assert view.tolist() == [0x3F80] * 1000


def test_round_trip():
    a = nc.astype(np.linspace(-1, 1, 50, dtype=np.float32), "float8_e4m3fn")
    again = nc.astype(nc.as_buffer(a), "float32", src_dtype="float8_e4m3fn")
    assert again.tolist() == a.astype(np.float32).tolist()


@pytest.mark.parametrize("a", [[1.0], 2.5, b"abc", None, "text"])
def test_wrong_types(a):
    with pytest.raises(TypeError, match=r"^a is a "):
        nc.as_buffer(a)


@pytest.mark.parametrize("dtype", [np.complex64, "S3", object, "M8[s]"])
def test_wrong_dtypes(dtype):
    with pytest.raises(TypeError, match=r"^a has dtype"):
        nc.as_buffer(np.zeros(2, dtype))
