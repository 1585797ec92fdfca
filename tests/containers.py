"""Files of tensors for the tests: made of bytes, read whole, and looked at for consistency; not a test itself."""

import io
import struct

import numpy as np
import pytest

from narrowcast._files import npy, npz, safetensors
from narrowcast._files.container import FileFormatError, Tensor

KINDS = {"safetensors": safetensors, "npy": npy, "npz": npz}

# Every word of the safetensors format, the bits of an element, and narrowcast's name, typed from its description.
SAFETENSORS_DTYPES = {
    "BOOL": (8, "bool"),
    "F4": (4, "float4_e2m1fn"),
    "F6_E2M3": (6, "float6_e2m3fn"),
    "F6_E3M2": (6, "float6_e3m2fn"),
    "U8": (8, "uint8"),
    "I8": (8, "int8"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "I16": (16, "int16"),
    "U16": (16, "uint16"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "I32": (32, "int32"),
    "U32": (32, "uint32"),
    "F32": (32, "float32"),
    "C64": (64, None),
    "F64": (64, "float64"),
    "I64": (64, "int64"),
    "U64": (64, "uint64"),
}
RNG = np.random.default_rng(8)


def kind_of(path):
    return KINDS[path.suffix[1:]]


def read_tensor(source, tensor, step=1 << 16):
    data = bytearray(tensor.nbytes)
    for at in range(0, tensor.nbytes, step):
        source.read(tensor, at, memoryview(data)[at : at + step])
    return bytes(data)


def read_file(path, **options):
    """The tensors of a file without their places, their bytes, and the metadata."""
    source = kind_of(path).open_source(path, **options)
    try:
        contents = {tensor._replace(offset=0): read_tensor(source, tensor) for tensor in source.tensors}
        return contents, source.metadata
    finally:
        source.close()


def write_file(path, contents, metadata=(), step=1 << 16, **options):
    """A file of tensors, which a dict maps to their bytes; its kind is that of its name."""
    path.unlink(missing_ok=True)
    with open(path, "w+b") as file:
        sink = kind_of(path).Sink(file, list(contents), dict(metadata), **options)
        fill(sink, contents.values(), step)
        file.flush()
        assert path.suffix == ".npz" or path.stat().st_size == sink.nbytes
    return sink


def fill(sink, datas, step=1 << 16):
    for tensor, data in zip(sink.tensors, datas, strict=True):
        for at in range(0, tensor.nbytes, step):
            sink.write(tensor, at, memoryview(data)[at : at + step])
    sink.finish()


def replace_file(path, raw):
    """Write a file anew: file systems wait for the disk if one is made empty and written again."""
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def safetensors_bytes(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def npy_bytes(array):
    """What numpy saves."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_npy(path, array, format_):
    """Write a fresh array; the tensor that it became, and its bytes."""
    tensor = npy.native(path.stem, array, format_)
    data = array.T.tobytes() if tensor.fortran else array.tobytes()
    write_file(path, {tensor: data})
    return tensor, data


def tensor_of(name, word, shape):
    """A tensor of a safetensors file."""
    bits, format_ = SAFETENSORS_DTYPES[word]
    return Tensor(name, shape, word, format_, int(np.prod(shape, dtype=object)) * bits // 8)


def contents_of(*tensors):
    """Tensors and bytes for them, all of them 0 or 1: right for a bool."""
    return {tensor: RNG.integers(0, 2, tensor.nbytes, np.uint8).tobytes() for tensor in tensors}


def refused(path, raw, **options):
    """The sentence with which these bytes are refused, on opening or on reading all, without the path."""
    replace_file(path, raw)
    with pytest.raises(FileFormatError) as caught:
        read_file(path, **options)
    check_sentence(path, caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def check_consistent(path):
    """Open a file that may be anything. Either it is refused in one sentence, or all of it can be read, and what is
    written from that reads the same. Whether it was accepted."""
    kind = kind_of(path)
    try:
        source = kind.open_source(path)
    except FileFormatError as error:
        check_sentence(path, error)
        return False
    try:
        datas = [read_tensor(source, tensor) for tensor in source.tensors]
        assert [len(data) for data in datas] == [tensor.nbytes for tensor in source.tensors]
        if source.positional:
            places = sorted((tensor.offset, tensor.offset + tensor.nbytes) for tensor in source.tensors)
            ends = [end for _, end in places]
            assert not places or [*(start for start, _ in places[1:]), path.stat().st_size] == ends
        copy = io.BytesIO()
        fill(source.sink(copy, source.tensors), datas)
        first = [tensor._replace(offset=0) for tensor in source.tensors], datas, source.metadata
    except FileFormatError as error:  # of npz: a checksum
        check_sentence(path, error)
        return False
    finally:
        source.close()
    again = path.with_name("again" + path.suffix)
    replace_file(again, copy.getvalue())
    contents, metadata = read_file(again)
    tensors = [tensor._replace(name="again" if kind is npy else tensor.name) for tensor in first[0]]
    assert (tensors, first[1], first[2]) == (list(contents), list(contents.values()), metadata)
    return True


def check_sentence(path, error):
    text = str(error)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < len(str(path)) + 1000
