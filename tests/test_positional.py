"""Reads and writes at an offset: each way there is, short ones, from several threads, and of a file that shrinks."""

import threading

import numpy as np
import pytest

from containers import contents_of, tensor_of, write_file
from narrowcast._files import positional, safetensors
from narrowcast._files.container import FileFormatError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


@pytest.fixture(params=["at an offset", "in small steps", "by seeking"])
def way(request, monkeypatch):
    """Each way to read and write; what the system call gives at a time is up to the system."""
    if request.param == "by seeking":
        monkeypatch.setattr(positional, "_AT_OFFSET", False)
    elif not positional._AT_OFFSET:
        pytest.skip("this system has no pread")
    elif request.param == "in small steps":
        preadv, pwrite = positional.os.preadv, positional.os.pwrite
        monkeypatch.setattr(positional.os, "preadv", lambda fd, buffers, at: preadv(fd, [buffers[0][:7]], at))
        monkeypatch.setattr(positional.os, "pwrite", lambda fd, data, at: pwrite(fd, data[:7], at))
    return request.param


def test_threads_read_and_write_at_once(path, way):
    contents = contents_of(*(tensor_of(str(i), "U8", (1000,)) for i in range(4)))
    with open(path, "w+b") as file:
        sink = safetensors.Sink(file, list(contents), {})
        for tensor, data in zip(reversed(sink.tensors), reversed(contents.values()), strict=True):
            run_threads(
                lambda k, tensor=tensor, data=data: sink.write(
                    tensor, 250 * k, memoryview(data)[250 * k : 250 * k + 250]
                )
            )
    source = safetensors.open_source(path)
    found = [[bytearray(1000) for _ in contents] for _ in range(4)]

    def read(k):
        for tensor, into in zip(source.tensors, found[k], strict=True):
            for at in range(0, 1000, 50):
                source.read(tensor, at, memoryview(into)[at : at + 50])

    run_threads(read)
    source.close()
    assert found == [list(contents.values())] * 4


def run_threads(work):
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_buffers_of_any_shape(path, way):
    contents = contents_of(tensor_of("a", "F32", (6,)))
    write_file(path, contents)
    source = safetensors.open_source(path)
    into = np.zeros((2, 3), np.float32)
    source.read(source.tensors[0], 0, into.data)
    source.read(source.tensors[0], 4, np.zeros((0, 3), np.float32).data)
    source.close()
    assert [into.tobytes()] == list(contents.values())


def test_a_file_that_becomes_shorter_is_noticed(path):
    write_file(path, contents_of(tensor_of("a", "F32", (100,))))
    source = safetensors.open_source(path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert read_tensor_error(source).startswith(f"{path}: ends at byte {path.stat().st_size}, within tensor 'a'")
    source.close()


def read_tensor_error(source):
    with pytest.raises(FileFormatError) as caught:
        source.read(source.tensors[0], 0, memoryview(bytearray(400)))
    return str(caught.value)
