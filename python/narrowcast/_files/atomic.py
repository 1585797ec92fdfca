"""Files that appear whole or not at all: written beside their place, synced, then renamed.

The unfinished file holds an advisory lock while its writer lives. What a killed writer left behind is known by the
missing lock and removed by the next writer of the same name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing is taken for abandoned
    fcntl = None  # type: ignore[assignment]

_SUFFIX: Final = ".narrowcast-tmp"
_LONGEST_NAME: Final = 200  # bytes of the final name that the temporary one repeats; file systems allow 255 in all


class AtomicFile:
    """A new file at `path`, visible only after `commit`; removed if the block ends without one.

    Parameters
    ----------
    path : Path
        Where the file will be. Its directory must exist.
    replace : bool
        Whether a file that is there already is replaced; else `commit` raises FileExistsError.
    scratch : Path, optional
        The directory of the unfinished file, on the same file system; that of `path` by default.
    mode : int
        Permissions of the file from its first moment on, less those that the umask takes away.
    """

    def __init__(self, path: Path, *, replace: bool = False, scratch: Path | None = None, mode: int = 0o666) -> None:
        self.path = path
        self._replace = replace
        beside = path if scratch is None else scratch / path.name
        _remove_abandoned(beside)
        self.temporary, descriptor = _create_beside(beside, mode)
        self.file: BinaryIO = os.fdopen(descriptor, "w+b")

    def commit(self) -> None:
        """Sync the file and put it in its place."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if fcntl is None:
            self.file.close()  # Windows renames no open file
        if self._replace:
            os.replace(self.temporary, self.path)
        else:
            _rename_new(self.temporary, self.path)
        self.file.close()
        sync_directory(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.temporary.unlink(missing_ok=True)


def write_bytes(
    path: Path, data: bytes, *, replace: bool = False, scratch: Path | None = None, mode: int = 0o666
) -> None:
    """Write a small file, whole or not at all."""
    with AtomicFile(path, replace=replace, scratch=scratch, mode=mode) as target:
        target.file.write(data)
        target.commit()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where the system can."""
    if fcntl is None:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mode_like(path: Path) -> int:
    """Return the permissions for what is made of a file or directory: the same, and its owner may change it."""
    mode = path.stat().st_mode
    return (mode & 0o777) | (0o700 if stat.S_ISDIR(mode) else 0o600)


def hidden_prefix(path: Path) -> str:
    """Return how the names of unfinished things beside a path begin: hidden, and short enough for an ending."""
    return f".{os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])}."


def _create_beside(path: Path, mode: int) -> tuple[Path, int]:
    """Create a file of a new name in the directory of `path`, and lock it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        name = path.with_name(f"{hidden_prefix(path)}{secrets.token_hex(4)}{_SUFFIX}")
        try:
            descriptor = os.open(name, flags, mode)
        except FileExistsError:
            continue
        if fcntl is None:
            return name, descriptor
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for one who has just taken the file for abandoned
        if os.fstat(descriptor).st_nlink > 0:
            return name, descriptor
        os.close(descriptor)  # and who has removed it


def _rename_new(source: Path, target: Path) -> None:
    """Rename without replacing, in one step where the file system knows hard links."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)


def _remove_abandoned(path: Path) -> None:
    if fcntl is None:
        return
    prefix = hidden_prefix(path)
    for found in path.parent.iterdir():
        if not (found.name.startswith(prefix) and found.name.endswith(_SUFFIX)):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(found, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its writer lives
                found.unlink()
            finally:
                os.close(descriptor)
