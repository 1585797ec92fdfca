"""The object files of the instruction sets leak nothing: one external symbol, the kernel table; no weak or unique
ones, which a linker could pick for code that runs on every CPU; no static initialisers. The scalar unit may share code
with the rest of the core, since it is built for the same CPU.

NARROWCAST_BUILD_DIR names build trees to look into (several with the path separator between). An unoptimised one shows
most, since inlining hides weak symbols; --dummy compiles the units so.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import ALL_ISAS

ROOT = pathlib.Path(__file__).parent.parent
TREES = [pathlib.Path(tree) for tree in os.environ.get("NARROWCAST_BUILD_DIR", "").split(os.pathsep) if tree]


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def check_objects(tree):
    """Every ISA object of a build tree; the names of the sets that were found."""
    found = set()
    for path in sorted(p for p in tree.rglob("kernels.cpp.*") if p.suffix in (".o", ".obj")):
        name = next((part for part in path.parts if part.startswith("narrowcast_isa_")), "").removesuffix(".dir")
        name = name.removeprefix("narrowcast_isa_")
        if not name:
            continue
        found.add(name)
        symbols = [line.split() for line in run("nm", str(path)).splitlines()]
        defined = {symbol[-1]: symbol[-2] for symbol in symbols if len(symbol) == 3}
        if name == "scalar":
            defined = {symbol: kind for symbol, kind in defined.items() if kind not in "WVu"}
        external = {symbol: kind for symbol, kind in defined.items() if kind.isupper() or kind in "uvw"}
        assert len(external) == 1, f"{path}: {external}"
        [(table, kind)] = external.items()
        assert f"table_{name}" in table
        assert kind in "RDS", f"{table} is {kind}: not constant data"
        undefined = {symbol[-1] for symbol in symbols if len(symbol) == 2}
        allowed = {"memcpy", "memset", "memmove", "memcmp", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
        assert name == "scalar" or undefined <= allowed, f"{path} calls {undefined - allowed}"
        sections = run("readelf", "-SW", str(path))
        for section in (".init_array", ".ctors", ".gnu.linkonce", ".eh_frame_hdr"):
            assert section not in sections, f"{path} has {section}"
    return found


@pytest.mark.parametrize("tree", TREES or [None])
def test_objects_of_the_build(tree):
    if tree is None:
        pytest.skip("NARROWCAST_BUILD_DIR names no build tree")
    assert check_objects(tree) == set(ALL_ISAS)


@pytest.mark.slow_build
def test_unoptimised_objects(tmp_path):
    if not shutil.which("cmake") or not (ROOT / "CMakeLists.txt").is_file():
        pytest.skip("no cmake, or no sources")
    run("cmake", "-S", str(ROOT), "-B", str(tmp_path), "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-O0",
        "-DNARROWCAST_BUILD_PYTHON=OFF")  # fmt: skip
    targets = [f"narrowcast_isa_{name}" for name in ALL_ISAS]
    run("cmake", "--build", str(tmp_path), "--parallel", "2", "--target", *targets)
    assert check_objects(tmp_path) == set(ALL_ISAS)
