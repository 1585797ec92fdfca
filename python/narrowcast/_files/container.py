"""What a file of tensors is to the rest of the package: a list of tensors, bytes to read, bytes to write.

Each kind of file has a `Source` and a `Sink`; what casts files knows only these two. Nothing here opens a file.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final, NamedTuple, Protocol

# No file is so large, so no size that a header names may be.
MAX_BYTES: Final = 2**63 - 1

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 200, 40, 80


class FileFormatError(ValueError):
    """A file is not what its kind demands: truncated, or its header lies. The message begins with the file's path."""


class Tensor(NamedTuple):
    """One array inside a file: what its header says of it, checked."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # the file's own word for the elements: "F8_E4M3", "<f4"
    format: str | None  # narrowcast's name, "float8_e4m3fn"; None if it has none (complex, text): bytes to copy
    nbytes: int  # in the file, where codes of less than a byte may lie densely
    offset: int = 0  # of the first byte, from the start of the file
    swapped: bool = False  # the items' bytes are in big-endian order
    fortran: bool = False  # the first index runs fastest

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Source(Protocol):
    """A file that is read. Reading is safe from several threads if `positional`."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """All tensors, in the order in which the header names them."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The free text beside the tensors; empty where the kind has none."""

    @property
    def positional(self) -> bool:
        """Whether any bytes can be read at any time; else each tensor's only from first to last, one at a time."""

    def read(self, tensor: Tensor, at: int, into: memoryview) -> None:
        """Fill `into` with the tensor's bytes from `at` on; FileFormatError if the file has become shorter."""

    def sink(self, file: BinaryIO, tensors: Sequence[Tensor]) -> Sink:
        """Begin a file of this kind with these tensors, and all else as it is here: metadata, compression."""

    def close(self) -> None:
        """Close the file."""


class Sink(Protocol):
    """A file that is written, through an open binary file that the sink neither opens, syncs nor closes."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """The tensors given, in their order, now with their offsets."""

    @property
    def positional(self) -> bool:
        """As for `Source`; if not, the tensors are also written in their order."""

    @property
    def nbytes(self) -> int:
        """Size of the whole file; what is known of it if bytes are compressed."""

    def write(self, tensor: Tensor, at: int, data: memoryview) -> None:
        """Put the tensor's bytes from `at` on."""

    def finish(self) -> None:
        """Write what comes after all tensors."""


@contextmanager
def flaws_of(path: str) -> Iterator[None]:
    """Put the path before what is wrong with the file."""
    try:
        yield
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None


def shown(value: object) -> str:
    """Return the repr of what a file says, cut short: it may be a million characters."""
    return _SHORT.repr(value)


def key_twice(keys: Iterable[str]) -> str:
    """Return the first key that was there before, of keys of which one is."""
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def count_bytes(shape: Sequence[object], bits: int) -> int:
    """Return the bytes that elements of a width take in this shape, densely.

    FileFormatError if that is no number of whole bytes, or more than any file has, or if the lengths are no lengths.
    """
    for length in shape:
        if type(length) is not int or not 0 <= length <= MAX_BYTES:  # a bool is an int to isinstance
            raise FileFormatError(f"the shape {shown(list(shape))} holds {shown(length)}, which is not a length")
        bits *= length
        if bits > MAX_BYTES:  # before the product can become a number of a million digits
            raise FileFormatError(f"the shape {shown(list(shape))} has more elements than any file")
    if bits % 8:
        raise FileFormatError(f"its {bits} bits do not end on a byte")
    return bits // 8


def check_range(tensor: Tensor, at: int, count: int) -> None:
    """Refuse bytes that are not the tensor's: a mistake of the caller, not of the file."""
    if at < 0 or at + count > tensor.nbytes:
        raise ValueError(f"bytes {at} to {at + count} are not all in tensor {tensor.name!r} of {tensor.nbytes} bytes")
