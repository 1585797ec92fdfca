"""threads=: the same bytes and the same errors for any number; fork, Python threads at once, and the defaults."""

import os
import subprocess
import sys
import sysconfig
import threading
import time

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

PAIRS = [
    ("float32", "float8_e4m3fn", {}),
    ("float32", "bfloat16", {"rounding": "stochastic", "seed": 77, "offset": 3}),
    ("float8_e5m2", "float32", {}),
    ("float64", "float16", {"rounding": "up"}),
    ("float16", "float16", {}),
]
ITEMS = 2_000_003  # enough bytes for eight threads to get a part each


def large(src, dst, options):
    codes, rounding = cases.codes_for(src, dst), options.get("rounding", "nearest_even")
    if rounding == "stochastic":
        codes = np.resize(codes, ITEMS)
        return codes, oracle.cast(src, codes, dst, rounding, "ieee", oracle.random_words(77, 3, ITEMS))
    return np.resize(codes, ITEMS), np.resize(cases.expected(src, dst, rounding), ITEMS)


@pytest.mark.parametrize(("src", "dst", "options"), PAIRS)
def test_any_number_gives_the_same_bytes(src, dst, options):
    codes, expected = large(src, dst, options)
    x = cases.array(src, codes)
    for threads in (*range(1, 9), 0, 61):
        got = nc.astype(x, dst, threads=threads, **options)
        assert np.array_equal(got.view(expected.dtype), expected), threads


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_strided_arrays(threads):
    codes, expected = large("float32", "float8_e4m3fn", {})
    x = cases.array("float32", np.repeat(codes, 2))[::2][: 1000 * 1000].reshape(1000, 1000).T
    out = np.zeros((1000, 2000), np.uint8)
    nc.astype(x, "float8_e4m3fn", out=out[:, ::-2], threads=threads)
    assert np.array_equal(out[:, ::-2], expected[: 1000 * 1000].reshape(1000, 1000).T)
    assert not out[:, ::2].any()


@pytest.mark.parametrize("bad", [[1_999_999, 500_000], [250_001], [0, 2_000_002], [2_000_002]])
def test_raise_names_the_smallest_index(bad):
    """Whichever thread finds it first."""
    x = np.ones(ITEMS, np.float32)
    x[bad] = np.inf
    out = np.full(ITEMS, 0xA5, np.uint8)
    for threads in (1, 2, 3, 5, 8):
        with pytest.raises(OverflowError, match=rf"\b{min(bad)}\b"):
            nc.astype(x, "float8_e4m3fn", overflow="raise", out=out, threads=threads)
    assert np.all(out == 0xA5)


def test_many_python_threads_at_once():
    """Concurrent calls, each with threads of its own, some on the same input."""
    codes, expected = large("float32", "float8_e4m3fn", {})
    x = cases.array("float32", codes)
    failures = []

    def run(number):
        for name in nc.isas():
            with nc.use_isa(name):
                got = nc.astype(x, "float8_e4m3fn", threads=1 + number % 3)
                small = nc.astype(x[number : number + 7], "float8_e4m3fn")
            if not np.array_equal(got.view(np.uint8), expected):
                failures.append((number, name))
            if not np.array_equal(small.view(np.uint8), expected[number : number + 7]):
                failures.append((number, name, "small"))

    workers = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_the_gil_is_released():
    """A thread that waits for the lock gets it during a long call, though nothing forces the caller to give it up.

    Calls are repeated, for on a busy machine the other thread may not wake during the first.
    """
    x, out = np.ones(1 << 24, np.float32), np.empty(1 << 24, np.float16)
    order, ready = [], threading.Lock()
    ready.acquire()

    def wait():
        with ready:
            order.append("other")

    other = threading.Thread(target=wait)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        ready.release()
        end = time.monotonic() + 30
        while not order and time.monotonic() < end:
            nc.astype(x, "float16", out=out)
        order.append("caller")
    finally:
        sys.setswitchinterval(interval)
    other.join()
    assert order == ["other", "caller"]


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python is built with the lock")
def test_importing_keeps_free_threading():
    script = (
        "import sys, numpy, ml_dtypes; before = sys._is_gil_enabled(); import narrowcast; "
        "sys.exit(sys._is_gil_enabled() != before)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_threads():
    """A child of a process that has used threads= can use them too."""
    codes, expected = large("float32", "float8_e4m3fn", {})
    x = cases.array("float32", codes)
    nc.astype(x, "float8_e4m3fn", threads=4)
    child = os.fork()
    if child == 0:
        try:
            same = np.array_equal(nc.astype(x, "float8_e4m3fn", threads=4).view(np.uint8), expected)
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_thread_outlives_the_call():
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("no /proc")
    before = len(os.listdir("/proc/self/task"))
    nc.astype(np.ones(ITEMS, np.float32), "float16", threads=8)
    assert len(os.listdir("/proc/self/task")) == before


def test_the_default_number(no_threads_left):
    nc.set_num_threads(3)
    assert nc.get_num_threads() == 3
    x = np.linspace(-9, 9, ITEMS, dtype=np.float32)
    assert np.array_equal(nc.astype(x, "float16"), x.astype(np.float16))
    nc.set_num_threads(0)
    assert nc.get_num_threads() == 0
    assert np.array_equal(nc.astype(x, "float16"), x.astype(np.float16))


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (2.5, TypeError), ("2", TypeError), (10**6, ValueError)]
)
def test_a_wrong_number(value, error, no_threads_left):
    with pytest.raises(error, match=r"^n is "):
        nc.set_num_threads(value)
    with pytest.raises(error, match=r"^threads is "):
        nc.astype(np.ones(3, np.float32), "float16", threads=value)
