# Legs under QEMU: 64-bit ARM (the C++ tests, the sweep, the Python wheel), x86-64 CPUs of other generations, and a
# big-endian machine.
# shellcheck shell=bash

# The chosen set must follow the emulated CPU, and no instruction of a better set may leak into what runs before the
# choice: one that does ends the program. IvyBridge has F16C without AVX2.
leg_x86_old() {
    local pair commands=()
    for pair in core2duo:scalar Nehalem:scalar IvyBridge:scalar Haswell:avx2; do
        local run="qemu-x86_64 -cpu ${pair%:*} $BUILD/gcc"
        commands+=("echo 'ci: ${pair%:*}'; $run/sweep --expect-default ${pair#*:} --stride 262147 --threads 1 \
            --sources float64,float32,float16,float8_e4m3fn,int64 \
            --targets float32,float16,bfloat16,float8_e5m2,float4_e2m1fn && $run/guard_test && $run/pack_test && $run/fuzz_corpus_test && \
            $run/fuzz_quantize_corpus_test && $run/fuzz_pack_corpus_test")
    done
    in_parallel "${commands[@]}"
}

leg_big_endian() {
    configure s390x -DCMAKE_TOOLCHAIN_FILE="$TREE/.ci/toolchains/s390x.cmake"
    build s390x
    run_ctest s390x -E threads_test
    qemu-s390x "$BUILD/s390x/sweep" --stride 1048583 --rounding nearest_even,up,stochastic --expect-default scalar
}

# NEON against the scalar codec: all 2^32 float32 inputs to float16 and bfloat16, 1/16 of them to every other format.
leg_neon() {
    configure aarch64 -DCMAKE_TOOLCHAIN_FILE="$TREE/.ci/toolchains/aarch64.cmake"
    build aarch64
    NARROWCAST_REQUIRE_ISAS=neon run_ctest aarch64
    # The codec runs natively and leaves digests: under the emulator it would take most of the time.
    local f32='--sources float32 --rounding nearest_even' digests=$WORK/digests format fast
    fast=$(required_isas | cut -d, -f1)
    local full="$f32 --overflow ieee --stride 1" rest="$f32 --targets narrow --overflow ieee --stride 16"
    mkdir -p "$digests"
    for format in float16 bfloat16; do
        "$BUILD/gcc/sweep" $full --targets $format --isa "$fast" --record "$digests/$format"
    done
    "$BUILD/gcc/sweep" $rest --isa "$fast" --record "$digests/rest"
    local sweep="qemu-aarch64 $BUILD/aarch64/sweep --threads 1 --isa neon"
    in_parallel \
        "$sweep $full --targets float16 --against $digests/float16" \
        "$sweep $rest --against $digests/rest" \
        "$sweep $full --targets bfloat16 --against $digests/bfloat16" \
        "$sweep --rounding nearest_even,up,stochastic --stride 131101"
    # The instructions of the oldest ARMv8 CPU are enough.
    qemu-aarch64 -cpu cortex-a53 "$BUILD/aarch64/guard_test"
    qemu-aarch64 -cpu cortex-a53 "$BUILD/aarch64/pack_test"
}

# Runs command lines, two at a time; fails if one fails.
in_parallel() { printf '%s\0' "$@" | xargs -0 -P 2 -I{} bash -c '{}'; }

# A 64-bit ARM Python from Debian's packages, without a root file system: unpacked, never installed.
arm_python_root() {
    local root=$1 apt=$WORK/arm-apt
    mkdir -p "$root" "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
    local options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
                   -o Dir::State::lists="$apt/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache")
    apt-get "${options[@]}" update
    (
        cd "$apt/debs"
        apt-get "${options[@]}" download python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
            libpython3.11-dev libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 \
            libsqlite3-0 libuuid1 libcrypt1 libdb5.3 libncursesw6 libtinfo6 libreadline8
        for deb in *.deb; do
            dpkg -x "$deb" "$root"
        done
    )
}

# The wheel for 64-bit ARM, cross-built, and the part of the suite that is marked for it on two CPUs.
leg_arm_wheel() {
    local root=$WORK/arm-root site=$WORK/arm-site suffix=.cpython-311-aarch64-linux-gnu.so
    arm_python_root "$root"
    "$TOOLS/bin/pip" install -q --target "$site" --only-binary=:all: --python-version 3.11 --implementation cp \
        --abi cp311 --abi abi3 --abi none --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --platform any \
        'numpy>=2.0' 'ml_dtypes>=0.5.4' 'pytest>=8' 'hypothesis>=6.100' 'gfloat>=0.5' 'softfloatpy>=1.2' \
        'safetensors>=0.8' 'rich>=13'
    # The host's interpreter drives the build, so the emulator must be a program that just runs it; Debian keeps one
    # part of the Python headers per architecture.
    PATH=$TOOLS/bin:$PATH _PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=$suffix \
        "$TOOLS/bin/pip" wheel -q --no-build-isolation --no-deps -w "$WORK/arm-dist" \
        -Ccmake.define.CMAKE_TOOLCHAIN_FILE="$TREE/.ci/toolchains/aarch64.cmake" \
        -Ccmake.define.CMAKE_CROSSCOMPILING_EMULATOR=/usr/bin/env \
        -Ccmake.define.CMAKE_CXX_FLAGS="-isystem $root/usr/include" \
        -Ccmake.define.Python_INCLUDE_DIR="$root/usr/include/python3.11" \
        -Ccmake.define.Python_NumPy_INCLUDE_DIR="$site/numpy/_core/include" \
        -Ccmake.define.PYTHON_MODULE_EXTENSION="$suffix" "$TREE"
    "$PYTHON" -m zipfile -e "$WORK"/arm-dist/*.whl "$site"
    local suite="qemu-aarch64 -L $root $root/usr/bin/python3.11 -m pytest -q -m emulated -p no:cacheprovider tests"
    export PYTHONPATH=$site NARROWCAST_REQUIRE_ISAS=neon
    in_parallel "QEMU_CPU=max $suite" "QEMU_CPU=cortex-a53 $suite"
}
