"""The conversion of a directory: file by file into a staging directory beside the target, renamed when all are done.

Each finished file has a record (size, SHA-256, what it was made of). A second run, or another process on any machine
that sees the same file system, skips files whose record holds and does the others; whoever finds all records puts the
directory in its place. Nothing is locked: two processes that do the same file make the same bytes, and the first rename
wins. Files that are being written lie beside the tree that becomes the target, never in it, and all of it lies in a
directory that only its owner may enter. A target that is replaced is renamed away just before: for that moment there is
none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from narrowcast._files import model, single
from narrowcast._files.atomic import AtomicFile, hidden_prefix, mode_like, sync_directory, write_bytes
from narrowcast._files.report import TensorReport

_LAYOUT: Final = 2  # of records and manifests
_COPY_BYTES: Final = 1 << 20
_SETTLE_SECONDS: Final = 1.0  # how long a rank looks for the records of others that have just finished
_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True)
class Job:
    """What is converted to where: plain data, which engines send to their workers.

    Attributes
    ----------
    source, target : Path
        Directories; the target appears when all is done.
    options : Conversion
        The same for every process that takes part.
    items : tuple of Item
        All files and directories of the source.
    threads : int
        Threads of each process.
    replaces : int or None
        The inode of the target that is there and will be replaced.
    """

    source: Path
    target: Path
    options: single.Conversion
    items: tuple[model.Item, ...]
    threads: int
    replaces: int | None

    @cached_property
    def identity(self) -> str:
        """A name that all processes of one job share, and no job with other options or of another source.

        The path of the source is part of it: processes on several machines see the same file system at the same path.
        """
        names = [item if self.options.joins_files else item.path for item in self.items]
        facts = json.dumps([_LAYOUT, str(self.source), asdict(self.options), names])
        return _sha256(facts.encode())[:12]

    @property
    def staging(self) -> Path:
        """Where the unfinished directory is."""
        return self._beside("partial")

    @property
    def tree(self) -> Path:
        """What becomes the target."""
        return self.staging / "tree"

    @property
    def work(self) -> list[model.Item]:
        """The files that are converted or copied one by one."""
        return [item for item in self.items if item.kind in ("tensors", "file")]

    def share(self, rank: int, world: int) -> list[model.Item]:
        """Return the files that are this rank's: sizes evened out, the same on every rank."""
        load = [0] * world
        mine: list[model.Item] = []
        for item in sorted(self.work, key=lambda item: (-item.size, item.path)):
            least = load.index(min(load))
            load[least] += item.size + 1
            if least == rank:
                mine.append(item)
        return sorted(mine)

    def prepare(self) -> None:
        """Make the staging directory, or take up what there is of it.

        Raises
        ------
        ValueError
            Another user has made it, who may have written anything there: its name can be foretold.
        """
        with tempfile.TemporaryFile(dir=self.target.parent) as mine:
            owner = os.fstat(mine.fileno()).st_uid  # on a network's file systems not always this process's own
        folders = dict.fromkeys((self.staging, self._scratch, self.staging / "done"), 0o700)
        folders[self.tree] = mode_like(self.source)
        for item in self.items:
            if item.kind == "directory":
                folders[self.tree / item.path] = mode_like(self.source / item.path)
        for folder, mode in folders.items():
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
                raise ValueError(f"{folder} is a link or not yours; it can go on only with a directory that is")

    def record(self, item: model.Item) -> dict[str, Any] | None:
        """Return what is written of a finished file; None if that is nothing, damaged, or of another source."""
        try:
            digest, _, text = self._record_path(item).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if digest.decode("latin-1") != _sha256(text):
            return None
        found: dict[str, Any] = json.loads(text)
        return found if found["source"] == [item.path, *item.facts] else None

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether the file that a record speaks of is there, with the bytes that were written."""
        path = self.tree / record["source"][0]
        try:
            return path.stat().st_size == int(record["bytes"]) and _file_sha256(path) == str(record["sha256"])
        except FileNotFoundError:
            return False

    def do(self, item: model.Item, advance: Callable[[int], None]) -> dict[str, Any]:
        """Convert or copy one file and write its record, unless a record holds already. Returns the record."""
        record = self.record(item)
        if record is not None and self.holds(record):
            advance(item.size)
            return record
        source, target = self.source / item.path, self.tree / item.path
        reports: list[TensorReport] = []
        if item.kind == "tensors":
            reports = single.cast_beside(
                source, target, self.options, self.threads, advance, force=True, scratch=self._scratch
            )
        else:
            self._copy(source, target, advance)
        self._check_unchanged(item)
        record = {
            "source": [item.path, *item.facts],
            "bytes": target.stat().st_size,
            "sha256": _file_sha256(target),
            "tensors": [replace(report, file=item.path).as_dict() for report in reports],
        }
        text = json.dumps(record).encode()
        self._write(self._record_path(item), f"{_sha256(text)}\n".encode() + text)
        return record

    def finish(self, *, settle: bool = False) -> dict[str, dict[str, Any]] | None:
        """Put the directory in its place if every file is done.

        Parameters
        ----------
        settle : bool
            Look again for a moment, for records of other machines that the file system does not show at once.

        Returns
        -------
        dict or None
            The record of each file; empty if another process has put the directory in its place; None if files are
            missing.
        """
        end = time.monotonic() + (_SETTLE_SECONDS if settle else 0)
        while True:
            records = {item.path: record for item in self.work if (record := self.record(item)) is not None}
            if len(records) == len(self.work):
                break
            if self.is_complete():
                self.clean()
                return {}
            if time.monotonic() >= end:
                return None
            time.sleep(_POLL_SECONDS)
        try:
            self._complete_tree(records)
            self._put_in_place()
        except OSError:
            if not self.is_complete():  # else another process was faster
                raise
        self.clean()
        return records

    def clean(self) -> None:
        """Remove what lies beside the target, once that is complete."""
        for folder in (self.staging, self._old):
            shutil.rmtree(folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove what is done so far."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def is_complete(self) -> bool:
        """Whether the target is there, not to be replaced, and was made by this very job from these very files.

        Of its files only the sizes are looked at; `verify` looks at the bytes.
        """
        try:
            manifest = json.loads((self.target / model.MANIFEST).read_bytes())
            files = manifest["files"]
            return (
                manifest["job"] == self.identity
                and self.target.stat().st_ino != self.replaces
                and all(
                    files[item.path]["source"] == [*item.facts]
                    and (self.target / item.path).stat().st_size == files[item.path]["bytes"]
                    for item in self.items
                    if item.kind != "directory"
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def verify(self, rank: int, world: int) -> None:
        """Compare this rank's files of a complete target with their checksums.

        Raises
        ------
        FileExistsError
            A file has been changed since.
        """
        files = json.loads((self.target / model.MANIFEST).read_bytes())["files"]
        rewritten = [item for item in self.items if item.kind in ("index", "config")]
        for item in [*self.share(rank, world), *rewritten]:
            if _file_sha256(self.target / item.path) != files[item.path]["sha256"]:
                text = f"has been changed ({item.path}) since it was made; it is replaced only with force (--force)"
                raise FileExistsError(17, text, str(self.target))

    @property
    def _scratch(self) -> Path:
        return self.staging / "scratch"

    @property
    def _old(self) -> Path:
        """Where a target goes in the moment in which it is replaced."""
        return self._beside("old")

    def _beside(self, ending: str) -> Path:
        name = hidden_prefix(self.target)  # the same for two long names, which the hash tells apart
        key = _sha256(os.fsencode(f"{self.identity} {self.target.name}"))[:12]
        return self.target.with_name(f"{name}{key}.narrowcast-{ending}")

    def _check_unchanged(self, item: model.Item) -> None:
        if model.facts(self.source / item.path) != item.facts:
            raise ValueError(f"{self.source / item.path} was changed while it was read")

    def _write(self, path: Path, data: bytes, mode: int = 0o666) -> None:
        write_bytes(path, data, replace=True, scratch=self._scratch, mode=mode)

    def _copy(self, source: Path, target: Path, advance: Callable[[int], None]) -> None:
        mode = mode_like(source)
        with single.named_errors(target), AtomicFile(target, replace=True, scratch=self._scratch, mode=mode) as output:
            with single.named_errors(source, reading=True), source.open("rb") as file:
                while data := file.read(_COPY_BYTES):
                    output.file.write(data)
                    advance(len(data))
            output.commit()

    def _record_path(self, item: model.Item) -> Path:
        name = _sha256(item.path.encode("utf-8", "surrogatepass"))[:32]
        return self.staging / "done" / f"{name}.json"

    def _complete_tree(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what depends on all files: indices, configurations, the manifest."""
        files = {
            path: {"bytes": record["bytes"], "sha256": record["sha256"], "source": record["source"][1:]}
            for path, record in records.items()
        }
        tensors = {path: record["tensors"] for path, record in records.items()}
        for item in self.items:
            if self.options.joins_files and item.kind == "tensors":
                self._check_unchanged(item)  # it may be part of what was made of another
            if item.kind in ("index", "config"):
                data = model.rewritten(self.source, item, self.options, tensors)
                self._check_unchanged(item)
                self._write(self.tree / item.path, data, mode_like(self.source / item.path))
                files[item.path] = {"bytes": len(data), "sha256": _sha256(data), "source": item.facts}
        manifest = {"job": self.identity, "options": asdict(self.options), "files": dict(sorted(files.items()))}
        self._write(self.tree / model.MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for path in [self.tree, *self.tree.rglob("*")]:
            if path.is_dir():
                sync_directory(path)

    def _put_in_place(self) -> None:
        if self.target.exists():
            if self.target.stat().st_ino != self.replaces:
                raise FileExistsError(17, "exists; it is replaced only with force (--force)", str(self.target))
            shutil.rmtree(self._old, ignore_errors=True)
            os.rename(self.target, self._old)
        try:
            os.rename(self.tree, self.target)
        except OSError:
            if not self.target.exists() and self._old.exists():
                os.rename(self._old, self.target)
            raise
        sync_directory(self.target.parent)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
