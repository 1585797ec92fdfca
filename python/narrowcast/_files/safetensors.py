"""Files of the safetensors format (https://github.com/huggingface/safetensors): a JSON header, then bare tensors.

The reader holds the header only and refuses what the reference refuses, and besides: keys that come twice, and words
in a tensor's entry that the format does not have. The writer gives the reference's bytes for tensors in its order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring  # what JSONEncoder calls for a string, without its setting up
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

import numpy as np

from narrowcast._files.container import MAX_BYTES, FileFormatError, Tensor, count_bytes, flaws_of, key_twice, shown
from narrowcast._files.positional import OpenFile, PositionalSink, PositionalSource, open_regular
from narrowcast._formats import BY_NAME

_MAX_HEADER: Final = 100_000_000  # the reference's
_METADATA: Final = "__metadata__"
_ENTRY: Final = {"dtype", "shape", "data_offsets"}


class _DType(NamedTuple):
    word: str
    bits: int
    format: str | None


_DTYPES: Final = {
    dtype.word: dtype
    for dtype in (
        _DType("BOOL", 8, "bool"),
        _DType("F4", 4, "float4_e2m1fn"),
        _DType("F6_E2M3", 6, "float6_e2m3fn"),
        _DType("F6_E3M2", 6, "float6_e3m2fn"),
        _DType("U8", 8, "uint8"),
        _DType("I8", 8, "int8"),
        _DType("F8_E5M2", 8, "float8_e5m2"),
        _DType("F8_E4M3", 8, "float8_e4m3fn"),
        _DType("F8_E8M0", 8, "float8_e8m0fnu"),
        _DType("F8_E4M3FNUZ", 8, "float8_e4m3fnuz"),
        _DType("F8_E5M2FNUZ", 8, "float8_e5m2fnuz"),
        _DType("I16", 16, "int16"),
        _DType("U16", 16, "uint16"),
        _DType("F16", 16, "float16"),
        _DType("BF16", 16, "bfloat16"),
        _DType("I32", 32, "int32"),
        _DType("U32", 32, "uint32"),
        _DType("F32", 32, "float32"),
        _DType("C64", 64, None),
        _DType("F64", 64, "float64"),
        _DType("I64", 64, "int64"),
        _DType("U64", 64, "uint64"),
    )
}
_BY_FORMAT: Final = {dtype.format: dtype for dtype in _DTYPES.values() if dtype.format is not None} | {
    "tfloat32": _DTYPES["F32"]
}


def open_source(path: str | os.PathLike[str], *, from_format: str | None = None) -> Reader:
    """Open a file and check its header. `from_format` has no place here: these files name their formats."""
    where = os.fspath(path)
    if from_format is not None:
        raise ValueError(f"{where}: from_format is {from_format!r}; a safetensors file names the formats it holds")
    with flaws_of(where):
        file = open_regular(where)
        try:
            return Reader(where, file, *_read(file))
        except BaseException:
            file.close()
            raise


class Reader(PositionalSource):
    """A safetensors file that is read."""

    def sink(self, file: BinaryIO, tensors: Sequence[Tensor]) -> Sink:
        """See `container.Source`."""
        return Sink(file, tensors, self.metadata)


class Sink(PositionalSink):
    """A safetensors file that is written: the header in the order given, the data in descending size of an element.

    So every tensor is aligned to its elements, and those of one size keep their order.
    """

    def __init__(self, file: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
        widths = [_width(tensor) for tensor in tensors]
        begins = [0] * len(tensors)
        end = 0
        for i in sorted(range(len(tensors)), key=widths.__getitem__, reverse=True):  # stable
            begins[i] = end
            end += tensors[i].nbytes
        header = _header(tensors, begins, metadata)
        start = len(header)
        placed = [
            Tensor(name, shape, dtype, format_, nbytes, start + begin)
            for (name, shape, dtype, format_, nbytes, *_), begin in zip(tensors, begins, strict=True)
        ]
        super().__init__(file, header, placed, start + end)


def native(name: str, array: np.ndarray[Any, Any], format: str | None) -> Tensor:
    """Return an array as these files hold it."""
    if format is not None:
        return _tensor(name, array.shape, format)
    if array.dtype != np.complex64:
        raise TypeError(f"tensor {name!r} has dtype {array.dtype}, which a safetensors file cannot hold")
    return Tensor(name, array.shape, "C64", None, array.nbytes)


def recast(tensor: Tensor, format: str) -> Tensor:
    """Return what a tensor becomes in these files when its elements are of another format."""
    return _tensor(tensor.name, tensor.shape, format)


def dtype_of(tensor: Tensor) -> np.dtype[Any]:
    """Return the dtype of the array that a tensor is read into."""
    dtype = np.dtype(np.complex64) if tensor.format is None else BY_NAME[tensor.format].dtype
    return dtype.newbyteorder("<")


def _tensor(name: str, shape: tuple[int, ...], format: str) -> Tensor:
    dtype = _BY_FORMAT.get(format)
    if dtype is None:
        what = f"a safetensors file cannot hold {format}" if format in BY_NAME else f"{format!r} is no format"
        raise TypeError(f"{what}; it holds {', '.join(_BY_FORMAT)}")
    try:
        nbytes = _bytes_of(shape, dtype.bits)
    except FileFormatError as error:
        raise ValueError(f"tensor {name!r} of shape {shape} cannot be {dtype.word}: {error}") from None
    return Tensor(name, shape, dtype.word, format, nbytes)


def is_ambiguous(tensor: Tensor) -> bool:
    """Whether only the user knows the format of the elements: never in these files."""
    return False


def _read(file: BinaryIO) -> tuple[list[Tensor], dict[str, str]]:
    size = os.fstat(file.fileno()).st_size
    reader = OpenFile(file)
    prefix = bytearray(8)
    if reader.read(0, memoryview(prefix)) != 8:
        raise FileFormatError(f"has {size} bytes, which is too short for a safetensors file")
    length = int.from_bytes(prefix, "little")
    if length > _MAX_HEADER:
        raise FileFormatError(
            f"is no safetensors file: its header would have {length} bytes, and {_MAX_HEADER} are the most"
        )
    if 8 + length > size:
        raise FileFormatError(
            f"is truncated or no safetensors file: its header would have {length} bytes, and it has {size}"
        )
    raw = bytearray(length)
    if reader.read(8, memoryview(raw)) != length:
        raise FileFormatError("has become shorter since it was opened")
    header = _parse(raw)
    metadata = _check_metadata(header.pop(_METADATA, None))
    tensors = _tensors(header, 8 + length, size)
    if b"\\u" in raw:  # only so can JSON in UTF-8 say half a surrogate pair
        _check_text([*header, *metadata, *metadata.values()])
    return tensors, metadata


def _parse(raw: bytearray) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8")
        header = _DECODER.decode(text)
        # Each key has a colon. With no more colons than keys that are left, none has replaced its like.
        if type(header) is not dict or _count_keys(header) != text.count(":"):
            header = _STRICT_DECODER.decode(text)
    except FileFormatError:
        raise
    except UnicodeDecodeError as error:
        raise FileFormatError(f"its header is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise FileFormatError(f"its header is not JSON at character {error.pos}: {error.msg}") from None
    except ValueError:
        raise FileFormatError("its header holds a number of thousands of digits") from None
    except RecursionError:
        raise FileFormatError("its header is nested too deeply") from None
    except MemoryError:
        raise FileFormatError(f"its header of {len(raw)} bytes does not fit in memory") from None
    if type(header) is not dict:
        raise FileFormatError(f"its header is not a JSON object but {shown(header)}")
    return header


def _count_keys(header: Mapping[str, Any]) -> int:
    return len(header) + sum([len(entry) for entry in header.values() if type(entry) is dict])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = key_twice(key for key, _ in pairs)
        raise FileFormatError(f"its header has the key {shown(twice)} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise FileFormatError(f"its header holds {shown(text)}, and all numbers in it are whole")


_DECODER: Final = json.JSONDecoder(parse_float=_no_number, parse_constant=_no_number)
_STRICT_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_distinct, parse_float=_no_number, parse_constant=_no_number
)
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _tensors(header: Mapping[str, Any], start: int, size: int) -> list[Tensor]:
    """Return the checked tensors of a header whose data begin at byte `start` of a file of `size` bytes."""
    tensors = []
    spans = []
    for name, entry in header.items():
        try:
            dtype, shape, begin, end = _check_entry(entry)
            nbytes = count_bytes(shape, dtype.bits)
            if end - begin != nbytes:
                raise FileFormatError(
                    f"{dtype.word} of shape {shown(shape)} takes {nbytes} bytes, and its offsets are {begin} and {end}"
                )
        except FileFormatError as error:
            raise FileFormatError(f"tensor {shown(name)}: {error}") from None
        tensors.append(Tensor(name, tuple(shape), dtype.word, dtype.format, nbytes, start + begin))
        spans.append((begin, end))
    spans.sort()
    expected = 0
    for begin, end in spans:
        if begin != expected:
            _refuse_layout(tensors, start, begin, expected)
        expected = end
    if start + expected > size:
        raise FileFormatError(f"is truncated: its tensors end at byte {start + expected}, the file at byte {size}")
    if start + expected < size:
        raise FileFormatError(f"has {size - start - expected} bytes after its last tensor")
    return tensors


def _check_entry(entry: Any) -> tuple[_DType, list[Any], int, int]:
    if type(entry) is not dict:
        raise FileFormatError(f"is not a JSON object but {shown(entry)}")
    if entry.keys() != _ENTRY:
        raise FileFormatError(f"has {shown(list(entry))}; dtype, shape and data_offsets are needed, and nothing else")
    word, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = _DTYPES.get(word) if type(word) is str else None
    if dtype is None:
        raise FileFormatError(f"the dtype {shown(word)} is not known; known are {', '.join(_DTYPES)}")
    if type(shape) is not list:
        raise FileFormatError(f"the shape is not a list but {shown(shape)}")
    if type(offsets) is not list or len(offsets) != 2:
        raise FileFormatError(f"data_offsets are not two numbers but {shown(offsets)}")
    begin, end = offsets
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= MAX_BYTES:
        raise FileFormatError(f"data_offsets are {shown(offsets)}, which is no place in a file")
    return dtype, shape, begin, end


def _refuse_layout(tensors: Sequence[Tensor], start: int, begin: int, expected: int) -> NoReturn:
    names = [shown(t.name) for t in sorted(tensors, key=lambda t: (t.offset, t.nbytes))]
    places = sorted((t.offset - start, t.offset - start + t.nbytes) for t in tensors)
    at = next(i for i in range(len(places)) if places[i][0] != (places[i - 1][1] if i else 0))
    if begin < expected:
        raise FileFormatError(f"tensors {names[at - 1]} and {names[at]} overlap at byte {begin} of the data")
    raise FileFormatError(f"bytes {expected} to {begin} of the data, before tensor {names[at]}, belong to no tensor")


def _check_metadata(metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        raise FileFormatError(f"{_METADATA} is {shown(metadata)}; allowed is text by text keys")
    return metadata


def _check_text(words: Sequence[str]) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise FileFormatError(f"its header holds {shown(word)}, which is not Unicode text") from None


# A model has thousands of tensors of a few shapes. Only lengths that were looked at come here: True would pass for 1.
@lru_cache(1024)
def _bytes_of(shape: tuple[int, ...], bits: int) -> int:
    return count_bytes(shape, bits)


@lru_cache(1024)
def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _width(tensor: Tensor) -> int:
    """Return the bits of an element, after a look at whether the tensor is one that these files can hold."""
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or tensor.swapped or tensor.fortran or tensor.nbytes != _bytes_of(tensor.shape, dtype.bits):
        raise ValueError(f"{tensor} is not a tensor of a safetensors file; recast makes it one")
    return dtype.bits


def _header(tensors: Sequence[Tensor], begins: Sequence[int], metadata: Mapping[str, str]) -> bytes:
    if len({tensor.name for tensor in tensors} - {_METADATA}) != len(tensors):
        raise ValueError(f"two tensors have one name, or one is called {_METADATA}, which is not a tensor's name")
    entries = [f'"{_METADATA}":{_ENCODE(dict(metadata))}'] if metadata else []
    for tensor, begin in zip(tensors, begins, strict=True):
        name, shape, dtype, _, nbytes, *_ = tensor
        offsets = f"[{begin},{begin + nbytes}]"
        entries.append(
            f'{encode_basestring(name)}:{{"dtype":"{dtype}","shape":{_shape_text(shape)},"data_offsets":{offsets}}}'
        )
    try:
        text = f"{{{','.join(entries)}}}".encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a name holds {error.object[error.start]!r}, which is not Unicode text") from None
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"the header would have {len(text)} bytes, and {_MAX_HEADER} are the most")
    return len(text).to_bytes(8, "little") + text
