"""Threads of a file's cast and interrupts: no thread reads or writes once cast_file has returned, and a descriptor that
was closed is not used.
"""

import io
import signal
import threading
import time

import pytest

import files
import narrowcast as nc
from narrowcast._files import crew, single, stream
from narrowcast._files.options import CastOptions
from narrowcast._files.positional import OpenFile


@pytest.fixture
def slow(monkeypatch):
    """Pieces that take a while in all threads but the first; returns those that are being done."""
    busy, do = set(), crew.Worker.do

    def slowly(self, piece):
        if threading.current_thread() is not threading.main_thread():
            busy.add(piece)
            time.sleep(0.5)
            busy.discard(piece)
        return do(self, piece)

    monkeypatch.setattr(crew.Worker, "do", slowly)
    monkeypatch.setattr(stream, "PIECE_BYTES", 4096)
    return busy


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_wait_for_all_threads(error, slow, tmp_path):
    """Also those that come while it waits for the others; and no piece is begun after the first."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timers here")
    source = files.write(tmp_path / "a.safetensors", {"a": files.floats(1, (60, 1000))})

    def interrupt(*_):
        raise error

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.25, 0.1)
    begin = time.monotonic()
    try:
        with pytest.raises(error):
            cast(source, tmp_path / "b.safetensors")
        assert not slow
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 5


def cast(source, target):
    """The part of a file's cast that is between the opening and the closing of both; interrupts come in it only."""
    options = CastOptions("bfloat16")
    with single.opened(source, None) as opened, target.open("wb+", buffering=0) as file:
        sink = opened.sink(file, single.targets_of(source, opened, options))
        try:
            crew.run_tasks(opened, sink, stream.Casts(opened.tensors, sink.tensors, options), threads=3)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def test_threads_do_all_pieces(slow, tmp_path):
    source = files.write(tmp_path / "a.safetensors", {"a": files.floats(1, (60, 100))})
    nc.cast_file(source, tmp_path / "one.safetensors", "bfloat16", threads=1)
    nc.cast_file(source, tmp_path / "three.safetensors", "bfloat16", threads=3)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "three.safetensors").read_bytes()
    assert not slow


def test_a_closed_file_is_not_used(tmp_path):
    """Its descriptor's number may be that of another file by now."""
    mine = (tmp_path / "mine").open("wb+", buffering=0)
    opened = OpenFile(mine)
    number = mine.fileno()
    mine.close()
    with (tmp_path / "yours").open("wb+", buffering=0) as yours:
        assert yours.fileno() == number
        with pytest.raises(ValueError, match="closed"):
            opened.write(0, memoryview(b"x"))
        with pytest.raises(ValueError, match="closed"):
            opened.read(0, memoryview(bytearray(1)))
    assert (tmp_path / "yours").read_bytes() == b""
    in_memory = OpenFile(io.BytesIO(b"abc"))
    assert in_memory.read_bytes(1, 5) == b"bc"
