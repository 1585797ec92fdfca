"""One row is enough: a build with NARROWCAST_DUMMY_FORMAT=ON has one more format, which no other file names, and passes
the tests that are generated from the list of formats. Compiles the package: only with --dummy.
"""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NAME = "float8_e2m5"

pytestmark = pytest.mark.slow_build


def run(*command, **environment):
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dummy(tmp_path_factory):
    """The environment in which `import narrowcast` finds the dummy build."""
    if not (ROOT / "CMakeLists.txt").is_file():
        pytest.skip("no sources here")
    target = tmp_path_factory.mktemp("dummy")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--target", str(target),
        "-Ccmake.define.NARROWCAST_DUMMY_FORMAT=ON", str(ROOT))  # fmt: skip
    return {"PYTHONPATH": str(target)}


def test_it_is_in_python(dummy):
    script = (
        "import numpy as np, narrowcast as nc\n"
        f"info = nc.finfo('{NAME}')\n"
        f"codes = nc.astype(np.array([1, 3.9375, 4, -0.03125]), '{NAME}')\n"
        f"print(float(info.max), codes.dtype, codes.tolist(), nc.astype(codes, 'float32', src_dtype='{NAME}').tolist())"
    )
    assert (
        run(sys.executable, "-c", script, **dummy).strip()
        == "3.9375 uint8 [32, 95, 96, 129] [1.0, 3.9375, inf, -0.03125]"
    )
    assert NAME in run(sys.executable, "-m", "narrowcast.cli", "formats", **dummy)
    assert NAME in run(sys.executable, "-m", "narrowcast.cli", "inspect", "1", **dummy)


def test_the_generated_tests_pass(dummy):
    """Every source to it, it to every target, each rounding, policy and instruction set; facts; every code."""
    files = [str(ROOT / "tests" / f"test_{room}.py") for room in ("cast_values", "info", "inspect", "oracle")]
    out = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "e2m5 or list_is_the_typed_one",
              *files, **dummy)  # fmt: skip
    passed = int(out.rsplit(" passed", 1)[0].rsplit(None, 1)[-1])
    assert passed > 100, out[-2000:]
