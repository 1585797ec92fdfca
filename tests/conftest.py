"""Options, markers and the fixtures that several files share; what is tested is in test_*.py.

The `isa` fixture runs a test once for every instruction set of this build, by name, in one process. What this machine
cannot run is reported as a skip; NARROWCAST_REQUIRE_ISAS="avx2,avx512" turns the skip of those into a failure.
"""

import gc
import os
import signal

import pytest

import narrowcast as nc
from narrowcast import _core

if "float8_e2m5" in {row.name for row in nc.formats()}:
    os.environ["NARROWCAST_DUMMY_FORMAT"] = "1"  # read by oracle.py, which no test has imported yet

ALL_ISAS = dict(_core.isas())  # those of this build, and whether this machine can run them; nc.isas() has only those
REQUIRED_ISAS = [name for name in os.environ.get("NARROWCAST_REQUIRE_ISAS", "").replace(" ", "").split(",") if name]


def pytest_addoption(parser):
    parser.addoption("--exhaustive", action="store_true", help="every input there is: hours, not minutes")
    parser.addoption("--large", action="store_true", help="files of gigabytes, which want as much room on the disk")
    parser.addoption("--dummy", action="store_true", help="build the package with the dummy format row and test that")


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: its children would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "emulated: the part of the suite that runs in minutes under an emulator")
    config.addinivalue_line("markers", "exhaustive: every input there is; only with --exhaustive")
    config.addinivalue_line("markers", "large: files of gigabytes; only with --large")
    config.addinivalue_line("markers", "slow_build: compiles the package; only with --dummy")


def pytest_collection_modifyitems(config, items):
    for mark, option in (("exhaustive", "--exhaustive"), ("large", "--large"), ("slow_build", "--dummy")):
        if not config.getoption(option):
            skip = pytest.mark.skip(reason=f"needs {option}")
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(skip)


def pytest_collection_finish():
    gc.freeze()  # many thousand tests, which live to the end: the collector need not look at them again and again


@pytest.hookimpl(trylast=True)  # the last parameter varies first: tests of one pair share the oracle's cached answer
def pytest_generate_tests(metafunc):
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", ALL_ISAS, indirect=True)


@pytest.fixture
def isa(request):
    """The name of an instruction set, which is in use while the test runs."""
    name = request.param
    if not ALL_ISAS[name]:
        if name in REQUIRED_ISAS:
            pytest.fail(f"NARROWCAST_REQUIRE_ISAS names {name}, which this machine cannot run")
        pytest.skip(f"this machine cannot run {name}")
    with nc.use_isa(name):
        assert nc.isa() == name
        yield name


@pytest.fixture
def no_threads_left(monkeypatch):
    """The default number of threads is 1 again afterwards."""
    monkeypatch.delenv("NARROWCAST_NUM_THREADS", raising=False)
    yield
    nc.set_num_threads(1)


@pytest.fixture
def no_settling(monkeypatch):
    """Ranks that a test runs one after the other do not wait for the records of others, which are there or never come.

    Processes that it starts do; what the wait is for is in test_files_directory.py.
    """
    monkeypatch.setattr("narrowcast._files.job._SETTLE_SECONDS", 0.0)
