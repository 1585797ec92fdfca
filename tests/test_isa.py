"""Choosing an instruction set: by name, by environment variable, per thread; and what is said when it is not there."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import narrowcast as nc
from conftest import ALL_ISAS, REQUIRED_ISAS
from narrowcast import _config


def run(script, **environment):
    """Run Python text in a process with these variables; (exit status, output, errors)."""
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_required_sets_are_here():
    assert set(REQUIRED_ISAS) <= set(nc.isas()), (
        f"NARROWCAST_REQUIRE_ISAS asks for {REQUIRED_ISAS}, here are {nc.isas()}"
    )


def test_scalar_is_everywhere_and_last():
    assert nc.isas()[-1] == "scalar"
    assert set(nc.isas()) == {name for name, supported in ALL_ISAS.items() if supported}


def test_the_default_is_the_best():
    code, out, err = run("import narrowcast as nc; print(nc.isa(), nc.isas()[0])", NARROWCAST_ISA="")
    assert (code, err) == (0, "")
    assert len(set(out.split())) == 1


def test_blocks_nest():
    before = nc.isa()
    with nc.use_isa("scalar"):
        assert nc.isa() == "scalar"
        with nc.use_isa(nc.isas()[0]):
            assert nc.isa() == nc.isas()[0]
        assert nc.isa() == "scalar"
    assert nc.isa() == before


def test_an_exception_ends_the_block():
    before = nc.isa()
    with pytest.raises(RuntimeError), nc.use_isa("scalar"):
        raise RuntimeError
    assert nc.isa() == before


def test_threads_do_not_see_each_other():
    """Each thread is inside its own block while the other is inside another one."""
    meet, seen = threading.Barrier(2, timeout=60), {}

    def run_inside(name):
        with nc.use_isa(name):
            meet.wait()
            seen[name] = nc.isa()
            meet.wait()

    names = ("scalar", nc.isas()[0])
    threads = [threading.Thread(target=run_inside, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: name for name in names}


@pytest.mark.parametrize("name", ["avx9", "", "AVX2", "scalar "])
def test_an_unknown_name(name):
    with pytest.raises(ValueError, match=r"instruction set.*allowed are .*scalar"), nc.use_isa(name):
        pass


@pytest.mark.parametrize("name", [name for name, supported in ALL_ISAS.items() if not supported] or [None])
def test_a_set_this_machine_cannot_run(name):
    if name is None:
        pytest.skip("this machine runs every set of this build")
    with pytest.raises(ValueError, match=f"{name}.*cannot run"), nc.use_isa(name):
        pass


CAST = "import numpy as np, narrowcast as nc; x = np.ones(9, np.float32); "


@pytest.mark.parametrize("name", list(nc.isas()))
def test_the_environment_variable(name):
    code, out, err = run(CAST + "nc.astype(x, 'float16'); print(nc.isa())", NARROWCAST_ISA=name)
    assert (code, out, err) == (0, name, "")


@pytest.mark.parametrize("name", ["avx9", "nonsense" * 40])
@pytest.mark.parametrize("action", ["nc.isa()", "nc.astype(x, 'float16')"])
def test_a_wrong_environment_variable(name, action):
    """Importing works; the first use says what is wrong."""
    code, out, err = run(f"{CAST}print('imported')\n{action}", NARROWCAST_ISA=name)
    assert code == 1
    assert out == "imported"
    message = err.splitlines()[-1]
    assert message.startswith("ValueError: ")
    assert "NARROWCAST_ISA" in message
    assert name[:16] in message
    assert "scalar" in message


def test_use_isa_overrides_the_environment():
    script = CAST + "\nwith nc.use_isa('scalar'):\n    print(nc.isa(), nc.astype(x, 'float16')[0])"
    assert run(script, NARROWCAST_ISA="avx9")[:2] == (0, "scalar 1.0")


def test_the_number_of_threads_comes_from_the_environment():
    script = (
        CAST
        + "print(nc.get_num_threads()); nc.astype(x, 'float16'); nc.set_num_threads(2); print(nc.get_num_threads())"
    )
    assert run(script, NARROWCAST_NUM_THREADS="5")[:2] == (0, "5\n2")
    assert run(script, NARROWCAST_NUM_THREADS="")[:2] == (0, "1\n2")


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "99999999999999999999"])
def test_a_wrong_number_of_threads_in_the_environment(value):
    code, _, err = run(CAST + "nc.astype(x, 'float16')", NARROWCAST_NUM_THREADS=value)
    assert code == 1
    message = err.splitlines()[-1]
    assert message.startswith("ValueError: ")
    assert "NARROWCAST_NUM_THREADS" in message
    assert value in message


def test_the_choice_reaches_the_core(isa):
    """The fast entry and the general one hand the name down: a name the core must refuse is refused by both."""
    x = np.ones(5, np.float32)
    token = _config.chosen_isa.set("no such set")
    try:
        for array in (x, x[::2]):
            with pytest.raises(ValueError, match="no such set"):
                nc.astype(array, "float16")
    finally:
        _config.chosen_isa.reset(token)
