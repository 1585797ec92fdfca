# What the legs need, from apt and PyPI, with lower bounds only; and the helpers that build and test.
# shellcheck shell=bash
PYTHON=$(command -v python3.11 || command -v python3)
TOOLS=$WORK/tools # a virtual environment with build tools, linters and everything the tests import

leg_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends g++ binutils git python3-venv python3-dev \
        clang-19 libclang-rt-19-dev g++-aarch64-linux-gnu g++-s390x-linux-gnu qemu-user ccache
    new_venv "$TOOLS"
    "$TOOLS/bin/pip" install -q 'cmake>=3.24' 'ninja>=1.11' 'scikit-build-core>=0.11' 'pybind11>=3.0' \
        'numpy>=2.0' 'ml_dtypes>=0.5.4' 'ruff>=0.9' 'mypy>=1.14' 'clang-format>=19' 'pytest>=8' 'hypothesis>=6.100' \
        'gfloat>=0.5' 'softfloatpy>=1.2' 'safetensors>=0.8' 'rich>=13'
}

new_venv() { "$PYTHON" -m venv "$1" && "$1/bin/pip" install -q --upgrade 'pip>=24'; }

# configure NAME [cmake options]: a build tree of the core and its C++ tests
configure() {
    local name=$1
    shift
    PATH=$TOOLS/bin:$PATH cmake -S "$TREE" -B "$BUILD/$name" -DNARROWCAST_BUILD_TESTS=ON -DNARROWCAST_BUILD_PYTHON=OFF \
        -DNARROWCAST_WERROR=ON "$@"
}

build() { PATH=$TOOLS/bin:$PATH cmake --build "$BUILD/$1" -j 2; }

# All C++ tests of a build tree; none at all is a failure.
run_ctest() { PATH=$TOOLS/bin:$PATH ctest --test-dir "$BUILD/$1" --no-tests=error "${@:2}"; }

# Installs the package into a virtual environment with the build tools at hand: install_package VENV [pip options]
install_package() {
    local venv=$1
    shift
    PATH=$TOOLS/bin:$PATH "$venv/bin/pip" install -q --force-reinstall --no-deps --no-build-isolation "$@" "$TREE"
}
