"""The reader and writer of .npy files: against numpy, and against files that lie.

Casts of files are tested elsewhere; here bytes go in and the same bytes come out.
"""

import io
import re
import time
import tracemalloc
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import narrowcast as nc
from containers import check_consistent, check_sentence, read_file, replace_file, write_file
from narrowcast._files import npy
from narrowcast._files.container import FileFormatError, Tensor

BUILTIN = [row for row in nc.formats() if row.dtype.isbuiltin == 1 and row.dtype.name == row.name]
NARROW = [row for row in nc.formats() if row not in BUILTIN and row.name != "tfloat32"]
RNG = np.random.default_rng(9)


def codes_of(row, shape=(3, 4)):
    return RNG.integers(0, 1 << row.bits, shape, np.uint64).astype(f"u{row.storage_bytes}")


def array_of(row, shape=(3, 4)):
    """An array of a format, of any values."""
    codes = codes_of(row, shape)
    return codes.astype(bool) if row.name == "bool" else codes.view(row.dtype)


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def written(path, array, format_):
    tensor = npy.native(path.stem, array, format_)
    data = array.T.tobytes() if tensor.fortran else array.tobytes()
    write_file(path, {tensor: data})
    return tensor, data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("npy")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npy"


def refused(path, raw, **options):
    """The sentence with which these bytes are refused, without the path."""
    path.write_bytes(raw)
    with pytest.raises(FileFormatError) as caught:
        npy.open_source(path, **options)
    check_sentence(path, caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


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
        tensor, data = written(path, array, row.name)
        assert path.read_bytes() == saved(array)
        assert read_file(path) == ({tensor: data}, {})
        assert (tensor.format, tensor.shape, tensor.fortran) == (row.name, shape, array.flags.fnc)
        assert npy.dtype_of(tensor) == array.dtype


@pytest.mark.parametrize("array", OTHERS, ids=lambda array: str(array.dtype.descr))
def test_other_dtypes_are_copied(path, array):
    path.write_bytes(saved(array))
    contents, _ = read_file(path)
    [(tensor, data)] = contents.items()
    assert (tensor.format, data) == (None, array.tobytes())
    if array.dtype.isbuiltin or array.dtype.names is None:  # numpy reads titles and gaps in another way than it writes
        assert npy.dtype_of(tensor) == array.dtype
    again = path.with_name("again.npy")
    write_file(again, contents)
    assert again.read_bytes() == path.read_bytes()
    written(again, array, None)
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
        path.write_bytes(saved(array))
    contents, _ = read_file(path)
    write_file(path.with_name("again.npy"), contents)
    assert path.with_name("again.npy").read_bytes() == path.read_bytes()


def test_a_header_of_thousands_of_fields(path):
    array = np.zeros(2, [(f"field {i}", "<u2") for i in range(3000)])
    with pytest.warns(UserWarning, match="format 2.0"):
        path.write_bytes(saved(array))
    assert "has a header of" in refused(path, path.read_bytes())
    with pytest.raises(ValueError, match="too many fields"):
        written(path, array, None)


@pytest.mark.parametrize("word", [">f4", ">i8", ">f2", ">c8"])
def test_big_endian_arrays(path, word):
    array = np.arange(6).reshape(2, 3).astype(word)
    path.write_bytes(saved(array))
    contents, _ = read_file(path)
    [(tensor, data)] = contents.items()
    assert tensor.swapped
    assert (npy.dtype_of(tensor), data) == (array.dtype, array.tobytes())
    write_file(path, contents)
    assert path.read_bytes() == saved(array)
    native = npy.native("a", array, tensor.format)
    assert native == (tensor if tensor.format is None else tensor._replace(dtype=word.replace(">", "<"), swapped=False))


# ---- ml_dtypes


@pytest.mark.parametrize("row", NARROW, ids=lambda row: row.name)
def test_narrow_formats_survive(path, row):
    for array in (array_of(row), array_of(row).copy("F"), array_of(row, ())):
        tensor, data = written(path, array, row.name)
        assert read_file(path) == ({tensor: data}, {})
        assert (tensor.format, tensor.fortran) == (row.name, array.flags.fnc)
        assert npy.dtype_of(tensor) == row.dtype
        loaded = np.load(path)
        assert loaded.dtype == [(row.name, f"<u{row.storage_bytes}")]
        again = loaded[row.name].view(row.dtype)
        assert again.shape == array.shape
        assert again.tobytes() == array.tobytes()
        assert path.read_bytes() == saved(loaded)


def test_big_endian_codes(path):
    array = np.array([1, 2], [("bfloat16", ">u2")])
    path.write_bytes(saved(array))
    [(tensor, data)] = read_file(path)[0].items()
    assert (tensor.format, tensor.swapped, data) == ("bfloat16", True, b"\0\1\0\2")
    assert npy.recast(tensor, "bfloat16") == npy.native("a", np.zeros(2, ml_dtypes.bfloat16), "bfloat16")


@pytest.mark.parametrize("row", [row for row in NARROW if row.dtype.kind != "u"], ids=lambda row: row.name)
def test_arrays_that_numpy_saved_without_their_format(path, row):
    array = array_of(row)
    raw = saved(array)
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
    raw = saved(np.zeros(3, np.uint8))
    assert "holds no array of a void dtype" in refused(path, raw, from_format="float8_e4m3fn")
    assert "under which only float8_e5m2 is saved" in refused(
        path, saved(np.zeros(3, ml_dtypes.float8_e5m2)), from_format="float8_e4m3fn"
    )
    with pytest.raises(TypeError, match="from_format is 'float5'; allowed are float64"):
        npy.open_source(path, from_format="float5")
    written(path, np.zeros(3, ml_dtypes.bfloat16), "bfloat16")
    npy.open_source(path, from_format="bfloat16").close()  # it says so itself
    path.write_bytes(saved(np.zeros(3, "V3")))
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
    for array in (np.array([None]), np.zeros(1, [("a", "O")]), np.zeros(1, ml_dtypes.complex32)):
        with pytest.raises(TypeError, match=r"tensor 'a' has dtype .*, which a \.npy file cannot hold"):
            npy.native("a", array, None)


def test_the_writer_holds_one_tensor_of_its_kind(path):
    good = npy.native("a", np.zeros(4, np.float32), "float32")
    bads = [good._replace(dtype=dtype) for dtype in ("F32", "<f8", ">f4", "[('a'", "", "{}", "f4 ")]
    for tensors in ([], [good, good], *([bad] for bad in [*bads, good._replace(nbytes=15)])):
        with open(path, "w+b") as file, pytest.raises(ValueError, match=r"one array|recast makes it one"):
            npy.Sink(file, tensors, {})
        assert path.stat().st_size == 0


# ---- files that lie


def npy_bytes(header, data=bytes(8), version=1, length=None):
    raw = header if isinstance(header, bytes) else header.encode("latin-1")
    width = 2 if version == 1 else 4
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + (len(raw) if length is None else length).to_bytes(width, "little")
        + raw
        + data
    )


def head(descr="'<f4'", fortran="False", shape="(2,)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


LIES = {
    "empty": (b"", "is no .npy file"),
    "another kind of file": (b"PK\x03\x04" + bytes(40), "is no .npy file"),
    "nothing after the magic": (b"\x93NUMPY", "has version"),
    "version 4": (npy_bytes(head(), version=4), "version 4.0 of the .npy format; 1.0 to 3.0"),
    "version 1.1": (b"\x93NUMPY\1\1" + npy_bytes(head())[8:], "version 1.1"),
    "no length": (b"\x93NUMPY\1\0", "no Python literal|other than a dict"),
    "header past the end": (npy_bytes(head(), b"", length=1000), "is truncated: of the header's 1000 bytes there are"),
    "header of 4 GB": (npy_bytes(head(), version=2, length=2**32 - 1), "a header of 4294967295 bytes; 65535"),
    "not UTF-8": (npy_bytes(b"{'\xff'}", version=3), "no Python literal"),
    "no literal": (npy_bytes("print(1)"), "no Python literal"),
    "a call": (npy_bytes(head(shape="(__import__('os').getpid(),)")), "no Python literal"),
    "a comment": (npy_bytes(head() + "# x"), "no Python literal"),
    "an f-string": (npy_bytes(head(descr="f'<f4'")), "no Python literal"),
    "an unknown escape": (npy_bytes(head(descr=r"'<f4\d'")), "no Python literal"),
    "an unclosed string": (npy_bytes("{'descr"), "no Python literal"),
    "a missing brace": (npy_bytes(head()[:-4]), "no Python literal"),
    "deep lists": (npy_bytes(head(descr="[" * 30_000 + "]" * 30_000)), "no Python literal"),
    "90 lists": (npy_bytes(head(descr="[" * 90 + "]" * 90)), "dtype .* is not known"),
    "a list for a key": (npy_bytes("{[]: 1}"), "no Python literal"),
    "an endless number": (npy_bytes(head(shape=f"({'9' * 10_000},)")), "no Python literal"),
    "a list": (npy_bytes("[1]"), "other than a dict"),
    "empty dict": (npy_bytes("{}"), "other than a dict"),
    "a key too many": (npy_bytes("{'a': 1, " + head()[1:]), "other than a dict"),
    "a key twice": (npy_bytes("{'descr': '<f4', " + head()[1:]), "other than a dict"),
    "a key missing": (npy_bytes("{'descr': '<f4', 'shape': (2,)}"), "other than a dict"),
    "order 1": (npy_bytes(head(fortran="1")), "fortran_order 1; allowed are True and False"),
    "shape a list": (npy_bytes(head(shape="[2]")), "not a tuple of at most 64"),
    "shape a number": (npy_bytes(head(shape="2")), "not a tuple of at most 64"),
    "65 dimensions": (npy_bytes(head(shape="(" + "1," * 65 + ")")), "not a tuple of at most 64"),
    "negative length": (npy_bytes(head(shape="(-2,)")), "-2, which is not a length"),
    "two negative lengths": (npy_bytes(head(shape="(-1,-2)")), "not a length"),
    "true for a length": (npy_bytes(head(shape="(2,True)")), "True, which is not a length"),
    "None for a length": (npy_bytes(head(shape="(None,)")), "None, which is not a length"),
    "text for a length": (npy_bytes(head(shape="('2',)")), "'2', which is not a length"),
    "2^64 elements": (npy_bytes(head(shape="(4294967296,4294967296,0)")), "more elements than any file"),
    "2^63 bytes": (npy_bytes(head(shape="(2305843009213693952,)")), "more elements than any file"),
    "objects": (npy_bytes(head(descr="'|O'")), "holds Python objects, which only pickle reads"),
    "an object in a field": (npy_bytes(head(descr="[('a', '<f4'), ('b', [('c', '|O8')])]")), "holds Python objects"),
    "an array of objects": (npy_bytes(head(descr="('|O', (2,))")), "holds Python objects"),
    "unknown dtype": (npy_bytes(head(descr="'<q4'")), "the dtype '<q4', which is not known"),
    "unknown width": (npy_bytes(head(descr="'<f5'")), "the dtype '<f5', which is not known"),
    "two dtypes": (npy_bytes(head(descr="'<f4,<f4'")), "which is not known"),
    "numpy's name": (npy_bytes(head(descr="'float32'")), "which is not known"),
    "a unit for floats": (npy_bytes(head(descr="'<f4[ns]'")), "which is not known"),
    "dtype a number": (npy_bytes(head(descr="4")), "the dtype 4, which is not known"),
    "a field without dtype": (npy_bytes(head(descr="[('a',)]")), "which is not known"),
    "a field of unknown dtype": (npy_bytes(head(descr="[('a', '<f4'), ('b', 'x')]")), "the dtype 'x', which is not"),
    "a field of negative shape": (npy_bytes(head(descr="[('a', '<f4', (-1,))]")), "not a length"),
    "a field of 2^64 bytes": (npy_bytes(head(descr="[('a', '<f4', (4294967296, 4294967296))]")), "more elements than"),
    "an item of 9 GB": (npy_bytes(head(descr="'|V9999999999'")), "is truncated: 19999999990 bytes"),
    "data missing": (npy_bytes(head(), bytes(7)), "is truncated: 1 bytes of its array are missing"),
    "data to spare": (npy_bytes(head(), bytes(9)), "has 1 bytes after its array"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(path, lie):
    raw, words = LIES[lie]
    start = time.perf_counter()
    tracemalloc.start()
    try:
        assert re.search(words, refused(path, raw))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 5


def test_a_pickle_is_never_loaded(path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    file = io.BytesIO()
    np.save(file, np.array([Bomb()], object), allow_pickle=True)
    assert "holds Python objects" in refused(path, file.getvalue())


def test_memory_of_the_largest_header(path):
    for filler in ("0,", "(),"):
        raw = npy_bytes(head(descr="[" + filler * (60_000 // len(filler)) + "]"))
        path.write_bytes(raw)
        tracemalloc.start()
        check_consistent(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 20


@pytest.mark.parametrize("shape", ["(2L,)", "(1L, 2L)", "(2, 1L)"])
def test_lengths_as_python_2_wrote_them(path, shape):
    path.write_bytes(npy_bytes(head(descr="[('a', '<u2'), ('5L', '<u2')]", shape=shape)))
    [tensor] = read_file(path)[0]
    assert (tensor.size, tensor.dtype) == (2, "[('a', '<u2'), ('5L', '<u2')]")


# ---- anything at all

dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes()
    | hnp.datetime64_dtypes()
    | hnp.byte_string_dtypes()
    | hnp.unicode_string_dtypes()
)
dtypes |= hnp.array_dtypes(dtypes, max_size=3, allow_subarrays=True) | hnp.nested_dtypes(dtypes, max_leaves=4)


@st.composite
def arrays(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    dtype = draw(dtypes)
    data = (bytes(range(256)) * 100)[: dtype.itemsize * int(np.prod(shape))]
    return np.ndarray(shape, dtype, data, order=draw(st.sampled_from("CF")))


@settings(max_examples=200, deadline=None)
@given(array=arrays())
def test_every_right_file_is_read(folder, array):
    if array.dtype.subdtype is not None or (raw := save_or_none(array)) is None:
        return
    path = folder / "a.npy"
    replace_file(path, raw)
    [(tensor, data)] = read_file(path)[0].items()
    assert tensor.shape == array.shape
    assert raw.endswith(data)
    assert len(data) == array.nbytes
    assert check_consistent(path)
    written(path, array, None)
    assert path.read_bytes() == raw


def save_or_none(array):
    """What numpy saves; None if it says that it cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return saved(array)
    except (UserWarning, ValueError, TypeError):
        return None


@st.composite
def mutants(draw):
    """The bytes of a file that was right before some of them were replaced, removed or repeated."""
    raw = bytearray(save_or_none(draw(arrays())) or b"")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(raw), 130)))
        end = min(len(raw), at + draw(st.integers(0, 8)))
        raw[at:end] = draw(
            st.binary(max_size=4)
            | st.sampled_from([b"0", b"9", b"-", b"(", b"'", b"{}", b",", b"None", b"O", raw[:at]])
        )
    if draw(st.booleans()) and len(raw) >= 10:  # so that the change is not the length's
        raw[8:10] = (bytes(raw).find(b"\n") - 9).to_bytes(2, "little", signed=True)
    return bytes(raw)


@settings(max_examples=400, deadline=None)
@given(raw=mutants())
def test_mutants_are_read_consistently_or_refused(folder, raw):
    path = folder / "mutant.npy"
    replace_file(path, raw)
    if check_consistent(path) and b"V" not in raw[:200] and b"f1'" not in raw[:200]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.load(path, allow_pickle=False)
        assert [tensor.shape for tensor in read_file(path)[0]] == [array.shape]
