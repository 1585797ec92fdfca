"""The reader and writer of .npy files against numpy, the formats that numpy alone loses, and what tensors become.

Casts of files are tested elsewhere; here bytes go in and the same bytes come out. Files that lie have their own file.
"""

import re
import warnings

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
from containers import npy_bytes, read_file, refused, write_file, write_npy
from narrowcast._files import npy
from narrowcast._files.container import Tensor

BUILTIN = [row for row in nc.formats() if row.dtype.isbuiltin == 1 and row.dtype.name == row.name]
NARROW = [row for row in nc.formats() if row not in BUILTIN and row.name != "tfloat32"]
RNG = np.random.default_rng(9)


def codes_of(row, shape=(3, 4)):
    return RNG.integers(0, 1 << row.bits, shape, np.uint64).astype(f"u{row.storage_bytes}")


def array_of(row, shape=(3, 4)):
    """An array of a format, of any values."""
    codes = codes_of(row, shape)
    return codes.astype(bool) if row.name == "bool" else codes.view(row.dtype)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npy"


# ---- against numpy

OTHERS = [
    np.zeros((2, 3), np.complex64),
    np.zeros(3, np.complex128),
    np.zeros(2, np.longdouble),
    np.zeros((2, 0), "S5"),
    np.array(["ü", "abc"]),
    np.zeros(2, "V3"),
    np.zeros(2, "M8[25s]"),
    np.zeros(2, "m8[ns]"),
    np.zeros(2, "M8"),
    np.zeros(2, [("a", "<f4"), ("b", ">i2", (2, 3)), ("c", [("d", "u1"), ("e", "?")])]),
    np.zeros(2, {"names": ["a"], "formats": ["<f4"], "offsets": [4]}),
    np.zeros(2, [("bfloat16", "<f4")]),
    np.zeros(2, [("bfloat16", "<u2", 1)]),
    np.zeros(2, [(("title", "name"), "<u2")]),
    np.zeros(2, [('it\'s "quoted"', "<u2"), ("\n\\", "i1")]),
    np.zeros(2, [("é", "<u2")]),
]


@pytest.mark.parametrize("shape", [(), (0,), (5,), (1, 7), (3, 4), (2, 0, 3), (1, 1, 2, 2)], ids=str)
@pytest.mark.parametrize("row", BUILTIN, ids=lambda row: row.name)
def test_numpy_s_formats_are_numpy_s_bytes(path, row, shape):
    for array in (array_of(row, shape), array_of(row, shape).copy("F")):
        tensor, data = write_npy(path, array, row.name)
        assert path.read_bytes() == npy_bytes(array)
        assert read_file(path) == ({tensor: data}, {})
        assert (tensor.format, tensor.shape, tensor.fortran) == (row.name, shape, array.flags.fnc)
        assert npy.dtype_of(tensor) == array.dtype


@pytest.mark.parametrize("array", OTHERS, ids=lambda array: str(array.dtype.descr))
def test_other_dtypes_are_copied(path, array):
    path.write_bytes(npy_bytes(array))
    contents, _ = read_file(path)
    [(tensor, data)] = contents.items()
    assert (tensor.format, data) == (None, array.tobytes())
    if array.dtype.isbuiltin or array.dtype.names is None:  # numpy reads titles and gaps in another way than it writes
        assert npy.dtype_of(tensor) == array.dtype
    again = path.with_name("again.npy")
    write_file(again, contents)
    assert again.read_bytes() == path.read_bytes()
    write_npy(again, array, None)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header(path, version):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    with open(path, "wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(file, array, version)
    assert read_file(path) == ({Tensor("a", (2, 3), "<i2", "int16", 12): array.tobytes()}, {})


def test_names_beyond_latin_1_need_version_3(path):
    array = np.zeros(2, [("数", "<u2")])
    with pytest.warns(UserWarning, match="format 3.0"):
        path.write_bytes(npy_bytes(array))
    contents, _ = read_file(path)
    write_file(path.with_name("again.npy"), contents)
    assert path.with_name("again.npy").read_bytes() == path.read_bytes()


def test_a_header_of_thousands_of_fields(path):
    array = np.zeros(2, [(f"field {i}", "<u2") for i in range(3000)])
    with pytest.warns(UserWarning, match="format 2.0"):
        path.write_bytes(npy_bytes(array))
    assert "has a header of" in refused(path, path.read_bytes())
    with pytest.raises(ValueError, match="too many fields"):
        write_npy(path, array, None)


@pytest.mark.parametrize("word", [">f4", ">i8", ">f2", ">c8"])
def test_big_endian_arrays(path, word):
    array = np.arange(6).reshape(2, 3).astype(word)
    path.write_bytes(npy_bytes(array))
    contents, _ = read_file(path)
    [(tensor, data)] = contents.items()
    assert tensor.swapped
    assert (npy.dtype_of(tensor), data) == (array.dtype, array.tobytes())
    write_file(path, contents)
    assert path.read_bytes() == npy_bytes(array)
    native = npy.native("a", array, tensor.format)
    assert native == (tensor if tensor.format is None else tensor._replace(dtype=word.replace(">", "<"), swapped=False))


# ---- ml_dtypes


@pytest.mark.parametrize("row", NARROW, ids=lambda row: row.name)
def test_narrow_formats_survive(path, row):
    for array in (array_of(row), array_of(row).copy("F"), array_of(row, ())):
        tensor, data = write_npy(path, array, row.name)
        assert read_file(path) == ({tensor: data}, {})
        assert (tensor.format, tensor.fortran) == (row.name, array.flags.fnc)
        assert npy.dtype_of(tensor) == row.dtype
        loaded = np.load(path)
        assert loaded.dtype == [(row.name, f"<u{row.storage_bytes}")]
        again = loaded[row.name].view(row.dtype)
        assert again.shape == array.shape
        assert again.tobytes() == array.tobytes()
        assert path.read_bytes() == npy_bytes(loaded)


def test_big_endian_codes(path):
    array = np.array([1, 2], [("bfloat16", ">u2")])
    path.write_bytes(npy_bytes(array))
    [(tensor, data)] = read_file(path)[0].items()
    assert (tensor.format, tensor.swapped, data) == ("bfloat16", True, b"\0\1\0\2")
    assert npy.recast(tensor, "bfloat16") == npy.native("a", np.zeros(2, ml_dtypes.bfloat16), "bfloat16")


@pytest.mark.parametrize("row", [row for row in NARROW if row.dtype.kind != "u"], ids=lambda row: row.name)
def test_arrays_that_numpy_saved_without_their_format(path, row):
    array = array_of(row)
    raw = npy_bytes(array)
    path.write_bytes(raw)
    [(tensor, data)] = read_file(path)[0].items()
    assert (tensor.format, data) == (None, array.tobytes())
    assert npy.is_ambiguous(tensor)
    assert re.search(r"tensor 'a' has dtype '.*', under .*--from", npy.ambiguity(tensor))
    write_file(path, {tensor: data})
    assert path.read_bytes() == raw

    contents, _ = read_file(path, from_format=row.name)
    assert contents == {npy.native("a", array, row.name): data}
    wrong = "float8_e4m3fn" if row.storage_bytes == 2 else "bfloat16"
    assert "bytes an element; from_format (--from) is" in refused(path, raw, from_format=wrong)


def test_what_from_format_is_not_for(path):
    raw = npy_bytes(np.zeros(3, np.uint8))
    assert "holds no array of a void dtype" in refused(path, raw, from_format="float8_e4m3fn")
    assert "under which only float8_e5m2 is saved" in refused(
        path, npy_bytes(np.zeros(3, ml_dtypes.float8_e5m2)), from_format="float8_e4m3fn"
    )
    with pytest.raises(TypeError, match="from_format is 'float5'; allowed are float64"):
        npy.open_source(path, from_format="float5")
    write_npy(path, np.zeros(3, ml_dtypes.bfloat16), "bfloat16")
    npy.open_source(path, from_format="bfloat16").close()  # it says so itself
    path.write_bytes(npy_bytes(np.zeros(3, "V3")))
    [tensor] = read_file(path)[0]
    assert not npy.is_ambiguous(tensor)


# ---- what a tensor becomes


@pytest.mark.parametrize("row", nc.formats(), ids=lambda row: row.name)
def test_recast_keeps_name_shape_and_order(row):
    old = Tensor("a", (3, 4), ">f4", "float32", 48, 128, swapped=True, fortran=True)
    new = npy.recast(old, row.name)
    assert new == Tensor("a", (3, 4), new.dtype, row.name, 12 * row.storage_bytes, fortran=True)
    assert npy.native("a", np.zeros((3, 4), row.dtype, "F"), row.name) == new


def test_what_no_file_can_hold():
    old = Tensor("a", (2**61,), "<f4", "float32", 2**63)
    with pytest.raises(TypeError, match=r"'float5' is not a format of narrowcast; a \.npy file holds float64"):
        npy.recast(old, "float5")
    with pytest.raises(ValueError, match="'a' does not fit a file: the shape"):
        npy.recast(old, "float32")
    arrays = [np.array([None]), np.zeros(1, [("a", "O")])]
    if hasattr(ml_dtypes, "complex32"):  # not in ml_dtypes 0.5
        arrays.append(np.zeros(1, ml_dtypes.complex32))
    for array in arrays:
        with pytest.raises(TypeError, match=r"tensor 'a' has dtype .*, which a \.npy file cannot hold"):
            npy.native("a", array, None)


def test_the_writer_holds_one_tensor_of_its_kind(path):
    good = npy.native("a", np.zeros(4, np.float32), "float32")
    bads = [good._replace(dtype=dtype) for dtype in ("F32", "<f8", ">f4", "[('a'", "", "{}", "f4 ")]
    for tensors in ([], [good, good], *([bad] for bad in [*bads, good._replace(nbytes=15)])):
        with open(path, "w+b") as file, pytest.raises(ValueError, match=r"one array|recast makes it one"):
            npy.Sink(file, tensors, {})
        assert path.stat().st_size == 0
