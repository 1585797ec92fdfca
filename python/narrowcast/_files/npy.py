"""Files of numpy's .npy format: a header that is a Python literal, then one bare array.

numpy writes arrays of ml_dtypes under void dtypes ("<V2"), which say nothing of the format. Here their codes are
written as a structured dtype whose one field is named after the format: ``[('bfloat16', '<u2')]``. numpy reads that,
and ``a["bfloat16"].view(ml_dtypes.bfloat16)`` is the array again. Nothing is ever unpickled.
"""

from __future__ import annotations

import ast
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

import numpy as np

from narrowcast._files.container import FileFormatError, Tensor, count_bytes, flaws_of, shown
from narrowcast._files.positional import OpenFile, PositionalSink, PositionalSource, open_regular
from narrowcast._formats import BY_DTYPE, BY_NAME, Format

Array: TypeAlias = "np.ndarray[Any, Any]"

_MAGIC: Final = b"\x93NUMPY"
_MAX_HEADER: Final = 0xFFFF  # what version 1.0 can say; version 2.0 could say 4 GB
_MAX_DIMENSIONS: Final = 64  # numpy's
_ALIGNMENT: Final = 64
_GROWTH: Final = 21  # numpy leaves room for the longest number in the first length

# All that a header is made of. Literals with anything else (calls, comments, floats, other escapes) are not parsed.
_TOKEN: Final = (
    r"""[ \t\n{}()\[\],:]|True|False|None|-?\d+L?(?!\w)"""
    r"""|'(?:[^'\\\n]|\\[\\'"abfnrtv]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*'"""
    r'''|"(?:[^"\\\n]|\\[\\'"abfnrtv]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"'''
)
_LITERAL: Final = re.compile(f"(?:{_TOKEN})*+")
_PYTHON2_LONG: Final = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(\d)L""")
_WORD: Final = re.compile(r"([<>=|]?)([A-Za-z])(\d{0,10})((?<=[Mm]8)\[\d*[A-Za-z]+\])?")
_COPIED: Final = {"f12", "f16", "c8", "c16", "c24", "c32", "M8", "m8"}  # no format of narrowcast
_LITTLE: Final = sys.byteorder == "little"


class _Elements(NamedTuple):
    """What a descr says of the elements."""

    word: str
    nbytes: int
    format: str | None
    swapped: bool = False


def _word_of(row: Format) -> str:
    if (BY_DTYPE.get(row.dtype) is row and row.dtype.isbuiltin == 1) or row.name == "tfloat32":
        return row.dtype.newbyteorder("<").str
    return repr([(row.name, ("|u" if row.storage_bytes == 1 else "<u") + str(row.storage_bytes))])


_WORDS: Final = {row.name: _word_of(row) for row in BY_NAME.values()}
_BUILTIN: Final = {word[1:]: name for name, word in _WORDS.items() if word[0] in "<|" and name != "tfloat32"}
_NAMED: Final = {name: BY_NAME[name].storage_bytes for name, word in _WORDS.items() if word[0] == "["}


def open_source(path: str | os.PathLike[str], *, from_format: str | None = None) -> Reader:
    """Open a file and check its header; `from_format` is what the elements of a void dtype are."""
    where = os.fspath(path)
    with flaws_of(where):
        file = open_regular(where)
        try:
            size = os.fstat(file.fileno()).st_size
            head = io.BytesIO(OpenFile(file).read_bytes(0, 12 + _MAX_HEADER))
            tensor = read_header(head.read, PurePath(where).stem, from_format)
            check_used(from_format, [tensor])
            missing = tensor.offset + tensor.nbytes - size
            if missing > 0:
                raise FileFormatError(f"is truncated: {missing} bytes of its array are missing")
            if missing < 0:
                raise FileFormatError(f"has {-missing} bytes after its array")
            return Reader(where, file, [tensor], {})
        except BaseException:
            file.close()
            raise


class Reader(PositionalSource):
    """A .npy file that is read; its tensor is named after the file."""

    def sink(self, file: BinaryIO, tensors: Sequence[Tensor]) -> Sink:
        """See `container.Source`."""
        return Sink(file, tensors, {})


class Sink(PositionalSink):
    """A .npy file that is written: one tensor. There is no place for its name, nor for metadata."""

    def __init__(self, file: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
        if len(tensors) != 1:
            raise ValueError(f"a .npy file holds one array, and these are {len(tensors)}; a .npz file holds many")
        header = write_header(tensors[0])
        placed = tensors[0]._replace(offset=len(header))
        super().__init__(file, header, [placed], len(header) + placed.nbytes)


def native(name: str, array: Array, format: str | None) -> Tensor:
    """Return an array as these files hold it: little-endian, a code in each byte if codes are smaller.

    Without a format its bytes are to be copied as they are.
    """
    fortran = array.flags.fnc
    if format is not None:
        return _tensor(name, array.shape, format)._replace(fortran=fortran)
    dtype = array.dtype
    if dtype.hasobject or dtype.isbuiltin == 2:  # 2: registered with numpy, which saves it as a void dtype
        raise TypeError(f"tensor {name!r} has dtype {dtype}, which a .npy file cannot hold")
    descr = np.lib.format.dtype_to_descr(dtype)
    try:
        elements = _elements(descr, None)
    except FileFormatError:
        raise TypeError(f"tensor {name!r} has dtype {dtype}, which a .npy file cannot hold") from None
    return Tensor(name, array.shape, elements.word, None, array.nbytes, 0, elements.swapped, fortran)


def recast(tensor: Tensor, format: str) -> Tensor:
    """Return what a tensor becomes in these files when its elements are of another format."""
    return _tensor(tensor.name, tensor.shape, format)._replace(fortran=tensor.fortran)


def dtype_of(tensor: Tensor) -> np.dtype[Any]:
    """Return the dtype of the array that a tensor is read into: its format's, or the one that numpy reads."""
    if tensor.format is not None:
        return BY_NAME[tensor.format].dtype.newbyteorder(">" if tensor.swapped else "<")
    try:
        dtype = np.lib.format.descr_to_dtype(_literal(tensor.dtype))
    except (TypeError, ValueError) as error:
        raise ValueError(f"tensor {tensor.name!r}: numpy knows no dtype {tensor.dtype}: {error}") from None
    return dtype


def _tensor(name: str, shape: tuple[int, ...], format: str) -> Tensor:
    word = _WORDS.get(format)
    if word is None:
        raise TypeError(f"{format!r} is not a format of narrowcast; a .npy file holds {', '.join(_WORDS)}")
    try:
        nbytes = count_bytes(shape, 8 * BY_NAME[format].storage_bytes)
    except FileFormatError as error:
        raise ValueError(f"tensor {name!r} does not fit a file: {error}") from None
    return Tensor(name, shape, word, format, nbytes)


def is_ambiguous(tensor: Tensor) -> bool:
    """Whether only the user knows the format of the elements."""
    return tensor.format is None and _is_void(tensor.dtype) and tensor.dtype[-1] in "12"


def ambiguity(tensor: Tensor) -> str:
    """Say what to do about an ambiguous tensor."""
    return (
        f"tensor {shown(tensor.name)} has dtype {tensor.dtype!r}, under which numpy saves arrays of ml_dtypes without "
        "their format; name it with --from (from_format)"
    )


def check_used(from_format: str | None, tensors: Sequence[Tensor]) -> None:
    """Refuse a `from_format` that no tensor had a use for: it would pass for a reinterpretation of other dtypes."""
    if from_format is not None and all(tensor.format != _source(from_format) for tensor in tensors):
        raise FileFormatError(f"holds no array of a void dtype, which from_format (--from), {from_format}, is for")


def read_header(read: Callable[[int], bytes], name: str, from_format: str | None) -> Tensor:
    """Read a header from the start of a file or member; the tensor's offset is where the header ends."""
    start = read(8)
    if start[:6] != _MAGIC:
        raise FileFormatError("is no .npy file: it does not begin with \\x93NUMPY")
    if start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise FileFormatError(f"has version {'.'.join(map(str, start[6:]))} of the .npy format; 1.0 to 3.0 are known")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(read(width), "little")
    if length > _MAX_HEADER:
        raise FileFormatError(f"has a header of {length} bytes; {_MAX_HEADER} are the most")
    raw = read(length)
    if len(raw) != length:
        raise FileFormatError(f"is truncated: of the header's {length} bytes there are {len(raw)}")
    header = _parse(raw, "utf-8" if start[6] == 3 else "latin-1")
    shape, fortran = header["shape"], header["fortran_order"]
    if type(fortran) is not bool:
        raise FileFormatError(f"has fortran_order {shown(fortran)}; allowed are True and False")
    if type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
        raise FileFormatError(f"has the shape {shown(shape)}, which is not a tuple of at most {_MAX_DIMENSIONS}")
    elements = _elements(header["descr"], from_format)
    nbytes = count_bytes(shape, 8 * elements.nbytes)
    offset = 8 + width + length
    return Tensor(name, shape, elements.word, elements.format, nbytes, offset, elements.swapped, fortran)


def write_header(tensor: Tensor) -> bytes:
    """Return the header of a tensor: numpy's own bytes, where numpy has the dtype."""
    try:
        elements = _elements(_literal(tensor.dtype), None)
    except (SyntaxError, ValueError):
        elements = None
    if elements is None or tensor.nbytes != tensor.size * elements.nbytes or tensor.swapped != elements.swapped:
        raise ValueError(f"{tensor} is not a tensor of a .npy file; recast makes it one")
    literal = repr(_literal(tensor.dtype))
    text = f"{{'descr': {literal}, 'fortran_order': {tensor.fortran}, 'shape': {tensor.shape}, }}"
    if tensor.shape:
        text += " " * (_GROWTH - len(str(tensor.shape[-1 if tensor.fortran else 0])))
    try:
        raw, version = text.encode("latin-1"), 1
    except UnicodeEncodeError:
        raw, version = text.encode(), 3
    if version == 1 and len(raw) + _ALIGNMENT > _MAX_HEADER:
        raise ValueError(f"the dtype {shown(literal)} has too many fields for a header")
    width = 2 if version == 1 else 4
    raw += b" " * (_ALIGNMENT - (8 + width + len(raw) + 1) % _ALIGNMENT) + b"\n"
    return _MAGIC + bytes([version, 0]) + len(raw).to_bytes(width, "little") + raw


def _literal(word: str) -> Any:
    """Return the descr that a tensor's dtype is the text of."""
    return word if _WORD.fullmatch(word) else ast.literal_eval(word)


def _parse(raw: bytes, encoding: str) -> dict[str, Any]:
    try:
        text = raw.decode(encoding)
        if _LITERAL.fullmatch(text) is None:
            raise ValueError
        tree = ast.parse(_PYTHON2_LONG.sub(r"\1\2", text).lstrip(" \t"), mode="eval")
        header = ast.literal_eval(tree)
        distinct = type(header) is dict and len(header) == len(tree.body.keys)  # type: ignore[attr-defined]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise FileFormatError("has a header that is no Python literal") from None
    if not distinct or header.keys() != {"descr", "fortran_order", "shape"}:
        raise FileFormatError("has a header other than a dict of descr, fortran_order and shape")
    return dict(header)


def _elements(descr: object, from_format: str | None) -> _Elements:
    """Return what a descr means."""
    if type(descr) is str:
        return _plain(descr, from_format)
    word = repr(descr)
    if type(descr) is list and len(descr) == 1 and type(descr[0]) is tuple and len(descr[0]) == 2:
        name, codes = descr[0]
        if type(name) is str and type(codes) is str and name in _NAMED:
            field = _plain(codes, None)
            if field.format == f"uint{8 * _NAMED[name]}":
                return _Elements(word, field.nbytes, name, field.swapped)
    return _Elements(word, _item_bytes(descr), None)


def _plain(word: str, from_format: str | None) -> _Elements:
    """Return what a descr without fields means."""
    match = _WORD.fullmatch(word)
    if match is None:
        raise FileFormatError(f"has the dtype {shown(word)}, which is not known")
    order, kind, digits, _ = match.groups()
    if kind == "O":
        raise FileFormatError("holds Python objects, which only pickle reads; that may run any code")
    size = int(digits or 0)
    swapped = size > 1 and (order == ">" or (order in ("", "=") and not _LITTLE))
    if _is_void(word):
        return _reinterpret(word, size, swapped, from_format)
    found = _BUILTIN.get(kind + digits)
    if found is None and kind not in "SU" and kind + digits not in _COPIED:
        raise FileFormatError(f"has the dtype {shown(word)}, which is not known")
    return _Elements(word, 4 * size if kind == "U" else size, found, swapped)


def _is_void(word: str) -> bool:
    return word.lstrip("<>=|")[:1] == "V" or word.lstrip("<>=|") == "f1"  # f1 is how float8_e5m2 is saved


def _source(from_format: str) -> str:
    row = BY_NAME.get(from_format)
    if row is None:
        raise TypeError(f"from_format is {from_format!r}; allowed are {', '.join(BY_NAME)}")
    return row.as_source.name


def _reinterpret(word: str, size: int, swapped: bool, from_format: str | None) -> _Elements:
    if from_format is None:
        return _Elements(word, size, None, swapped)
    name = _source(from_format)
    if BY_NAME[name].storage_bytes != size:
        raise FileFormatError(
            f"has the dtype {word!r}, of {size} bytes an element; from_format (--from) is {from_format}, of "
            f"{BY_NAME[name].storage_bytes}"
        )
    if word.endswith("f1") and name != "float8_e5m2":
        raise FileFormatError(
            f"has the dtype {word!r}, under which only float8_e5m2 is saved; from_format (--from) is {from_format}"
        )
    return _Elements(_WORDS[name].replace("<", ">") if swapped else _WORDS[name], size, name, swapped)


def _item_bytes(descr: object) -> int:
    """Return the bytes of an element with fields, or of one that is an array; FileFormatError if it is neither."""
    if type(descr) is str:
        return _plain(descr, None).nbytes
    if type(descr) is list and all(type(field) is tuple and len(field) in (2, 3) for field in descr):
        return sum(_item_bytes(field[1:] if len(field) == 3 else field[1]) for field in descr)
    if type(descr) is tuple and len(descr) == 2:
        item, shape = descr
        return count_bytes(shape if type(shape) is tuple else (shape,), 8 * _item_bytes(item))
    raise FileFormatError(f"has the dtype {shown(descr)}, which is not known")
