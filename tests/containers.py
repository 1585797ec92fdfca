"""Files of tensors for the tests: made of bytes, read whole, and looked at for consistency; not a test itself."""

import io
import struct

from narrowcast._files import npy, npz, safetensors
from narrowcast._files.container import FileFormatError

KINDS = {"safetensors": safetensors, "npy": npy, "npz": npz}


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
