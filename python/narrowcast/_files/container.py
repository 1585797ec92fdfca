"""What a file of tensors is to the rest of the package: a list of tensors, bytes to read, bytes to write.

Each kind of file has a `Source` and a `Sink`; what casts files knows only these two. Nothing here opens a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class FileFormatError(ValueError):
    """A file is not what its kind demands: truncated, or its header lies. The message begins with the file's path."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One array inside a file: what its header says of it, checked."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # the file's own word for the elements: "F8_E4M3", "<f4"
    format: str | None  # narrowcast's name, "float8_e4m3fn"; None if it has none (complex, text): bytes to copy
    nbytes: int  # in the file, where codes of less than a byte lie densely
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

    def close(self) -> None:
        """Close the file."""


class Sink(Protocol):
    """A file that is written, through an open binary file that the sink neither opens, syncs nor closes."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """The tensors given, in their order, now with their offsets."""

    @property
    def positional(self) -> bool:
        """As for `Source`."""

    @property
    def nbytes(self) -> int:
        """Size of the whole file; what is known of it if bytes are compressed."""

    def write(self, tensor: Tensor, at: int, data: memoryview) -> None:
        """Put the tensor's bytes from `at` on."""

    def finish(self) -> None:
        """Write what comes after all tensors."""
