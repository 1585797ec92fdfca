# Legs that look for what a passing test cannot show: memory and integer errors, races, inputs no one thought of.
# shellcheck shell=bash
SANITIZE_ADDRESS='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'

leg_asan() {
    configure asan -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_CXX_FLAGS="$SANITIZE_ADDRESS"
    build asan
    NARROWCAST_REQUIRE_ISAS=$(required_isas) run_ctest asan
    "$BUILD/asan/sweep" --stride 1048583
}

# The extension under the address sanitizer, loaded into an ordinary interpreter.
leg_asan_python() {
    new_test_venv "$WORK/asan"
    install_package "$WORK/asan" -Ccmake.define.CMAKE_CXX_FLAGS="$SANITIZE_ADDRESS -g1 -fno-sanitize=vptr"
    LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so):$(g++ -print-file-name=libstdc++.so.6)" \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        "$WORK/asan/bin/python" -m pytest -q -p no:cacheprovider -m emulated tests
}

leg_tsan() {
    configure tsan -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++-19 \
        -DCMAKE_CXX_FLAGS='-fsanitize=thread -fno-omit-frame-pointer'
    build tsan
    TSAN_OPTIONS=halt_on_error=1 NARROWCAST_REQUIRE_ISAS=$(required_isas) run_ctest tsan -R threads_test
}

# A minute of coverage-guided fuzzing, shared by the targets, that starts from the kept corpora.
leg_fuzz() {
    local flags='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all'
    configure fuzz -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++-19 -DNARROWCAST_BUILD_TESTS=OFF \
        -DNARROWCAST_BUILD_FUZZERS=ON -DCMAKE_CXX_FLAGS="$flags"
    build fuzz
    local pair target corpus
    for pair in fuzz_cast:corpus fuzz_quantize:corpus_quantize fuzz_pack:corpus_pack; do
        target=${pair%:*} corpus=$TREE/cpp/fuzz/${pair#*:}
        mkdir -p "$WORK/fuzz/$target"
        [ -n "$(ls "$corpus")" ]
        (
            cd "$WORK/fuzz"
            "$BUILD/fuzz/$target" -max_total_time=20 -timeout=20 -max_len=512 -print_final_stats=1 "$target" "$corpus"
        )
    done
    echo "ci: $(find "$WORK/fuzz" -type f | wc -l) inputs beyond the kept corpora reached something new"
}
