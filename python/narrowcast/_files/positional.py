"""Reads and writes at an offset, safe from several threads, and the source and sink of files whose tensors lie bare.

What the header of a file says is read elsewhere; here are the bytes after it.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Final

from narrowcast._files.container import FileFormatError, Tensor, check_range

_AT_OFFSET: Final = hasattr(os, "preadv") and hasattr(os, "pwrite")  # not on Windows


class OpenFile:
    """Bytes of an open file by their place. The file's own position is of no account and may change.

    The file is asked for its descriptor every time: that of a closed file may be another one's by now.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()  # for files with nothing but a position
        self._at_offset = False
        if _AT_OFFSET:
            with contextlib.suppress(io.UnsupportedOperation):  # in memory
                self._at_offset = file.fileno() >= 0

    def read(self, offset: int, into: memoryview) -> int:
        """Fill `into` and return how many bytes that were: fewer only at the end of the file."""
        view = into.cast("B") if into.nbytes else into[:0]
        done = 0
        while done < view.nbytes:
            count = self._read_some(offset + done, view[done:])
            if count == 0:
                break
            done += count
        return done

    def read_bytes(self, offset: int, count: int) -> bytes:
        """Return `count` bytes: fewer only at the end of the file."""
        data = bytearray(count)
        return bytes(memoryview(data)[: self.read(offset, memoryview(data))])

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of `data`."""
        view = data.cast("B") if data.nbytes else data[:0]
        done = 0
        while done < view.nbytes:
            done += self._write_some(offset + done, view[done:])

    def _read_some(self, offset: int, into: memoryview) -> int:
        if self._at_offset:
            return os.preadv(self._file.fileno(), [into], offset)
        with self._lock:
            self._file.seek(offset)
            count: int = self._file.readinto(into)  # type: ignore[attr-defined]  # which typeshed's BinaryIO lacks
            return count

    def _write_some(self, offset: int, data: memoryview) -> int:
        if self._at_offset:
            return os.pwrite(self._file.fileno(), data, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.write(data)


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading, unless it is a pipe, a device or a directory, which have no offsets."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileFormatError("is not a regular file")
    return open(path, "rb", buffering=0)


class PositionalSource:
    """Tensors that lie bare in a file, each from its offset on."""

    positional: Final = True

    def __init__(self, path: str, file: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
        self.tensors, self.metadata = tensors, metadata
        self._path, self._file = path, file
        self._bytes = OpenFile(file)

    def read(self, tensor: Tensor, at: int, into: memoryview) -> None:
        """See `container.Source`."""
        check_range(tensor, at, into.nbytes)
        count = self._bytes.read(tensor.offset + at, into)
        if count != into.nbytes:
            end = tensor.offset + at + count
            raise FileFormatError(
                f"{self._path}: ends at byte {end}, within tensor {tensor.name!r}: it has become shorter since it was "
                "opened"
            )

    def close(self) -> None:
        """See `container.Source`."""
        self._file.close()


class PositionalSink:
    """A header, which is written at once, and after it bare tensors in any order."""

    positional: Final = True

    def __init__(self, file: BinaryIO, header: bytes, tensors: Sequence[Tensor], nbytes: int) -> None:
        self.header, self.tensors, self.nbytes = header, tensors, nbytes
        self._bytes = OpenFile(file)
        self._bytes.write(0, memoryview(header))

    def write(self, tensor: Tensor, at: int, data: memoryview) -> None:
        """See `container.Sink`."""
        check_range(tensor, at, data.nbytes)
        if tensor.offset < len(self.header):
            raise ValueError(f"tensor {tensor.name!r} has no place in this file yet; those in `tensors` have")
        self._bytes.write(tensor.offset + at, data)

    def finish(self) -> None:
        """See `container.Sink`; nothing comes after the tensors."""
