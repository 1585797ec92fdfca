# Legs of the files of tensors: hostile ones.
# shellcheck shell=bash

# A minute of coverage-guided fuzzing of the readers, which starts from the kept corpus.
leg_fuzz_files() {
    new_test_venv "$WORK/fuzz_files"
    "$WORK/fuzz_files/bin/pip" install -q 'atheris>=2.3'
    install_package "$WORK/fuzz_files"
    local kind
    for kind in safetensors npy; do
        [ -n "$(ls "tests/fuzz/corpus/$kind")" ]
        mkdir -p "$WORK/fuzz_files/new/$kind"
        "$WORK/fuzz_files/bin/python" tests/fuzz/fuzz_containers.py "$kind" -max_total_time=30 -timeout=60 -max_len=2048 \
            -rss_limit_mb=1024 -artifact_prefix="$WORK/fuzz_files/" -print_final_stats=1 \
            "$WORK/fuzz_files/new/$kind" "tests/fuzz/corpus/$kind"
        echo "ci: $kind: $(find "$WORK/fuzz_files/new/$kind" -type f | wc -l) inputs beyond the kept corpus reached something new"
    done
}
