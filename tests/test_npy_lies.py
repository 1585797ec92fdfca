"""Files of the .npy format that lie, and that are anything at all; numpy is the reference."""

import io
import re
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from containers import check_consistent, npy_bytes, read_file, refused, replace_file, write_npy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("npy")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npy"


def made(header, data=bytes(8), version=1, length=None):
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
    "version 4": (made(head(), version=4), "version 4.0 of the .npy format; 1.0 to 3.0"),
    "version 1.1": (b"\x93NUMPY\1\1" + made(head())[8:], "version 1.1"),
    "no length": (b"\x93NUMPY\1\0", "no Python literal|other than a dict"),
    "header past the end": (made(head(), b"", length=1000), "is truncated: of the header's 1000 bytes there are"),
    "header of 4 GB": (made(head(), version=2, length=2**32 - 1), "a header of 4294967295 bytes; 65535"),
    "not UTF-8": (made(b"{'\xff'}", version=3), "no Python literal"),
    "no literal": (made("print(1)"), "no Python literal"),
    "a call": (made(head(shape="(__import__('os').getpid(),)")), "no Python literal"),
    "a comment": (made(head() + "# x"), "no Python literal"),
    "spaces that are none in Python": (made(head() + "\x1c  "), "no Python literal"),
    "a new line before all": (made("\n " + head()), "no Python literal"),
    "an f-string": (made(head(descr="f'<f4'")), "no Python literal"),
    "an unknown escape": (made(head(descr=r"'<f4\d'")), "no Python literal"),
    "an unclosed string": (made("{'descr"), "no Python literal"),
    "a missing brace": (made(head()[:-4]), "no Python literal"),
    "deep lists": (made(head(descr="[" * 30_000 + "]" * 30_000)), "no Python literal"),
    "90 lists": (made(head(descr="[" * 90 + "]" * 90)), "dtype .* is not known"),
    "a list for a key": (made("{[]: 1}"), "no Python literal"),
    "an endless number": (made(head(shape=f"({'9' * 10_000},)")), "no Python literal"),
    "a list": (made("[1]"), "other than a dict"),
    "empty dict": (made("{}"), "other than a dict"),
    "a key too many": (made("{'a': 1, " + head()[1:]), "other than a dict"),
    "a key twice": (made("{'descr': '<f4', " + head()[1:]), "other than a dict"),
    "a key missing": (made("{'descr': '<f4', 'shape': (2,)}"), "other than a dict"),
    "order 1": (made(head(fortran="1")), "fortran_order 1; allowed are True and False"),
    "shape a list": (made(head(shape="[2]")), "not a tuple of at most 64"),
    "shape a number": (made(head(shape="2")), "not a tuple of at most 64"),
    "65 dimensions": (made(head(shape="(" + "1," * 65 + ")")), "not a tuple of at most 64"),
    "negative length": (made(head(shape="(-2,)")), "-2, which is not a length"),
    "two negative lengths": (made(head(shape="(-1,-2)")), "not a length"),
    "true for a length": (made(head(shape="(2,True)")), "True, which is not a length"),
    "None for a length": (made(head(shape="(None,)")), "None, which is not a length"),
    "text for a length": (made(head(shape="('2',)")), "'2', which is not a length"),
    "2^64 elements": (made(head(shape="(4294967296,4294967296,0)")), "more elements than any file"),
    "2^63 bytes": (made(head(shape="(2305843009213693952,)")), "more elements than any file"),
    "objects": (made(head(descr="'|O'")), "holds Python objects, which only pickle reads"),
    "an object in a field": (made(head(descr="[('a', '<f4'), ('b', [('c', '|O8')])]")), "holds Python objects"),
    "an array of objects": (made(head(descr="('|O', (2,))")), "holds Python objects"),
    "unknown dtype": (made(head(descr="'<q4'")), "the dtype '<q4', which is not known"),
    "unknown width": (made(head(descr="'<f5'")), "the dtype '<f5', which is not known"),
    "two dtypes": (made(head(descr="'<f4,<f4'")), "which is not known"),
    "numpy's name": (made(head(descr="'float32'")), "which is not known"),
    "a unit for floats": (made(head(descr="'<f4[ns]'")), "which is not known"),
    "dtype a number": (made(head(descr="4")), "the dtype 4, which is not known"),
    "a field without dtype": (made(head(descr="[('a',)]")), "which is not known"),
    "a field of unknown dtype": (made(head(descr="[('a', '<f4'), ('b', 'x')]")), "the dtype 'x', which is not"),
    "a field of negative shape": (made(head(descr="[('a', '<f4', (-1,))]")), "not a length"),
    "a field of 2^64 bytes": (made(head(descr="[('a', '<f4', (4294967296, 4294967296))]")), "more elements than"),
    "an item of 9 GB": (made(head(descr="'|V9999999999'")), "is truncated: 19999999990 bytes"),
    "data missing": (made(head(), bytes(7)), "is truncated: 1 bytes of its array are missing"),
    "data to spare": (made(head(), bytes(9)), "has 1 bytes after its array"),
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
        raw = made(head(descr="[" + filler * (60_000 // len(filler)) + "]"))
        path.write_bytes(raw)
        tracemalloc.start()
        check_consistent(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 20


@pytest.mark.parametrize("shape", ["(2L,)", "(1L, 2L)", "(2, 1L)"])
def test_lengths_as_python_2_wrote_them(path, shape):
    path.write_bytes(made(head(descr="[('a', '<u2'), ('5L', '<u2')]", shape=shape)))
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
    write_npy(path, array, None)
    assert path.read_bytes() == raw


def save_or_none(array):
    """What numpy saves; None if it says that it cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return npy_bytes(array)
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
