"""The reader and writer of .safetensors files against the safetensors package, the layout, what tensors become.

Casts of files are tested elsewhere; here bytes go in and the same bytes come out. Files that lie have their own file.
"""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors as reference
import safetensors.numpy

import narrowcast as nc
from containers import SAFETENSORS_DTYPES as DTYPES
from containers import contents_of, fill, read_file, tensor_of, write_file
from narrowcast._files import safetensors
from narrowcast._files.container import Tensor

# Those that safetensors.numpy writes; FP8 it does not read.
NUMPY_WORDS = [word for word in DTYPES if word not in ("F4", "F6_E2M3", "F6_E3M2")]


def array_of(tensor, data):
    dtype = np.complex64 if tensor.format is None else getattr(ml_dtypes, tensor.format, None) or tensor.format
    return np.frombuffer(data, dtype).reshape(tensor.shape)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


# ---- against the package


@pytest.mark.parametrize("word", DTYPES)
def test_the_package_reads_what_is_written(path, word):
    contents = contents_of(tensor_of("a", word, (3, 8)), tensor_of("empty", word, (0, 3)), tensor_of("b", word, (8,)))
    write_file(path, contents, {"format": "pt"})
    found = dict(reference.deserialize(path.read_bytes()))
    assert {name: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for name, t in found.items()} == {
        tensor.name: (word, tensor.shape, data) for tensor, data in contents.items()
    }
    if word in NUMPY_WORDS and not word.startswith("F8"):
        for tensor, data in contents.items():
            array = reference.numpy.load_file(path)[tensor.name]
            assert array.dtype == array_of(tensor, data).dtype
            assert array.tobytes() == data


@pytest.mark.parametrize("word", NUMPY_WORDS)
def test_what_the_package_writes_is_read_and_written_byte_for_byte(path, word):
    contents = contents_of(tensor_of("a", word, (2, 3)), tensor_of("b", word, ()), tensor_of("c", word, (0,)))
    arrays = {tensor.name: array_of(tensor, data) for tensor, data in contents.items()}
    metadata = {"k": 'v"\n', "ü": "\u2028"}
    path.write_bytes(reference.numpy.save(arrays, metadata))
    assert read_file(path) == (contents, metadata)
    again = path.with_name("again.safetensors")
    write_file(again, *read_file(path))
    assert again.read_bytes() == path.read_bytes()


def test_the_package_orders_tensors_as_the_writer_does(path):
    tensors = [tensor_of(f"{i}{word}", word, (4,)) for i, word in enumerate(NUMPY_WORDS)]
    contents = contents_of(*tensors)
    path.write_bytes(reference.numpy.save({tensor.name: array_of(tensor, data) for tensor, data in contents.items()}))
    found, _ = read_file(path)
    assert found == contents
    write_file(path.with_name("again.safetensors"), found)
    assert path.with_name("again.safetensors").read_bytes() == path.read_bytes()


def test_torch_reads_and_writes_the_same(path):
    torch = pytest.importorskip("torch")
    torch_files = pytest.importorskip("safetensors.torch")
    words = {
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
        "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
        "C64": torch.complex64,
    }
    for word, name in (("F8_E8M0", "float8_e8m0fnu"), ("F4", "float4_e2m1fn_x2")):
        if hasattr(torch, name):
            words[word] = getattr(torch, name)
    contents = contents_of(*(tensor_of(word, word, (2, 8)) for word in words))
    write_file(path, contents)
    tensors = torch_files.load_file(path)
    for tensor, data in contents.items():
        assert tensors[tensor.name].dtype == words[tensor.dtype]
        assert tensors[tensor.name].view(torch.uint8).numpy().tobytes() == data
    torch_files.save_file(tensors, path)
    assert read_file(path)[0] == contents


# ---- layout


def test_data_lie_aligned_and_the_header_keeps_its_order(path):
    contents = contents_of(
        *(
            tensor_of(f"{i} {word}", word, (2 * i, 4))
            for i in range(3)
            for word in ("F4", "U8", "F6_E2M3", "F16", "F64")
        )
    )
    sink = write_file(path, contents)
    assert len(sink.header) % 8 == 0
    assert [tensor.name for tensor in sink.tensors] == [tensor.name for tensor in contents]
    assert list(read_file(path)[0].items()) == list(contents.items())
    assert list(json.loads(path.read_bytes()[8 : len(sink.header)])) == [tensor.name for tensor in contents]
    for tensor in sink.tensors:
        assert tensor.offset * 8 % (DTYPES[tensor.dtype][0] & -8 or 8) == 0
    names = [tensor.name for tensor in sorted(sink.tensors, key=lambda t: t.offset) if tensor.nbytes]
    assert names == [f"{i} {word}" for word in ("F64", "F16", "U8", "F6_E2M3", "F4") for i in (1, 2)]


def test_empty_files(path):
    write_file(path, {})
    assert path.read_bytes() == b"\x08" + bytes(7) + b"{}      "
    assert read_file(path) == ({}, {})
    write_file(path, {}, {"a": "b"})
    assert read_file(path) == ({}, {"a": "b"})
    assert reference.deserialize(path.read_bytes()) == []


def test_names_are_any_text(path):
    names = ["", " ", "a.b", "../x", '"', "\\", "\n\0", "ü", "\u2028", "🤗", "a:b", '":', "x" * 10_000]
    contents = contents_of(*(tensor_of(name, "U8", (1,)) for name in names))
    write_file(path, contents)
    assert read_file(path)[0] == contents
    assert {name for name, _ in reference.deserialize(path.read_bytes())} == set(names)


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        (["a", "a"], {}, "two tensors have one name"),
        (["__metadata__"], {}, "__metadata__"),
        (["\ud800"], {}, "not Unicode"),
        (["a"], {"k": "\ud800"}, "not Unicode"),
        (["x" * 100_000_001], {}, "100000000 are the most"),
    ],
)
def test_the_writer_refuses_names(path, tensors, metadata, words):
    with open(path, "wb") as file, pytest.raises(ValueError, match=words):
        safetensors.Sink(file, [tensor_of(name, "U8", (1,)) for name in tensors], metadata)
    assert path.stat().st_size == 0


def test_the_writer_refuses_tensors_of_other_files(path):
    good = tensor_of("a", "F32", (2, 2))
    for bad in (
        good._replace(dtype="<f4"),
        good._replace(nbytes=15),
        good._replace(swapped=True),
        good._replace(fortran=True),
    ):
        with open(path, "wb") as file, pytest.raises(ValueError, match="recast makes it one"):
            safetensors.Sink(file, [bad], {})


def test_writes_stay_within_their_tensor(path):
    with open(path, "w+b") as file:
        sink = safetensors.Sink(file, [tensor_of("a", "U8", (4,)), tensor_of("b", "U8", (4,))], {})
        for at, count in ((-1, 1), (3, 2), (5, 0)):
            with pytest.raises(ValueError, match="are not all in tensor 'a'"):
                sink.write(sink.tensors[0], at, memoryview(bytes(count)))
        with pytest.raises(ValueError, match="has no place"):
            sink.write(tensor_of("a", "U8", (4,)), 0, memoryview(b"abcd"))
        fill(sink, [b"abcd", b"efgh"])
    assert path.read_bytes().endswith(b"abcdefgh")


# ---- what a tensor becomes


@pytest.mark.parametrize("word", DTYPES)
def test_recast_gives_the_word_of_a_format(word):
    bits, format_ = DTYPES[word]
    if format_ is None:
        return
    old = Tensor("a", (3, 8), "<f4", "float32", 96, 128, swapped=True, fortran=True)
    assert safetensors.recast(old, format_) == Tensor("a", (3, 8), word, format_, 3 * bits)
    row = next(row for row in nc.formats() if row.name == format_)
    assert safetensors.native("a", np.zeros((3, 8), row.dtype), format_) == safetensors.recast(old, format_)
    assert safetensors.dtype_of(safetensors.recast(old, format_)) == row.dtype


def test_every_format_has_a_word_or_is_refused():
    old = tensor_of("a", "F32", (4,))
    assert safetensors.recast(old, "tfloat32") == old._replace(format="tfloat32")
    for row in nc.formats():
        if row.name not in (*(name for _, name in DTYPES.values()), "tfloat32"):
            with pytest.raises(TypeError, match=rf"cannot hold {row.name}; it holds bool, float4_e2m1fn.*tfloat32"):
                safetensors.recast(old, row.name)
    with pytest.raises(TypeError, match="'float5' is no format"):
        safetensors.recast(old, "float5")
    with pytest.raises(ValueError, match="'a' of shape \\(3,\\) cannot be F4: its 12 bits do not end on a byte"):
        safetensors.recast(tensor_of("a", "F32", (3,)), "float4_e2m1fn")


def test_arrays_without_a_format():
    array = np.zeros((2, 3), np.complex64)
    tensor = safetensors.native("a", array, None)
    assert tensor == Tensor("a", (2, 3), "C64", None, 48)
    assert safetensors.dtype_of(tensor) == array.dtype
    with pytest.raises(TypeError, match="complex128, which a safetensors file cannot hold"):
        safetensors.native("a", array.astype(complex), None)


def test_there_is_nothing_to_reinterpret(path):
    write_file(path, {})
    with pytest.raises(ValueError, match=f"^{path}: from_format is 'bfloat16'; a safetensors file names"):
        safetensors.open_source(path, from_format="bfloat16")
    assert not safetensors.is_ambiguous(tensor_of("a", "C64", (1,)))
