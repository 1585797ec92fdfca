"""Casts of files: bits first, then times beside loops that only read and write, beside torch, and of two processes.

The source lies on disk and in the page cache, the output in memory (tmpfs) where there is room. What is cast comes from
models.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import narrowcast as nc

from . import limits, models
from .formats import item_bytes
from .peers import FILE_PEER
from .results import CallTime, PeerTime, Row, Run
from .timing import Contender, race

SIZE = 2_000_000_000
QUICK_SIZE = 200_000_000
TARGETS = ("bfloat16", "float8_e4m3fn")
FIRST_BYTE = "first byte of 10,000 tensors"
TWO_PROCESSES = "two processes, 8 files"

_BUFFERS = (1 << 16, 1 << 18, 1 << 20, 1 << 22)
_TORCH_TURNS = 3
_WORKER = """
import json, sys
import narrowcast as nc
for line in sys.stdin:
    source, target, rank, world = json.loads(line)
    nc.cast_file(source, target, "bfloat16", threads=1, rank=rank, world=world)
    print("done", flush=True)
"""
# The most memory that was resident, less what is mapped from files: libraries.
_PEAK = """
import sys
import narrowcast as nc
nc.cast_file(*sys.argv[1:], threads=1)
facts = dict(line.split(":") for line in open("/proc/self/status"))
print((int(facts["VmHWM"].split()[0]) - int(facts["RssFile"].split()[0])) * 1024)
"""

Make = Callable[..., Contender]


def measure(run: Run, size: int, *, with_torch: bool, rounds: int) -> None:
    """Add what there is to say about files to a run.

    Parameters
    ----------
    run : Run
        Gets rows of the section "files", calls and notes.
    size : int
        Bytes of the tensors that are cast.
    with_torch : bool
        Whether safetensors and torch take part.
    rounds : int
        Turns of each contender.

    Raises
    ------
    MismatchError
        If a file that was cast has a wrong bit. Nothing is timed then.
    """
    room = _in_memory(size)
    with (
        tempfile.TemporaryDirectory(prefix="narrowcast-bench-") as disk,
        tempfile.TemporaryDirectory(prefix="narrowcast-bench-", dir=room) as memory,
    ):
        source, target = Path(disk, "model.safetensors"), Path(memory, "cast.safetensors")
        shapes = models.language_model(size)
        models.write_file(source, shapes)
        for dtype in TARGETS:
            with _removed(target):
                nc.cast_file(source, target, dtype, threads=1)
                models.check_cast(source, target, dtype)
        for dtype in TARGETS:
            run.rows += _race(source, target, dtype, with_torch, rounds)
        source.unlink()
        run.calls.append(_first_byte(Path(disk, "small.safetensors"), target, rounds))
        if _cores() > 1:
            models.write_directory(Path(disk, "shards"), shapes, 8)
            run.calls.append(_two_processes(Path(disk, "shards"), Path(memory, "cast"), rounds))
    run.settings["files"] = {"bytes": size, "source": str(Path(disk).parent), "output": str(Path(memory).parent)}
    if room is None:
        run.notes.append(f"no room for files in memory, so their casts went to {Path(memory).parent}: a disk is timed")


def _in_memory(size: int) -> str | None:
    """Return a folder whose files are memory, with room for two casts of a source of this size; None if none is."""
    place = Path("/dev/shm")
    return str(place) if place.is_dir() and shutil.disk_usage(place).free > size else None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _removed(target: Path) -> Iterator[None]:
    """Remove what was made, outside of the clock."""
    try:
        yield
    finally:
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


# -- one file ------------------------------------------------------------------------------------------------------


def _race(source: Path, target: Path, dtype: str, with_torch: bool, rounds: int) -> list[Row]:
    """Time one cast on one thread and on all cores, and what it is held against."""

    def make(name: str, call: Callable[[], object], **options: Any) -> Contender:
        return Contender(name, call, lambda: _removed(target), batch=1, **options)

    ours = make("one thread", lambda: nc.cast_file(source, target, dtype, threads=1))
    every = [make("all cores", lambda: nc.cast_file(source, target, dtype, threads=0))] if _cores() > 1 else []
    torch = (
        [make(FILE_PEER, _torch(source, target, dtype), patience_ns=1, min_turns=_TORCH_TURNS)] if with_torch else []
    )
    loops = _loops(source, target, dtype, make)
    race([ours, *loops, *every, *torch], rounds)

    row = _row(ours, source, dtype, 1)
    loop = min(loops, key=lambda loop: loop.best)
    row.limit_seconds, row.limit_form = loop.best, loop.name
    row.peers = {peer.name: PeerTime(peer.best, len(peer.turns_ns)) for peer in torch}
    row.peak_bytes = _peak_bytes(source, target, dtype)
    return [row, *(_row(contender, source, dtype, 0) for contender in every)]


def _row(contender: Contender, source: Path, dtype: str, threads: int) -> Row:
    count = source.stat().st_size // 4
    return Row(
        section="files",
        source="float32",
        target=dtype,
        count=count,
        isa=nc.isa(),
        rounding="nearest_even",
        layout="file",
        threads=threads,
        seconds=contender.best,
        spread=contender.spread,
        turns=len(contender.turns_ns),
        moved_bytes=count * (4 + item_bytes(dtype)),
    )


def _loops(source: Path, target: Path, dtype: str, make: Make) -> list[Contender]:
    """Make loops that read the source once and write as many bytes as its cast has."""
    width = item_bytes(dtype)
    loops = [make(f"read, {n >> 10} KiB", partial(_read_and_write, source, target, width, n)) for n in _BUFFERS]
    return [*loops, make("map", partial(_map_and_write, source, target, width))]


def _read_and_write(source: Path, target: Path, width: int, size: int) -> None:
    """Read a file into a buffer, piece after piece, then write the buffer until all is written."""
    buffer = memoryview(bytearray(size))
    with source.open("rb", buffering=0) as file, target.open("xb", buffering=0) as out:
        left = 0
        while count := file.readinto(buffer):
            left += count
        left = left // 4 * width
        while left:
            left -= out.write(buffer[:left])
        os.fsync(out.fileno())  # as the cast does; nothing where files are memory


def _map_and_write(source: Path, target: Path, width: int) -> None:
    """Map a file, load every byte of it, and write what was stored for it."""
    items = np.memmap(source, np.uint32, "r").view(np.ndarray)
    count = _BUFFERS[2] // 4
    stored = np.empty(count * width, np.uint8)
    with target.open("xb", buffering=0) as out:
        for start in range(0, items.size, count):
            part = items[start : start + count]
            limits.move(part, stored, width)
            out.write(stored.data[: part.size * width])
        os.fsync(out.fileno())


def _torch(source: Path, target: Path, dtype: str) -> Callable[[], None]:
    torch, files = import_module("torch"), import_module("safetensors.torch")
    torch.set_num_threads(1)
    kind = getattr(torch, dtype)

    def cast() -> None:
        files.save_file({name: x.to(kind) for name, x in files.load_file(source).items()}, target)

    return cast


def _peak_bytes(source: Path, target: Path, dtype: str) -> int | None:
    """Return the most memory of its own that a process takes to cast the file; None where no one can say."""
    if not Path("/proc/self/status").exists():
        return None
    with _removed(target):
        command = [sys.executable, "-c", _PEAK, str(source), str(target), dtype]
        return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


# -- many tensors, many files --------------------------------------------------------------------------------------


def _first_byte(source: Path, target: Path, rounds: int) -> CallTime:
    """Time a cast of a file of many tensors from the call until it says that bytes are done."""
    models.write_file(source, models.small_tensors(10_000))
    with source.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    ours: list[float] = []
    yardstick: list[float] = []
    for _ in range(rounds):
        start = perf_counter()
        json.loads(header)
        yardstick.append(perf_counter() - start)
        times: list[float] = []
        with _removed(target):
            start = perf_counter()
            nc.cast_file(
                source, target, "bfloat16", threads=1, progress=lambda *_, add=times.append: add(perf_counter())
            )
        ours.append(times[0] - start)
    return CallTime(FIRST_BYTE, "json.loads of their header", min(ours), min(yardstick))


def _two_processes(source: Path, target: Path, rounds: int) -> CallTime:
    """Time two processes that share a directory, beside one that does it alone."""

    def removed() -> AbstractContextManager[None]:
        return _removed(target)

    with ExitStack() as stack:
        workers = [stack.enter_context(_worker()) for _ in range(2)]

        def cast(world: int) -> None:
            for rank in range(world):
                print(json.dumps([str(source), str(target), rank, world]), file=workers[rank].stdin, flush=True)
            for worker in workers[:world]:
                if not (worker.stdout and worker.stdout.readline()):
                    raise RuntimeError("a process that was to cast a part of a directory has failed")

        for world in (1, 2):  # both have imported everything then
            with removed():
                cast(world)
        one = Contender("one process, 8 files", lambda: cast(1), removed, batch=1)
        two = Contender(TWO_PROCESSES, lambda: cast(2), removed, batch=1)
        race([one, two], rounds)
    return CallTime(two.name, one.name, two.best, one.best, two.spread)


@contextmanager
def _worker() -> Iterator[subprocess.Popen[str]]:
    """Start a process that does casts, told in a line each."""
    command = [sys.executable, "-c", _WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
