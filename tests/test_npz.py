"""The reader and writer of .npz files: against numpy and zipfile, and against archives that lie.

What is inside a member is test_npy.py's business.
"""

import contextlib
import io
import re
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers import check_consistent, fill, npy_bytes, read_file, refused, replace_file, write_file
from narrowcast._files import npy, npz
from narrowcast._files.container import FileFormatError

RNG = np.random.default_rng(10)
ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "empty": np.zeros((0, 3), np.int8),
    "b/c": np.asfortranarray(RNG.standard_normal((70, 30))),
    "ü": np.array(7, np.uint16),
    "z": np.zeros(100_000, np.int32),
    "no elements": np.zeros((2, 0), np.complex64),
}
MEMBER = npy_bytes(ARRAYS["a"])


def saved(compressed=False, arrays=ARRAYS):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def contents_of(arrays):
    contents = {}
    for name, array in arrays.items():
        tensor = npz.native(name, array, None if array.dtype.kind == "c" else array.dtype.name)
        contents[tensor] = array.T.tobytes() if tensor.fortran else array.tobytes()
    return contents


def archive(members, method=zipfile.ZIP_STORED):
    """A zip archive of (name, bytes), names as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as out:
        for name, data in members:
            out.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("npz")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


# ---- against numpy


@pytest.mark.parametrize("step", [1 << 20, 1000, 7])
@pytest.mark.parametrize("compressed", [False, True])
def test_numpy_s_archives_are_read_and_written_byte_for_byte(path, compressed, step):
    arrays = ARRAYS if step > 7 else {name: ARRAYS[name] for name in ("a", "empty", "ü")}
    path.write_bytes(saved(compressed, arrays))
    source = npz.open_source(path)
    assert not source.positional
    copy = io.BytesIO()
    sink = source.sink(copy, source.tensors)
    assert not sink.positional
    datas = []
    for tensor in source.tensors:
        data = bytearray(tensor.nbytes)
        for at in range(0, tensor.nbytes, step):
            source.read(tensor, at, memoryview(data)[at : at + step])
        datas.append(bytes(data))
    source.close()
    assert dict(zip(source.tensors, datas, strict=True)) == contents_of(arrays)
    fill(sink, datas, step)
    names = [info.filename for info in zipfile.ZipFile(copy).infolist()]
    assert names == [f"{name}.npy" for name in arrays]
    methods = {info.compress_type for info in zipfile.ZipFile(copy).infolist()}
    assert methods == {zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED}
    if not compressed or step == 1 << 20:  # deflate may see it in other pieces
        assert copy.getvalue() == path.read_bytes()
    with np.load(copy) as loaded:
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            assert np.array_equal(loaded[name], array)


def test_each_member_keeps_its_compression(path):
    with zipfile.ZipFile(path, "w") as out:
        for name, method in (("a", zipfile.ZIP_STORED), ("b", zipfile.ZIP_DEFLATED), ("c", zipfile.ZIP_STORED)):
            out.writestr(f"{name}.npy", MEMBER, method)
    source = npz.open_source(path)
    copy = io.BytesIO()
    tensors = [npz.recast(tensor, "bfloat16") for tensor in source.tensors]
    fill(source.sink(copy, tensors), [bytes(24)] * 3)
    source.close()
    assert [info.compress_type for info in zipfile.ZipFile(copy).infolist()] == [0, 8, 0]


def test_the_order_of_reading_is_free(path):
    path.write_bytes(saved(compressed=True))
    source = npz.open_source(path)
    for tensor, expected in reversed([*zip(source.tensors, contents_of(ARRAYS).values(), strict=True)]):
        data = bytearray(tensor.nbytes)
        source.read(tensor, 0, memoryview(data)[: tensor.nbytes // 2])  # begun, and begun again
        source.read(tensor, 0, memoryview(data))
        assert data == expected
    source.close()


def test_narrow_formats_survive(path):
    array = np.arange(8).astype(ml_dtypes.bfloat16)
    contents = {npz.native("w", array, "bfloat16"): array.tobytes()}
    write_file(path, contents)
    assert read_file(path) == (contents, {})
    with np.load(path) as loaded:
        assert (loaded["w"]["bfloat16"].view(ml_dtypes.bfloat16) == array).all()
    path.write_bytes(saved(arrays={"w": array, "x": np.zeros(2, np.float32)}))
    ambiguous, _ = read_file(path)[0]
    assert npz.is_ambiguous(ambiguous)
    assert "tensor 'w' has dtype '<V2'" in npz.ambiguity(ambiguous)
    named, other = read_file(path, from_format="bfloat16")[0]
    assert (named.format, other.format) == ("bfloat16", "float32")
    with pytest.raises(FileFormatError, match=r"a\.npz: member 'w\.npy': has the dtype '<V2', of 2 bytes"):
        npz.open_source(path, from_format="float8_e5m2")


def test_dates_are_the_same_always(path):
    write_file(path, contents_of(ARRAYS), deflated={"a"})
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert [info.filename for info in archive.infolist() if info.compress_type] == ["a.npy"]
        assert archive.testzip() is None


def test_empty_archives(path):
    path.write_bytes(saved(arrays={}))
    assert read_file(path) == ({}, {})
    write_file(path, {})
    assert path.read_bytes() == saved(arrays={})


def test_members_can_be_larger_than_4_gb(path):
    """The sizes are written in 64 bits. What is tested is the header, and where the data begin: not 4 GB of them."""
    write_file(path, contents_of({"a": ARRAYS["a"]}))
    extra = path.read_bytes()[30 + len("a.npy") :][:20]
    assert struct.unpack("<HHQQ", extra) == (1, 16, 176, 176)


# ---- mistakes of the caller


def test_writes_come_in_order(path):
    contents = contents_of({"a": ARRAYS["a"], "b": ARRAYS["a"]})
    for writes, words in (
        ([("b", 0, 48)], "in order"),
        ([("a", 4, 4)], "in order"),
        ([("a", 0, 4), ("a", 8, 4)], "in order"),
        ([("a", 0, 4), ("b", 0, 4)], "4 of 48 bytes were written"),
        ([("a", 0, 49)], "are not all in tensor 'a'"),
        ([("a", 0, 48)], "0 of 48 bytes were written"),
        ([], "0 of 48 bytes were written"),
    ):
        with open(path, "w+b") as file:
            sink = npz.Sink(file, list(contents), {})
            with pytest.raises(ValueError, match=words):
                write_pieces(sink, writes)
            del sink
        assert not zipfile.is_zipfile(path)  # what is not finished does not look so


def write_pieces(sink, writes):
    tensors = {tensor.name: tensor for tensor in sink.tensors}
    for name, at, count in writes:
        sink.write(tensors[name], at, memoryview(bytes(count)))
    sink.finish()


def test_reads_come_in_order(path):
    path.write_bytes(saved())
    source = npz.open_source(path)
    first, *_, other, _ = source.tensors
    into = memoryview(bytearray(8))
    source.read(first, 0, into)
    for tensor, at in ((first, 0 + 16), (other, 8)):
        with pytest.raises(ValueError, match="not from first byte to last"):
            source.read(tensor, at, into)
    source.close()


def test_names_come_once(path):
    tensor = npz.native("a", ARRAYS["a"], "float32")
    with open(path, "wb") as file, pytest.raises(ValueError, match="two tensors have one name"):
        npz.Sink(file, [tensor, tensor], {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x", "leads out of the archive"),
        ("/x", "leads out of the archive"),
        ("a/../x", "leads out of the archive"),
        ("..\\x", "leads out of the archive"),
        ("a\0b", "null character"),
        ("\ud800", "not Unicode"),
        ("ü" * 32766, "has 65536 bytes; 65535 are the most"),
    ],
)
def test_names_that_the_reader_refuses(path, name, words):
    """Are not written either; the sentence is short whatever the name."""
    with open(path, "wb") as file, pytest.raises(ValueError, match=words) as caught:
        npz.Sink(file, [npz.native(name, ARRAYS["a"], "float32")], {})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["w:0", "c:a", "", "a b\n", "..x/y..", "a" * 65531])
def test_odd_names(path, name):
    """All that numpy reads, among them TensorFlow's."""
    tensor = npz.native(name, ARRAYS["a"], "float32")
    write_file(path, {tensor: ARRAYS["a"].tobytes()})
    with contextlib.closing(npz.open_source(path)) as source:
        assert [tensor.name for tensor in source.tensors] == [name]
    with np.load(path) as found:
        np.testing.assert_array_equal(found[name], ARRAYS["a"])


# ---- archives that lie


def patched(raw, signature, offset, new):
    """The archive with bytes replaced at an offset from the first record of a kind."""
    at = raw.index(signature) + offset
    return raw[:at] + new + raw[at + len(new) :]


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
ONE = archive([("a.npy", MEMBER)])
DEFLATED = archive([("a.npy", npy_bytes(ARRAYS["z"]))], zipfile.ZIP_DEFLATED)
LIES = {
    "empty": (b"", "is no whole zip archive: File is not a zip file"),
    "another kind of file": (MEMBER, "is no whole zip archive"),
    "truncated": (ONE[:-30], "is no whole zip archive"),
    "no end": (ONE[: ONE.index(END)], "is no whole zip archive"),
    "the first half": (ONE[: len(ONE) // 2], "is no whole zip archive"),
    "name twice": (archive([("a.npy", MEMBER), ("b.npy", MEMBER)]).replace(b"b.npy", b"a.npy"), "comes twice"),
    "no array": (archive([("a.txt", b"x")]), "member 'a.txt': is no array: its name does not end in .npy"),
    "a folder": (archive([("a.npy/", b"")]), "is no array"),
    "absolute name": (archive([("/a.npy", MEMBER)]), "leads out of the archive"),
    "parent": (archive([("../a.npy", MEMBER)]), "leads out of the archive"),
    "parent within": (archive([("a/../../b.npy", MEMBER)]), "leads out of the archive"),
    "parent of Windows": (archive([("..\\a.npy", MEMBER)]), "leads out of the archive"),
    "null in a name": (ONE.replace(b"a.npy", b"a\0npy"), "is no array"),
    "encrypted": (patched(patched(ONE, LOCAL, 6, b"\1"), CENTRAL, 8, b"\1"), "is encrypted"),
    "bzip2": (archive([("a.npy", MEMBER)], zipfile.ZIP_BZIP2), "compressed by method 12; allowed are stored and"),
    "unknown method": (patched(ONE, CENTRAL, 10, b"\x63"), "compressed by method 99"),
    "bad checksum": (patched(ONE, b"\x93NUMPY", 130, b"\xff"), "member 'a.npy' cannot be read: Bad CRC-32"),
    "checksum of a bad record": (patched(ONE, CENTRAL, 16, b"\0\0\0\0"), "Bad CRC-32"),
    "bad checksum of nothing": (
        patched(archive([("a.npy", npy_bytes(ARRAYS["empty"]))]), CENTRAL, 16, b"\0\0\0\0"),
        "Bad CRC-32",
    ),
    "bad deflate": (patched(DEFLATED, b"a.npy", 5, b"\xff" * 20), "member 'a.npy' cannot be read"),
    "bad deflate later": (patched(DEFLATED, b"a.npy", 200, b"\xff" * 20), "member 'a.npy'"),
    "two names of one member": (ONE.replace(b"a.npy", b"b.npy", 1), "member 'a.npy' cannot be read: File name in"),
    "another version": (patched(ONE, CENTRAL, 6, b"\xff"), "is no whole zip archive: zip file version 25.5"),
    "not UTF-8": (patched(patched(ONE, CENTRAL, 9, b"\x08"), CENTRAL, 46, b"\xff"), "is no whole zip archive"),
    "begins past the end": (patched(ONE, CENTRAL, 42, b"\xff\xff\xff\x0f"), "lies outside of the file"),
    "longer than the file": (patched(ONE, CENTRAL, 20, b"\xff\xff\xff\x0f" * 2), "lies outside of the file"),
    "stored, but larger": (patched(ONE, CENTRAL, 24, b"\xff\xff\xff\x0f"), "cannot have 268435455 bytes"),
    "deflated to 4 GB": (patched(DEFLATED, CENTRAL, 24, b"\xf0\xff\xff\xff"), "cannot have 4294967280 bytes"),
    "more than promised": (archive([("a.npy", MEMBER + b"x")]), "has 49 bytes after its header, which promises 48"),
    "less than promised": (archive([("a.npy", MEMBER[:-1])]), "has 47 bytes after its header, which promises 48"),
    "ends too early": (patched(DEFLATED, CENTRAL, 20, struct.pack("<L", 300)), "member 'a.npy'"),
    "objects": (archive([("a.npy", npy_bytes(np.zeros(1)).replace(b"'<f8'", b"'|O8'"))]), "holds Python objects"),
    "no npy inside": (archive([("a.npy", b"x" * 100)]), "member 'a.npy': is no .npy file"),
    "nothing inside": (archive([("a.npy", b"")]), "member 'a.npy': is no .npy file"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(path, lie):
    raw, words = LIES[lie]
    assert re.search(words, refused(path, raw))


def test_a_bomb_is_refused_before_it_goes_off(path):
    """Headers that promise little in front of a gigabyte of zeros, and the reverse."""
    header = npy.write_header(npy.native("a", np.zeros((), np.int8), "int8"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb, bomb.open("a.npy", "w") as file:
        file.write(header)
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        assert "after its header, which promises 1" in refused(path, out.getvalue())
        # The record says what the header says: zipfile stops there, and the checksum is that of all.
        raw = patched(out.getvalue(), CENTRAL, 24, struct.pack("<L", len(header) + 1))
        assert "Bad CRC-32" in refused(path, raw)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_deflated_members_are_never_whole_in_memory(path):
    array = np.zeros(8 << 20, np.float32)
    np.savez_compressed(path, a=array)
    del array
    source = npz.open_source(path)
    [tensor] = source.tensors
    into = memoryview(bytearray(1 << 16))
    tracemalloc.start()
    with open(path.with_name("copy.npz"), "w+b") as file:
        sink = source.sink(file, source.tensors)
        for at in range(0, tensor.nbytes, into.nbytes):
            source.read(tensor, at, into)
            sink.write(sink.tensors[0], at, into)
        sink.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    source.close()
    assert peak < 4 << 20
    assert path.with_name("copy.npz").stat().st_size < 1 << 20


# ---- anything at all


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    raw=st.sampled_from([ONE, archive([("a.npy", MEMBER), ("b.npy", MEMBER)], 8), saved()]),
)
def test_mutants_are_read_consistently_or_refused(folder, raw, data):
    raw = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        places = [m.start() + k for m in re.finditer(rb"PK..", raw) for k in range(50)]
        at = min(data.draw(st.sampled_from(places) | st.integers(0, len(raw))), len(raw))
        end = min(len(raw), at + data.draw(st.integers(0, 4)))
        raw[at:end] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"\0\0", b"\xff\xff\xff\xff", bytes(raw[:at])])
        )
    path = folder / "mutant.npz"
    replace_file(path, raw)
    check_consistent(path)
