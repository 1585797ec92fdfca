"""The cast of a directory: file by file into a staging directory beside the target, renamed when all are done.

Each finished file has a record (size, SHA-256, what it was made of). A second run, or another process on any machine
that sees the same file system, skips files whose record holds and does the others; whoever finds all records puts the
directory in its place. Nothing is locked: two processes that do the same file make the same bytes, and the first rename
wins. Files that are being written lie beside the tree that becomes the target, never in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from narrowcast._files import model, single
from narrowcast._files.atomic import AtomicFile, sync_directory, write_bytes
from narrowcast._files.options import CastOptions
from narrowcast._files.report import TensorReport

_COPY_BYTES: Final = 1 << 20
_SETTLE_SECONDS: Final = 1.0  # how long a rank looks for the records of others that have just finished
_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True)
class Job:
    """What is cast to where: plain data, which engines send to their workers.

    Attributes
    ----------
    source, target : Path
        Directories; the target appears when all is done.
    options : CastOptions
        The same for every process that takes part.
    items : tuple of Item
        All files of the source.
    threads : int
        Threads of each process.
    replaces : int or None
        The inode of the target that is there and will be replaced.
    """

    source: Path
    target: Path
    options: CastOptions
    items: tuple[model.Item, ...]
    threads: int
    replaces: int | None

    @cached_property
    def identity(self) -> str:
        """A name that all processes of one cast share, and no cast with other options or files."""
        facts = json.dumps([asdict(self.options), [item.path for item in self.items]])
        return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    @property
    def staging(self) -> Path:
        """Where the unfinished directory is."""
        return self.target.with_name(f".{self.target.name}.{self.identity}.narrowcast-partial")

    @property
    def tree(self) -> Path:
        """What becomes the target."""
        return self.staging / "tree"

    @property
    def work(self) -> list[model.Item]:
        """The files that are cast or copied one by one."""
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
        """Make the staging directory."""
        self.staging.mkdir(exist_ok=True)
        for folder in (self.tree, self._scratch, self.staging / "done"):
            folder.mkdir(exist_ok=True)

    def record(self, item: model.Item) -> dict[str, Any] | None:
        """Return what is written of a finished file; None if there is nothing or the source has changed since."""
        try:
            found: dict[str, Any] = json.loads(self._record_path(item).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return found if found.get("source") == [item.path, item.size, item.mtime_ns] else None

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether the file that a record speaks of is there, with the bytes that were written."""
        path = self.tree / record["source"][0]
        try:
            return path.stat().st_size == int(record["bytes"]) and _sha256(path) == str(record["sha256"])
        except FileNotFoundError:
            return False

    def do(self, item: model.Item, advance: Callable[[int], None]) -> dict[str, Any]:
        """Cast or copy one file and write its record, unless a record holds already. Returns the record."""
        record = self.record(item)
        if record is not None and self.holds(record):
            advance(item.size)
            return record
        source, target = self.source / item.path, self.tree / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        reports: list[TensorReport] = []
        if item.kind == "tensors":
            reports = single.cast_beside(
                source, target, self.options, self.threads, advance, force=True, scratch=self._scratch
            )
        else:
            self._copy(source, target, advance)
        facts = source.stat()
        if (facts.st_size, facts.st_mtime_ns) != (item.size, item.mtime_ns):
            raise ValueError(f"{source} was changed while it was read")
        record = {
            "source": [item.path, item.size, item.mtime_ns],
            "bytes": target.stat().st_size,
            "sha256": _sha256(target),
            "tensors": [replace(report, file=item.path).as_dict() for report in reports],
        }
        self._write(self._record_path(item), json.dumps(record).encode())
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

    def is_complete(self) -> bool:
        """Whether the target is there, not to be replaced, and was made by this very job from these very files."""
        try:
            manifest = json.loads((self.target / model.MANIFEST).read_bytes())
            files = manifest["files"]
            return (
                manifest["job"] == self.identity
                and self.target.stat().st_ino != self.replaces
                and all(
                    files[item.path]["source"] == [item.size, item.mtime_ns]
                    and (self.target / item.path).stat().st_size == files[item.path]["bytes"]
                    for item in self.items
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def _scratch(self) -> Path:
        return self.staging / "scratch"

    @property
    def _old(self) -> Path:
        """Where a target goes in the moment in which it is replaced."""
        return self.target.with_name(f".{self.target.name}.{self.identity}.narrowcast-old")

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data, replace=True, scratch=self._scratch)

    def _copy(self, source: Path, target: Path, advance: Callable[[int], None]) -> None:
        with single.named_errors(target), AtomicFile(target, replace=True, scratch=self._scratch) as output:
            with single.named_errors(source, reading=True), source.open("rb") as file:
                while data := file.read(_COPY_BYTES):
                    output.file.write(data)
                    advance(len(data))
            output.commit()

    def _record_path(self, item: model.Item) -> Path:
        name = hashlib.sha256(item.path.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self.staging / "done" / f"{name}.json"

    def _complete_tree(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what depends on all files: indices, configurations, the manifest."""
        files = {
            path: _manifest_row(record["bytes"], record["sha256"], *record["source"][1:])
            for path, record in records.items()
        }

        def bytes_of(path: str) -> int:
            return sum(tensor["bytes_after"] for tensor in records[path]["tensors"])

        for item in self.items:
            if item.kind in ("index", "config"):
                data = model.rewritten(self.source, item, self.options.format, bytes_of)
                self._write(self.tree / item.path, data)
                files[item.path] = _manifest_row(len(data), hashlib.sha256(data).hexdigest(), item.size, item.mtime_ns)
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


def _manifest_row(nbytes: int, sha256: str, source_bytes: int, source_mtime_ns: int) -> dict[str, Any]:
    return {"bytes": nbytes, "sha256": sha256, "source": [source_bytes, source_mtime_ns]}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
