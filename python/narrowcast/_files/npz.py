"""Files of numpy's .npz format: a zip archive of .npy members, stored or deflated.

Members are read and written from first byte to last, so that every checksum is verified and nothing is ever whole in
memory; what is in a member is npy.py's business.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, BinaryIO, Final

from narrowcast._files import npy
from narrowcast._files.container import FileFormatError, Tensor, check_range, flaws_of, shown
from narrowcast._files.npy import ambiguity, dtype_of, is_ambiguous, native, recast
from narrowcast._files.positional import open_regular

__all__ = ["Reader", "Sink", "ambiguity", "dtype_of", "is_ambiguous", "native", "open_source", "recast"]

_SUFFIX: Final = ".npy"
_MAX_RATIO: Final = 1032  # deflate makes at most 258 bytes of 2 bits
_ENCRYPTED: Final = 0x1  # the flag of a member
_MAX_REASON: Final = 200  # characters of zipfile's sentences, which quote the file
_MAX_NAME: Final = 0xFFFF  # bytes
_UNIX: Final = 3  # who made the archive: always the same one
_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,  # numbers and names that are none
    NotImplementedError,
    RuntimeError,
)


def open_source(path: str | os.PathLike[str], *, from_format: str | None = None) -> Reader:
    """Open a file and check the headers of all members; `from_format` is what the elements of void dtypes are."""
    where = os.fspath(path)
    with flaws_of(where):
        file = open_regular(where)
        try:
            return Reader(where, file, from_format)
        except BaseException:
            file.close()
            raise


class Reader:
    """A .npz file that is read, one member after the other in any order; its tensors are named as numpy names them."""

    positional: Final = False

    def __init__(self, path: str, file: BinaryIO, from_format: str | None) -> None:
        self._path, self._file = path, file
        self.metadata: Mapping[str, str] = {}
        with _flaws("is no whole zip archive"):
            self._archive = zipfile.ZipFile(file)
        size = os.fstat(file.fileno()).st_size
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._headers: dict[str, int] = {}
        self._open: IO[bytes] | None = None
        self._name, self._at = "", 0  # of the open member: what is read next
        self.tensors = [self._add(info, size, from_format) for info in self._archive.infolist()]
        npy.check_used(from_format, self.tensors)

    def read(self, tensor: Tensor, at: int, into: memoryview) -> None:
        """See `container.Source`."""
        check_range(tensor, at, into.nbytes)
        with flaws_of(self._path):
            if at == 0:
                self._begin(tensor.name)
            elif (tensor.name, at) != (self._name, self._at):
                raise ValueError(f"tensor {tensor.name!r} is read at {at}, not from first byte to last")
            self._fill(into, last=at + into.nbytes == tensor.nbytes)

    def sink(self, file: BinaryIO, tensors: Sequence[Tensor]) -> Sink:
        """See `container.Source`."""
        deflated = {name for name, info in self._members.items() if info.compress_type == zipfile.ZIP_DEFLATED}
        return Sink(file, tensors, {}, deflated=deflated)

    def close(self) -> None:
        """See `container.Source`."""
        self._archive.close()
        self._file.close()

    def _add(self, info: zipfile.ZipInfo, size: int, from_format: str | None) -> Tensor:
        where = f"member {shown(info.filename)}"
        with flaws_of(where):
            _check_member(info, size)
            name = info.filename.removesuffix(_SUFFIX)
            if name in self._members:
                raise FileFormatError("comes twice")
            self._members[name] = info
        with _flaws(f"{where} cannot be read"), flaws_of(where), self._archive.open(info) as member:
            tensor = npy.read_header(member.read, name, from_format)
            self._headers[name] = tensor.offset
            if info.file_size != tensor.offset + tensor.nbytes:
                raise FileFormatError(
                    f"has {info.file_size - tensor.offset} bytes after its header, which promises {tensor.nbytes}"
                )
            if tensor.nbytes == 0:
                member.read(1)  # nobody else may: the checksum is looked at
        return tensor._replace(offset=0)

    def _begin(self, name: str) -> None:
        if self._open is not None:
            self._open.close()
        with _flaws(f"member {shown(name + _SUFFIX)} cannot be read"):
            self._open = self._archive.open(self._members[name])
            self._open.read(self._headers[name])
        self._name, self._at = name, 0

    def _fill(self, into: memoryview, *, last: bool) -> None:
        assert self._open is not None
        view = into.cast("B") if into.nbytes else into[:0]
        done = 0
        with _flaws(f"member {shown(self._name + _SUFFIX)} cannot be read"):
            while done < view.nbytes and (data := self._open.read(view.nbytes - done)):
                view[done : done + len(data)] = data
                done += len(data)
            if done < view.nbytes or (last and self._open.read(1)):  # at the end, zipfile compares the checksum
                raise FileFormatError(f"member {shown(self._name + _SUFFIX)} has another length than it should")
        self._at += done


class Sink:
    """A .npz file that is written: tensors in their order, each from first byte to last; always with the same dates.

    `deflated` holds the names of the tensors whose members are compressed. There is no place for metadata.
    """

    positional: Final = False

    def __init__(
        self,
        file: BinaryIO,
        tensors: Sequence[Tensor],
        metadata: Mapping[str, str],
        *,
        deflated: Container[str] = (),
    ) -> None:
        self.tensors = list(tensors)
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise ValueError("two tensors have one name")
        self._headers = [npy.write_header(tensor) for tensor in tensors]
        self._infos = [_info(tensor.name, tensor.name in deflated) for tensor in tensors]
        self.nbytes = sum(map(len, self._headers)) + sum(tensor.nbytes for tensor in tensors)  # before compression
        self._archive = _Archive(file, "w")
        self._member: IO[bytes] | None = None
        self._current, self._at = -1, 0  # of the open member: its index, what is written next

    def write(self, tensor: Tensor, at: int, data: memoryview) -> None:
        """See `container.Sink`."""
        check_range(tensor, at, data.nbytes)
        if at == 0 and data.nbytes and (self._current < 0 or tensor.name != self.tensors[self._current].name):
            self._next()
            while self.tensors[self._current].nbytes == 0:  # of which nobody writes anything
                self._next()
        if (tensor.name, at) != (self.tensors[self._current].name, self._at) or self._member is None:
            raise ValueError(f"tensor {tensor.name!r} is written at {at}, not in order from first byte to last")
        self._member.write(data)
        self._at += data.nbytes

    def finish(self) -> None:
        """See `container.Sink`; the archive's directory."""
        while self._current < len(self.tensors):
            self._next()
        self._archive.close()

    def _next(self) -> None:
        """End the open member, whole, and begin the next, if there is one."""
        if self._member is not None:
            tensor = self.tensors[self._current]
            if self._at != tensor.nbytes:
                raise ValueError(f"of tensor {tensor.name!r}, {self._at} of {tensor.nbytes} bytes were written")
            self._member.close()
            self._member = None
        self._current, self._at = self._current + 1, 0
        if self._current < len(self.tensors):
            # As numpy: an archive's bytes do not depend on whether a size was known before.
            self._member = self._archive.open(self._infos[self._current], "w", force_zip64=True)
            self._member.write(self._headers[self._current])


class _Archive(zipfile.ZipFile):
    """An archive that is complete only by `close`: an abandoned one gets no directory."""

    def __del__(self) -> None:
        pass


@contextmanager
def _flaws(what: str) -> Iterator[None]:
    """Say of what zipfile finds wrong what it is about."""
    try:
        yield
    except FileFormatError:
        raise
    except _ERRORS as error:
        text = str(error) or type(error).__name__
        raise FileFormatError(f"{what}: {text[:_MAX_REASON]}") from None


def _check_member(info: zipfile.ZipInfo, size: int) -> None:
    name = info.filename
    if not name.endswith(_SUFFIX):
        raise FileFormatError("is no array: its name does not end in .npy")
    flaw = _flaw_of(info.orig_filename)
    if flaw is not None:
        raise FileFormatError(f"has a name that {flaw}")
    if info.flag_bits & _ENCRYPTED:
        raise FileFormatError("is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileFormatError(f"is compressed by method {info.compress_type}; allowed are stored and deflated members")
    if info.header_offset < 0 or info.header_offset + info.compress_size > size:
        raise FileFormatError("lies outside of the file")
    ratio = 1 if info.compress_type == zipfile.ZIP_STORED else _MAX_RATIO
    if info.file_size > ratio * info.compress_size:
        raise FileFormatError(f"cannot have {info.file_size} bytes: it has {info.compress_size} in the archive")


def _flaw_of(name: str) -> str | None:
    """Say what is wrong with a member's name. Nothing is extracted here, but others may extract it."""
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        return "leads out of the archive"
    if "\0" in name:
        return "has a null character"
    try:
        count = len(name.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    return None if count <= _MAX_NAME else f"has {count} bytes; {_MAX_NAME} are the most"


def _info(name: str, deflated: bool) -> zipfile.ZipInfo:
    flaw = _flaw_of(name + _SUFFIX)
    if flaw is not None:
        raise ValueError(f"tensor {shown(name)} has a name that {flaw}, which a .npz file cannot hold")
    info = zipfile.ZipInfo(name + _SUFFIX)  # of 1980, the first date there is
    info.create_system = _UNIX
    info.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    return info
