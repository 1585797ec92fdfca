# Legs on this machine's own CPU: features, lint, the compilers, every input.
# shellcheck shell=bash

# Which instruction sets must be tested here: those of cpp/cmake/isa.cmake whose CPU bits this machine has. Every test
# program and the Python suite fail if one of them is skipped.
leg_cpu() {
    grep -m1 'model name' /proc/cpuinfo
    echo "ci: required instruction sets: $(required_isas)"
    nproc
    "$PYTHON" --version
    g++ --version | head -n 1
    clang++-19 --version | head -n 1
    qemu-aarch64 --version | head -n 1
}

required_isas() {
    "$PYTHON" - "$TREE/cpp/cmake/isa.cmake" <<'PY'
import platform, re, sys

cpuinfo = open("/proc/cpuinfo").read()
found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.M)
flags = set(found[1].replace("avx512_bf16", "avx512bf16").split()) if found else set()
row = re.compile(r'^narrowcast_isa\((\w+)\s+(\w+)\s+"[^"]*"\s+"[^"]*"\s+"([^"]*)"\)', re.M)
rows = row.findall(open(sys.argv[1]).read())
assert any(name == "scalar" for name, _, _ in rows), "isa.cmake could not be read"
print(",".join(n for n, arch, bits in rows if arch in ("any", platform.machine()) and set(bits.split(";")) - {""} <= flags))
PY
}

leg_lint() {
    local tools=$TOOLS/bin
    "$tools/ruff" check .
    "$tools/ruff" format --check .
    "$tools/mypy" --strict python/narrowcast
    find cpp python bench -name '*.cpp' -o -name '*.hpp' -o -name '*.h' | xargs "$tools/clang-format" --dry-run -Werror
    echo "ci: ruff, mypy and clang-format are content"
}

compiler_leg() { # name, build type, compiler, ctest options
    configure "$1" -DCMAKE_BUILD_TYPE="$2" -DCMAKE_CXX_COMPILER="$3"
    build "$1"
    NARROWCAST_REQUIRE_ISAS=$(required_isas) run_ctest "$1" "${@:4}"
}
leg_gcc() { compiler_leg gcc Release g++; }
leg_clang() {
    compiler_leg clang Release clang++-19
    "$BUILD/clang/sweep" --stride 65537 # another compiler, other instructions
}
# Unoptimised: that it compiles, and objects for the next leg. Tests of it show nothing that those of the optimised and
# of the sanitized builds do not.
debug_leg() { # name, compiler
    configure "$1" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER="$2"
    build "$1"
    run_ctest "$1" -R '^(api|info|layout|pack_layout|quantize_refusal)_test$'
}
leg_gcc_debug() { debug_leg gcc_debug g++; }
leg_clang_debug() { debug_leg clang_debug clang++-19; }

# What the objects of the instruction sets export, optimised and not, from both compilers.
leg_objects() {
    new_test_venv "$WORK/package"
    install_package "$WORK/package"
    NARROWCAST_BUILD_DIR=$BUILD/gcc:$BUILD/gcc_debug:$BUILD/clang:$BUILD/clang_debug \
        "$WORK/package/bin/python" -m pytest -q -p no:cacheprovider tests/test_objects.py
}

# One more row in formats.def, and nothing else, gives a format that works everywhere.
leg_dummy() {
    configure dummy -DNARROWCAST_DUMMY_FORMAT=ON
    build dummy
    run_ctest dummy
    "$BUILD/dummy/sweep" --targets float8_e2m5
    "$BUILD/dummy/sweep" --sources float8_e2m5
    PATH=$TOOLS/bin:$PATH "$WORK/package/bin/python" -m pytest -q -p no:cacheprovider --dummy tests/test_dummy_format.py
}

# A virtual environment that sees the tools' packages, for one build of narrowcast.
new_test_venv() {
    "$TOOLS/bin/python" -m venv "$1"
    echo "$TOOLS/lib/python3.$("$PYTHON" -c 'import sys; print(sys.version_info.minor)')/site-packages" \
        >"$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tools.pth"
}

# Every vector instruction set against the scalar codec: all 2^32 float32 inputs at nearest-even, 1/16 of them and every
# rounding boundary in the other modes; every set, the scalar one too, with every source; and arrays that are long enough
# for stores that pass by the caches. Quantization to int8: every float32 input where codes change, in each arithmetic.
leg_sweep() {
    local vector f32='--sources float32 --targets narrow --overflow ieee,saturate'
    vector=$(required_isas | sed 's/,scalar$//')
    NARROWCAST_REQUIRE_ISAS=$(required_isas)
    export NARROWCAST_REQUIRE_ISAS
    "$BUILD/gcc/sweep" $f32 --rounding nearest_even --isa "$vector" --stride 1
    "$BUILD/gcc/sweep" $f32 --rounding toward_zero,up,down,nearest_away,stochastic --isa "$vector" --stride 16
    "$BUILD/gcc/sweep"
    "$BUILD/gcc/sweep" --quantize 1
    "$BUILD/gcc/sweep" $f32 --rounding nearest_even --stride 64 --chunk 67108864 --threads 1
}
