"""The threads that make one file of tensors from another, piece by piece, in buffers that do not grow with the file.

Several threads take pieces from one list; what they write and report does not depend on their number. What becomes of
a tensor is a task's business, and the tasks are made elsewhere.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np

from narrowcast import _config
from narrowcast._files.container import Sink, Source, Tensor
from narrowcast._files.report import TensorReport
from narrowcast._sums import Sums


class Task(Protocol):
    """What becomes of one tensor of the source, or of several that belong together: none, one or several tensors."""

    @property
    def report(self) -> TensorReport:
        """What is known before any of it is done."""

    @property
    def measured(self) -> bool:
        """Whether values change; else they are copied."""

    def surveys(self) -> Iterable[tuple[int, int]]:
        """Start and number of each piece that is looked at before anything is made of any; none for most tasks."""

    def survey(self, worker: Worker, start: int, number: int) -> None:
        """Look at a piece; of one task's pieces several at a time, by several threads."""

    def pieces(self) -> Iterable[tuple[int, int]]:
        """Start and number of each piece, in units of the task's own."""

    def do(self, worker: Worker, start: int, number: int) -> tuple[int, Sums | None]:
        """Read a piece, make something of it and write that; return the bytes read, and what it did to the values."""


class Plan(NamedTuple):
    """What becomes of a file."""

    targets: Sequence[Tensor]  # of the new file, without their places
    tasks: Callable[[Sequence[Tensor]], Iterable[Task]]  # of these targets, with or without their places
    metadata: Mapping[str, str] | None = None  # None: the source's


class Piece(NamedTuple):
    """A part of a task that one thread does at a time."""

    place: int  # of the task in the file
    start: int
    number: int
    task: Task
    is_survey: bool = False


class _Done(NamedTuple):
    seconds: float
    sums: Sums | None


def run_tasks(
    source: Source,
    sink: Sink,
    tasks: Iterable[Task],
    *,
    threads: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[TensorReport]:
    """Do all tasks of a file.

    Parameters
    ----------
    source, sink : Source, Sink
        What is read and what is written.
    tasks : iterable of Task
        Gone through more than once, so that it may make them when they come up: a file may have very many.
    threads : int
        How many threads share the work, this one included; 0 is one per core.
    advance : callable
        Called with the number of source bytes of every finished piece, from any of the threads.

    Returns
    -------
    list of TensorReport
        In the order of the tasks.
    """
    crew = _Crew(source, sink, tasks, advance)
    workers = (threads or os.cpu_count() or 1) if source.positional and sink.positional else 1
    crew.run(crew.surveys(), workers)
    crew.run(crew.pieces(), workers)
    return [_report(task, crew.done.get(place, {})) for place, task in enumerate(tasks)]


def _report(task: Task, done: dict[int, _Done]) -> TensorReport:
    pieces = [done[start] for start in sorted(done)]
    sums = Sums.total([piece.sums for piece in pieces if piece.sums is not None]) if task.measured else None
    return replace(task.report, seconds=math.fsum(piece.seconds for piece in pieces), sums=sums)


class _Crew:
    """The threads of one file, what they take their pieces from, and what they have done."""

    def __init__(self, source: Source, sink: Sink, tasks: Iterable[Task], advance: Callable[[int], None]) -> None:
        self.source, self.sink, self.advance = source, sink, advance
        self.isa = _config.chosen_isa.get()
        self.done: dict[int, dict[int, _Done]] = {}  # by place and start
        self._tasks = tasks
        self._pieces: Iterator[Piece] = iter(())
        self._lock = threading.Lock()
        self._stopped = False
        self._failures: list[tuple[Piece, BaseException]] = []

    def surveys(self) -> Iterator[Piece]:
        """Yield the pieces that are looked at first."""
        for place, task in enumerate(self._tasks):
            for start, number in task.surveys():
                yield Piece(place, start, number, task, True)

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces that are made into something."""
        for place, task in enumerate(self._tasks):
            for start, number in task.pieces():
                yield Piece(place, start, number, task)

    def run(self, pieces: Iterator[Piece], workers: int) -> None:
        """Do pieces; raise the failure of the first one that failed."""
        first = next(pieces, None)
        if first is None:
            return
        self._pieces = chain((first,), pieces)
        self._stopped = False
        others = [_Thread(partial(copy_context().run, self._work)) for _ in range(workers - 1)]  # with the caller's ISA
        interrupt: BaseException | None = None
        try:
            for thread in others:
                thread.start()
            self._work()
        except BaseException as error:  # Ctrl-C, mostly; and no thread may outlive the files
            interrupt = error
        self._stopped = True
        for thread in others:
            while thread.ident is not None and not thread.ended.is_set():
                try:
                    thread.ended.wait()
                except BaseException as error:
                    interrupt = interrupt or error
        if interrupt is not None:
            raise interrupt
        if self._failures:
            raise min(self._failures, key=lambda failure: failure[0][:2])[1]

    def take(self) -> Piece | None:
        """Return the next piece; None if there is none, or if one has failed, or after an interrupt."""
        with self._lock:
            return None if self._failures or self._stopped else next(self._pieces, None)

    def _work(self) -> None:
        worker = Worker(self)
        while (piece := self.take()) is not None:
            try:
                done = worker.do(piece)
                if not piece.is_survey:
                    self.done.setdefault(piece.place, {})[piece.start] = done
            except BaseException as error:  # an interrupt too: no piece may be missing unnoticed
                with self._lock:
                    self._failures.append((piece, error))


class _Thread(threading.Thread):
    """A thread that says when it has ended: an interrupted `join` may take a thread for ended that is not."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self._work = work

    def run(self) -> None:
        """Work."""
        try:
            self._work()
        finally:
            self.ended.set()


class Worker:
    """One thread's buffers, and its way to the files."""

    def __init__(self, crew: _Crew) -> None:
        self.crew = crew
        self._buffers: dict[str, np.ndarray[Any, Any]] = {}

    @property
    def isa(self) -> str | None:
        """The instruction set that the caller of the crew has chosen."""
        return self.crew.isa

    def buffer(self, name: str, size: int) -> np.ndarray[Any, Any]:
        """Return `size` bytes that are this thread's until it asks again for a buffer of this name."""
        found = self._buffers.get(name)
        if found is None or found.size < size:
            found = self._buffers[name] = np.empty(size, np.uint8)
        return found[:size]

    def read(self, tensor: Tensor, at: int, size: int) -> np.ndarray[Any, Any]:
        """Return bytes of a tensor of the source, in the buffer "raw"."""
        raw = self.buffer("raw", size)
        self.crew.source.read(tensor, at, raw.data)
        return raw

    def write(self, tensor: Tensor, at: int, data: np.ndarray[Any, Any]) -> None:
        """Write bytes of a tensor of the sink."""
        self.crew.sink.write(tensor, at, data.data)

    def do(self, piece: Piece) -> _Done:
        """Do a piece."""
        begin = time.perf_counter()
        if piece.is_survey:
            piece.task.survey(self, piece.start, piece.number)
            return _Done(0.0, None)
        done, sums = piece.task.do(self, piece.start, piece.number)
        self.crew.advance(done)
        return _Done(time.perf_counter() - begin, sums)
